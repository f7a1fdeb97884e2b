"""What each method costs: time and memory of all of them, interleaved in one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
import tempfile
from typing import TYPE_CHECKING

from tqdm import tqdm

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.command_line.tool import typed_tool
from anomaly_seg_ros.demo.frame_source import SYNTHETIC
from anomaly_seg_ros.provenance import code_version
from training.bench.candidates import Candidate, EngineCall, prepare
from training.bench.engine_process import peak_memory
from training.bench.engines import WARM_UP
from training.bench.frame import camera_images, Image, network_work
from training.bench.machine import describe_machine
from training.bench.timing import interleave, percentiles, ratio, Samples
from training.results import ResultRow

if TYPE_CHECKING:
    from anomaly_seg_ros.prediction import Engine

ENGINE = Candidate('openvino', 'auto')
CAMERA = (360, 480)


def measure_times(
    timed: Sequence[tuple[str, Path, str]], kind: str, rounds: int = 10
) -> list[ResultRow]:
    """Gives a row for each score of each checkpoint, in their order.

    Load of the machine that comes and goes hits all of them alike, so that the ratio to the first
    holds where single times do not.

    Args:
        timed: (method, checkpoint, score); the first is what the others are compared with.
        kind: Of the rows.
        rounds: Of all in turn.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    images = camera_images(SYNTHETIC, CAMERA)
    about = {'machine': describe_machine(), 'kind': kind}
    opened: list[tuple[EngineCall, Engine]] = []
    with tempfile.TemporaryDirectory(prefix='anomaly_seg_engines_') as work:
        try:
            for number, (_, path, score) in enumerate(timed):
                folder = Path(work) / str(number)
                folder.mkdir()
                call = prepare(ENGINE, Checkpoint.open(path), score, folder, None)
                opened.append((call, call.open()))
            samples = _samples([engine for _, engine in opened], images, rounds)
            rows = []
            for (subject, path, score), (call, engine), mine in zip(
                timed, opened, samples, strict=True
            ):
                row = ResultRow(
                    model=Checkpoint.open(path).meta.model,
                    checkpoint=str(path),
                    score=score,
                    engine=engine.name,
                    precision=engine.precision,
                    input_size=engine.input_size,
                    latency_ms=percentiles(mine.wall_ms),
                    peak_mb=peak_memory(call.to_json(), SYNTHETIC, CAMERA)['peak'],
                    command=typed_tool(),
                    commit=code_version(),
                    extra={**about, 'subject': subject, 'ratio_to_first': ratio(mine, samples[0])},
                )
                rows.append(row)
        finally:
            for _, engine in opened:
                engine.close()
    return rows


def _samples(engines: Sequence[Engine], images: list[Image], rounds: int) -> list[Samples]:
    works = {str(number): network_work(engine, images) for number, engine in enumerate(engines)}
    for task in works.values():
        for _ in range(WARM_UP):
            task()
    with tqdm(total=rounds * len(works), desc='times', unit='turn', disable=None) as bar:
        found = interleave(works, rounds, progress=bar.update)
    return [found[str(number)] for number in range(len(engines))]
