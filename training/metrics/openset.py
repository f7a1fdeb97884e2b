"""open-mIoU: closed-set quality when pixels flagged as anomalous are taken out of their class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE

from .confusion import ConfusionMatrix
from .pixel import Value


class OpenSetMetrics:
    """open-mIoU, the IoU of the anomaly class and the closed mIoU on the same frames.

    With K inlier classes the prediction becomes K where score > threshold, so that pixels tied at
    the threshold stay what they are. The mean is over the inlier classes alone: an anomaly read
    as a class is that class's false positive, a rejected inlier its false negative. Pixels
    ignored by class or by anomaly label are left out; the closed mIoU also leaves out the
    anomalies. Choose the threshold on the other test town
    (`PixelMetrics.threshold_at_tpr(strict=True)` on scores of half size), then use `fold_mean`.

    Source: Grcić et al., "DenseHybrid", 2022, section 5, and its public evaluation code.

    >>> metrics = OpenSetMetrics(2, threshold=0.5)
    >>> metrics.update(
    ...     prediction=np.uint8([[0, 0, 1, 1]]), score=np.float32([[0, 0.9, 0, 0]]),
    ...     labels=np.uint8([[0, 0, 1, 255]]), anomaly=np.uint8([[0, 0, 0, 1]]))
    >>> values = metrics.compute()
    >>> values['open_miou'], values['miou'], values['anomaly_iou']
    (0.5, 1.0, 0.0)
    """

    def __init__(self, classes: int, threshold: float):
        if np.isnan(threshold):
            raise ValueError('the threshold of open-mIoU is nan; give a score')
        self.classes = classes
        self.threshold = threshold
        self.images = 0
        self.closed = ConfusionMatrix(classes)
        self.opened = ConfusionMatrix(classes + 1)

    def update(
        self,
        prediction: NDArray[np.uint8],
        score: NDArray[np.floating],
        labels: NDArray[np.uint8],
        anomaly: NDArray[np.uint8],
    ) -> None:
        """Adds one frame.

        Args:
            prediction: (H, W) train ids.
            score: (H, W), higher = more anomalous.
            labels: (H, W) train ids, 255 = ignore.
            anomaly: (H, W) 0 inlier, 1 anomaly, 255 ignore.

        Raises:
            ValueError: Sizes differ, or a label is neither a class nor 255.
        """
        if not prediction.shape == score.shape == labels.shape == anomaly.shape:
            raise ValueError(
                f'prediction is {prediction.shape}, score {score.shape}, labels {labels.shape}, '
                f'anomaly labels {anomaly.shape}'
            )
        inlier = np.where(anomaly == 0, labels, np.uint8(IGNORE))
        self.closed.update(prediction, inlier)
        truth = np.where(anomaly == 1, np.uint8(self.classes), inlier)
        flagged = np.where(score > self.threshold, np.uint8(self.classes), prediction)
        self.opened.update(flagged, truth)
        self.images += 1

    def merge(self, other: OpenSetMetrics) -> None:
        """Adds what another worker measured.

        Raises:
            ValueError: The other one has another threshold or other classes.
        """
        mine, theirs = (self.classes, self.threshold), (other.classes, other.threshold)
        if mine != theirs:
            raise ValueError(f'cannot merge open-set metrics with {theirs} into {mine}')
        self.closed.merge(other.closed)
        self.opened.merge(other.opened)
        self.images += other.images

    def compute(self) -> dict[str, Value]:
        """Gives the values by their names in `results.json`, None where undefined."""
        iou = self.opened.iou()
        inliers = iou[: self.classes]
        seen = ~np.isnan(inliers)
        closed, anomaly = self.closed.mean_iou(), iou[self.classes]
        return {
            'n_images': self.images,
            'open_miou_threshold': self.threshold,
            'open_miou': float(inliers[seen].mean()) if seen.any() else None,
            'miou': None if np.isnan(closed) else closed,
            'anomaly_iou': None if np.isnan(anomaly) else float(anomaly),
        }


def fold_mean(folds: Sequence[OpenSetMetrics]) -> dict[str, Value]:
    """Gives the mean of the folds' values, weighted by their frames, as StreetHazards wants.

    A value that a fold leaves undefined is taken over the others.
    """
    computed = [fold.compute() for fold in folds]
    result: dict[str, Value] = {'n_images': sum(fold.images for fold in folds)}
    for key in ('open_miou', 'miou', 'anomaly_iou'):
        known = [(fold.images, v[key]) for fold, v in zip(folds, computed, strict=True)]
        defined = [(n, value) for n, value in known if value is not None and n]
        total = sum(n for n, _ in defined)
        result[key] = sum(n * value for n, value in defined) / total if total else None
    return result
