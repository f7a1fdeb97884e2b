"""Times calibration and threshold of a score map: `python -m training.bench.calibration`.

Through the real pipeline, whose engine is replaced by one that gives a score map at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.calibration import Calibration
from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.command_line.tool import run_tool, tool_parser, typed_tool
from anomaly_seg_ros.frames.pipeline import build_pipeline, Pipeline
from anomaly_seg_ros.frames.preprocess import parse_size
from anomaly_seg_ros.prediction import Prediction
from anomaly_seg_ros.process.allocator import tune_allocator
from anomaly_seg_ros.provenance import code_version
from training.results import ResultRow, write_results

from .machine import describe_machine
from .table import other_table
from .timing import interleave, percentiles, ratio, Work

BOTH = 'calibration and threshold, float16 score'
TARGET_MS = 1.0


class StillEngine:
    """Gives the same prediction of every image.

    Args:
        prediction: What it gives.
        score: The score it is said to be.
    """

    name = 'still'
    precision = 'fp32'
    device = 'none'
    description = 'no network'
    reason = 'for the benchmark'

    def __init__(self, prediction: Prediction, score: str):
        self.score_name = score
        self.input_size = (prediction.labels.shape[0], prediction.labels.shape[1])
        self._prediction = prediction

    def infer(self, image: NDArray[np.uint8]) -> Prediction:
        """Gives the prediction."""
        return self._prediction

    def infer_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        """Gives the prediction for each image."""
        return [self._prediction for _ in images]

    def close(self) -> None:
        """Frees nothing."""


def score_map(calibration: Calibration, size: tuple[int, int]) -> NDArray[np.float32]:
    """Gives a smooth map, as networks give it, that covers the levels of a calibration."""
    noise = np.random.default_rng(0).standard_normal(size, dtype=np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 8.0)
    ranks = smooth.ravel().argsort().argsort() / (smooth.size - 1)
    places = np.linspace(0, 1, len(calibration.levels))
    levels = np.interp(ranks, places, calibration.levels)
    return levels.reshape(size).astype(np.float32)


def works(pipelines: dict[str, Pipeline], calibration: Calibration) -> dict[str, Work]:
    """Gives what is compared; the first is the node's way."""
    size = pipelines['float16'].engine.input_size
    image = np.zeros((*size, 3), np.uint8)
    scores = pipelines['float32'].engine.infer(image).score

    def through(pipeline: Pipeline) -> Work:
        def work() -> None:
            result = pipeline(image)
            _ = result.heat, result.mask

        return work

    def exactly() -> None:
        _ = calibration.share(scores) >= pipelines['float32'].settings.threshold

    return {
        BOTH: through(pipelines['float16']),
        'the same of a float32 score': through(pipelines['float32']),
        'by interpolation instead of the table': exactly,
    }


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark."""
    parser = tool_parser(__doc__)
    parser.add_argument('--checkpoint', default='default', help='whose calibration to use')
    parser.add_argument('--size', default='512x1024', metavar='HxW')
    parser.add_argument('--rounds', type=int, default=50)
    parser.add_argument('--out', type=Path, help='result folder')
    args = parser.parse_args(argv)
    tune_allocator()
    rows = measure(Checkpoint.open(args.checkpoint), parse_size(args.size), args.rounds)
    print(other_table(rows))
    p50 = (rows[0].latency_ms or {})['p50']
    print(f'\ntarget {TARGET_MS:g} ms: {"met" if p50 <= TARGET_MS else "not met"}')
    if args.out:
        write_results(args.out, rows)
    return 0


def measure(checkpoint: Checkpoint, size: tuple[int, int], rounds: int) -> list[ResultRow]:
    """Gives a row per way.

    Raises:
        ValueError: The checkpoint's score has no calibration.
    """
    meta = checkpoint.meta
    calibration = meta.calibration_of(meta.score)
    score = score_map(calibration, size)
    labels = np.zeros(size, np.uint8)
    pipelines = {
        kind: build_pipeline(StillEngine(Prediction(labels, score.astype(kind)), meta.score), meta)
        for kind in ('float16', 'float32')
    }
    samples = interleave(works(pipelines, calibration), rounds)
    command, commit = typed_tool(), code_version()
    return [
        ResultRow(
            score=meta.score,
            input_size=size,
            latency_ms=percentiles(found.wall_ms),
            command=command,
            commit=commit,
            extra={
                'kind': 'calibration',
                'what': what,
                'ratio_to_first': ratio(found, samples[BOTH]),
                'machine': describe_machine(),
            },
        )
        for what, found in samples.items()
    ]


if __name__ == '__main__':
    run_tool(main)
