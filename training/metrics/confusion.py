"""Closed-set segmentation quality from one confusion matrix over the whole set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE

from .bootstrap import divided, Doubles


class ConfusionMatrix:
    """Counts of (true class, predicted class) over all pixels whose label is not 255.

    A prediction outside 0..K-1 on a valid pixel is a miss: it counts for the true class's union
    and for nobody's intersection.

    >>> matrix = ConfusionMatrix(2)
    >>> matrix.update(np.uint8([[0, 1, 1]]), np.uint8([[0, 0, 255]]))
    >>> matrix.iou().tolist(), matrix.mean_iou()
    ([0.5, 0.0], 0.25)
    """

    def __init__(self, classes: int):
        self.classes = classes
        self.counts: NDArray[np.int64] = np.zeros((classes, classes + 1), np.int64)

    def update(self, prediction: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Adds one frame.

        Args:
            prediction: (H, W) train ids.
            labels: (H, W) train ids, 255 = ignore.

        Raises:
            ValueError: The sizes differ, or a label is neither a class nor 255.
        """
        if prediction.shape != labels.shape:
            raise ValueError(f'prediction is {prediction.shape}, labels are {labels.shape}')
        valid = labels != IGNORE
        truth = labels[valid].astype(np.int64)
        if truth.size and truth.max() >= self.classes:
            raise ValueError(f'label {truth.max()} is not one of {self.classes} classes or 255')
        guess = np.minimum(prediction[valid], self.classes).astype(np.int64)
        index = truth * (self.classes + 1) + guess
        self.counts += np.bincount(index, minlength=self.counts.size).reshape(self.counts.shape)

    def merge(self, other: ConfusionMatrix) -> None:
        """Adds what another worker counted."""
        self.counts += other.counts

    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each class, (K,) in 0..1; NaN where a class never occurs."""
        hit = np.diagonal(self.counts).astype(np.float64)
        union = self.counts.sum(axis=1) + self.counts[:, : self.classes].sum(axis=0) - hit
        with np.errstate(invalid='ignore'):
            iou: NDArray[np.float64] = hit / union
        return iou

    def mean_iou(self) -> float:
        """Mean of `iou()` over the classes that occur in labels or predictions; NaN if none."""
        iou = self.iou()
        seen = ~np.isnan(iou)
        return float(iou[seen].mean()) if seen.any() else float('nan')


def mean_ious(sums: Doubles) -> dict[str, Doubles]:
    """Gives 'miou' of (n, K, K + 1) summed matrices, (n,), NaN where no class occurs."""
    hit = np.diagonal(sums, axis1=1, axis2=2)
    union = sums.sum(2) + sums[:, :, :-1].sum(1) - hit
    iou = divided(hit, union)
    seen = ~np.isnan(iou)
    return {'miou': divided(np.where(seen, iou, 0).sum(1), seen.sum(1).astype(float))}
