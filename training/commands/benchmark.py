"""How fast engines are, compared in one run: `anomaly_seg benchmark`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
import tempfile
from typing import Any, TYPE_CHECKING

import cv2
import numpy as np
from tqdm import tqdm

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.commands.export import parse_size
from anomaly_seg_ros.demo.frame_source import SYNTHETIC
from anomaly_seg_ros.frames.pipeline import build_pipeline
from anomaly_seg_ros.frames.preprocess import to_input_size
from anomaly_seg_ros.process import picture_threads
from anomaly_seg_ros.provenance import code_version
from training.bench import floor
from training.bench.candidates import (
    Candidate,
    EngineCall,
    parse_candidates,
    prepare,
    sized_checkpoint,
)
from training.bench.engine_process import NETWORK, peak_memory
from training.bench.frame import camera_images, frame_work, FRAMES, Image, network_work
from training.bench.machine import describe_machine
from training.bench.table import engine_table
from training.bench.timing import interleave, percentiles, ratio, Samples, Work
from training.results import ResultRow, typed_command, write_results

if TYPE_CHECKING:
    from anomaly_seg_ros.prediction import Engine

WARM_UP = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg benchmark` takes."""
    parser.add_argument('--checkpoint', default='default', help="folder, or 'default'")
    parser.add_argument('--score', help="default: the checkpoint's own")
    parser.add_argument(
        '--engine',
        default='auto',
        metavar='E[:P],...',
        help='engines, each with its precision if wanted: openvino:bf16,openvino:fp32,torch; the '
        'others are compared with the first',
    )
    parser.add_argument(
        '--precision', default='auto', help='of the engines that name none (default: auto)'
    )
    parser.add_argument('--size', metavar='HxW,...', help="default: the checkpoint's own")
    parser.add_argument(
        '--image', default='1080x1920', metavar='HxW', help='camera image of the whole frame'
    )
    parser.add_argument(
        '--source', default=SYNTHETIC, help=f"images: '{SYNTHETIC}', an image folder, or a bag"
    )
    parser.add_argument(
        '--calibration', type=Path, metavar='DIR', help='frames to measure int8 ranges on'
    )
    parser.add_argument('--rounds', type=int, default=15, help='of all engines in turn')
    parser.add_argument('--out', type=Path, required=True, help='result folder')


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


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg benchmark`."""
    if args.rounds < 1:
        raise ValueError(f'rounds is {args.rounds}; it must be at least 1')
    candidates = parse_candidates(args.engine, args.precision)
    checkpoint = Checkpoint.open(args.checkpoint)
    meta = checkpoint.meta
    sizes = [parse_size(t) for t in args.size.split(',')] if args.size else [meta.input_size]
    score = checked_score(args.score or meta.score)
    image_size = parse_size(args.image)
    images = camera_images(args.source, image_size)
    settings = BenchSettings(
        meta, score, images, image_size, args.source, args.rounds, args.calibration
    )
    cv2.setNumThreads(picture_threads())
    machine = describe_machine()
    rows: list[ResultRow] = []
    for size in sizes:
        with (
            sized_checkpoint(checkpoint, size) as sized,
            tempfile.TemporaryDirectory(prefix='anomaly_seg_engines_') as work,
        ):
            rows += benchmark_size(candidates, sized, size, settings, Path(work))
    if all(row.latency_ms is None for row in rows):
        raise ImportError(str(rows[0].extra['note']))
    about = {'command': typed_command(), 'commit': code_version()}
    for row in rows:
        row.command, row.commit, row.checkpoint = *about.values(), args.checkpoint
        row.extra = {**row.extra, 'machine': machine}
    write_results(args.out, rows)
    print(engine_table(rows))
    print(f'written to {args.out}; a page: anomaly_seg report {args.out} --out report.html')
    return 0


def checked_score(score: str) -> str:
    """Gives the score.

    Raises:
        ValueError: It is unknown.
    """
    from anomaly_seg_ros.scores import SCORES

    if score not in SCORES:
        raise ValueError(f'unknown score {score!r}; choose one of: {", ".join(sorted(SCORES))}')
    return score


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
        pipeline = build_pipeline(entry.engine, settings.meta)
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
        memory = peak_memory(entry.call.to_json(), settings.source, size)
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
