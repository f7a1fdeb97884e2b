"""Engines compared in one run: network alone and the whole frame, memory, agreement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.frames.pipeline import build_pipeline
from anomaly_seg_ros.frames.preprocess import to_input_size
from anomaly_seg_ros.whole_frame.methods import frame_judge
from training.results import ResultRow

from . import floor
from .candidates import Candidate, EngineCall, prepare
from .engine_process import NETWORK, peak_memory
from .frame import frame_work, FRAMES, Image, network_work
from .timing import interleave, percentiles, ratio, Samples, Work

if TYPE_CHECKING:
    from anomaly_seg_ros.prediction import Engine

WARM_UP = 2


@dataclass
class Ready:
    """An engine that is open, and how it was opened."""

    candidate: Candidate
    call: EngineCall
    engine: Engine


@dataclass(frozen=True)
class BenchSettings:
    """What holds for the whole run."""

    meta: CheckpointMeta
    score: str
    images: list[Image]
    image_size: tuple[int, int]
    source: str
    rounds: int
    calibration: Path | None


def benchmark_size(
    candidates: list[Candidate],
    checkpoint: Checkpoint,
    size: tuple[int, int],
    settings: BenchSettings,
    work: Path,
) -> list[ResultRow]:
    """Gives a row per candidate, in their order; one that cannot run here says why in its row."""
    opened = {
        candidate.label: opened_or_why_not(candidate, checkpoint, settings, work)
        for candidate in candidates
    }
    ready = [entry for entry in opened.values() if isinstance(entry, Ready)]
    found = {}
    try:
        if ready:
            found = measure(ready, checkpoint, size, settings)
    finally:
        for entry in ready:
            entry.engine.close()
    return [
        found[candidate.label]
        if candidate.label in found
        else ResultRow(
            model=settings.meta.model,
            score=settings.score,
            engine=candidate.engine,
            precision=candidate.precision,
            input_size=size,
            extra={
                'kind': 'engine',
                'note': opened[candidate.label],
                'warnings': [f'{candidate.label}: not measured: {opened[candidate.label]}'],
            },
        )
        for candidate in candidates
    ]


def opened_or_why_not(
    candidate: Candidate, checkpoint: Checkpoint, settings: BenchSettings, work: Path
) -> Ready | str:
    """Gives the open engine, or one line that says why it cannot run here."""
    try:
        call = prepare(candidate, checkpoint, settings.score, work, settings.calibration)
        return Ready(candidate, call, call.open())
    except (ImportError, ValueError, FileNotFoundError, RuntimeError) as error:
        return str(error).splitlines()[0]


def measure(
    ready: list[Ready], checkpoint: Checkpoint, size: tuple[int, int], settings: BenchSettings
) -> dict[str, ResultRow]:
    """Times the open engines together; gives a row by label."""
    works: dict[str, Work] = {}
    for entry in ready:
        pipeline = build_pipeline(entry.engine, settings.meta, judge=frame_judge(checkpoint))
        label = entry.candidate.label
        works[f'{label} {NETWORK}'] = network_work(entry.engine, settings.images)
        for name, outputs in FRAMES.items():
            works[f'{label} {name}'] = frame_work(pipeline, settings.images, outputs)
    for task in works.values():
        for _ in range(WARM_UP):
            task()
    agreement = agreements(ready, settings.images)
    turns = settings.rounds * len(works)
    with tqdm(total=turns, desc=f'{size[0]}x{size[1]}', unit='turn', disable=None) as bar:
        samples = interleave(works, settings.rounds, progress=bar.update)
    found = floor.measure(checkpoint, size)
    rows = {}
    first = samples[f'{ready[0].candidate.label} {NETWORK}']
    for entry in ready:
        label = entry.candidate.label
        mine = {name: samples[f'{label} {name}'] for name in (NETWORK, *FRAMES)}
        row = row_of(entry, size, settings, mine)
        row.extra |= {
            'ratio_to_first': ratio(mine[NETWORK], first),
            'first': ready[0].candidate.label,
            **agreement[label],
        }
        row.extra['floor'] = floor.floor_of(
            found, entry.engine.precision, entry.engine.description, row.extra['min_ms']
        )
        try:
            memory = peak_memory(entry.call.to_json(), settings.source, size)
        except (OSError, RuntimeError) as error:  # the times are there: they are not to be lost
            row.extra['warnings'] = [f'{label}: memory not measured: {error}']
        else:
            row.peak_mb = memory.get('gpu', memory['peak'])
            row.extra['memory_mb'] = memory
        rows[label] = row
    return rows


def row_of(
    entry: Ready, size: tuple[int, int], settings: BenchSettings, samples: dict[str, Samples]
) -> ResultRow:
    """Gives the row of one engine from its own times."""
    network, pictures = samples[NETWORK], samples['pictures']
    latency = percentiles(network.wall_ms)
    extra: dict[str, Any] = {
        'kind': 'engine',
        'fps': 1e3 / latency['p50'],
        'min_ms': min(network.wall_ms),
        'cpu_ms': float(np.median(network.cpu_ms)),
        'image_size': list(settings.image_size),
        'source': settings.source,
        'rounds': settings.rounds,
        'description': entry.engine.description,
        'stages_ms': pictures.stages_ms(),
        'frames_ms': {name: percentiles(samples[name].wall_ms) for name in FRAMES},
        'ratio_frames': {name: ratio(samples[name], network) for name in FRAMES},
        'total_ms': percentiles(pictures.wall_ms)['p50'],
    }
    return ResultRow(
        model=settings.meta.model,
        score=entry.engine.score_name,
        engine=entry.engine.name,
        precision=entry.engine.precision,
        input_size=size,
        n_images=len(settings.images),
        latency_ms=latency,
        extra=extra,
    )


def agreements(ready: list[Ready], images: list[Image]) -> dict[str, dict[str, float]]:
    """Gives the share of equal labels and the correlation of the scores with the first engine's.

    On the very images that are timed: what was made faster by computing something else shows.
    """
    size = ready[0].engine.input_size
    inputs = [np.ascontiguousarray(to_input_size(image, size)) for image in images]
    first = [ready[0].engine.infer(image) for image in inputs]
    found = {}
    for entry in ready:
        mine = [entry.engine.infer(image) for image in inputs]
        pairs = list(zip(mine, first, strict=True))
        equal = [(a.labels == b.labels).mean() for a, b in pairs]
        with np.errstate(invalid='ignore'):  # a score that is the same everywhere has none
            same = [
                np.corrcoef(a.score.ravel(), b.score.ravel(), dtype=np.float64) for a, b in pairs
            ]
        found[entry.candidate.label] = {
            'label_agreement': float(np.mean(equal)),
            'score_correlation': float(np.mean([matrix[0, 1] for matrix in same])),
        }
    return found
