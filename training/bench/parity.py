"""Holds every engine and precision against eager torch in float32: labels, ranks, mIoU and AP.

    python -m training.bench.parity --checkpoint default --root ../shared/data/camvid \
        --anomaly-root ../shared/data/camvid_anomaly_val

int8 is worth shipping only if AP falls by less than a point. Numbers come from a trained
checkpoint: random weights say nothing about int8.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
import tempfile

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from anomaly_seg_ros.process.allocator import tune_allocator

tune_allocator()  # before torch comes

from anomaly_seg_ros.checkpoint.folder import Checkpoint  # noqa: E402
from anomaly_seg_ros.command_line.options import add_checkpoint  # noqa: E402
from anomaly_seg_ros.command_line.tool import run_tool, tool_parser  # noqa: E402
from anomaly_seg_ros.engines import open_engine  # noqa: E402
from anomaly_seg_ros.engines.export import export_engine  # noqa: E402
from anomaly_seg_ros.frames.preprocess import to_input_size  # noqa: E402
from anomaly_seg_ros.prediction import Engine, Prediction  # noqa: E402
from training.datasets import build_dataset, Dataset  # noqa: E402
from training.evaluation.resizing import classes_at, score_at  # noqa: E402
from training.metrics.confusion import ConfusionMatrix  # noqa: E402
from training.metrics.pixel import PixelMetrics  # noqa: E402
from training.reporting.markdown import markdown_table  # noqa: E402

DEFAULT = 'torch:bf16,openvino:fp32,openvino:auto,openvino:int8,onnx:fp32,onnx:fp16'
STRIDE = 5
"""Every fifth pixel, both ways, is ranked: 3,900 of each 360x480 frame."""


@dataclass(frozen=True)
class ParityRow:
    """One engine against the reference; shares in 0..1.

    Attributes:
        labels: Share of pixels with the same label.
        ranks: Spearman's rank correlation of the score.
        miou: Closed-set mIoU.
        ap: Average precision of the anomaly score.
    """

    name: str
    precision: str
    labels: float
    ranks: float
    miou: float
    ap: float


def ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Gives the rank of each value from 1 on, the mean rank where values are equal.

    >>> ranks(np.float32([3, 1, 3, 7])).tolist()
    [2.5, 1.0, 2.5, 4.0]
    """
    _, inverse, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    means: NDArray[np.float64] = np.cumsum(counts) - (counts - 1) / 2
    return means[inverse]


