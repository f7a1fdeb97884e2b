"""Metrics over connected anomaly regions: sIoU, PPV and mean F1 of SegmentMeIfYouCan."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE

from .bootstrap import divided
from .pixel import Value

LEVELS = np.linspace(0.25, 0.75, 11)
"""The sIoU and PPV levels over which F1 is averaged."""

Ids = NDArray[np.int32]
Doubles = NDArray[np.float64]


class ComponentSizes(NamedTuple):
    """The smallest components that count, in pixels."""

    predicted: int
    truth: int


TRACKS = {
    'anomaly': ComponentSizes(predicted=500, truth=100),
    'obstacle': ComponentSizes(predicted=50, truth=10),
}
"""The two tracks; Fishyscapes uses `anomaly`, LostAndFound `obstacle`."""


class ComponentMetrics:
    """sIoU of each true component, PPV of each predicted one, pooled over the set.

    A pixel is predicted where score > threshold, strictly; NaN is not predicted. Pass
    `strict_threshold(best_f1_threshold)` with float32 maps (float16 would round it back) to take
    in the best-F1 score itself, or the plain value to do as the benchmark does.

    Source: Chan et al., "SegmentMeIfYouCan", 2021, and its public evaluation code.

    >>> metrics = ComponentMetrics(0.5, ComponentSizes(1, 1))
    >>> metrics.update(np.float32([[1, 1, 0, 0]]), np.uint8([[1, 0, 0, 0]]))
    >>> values = metrics.compute()
    >>> values['siou_gt'], values['ppv'], round(values['f1_mean'], 4)
    (0.5, 0.5, 0.5455)
    """

    def __init__(self, threshold: float, sizes: ComponentSizes):
        if np.isnan(threshold):
            raise ValueError('the threshold of component metrics is nan; give a score')
        self.threshold = threshold
        self.sizes = sizes
        self.siou: list[Doubles] = []
        self.siou_predicted: list[Doubles] = []
        self.ppv: list[Doubles] = []

    def update(self, score: NDArray[np.floating], anomaly: NDArray[np.uint8]) -> None:
        """Adds one frame.

        Args:
            score: (H, W), higher = more anomalous; the threshold is rounded to its type.
            anomaly: (H, W) 0 inlier, 1 anomaly, 255 ignore.

        Raises:
            ValueError: The sizes differ.
        """
        if score.shape != anomaly.shape:
            raise ValueError(f'score is {score.shape}, labels {anomaly.shape}')
        with np.errstate(over='ignore'):
            limit = score.dtype.type(self.threshold)
        truth, truth_sizes = components(anomaly == 1)
        predicted, predicted_sizes = components((score > limit) & (anomaly != IGNORE))
        predicted_kept = predicted_sizes >= self.sizes.predicted
        truth_kept = truth_sizes >= self.sizes.truth
        # All that is no truth counts as component 0 and leaves the region when it is too small.
        outside = truth_kept[0]
        truth_kept[0] = predicted_kept[0] = False
        overlap = _Overlap.of(truth, predicted, truth_kept, predicted_kept, bool(outside))
        siou, siou_predicted, ppv = overlap.ratios()
        self.siou.append(siou)
        self.siou_predicted.append(siou_predicted)
        self.ppv.append(ppv)

    def merge(self, other: ComponentMetrics) -> None:
        """Adds what another worker measured.

        Raises:
            ValueError: The other one has another threshold or other sizes.
        """
        mine, theirs = (self.threshold, self.sizes), (other.threshold, other.sizes)
        if mine != theirs:
            raise ValueError(f'cannot merge component metrics with {theirs} into {mine}')
        self.siou += other.siou
        self.siou_predicted += other.siou_predicted
        self.ppv += other.ppv

    def compute(self) -> dict[str, Value]:
        """Gives the values by their names in `results.json`, None where undefined."""
        siou, ppv = _pooled(self.siou), _pooled(self.ppv)
        f1 = [_f1(siou, ppv, level) for level in LEVELS]
        return {
            'component_threshold': self.threshold,
            'n_truth_components': siou.size,
            'n_predicted_components': ppv.size,
            'siou_gt': _mean(siou),
            'siou_pred': _mean(_pooled(self.siou_predicted)),
            'ppv': _mean(ppv),
            'f1_25': f1[0],
            'f1_50': f1[5],
            'f1_75': f1[10],
            'f1_mean': None if f1[0] is None else float(np.mean([x for x in f1 if x is not None])),
        }


def components(mask: NDArray[np.bool_]) -> tuple[Ids, NDArray[np.int64]]:
    """Gives the 8-connected components of a mask.

    Returns:
        (H, W) ids, 0 outside the mask; and (C + 1,) sizes in pixels, that of the outside first.
    """
    count, ids, stats, _ = cv2.connectedComponentsWithStats(
        mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S
    )
    sizes = stats[:count, cv2.CC_STAT_AREA].astype(np.int64)
    return ids.astype(np.int32, copy=False), sizes


class _Overlap(NamedTuple):
    """How true and predicted components of one frame meet inside the region.

    Attributes:
        truth: (n,) true component of each pair that shares pixels.
        predicted: (n,) its predicted component.
        pixels: (n,) how many they share.
        truth_sizes: (T,) pixels of each true component, 0 where it does not count.
        predicted_sizes: (P,) the same of each predicted one.
    """

    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    pixels: NDArray[np.int64]
    truth_sizes: NDArray[np.int64]
    predicted_sizes: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        truth: Ids,
        predicted: Ids,
        truth_kept: NDArray[np.bool_],
        predicted_kept: NDArray[np.bool_],
        outside: bool,
    ) -> _Overlap:
        """Counts shared pixels; `outside` tells whether what is no truth is in the region."""
        marked = np.flatnonzero((truth > 0) | (predicted > 0))
        t, p = truth.ravel()[marked], predicted.ravel()[marked]
        # Small true components leave the region; small predictions are no predictions.
        region = np.where(t > 0, truth_kept[t], outside)
        t, p = t[region], np.where(predicted_kept[p], p, 0)[region]
        truth_count, predicted_count = truth_kept.size, predicted_kept.size
        truth_sizes = np.bincount(t, minlength=truth_count)
        predicted_sizes = np.bincount(p, minlength=predicted_count)
        truth_sizes[0] = predicted_sizes[0] = 0
        both = (t > 0) & (p > 0)
        codes = t[both].astype(np.int64) * predicted_count + p[both]
        pairs, pixels = np.unique(codes, return_counts=True)
        return cls(*np.divmod(pairs, predicted_count), pixels, truth_sizes, predicted_sizes)

    def ratios(self) -> tuple[Doubles, Doubles, Doubles]:
        """Gives sIoU of the truth, sIoU of the predictions and PPV of the predictions."""
        truth, predicted = (self.truth, self.truth_sizes), (self.predicted, self.predicted_sizes)
        counts = self.predicted_sizes > 0
        covered = np.bincount(self.predicted, self.pixels, self.predicted_sizes.size)
        ppv = covered[counts] / self.predicted_sizes[counts]
        return _siou(truth, predicted, self.pixels), _siou(predicted, truth, self.pixels), ppv


def _siou(
    own: tuple[NDArray[np.int64], NDArray[np.int64]],
    other: tuple[NDArray[np.int64], NDArray[np.int64]],
    pixels: NDArray[np.int64],
) -> Doubles:
    """Gives I / (|H| + |k| - I - A) for each own component k that counts.

    H are the other components that touch k, I is their part inside k, A their part on further
    own components. `own` and `other` hold the index of each pair and the component sizes.
    """
    (own_index, own_sizes), (other_index, other_sizes) = own, other
    inside = np.bincount(own_index, pixels, own_sizes.size)
    claimed = np.bincount(other_index, pixels, other_sizes.size)
    touching = np.bincount(own_index, other_sizes[other_index], own_sizes.size)
    elsewhere = np.bincount(own_index, claimed[other_index] - pixels, own_sizes.size)
    counts = own_sizes > 0
    union = touching + own_sizes - inside - elsewhere
    return inside[counts] / union[counts]


def level_counts(siou: Doubles, ppv: Doubles) -> NDArray[np.int64]:
    """Gives what F1 at each level adds up from, (2, 11): hits, and hits and misses of both kinds.

    Args:
        siou: Of the true components of a frame.
        ppv: Of its predicted ones.
    """
    hits = (siou[:, None] >= LEVELS).sum(0)
    wrong = siou.size - hits + (ppv[:, None] < LEVELS).sum(0)
    return np.stack([hits, wrong])


def mean_f1(sums: Doubles) -> dict[str, Doubles]:
    """Gives 'f1_mean' of (n, 2, 11) summed `level_counts`, (n,), NaN without any component."""
    hits, wrong = sums[:, 0], sums[:, 1]
    f1 = divided(2 * hits, 2 * hits + wrong)
    defined = ~np.isnan(f1)
    return {'f1_mean': divided(np.where(defined, f1, 0).sum(1), defined.sum(1).astype(float))}


def _pooled(frames: list[Doubles]) -> Doubles:
    return np.concatenate(frames) if frames else np.zeros(0)


def _mean(values: Doubles) -> float | None:
    """Gives the mean of an exact sum, which no order of the frames changes."""
    return math.fsum(values) / values.size if values.size else None


def _f1(siou: Doubles, ppv: Doubles, level: float) -> float | None:
    """Gives F1 at one level; None without any component."""
    hits = int((siou >= level).sum())
    wrong = siou.size - hits + int((ppv < level).sum())
    return 2 * hits / (2 * hits + wrong) if hits + wrong else None
