"""What a fixed threshold does: precision, recall, and the share of normal pixels it marks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE

from .bootstrap import divided, Doubles
from .pixel import Value

THIRDS = ('top', 'middle', 'bottom')
"""Of the image's height."""

Counts = NDArray[np.int64]


class OperatingPoint:
    """Counts what lies above a threshold, over a set, by third of the image and by class.

    A pixel is marked where score > threshold, strictly.

    >>> point = OperatingPoint(0.5)
    >>> point.update(0, np.float32([[0.9, 0.1, 0.7, 0.2]]), np.uint8([[1, 1, 0, 0]]))
    >>> values = point.compute()
    >>> values['precision'], values['recall'], values['false_positive_share']
    (0.5, 0.5, 0.5)
    """

    def __init__(self, threshold: float):
        self.threshold = threshold
        # Frame number to anomalies, found ones, normal pixels, marked ones.
        self.frames: dict[int, Counts] = {}
        self.thirds: Counts = np.zeros((len(THIRDS), 4), np.int64)
        self.classes: Counts = np.zeros((IGNORE + 1, 4), np.int64)

    def update(
        self,
        index: int,
        score: NDArray[np.floating],
        anomaly: NDArray[np.uint8],
        classes: NDArray[np.uint8] | None = None,
    ) -> None:
        """Adds one frame.

        Args:
            index: Number of the frame in the set.
            score: (H, W), higher = more anomalous.
            anomaly: (H, W) 0 inlier, 1 anomaly, 255 ignore.
            classes: (H, W) a class of each pixel, true or predicted.
        """
        valid = anomaly != IGNORE
        kind = 2 * (anomaly[valid] == 0) + (score[valid] > self.threshold)
        third = np.broadcast_to(np.arange(len(anomaly))[:, None], anomaly.shape)[valid]
        third = third * len(THIRDS) // len(anomaly)
        by_third = _by_group(third, kind, len(THIRDS))
        self.thirds += by_third
        self.frames[index] = by_third.sum(0)
        if classes is not None:
            self.classes += _by_group(classes[valid].astype(np.int64), kind, len(self.classes))

    def merge(self, other: OperatingPoint) -> None:
        """Adds what another worker counted.

        Raises:
            ValueError: The other one has another threshold.
        """
        if other.threshold != self.threshold:
            raise ValueError(f'cannot merge threshold {other.threshold} into {self.threshold}')
        self.frames |= other.frames
        self.thirds += other.thirds
        self.classes += other.classes

    def per_frame(self) -> Counts:
        """Gives (frames, 4) counts in the order of the frames."""
        return np.array([self.frames[index] for index in sorted(self.frames)], np.int64)

    def compute(self) -> dict[str, Value]:
        """Gives the values over the set, None where undefined."""
        return table_row(self.thirds.sum(0))


def _by_group(group: NDArray[np.integer], kind: NDArray[np.integer], groups: int) -> Counts:
    """Gives (groups, 4) anomalies, found ones, normal pixels, marked ones."""
    counts = np.bincount(group * 4 + kind, minlength=groups * 4).reshape(groups, 4)
    counts[:, 0] += counts[:, 1]
    counts[:, 2] += counts[:, 3]
    return counts.astype(np.int64)


def rates(sums: Doubles) -> dict[str, Doubles]:
    """Gives the three rates of (n, 4) summed counts, (n,) each, NaN = undefined."""
    anomalies, found, normal, marked = sums.T
    precision = divided(found, found + marked)
    precision[anomalies == 0] = np.nan
    return {
        'precision': precision,
        'recall': divided(found, anomalies),
        'false_positive_share': divided(marked, normal),
    }


def table_row(counts: Counts) -> dict[str, Value]:
    """Gives the counts of normal and anomalous pixels, and the rates, of one group."""
    values: dict[str, Value] = {'n_normal': int(counts[2]), 'n_anomaly': int(counts[0])}
    for key, (value,) in rates(counts[None].astype(np.float64)).items():
        values[key] = None if np.isnan(value) else float(value)
    return values