def rank_correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Gives Spearman's rank correlation.

    >>> round(rank_correlation(np.float32([1, 2, 3]), np.float32([1, 3, 2])), 6)
    0.5
    """
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def agreement(found: Sequence[Prediction], wanted: Sequence[Prediction]) -> tuple[float, float]:
    """Gives the share of equal labels and the rank correlation of the scores, over all frames."""
    labels = [(a.labels == b.labels).mean() for a, b in zip(found, wanted, strict=True)]
    thin = (slice(None, None, STRIDE), slice(None, None, STRIDE))
    scores = [np.concatenate([p.score[thin].ravel() for p in part]) for part in (found, wanted)]
    return float(np.mean(labels)), rank_correlation(scores[0], scores[1])


def predict(engine: Engine, dataset: Dataset, frames: int, what: str) -> list[Prediction]:
    """Runs an engine on frames taken evenly from a dataset."""
    return [
        engine.infer(to_input_size(dataset[i].image, engine.input_size))
        for i in tqdm(evenly(len(dataset), frames), desc=what, unit='frame', disable=None)
    ]


def evenly(count: int, wanted: int) -> range:
    """Gives at most `wanted` of `count` numbers, evenly apart; all for 0.

    >>> list(evenly(10, 4)), len(evenly(10, 0))
    ([0, 3, 6, 9], 10)
    """
    return range(0, count, -(-count // wanted) if wanted else 1)


def mean_iou(found: Sequence[Prediction], dataset: Dataset, classes: int) -> float:
    """Gives the mIoU of predictions at the size of the labels."""
    matrix = ConfusionMatrix(classes)
    for index, prediction in zip(evenly(len(dataset), len(found)), found, strict=True):
        labels = dataset[index].labels
        matrix.update(classes_at(prediction.labels, labels.shape), labels)
    return matrix.mean_iou()


def average_precision(found: Sequence[Prediction], dataset: Dataset) -> float:
    """Gives the AP of predictions at the size of the anomaly labels."""
    metrics = PixelMetrics()
    for index, prediction in zip(evenly(len(dataset), len(found)), found, strict=True):
        truth = dataset[index].anomaly
        assert truth is not None, 'the dataset was checked'
        metrics.update(score_at(prediction.score.astype(np.float32), truth.shape), truth)
    ap = metrics.compute()['ap']
    return float('nan') if ap is None else float(ap)


def open_case(
    checkpoint: Checkpoint, case: str, score: str | None, work: Path, frames: Path
) -> Engine:
    """Exports where the engine is exported, and opens it.

    Args:
        checkpoint: What it serves.
        case: 'ENGINE:PRECISION'.
        score: A key of `SCORES`, None for the checkpoint's own.
        work: Folder for the engine.
        frames: Folder of calibration frames for int8.
    """
    name, _, precision = case.partition(':')
    if name == 'torch':
        return open_engine(checkpoint, name, score, precision)
    out = work / case.replace(':', '_')
    size = checkpoint.meta.input_size
    calibration = frames if precision == 'int8' else None
    export_engine(checkpoint, score, size, precision, out, engine=name, calibration=calibration)
    return open_engine(checkpoint, name, score, 'auto', out)


def measure(args: argparse.Namespace, work: Path) -> list[ParityRow]:
    """Measures all cases, the reference first."""
    checkpoint = Checkpoint.open(args.checkpoint)
    closed = build_dataset('camvid', args.root, 'val')
    strange = build_dataset('folder', args.anomaly_root)
    classes = len(checkpoint.meta.class_names)
    rows: list[ParityRow] = []
    reference: list[Prediction] = []
    for case in ['torch:fp32', *(args.engines.split(',') if args.engines else [])]:
        engine = open_case(checkpoint, case, args.score, work, args.root / 'train')
        found = predict(engine, closed, args.frames, case)
        reference = reference or found
        labels, order = agreement(found, reference)
        miou = mean_iou(found, closed, classes)
        ap = average_precision(predict(engine, strange, args.frames, case), strange)
        rows.append(ParityRow(case, engine.precision, labels, order, miou, ap))
        engine.close()
    return rows


def table(rows: Sequence[ParityRow]) -> str:
    """Gives a Markdown table; mIoU and AP beside their change from the first row, in points."""
    head = 'engine', 'computes in', 'equal labels %', 'rank corr.', 'mIoU (change)', 'AP (change)'
    lines = []
    first = rows[0]
    for row in rows:
        miou = f'{row.miou:.4f} ({100 * (row.miou - first.miou):+.2f})'
        ap = f'{row.ap:.4f} ({100 * (row.ap - first.ap):+.2f})'
        labels, ranks = f'{100 * row.labels:.3f}', f'{row.ranks:.5f}'
        lines.append([row.name, row.precision, labels, ranks, miou, ap])
    return markdown_table(head, lines)


def main() -> int:
    """Measures and prints the table."""
    parser = tool_parser(__doc__)
    add_checkpoint(parser)
    parser.add_argument('--score', help="default: the checkpoint's own")
    parser.add_argument('--root', type=Path, required=True, help='CamVid: val, train for int8')
    parser.add_argument(
        '--anomaly-root', type=Path, required=True, help='images/ and labels_masks/'
    )
    parser.add_argument(
        '--engines', default=DEFAULT, metavar='E:P[,E:P]', help='default: %(default)s'
    )
    parser.add_argument('--frames', type=int, default=0, help='most frames of a set; 0 = all')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        print(table(measure(args, Path(work))))
    return 0


if __name__ == '__main__':
    run_tool(main)
