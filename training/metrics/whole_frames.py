"""AUROC, F1 and false alarms of one number a frame, exactly."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating[Any]]


class WholeFrameMetrics(NamedTuple):
    """What scores of whole frames are worth; None where undefined.

    Attributes:
        auroc: How often an abnormal frame scores above a normal one, ties half.
        ap: Average precision, steps over distinct scores.
        best_f1: F1 at the best threshold of these very frames.
        best_f1_threshold: That threshold: score >= it is abnormal.
        f1: At the given threshold.
        precision: Likewise.
        recall: Likewise.
        false_alarms_per_1000: Normal frames at or above the given threshold, of 1000.
    """

    auroc: float | None
    ap: float | None
    best_f1: float | None
    best_f1_threshold: float | None
    f1: float | None
    precision: float | None
    recall: float | None
    false_alarms_per_1000: float | None


def frame_metrics(normal: Values, abnormal: Values, threshold: float) -> WholeFrameMetrics:
    """Measures scores of normal and of abnormal frames.

    The exact best F1: every score that occurs is tried as threshold; of several that are equal
    the highest is taken.

    >>> frame_metrics(np.array([0.1, 0.4]), np.array([0.4, 0.9]), 0.5).best_f1_threshold
    0.4
    """
    alarms = int(np.count_nonzero(normal >= threshold))
    hits = int(np.count_nonzero(abnormal >= threshold))
    per_1000 = 1000 * alarms / normal.size if normal.size else None
    if not abnormal.size or not normal.size:
        recall = hits / abnormal.size if abnormal.size else None
        return WholeFrameMetrics(None, None, None, None, None, None, recall, per_1000)
    levels, counts = np.unique(np.concatenate([normal, abnormal]), return_inverse=True)
    good = np.bincount(counts[: normal.size], minlength=levels.size)[::-1]
    bad = np.bincount(counts[normal.size :], minlength=levels.size)[::-1]
    false, true = np.cumsum(good), np.cumsum(bad)
    below = normal.size - false  # normal frames below each level, from the highest down
    auroc = float((bad * (below + good / 2)).sum() / (normal.size * abnormal.size))
    ap = float((bad * true / (true + false)).sum() / abnormal.size)
    f1 = 2 * true / (true + false + abnormal.size)
    best = int(np.argmax(f1))
    return WholeFrameMetrics(
        auroc=auroc,
        ap=ap,
        best_f1=float(f1[best]),
        best_f1_threshold=float(levels[::-1][best]),
        f1=2 * hits / (hits + alarms + abnormal.size),
        precision=hits / (hits + alarms) if hits + alarms else None,
        recall=hits / abnormal.size,
        false_alarms_per_1000=per_1000,
    )
