"""Per-pixel anomaly metrics, pooled over a set in one pass with bounded memory."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE

from .curve import CurvePoints, Interval, Ranking
from .score_counts import MAX_BINS, ScoreCounts

Value = float | int | None
FprRule = Literal['first_ge', 'interp']

TARGET_TPR = 0.95

BLOCK = 1 << 15
"""Pixels of a frame that are taken in at once; they stay in the processor's cache."""


def check_frame(score: NDArray[np.floating], anomaly: NDArray[np.uint8], name: str) -> None:
    """Checks a frame that a metric is about to take in.

    Args:
        score: (H, W), higher = more anomalous.
        anomaly: (H, W) 0 inlier, 1 anomaly, 255 ignore.
        name: The frame's name, for the error text.

    Raises:
        ValueError: Sizes differ, a label is not 0, 1 or 255, or a labelled pixel has NaN.
    """
    if score.shape != anomaly.shape:
        raise ValueError(f'frame {name!r}: score is {score.shape}, labels {anomaly.shape}')
    if not score.size:
        return
    known = np.count_nonzero(anomaly <= 1) + np.count_nonzero(anomaly == IGNORE)
    if known != anomaly.size:
        strange = sorted(set(np.unique(anomaly).tolist()) - {0, 1, IGNORE})
        raise ValueError(f'frame {name!r} holds labels {strange[:5]}; use 0, 1 and 255')
    if np.isnan(score.min()):  # the smallest value is NaN if any is, and costs no array
        wrong = int((np.isnan(score) & (anomaly != IGNORE)).sum())
        if wrong:
            raise ValueError(f'frame {name!r} has {wrong} NaN scores on labelled pixels')


class PixelMetrics:
    """AP, AUROC, FPR95 and best F1 over all labelled pixels of a set.

    Tied scores enter the curves together. Exact while a class has at most `max_bins` distinct
    float32 scores; above that `bounds()` gives intervals that certainly hold the exact values.
    The result depends neither on the order of the frames nor on how workers shared them.

    Scores of other types are rounded to float32 (float16 loses nothing; float64 may tie, and
    overflows to infinity). Infinite scores rank first or last, tied with each other. NaN on a
    labelled pixel is an error and leaves the metrics as they were; on an ignored one it is not
    looked at. Undefined values are None: all without anomalies; without inliers all but AP, 1.

    >>> metrics = PixelMetrics()
    >>> metrics.update(np.float32([[0.9, 0.8, 0.3, 0.1]]), np.uint8([[1, 0, 1, 255]]))
    >>> values = metrics.compute()
    >>> round(values['ap'], 4), values['auroc'], values['fpr95'], values['best_f1']
    (0.8333, 0.5, 1.0, 0.8)
    """

    def __init__(
        self, skip_empty: bool = False, fpr95: FprRule = 'first_ge', max_bins: int = MAX_BINS
    ):
        """Starts with no frames.

        Args:
            skip_empty: Drop frames without an anomaly pixel, as some old evaluators do.
            fpr95: 'first_ge' takes the first score with TPR >= 0.95; 'interp' draws straight
                lines between the ROC points.
            max_bins: Bins per class; more cost memory, fewer widen `bounds()`.

        Raises:
            ValueError: Unknown `fpr95` rule.
        """
        if fpr95 not in ('first_ge', 'interp'):
            raise ValueError(f'unknown FPR95 rule {fpr95!r}; choose one of: first_ge, interp')
        self.skip_empty = skip_empty
        self.fpr95: FprRule = fpr95
        self.anomaly = ScoreCounts(max_bins)
        self.inlier = ScoreCounts(max_bins)
        self.images = 0
        self.skipped = 0

    def update(
        self, score: NDArray[np.floating], anomaly: NDArray[np.uint8], name: str | None = None
    ) -> None:
        """Adds one frame; one without labelled pixels is only counted as skipped.

        Args:
            score: (H, W), higher = more anomalous.
            anomaly: (H, W) 0 inlier, 1 anomaly, 255 ignore.
            name: The frame's name for error texts; its number if None.

        Raises:
            ValueError: Sizes differ, a label is not 0, 1 or 255, or a labelled pixel has NaN.
        """
        check_frame(score, anomaly, name or str(self.images + self.skipped))
        wanted = anomaly == 1 if self.skip_empty else anomaly != IGNORE
        if not wanted.any():
            self.skipped += 1
            return
        self.images += 1
        scores, labels = score.ravel(), anomaly.ravel()
        for start in range(0, scores.size, BLOCK):
            part, truth = scores[start : start + BLOCK], labels[start : start + BLOCK]
            with np.errstate(over='ignore'):
                part = part.astype(np.float32, copy=False)
            self.anomaly.add(part[truth == 1])
            self.inlier.add(part[truth == 0])
        self._align()

    def merge(self, other: PixelMetrics) -> None:
        """Adds what another worker measured; equal to having measured all frames here.

        Raises:
            ValueError: The other one was made with other settings.
        """
        mine, theirs = (self.skip_empty, self.fpr95), (other.skip_empty, other.fpr95)
        if mine != theirs:
            raise ValueError(f'cannot merge metrics with settings {theirs} into {mine}')
        self.anomaly.merge(other.anomaly)
        self.inlier.merge(other.inlier)
        self.images += other.images
        self.skipped += other.skipped
        self._align()

    def _align(self) -> None:
        """Gives both classes the coarser of their bins, as only equal bins can be compared."""
        self.anomaly.coarsen(self.inlier.shift)
        self.inlier.coarsen(self.anomaly.shift)

    def ranking(self) -> Ranking:
        """Gives what all curves and metrics are computed from."""
        self.anomaly.bins()
        self.inlier.bins()
        self._align()
        return Ranking.of(self.anomaly.bins(), self.inlier.bins(), self.inlier.shift)

    def compute(self) -> dict[str, Value]:
        """Gives all values by their names in `results.json`."""
        ranking = self.ranking()
        total = ranking.anomalies + ranking.inliers
        best = ranking.best_f1()
        fpr = ranking.fpr_at if self.fpr95 == 'first_ge' else ranking.fpr_interpolated
        return {
            'n_images': self.images,
            'n_skipped': self.skipped,
            'n_pixels': total,
            'n_anomalies': ranking.anomalies,
            'base_rate': ranking.anomalies / total if total else None,
            'ap': ranking.average_precision(),
            'auroc': ranking.auroc(),
            'fpr95': fpr(TARGET_TPR),
            'best_f1': best[0] if best else None,
            'best_f1_threshold': best[1] if best else None,
        }

    def bounds(self) -> dict[str, Interval | None]:
        """Gives for each metric an interval that holds the value a full sort would give.

        FPR95 is that of the rule 'first_ge'. Where nothing was binned the ends are equal.
        """
        ranking = self.ranking()
        return {
            'ap': ranking.average_precision_bounds(),
            'auroc': ranking.auroc_bounds(),
            'fpr95': ranking.fpr_at_bounds(TARGET_TPR),
            'best_f1': ranking.best_f1_bounds(),
        }

    def curve(self, limit: int = 512) -> CurvePoints:
        """Gives about `limit` points of the PR and ROC curves for plots."""
        return self.ranking().points(limit)

    def threshold_at_tpr(self, tpr: float = TARGET_TPR, strict: bool = False) -> float | None:
        """Gives the highest t so that `score >= t` reaches `tpr` (`strict`: goes above it)."""
        return self.ranking().threshold_at(tpr, strict)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Gives everything as arrays, for `numpy.savez` or a message to another process."""
        settings = [self.skip_empty, self.fpr95 == 'interp', self.images, self.skipped]
        state: dict[str, NDArray[np.generic]] = {'settings': np.array(settings, np.int64)}
        for part, counts in (('anomaly', self.anomaly), ('inlier', self.inlier)):
            state |= {f'{part}.{key}': value for key, value in counts.state().items()}
        return state

    @classmethod
    def from_state(cls, state: dict[str, NDArray[np.generic]]) -> PixelMetrics:
        """Gives the metrics that `state()` described."""
        skip_empty, interp, images, skipped = (int(value) for value in state['settings'])
        metrics = cls(bool(skip_empty), 'interp' if interp else 'first_ge')
        metrics.images, metrics.skipped = images, skipped
        metrics.anomaly = ScoreCounts.from_state(_part(state, 'anomaly.'))
        metrics.inlier = ScoreCounts.from_state(_part(state, 'inlier.'))
        return metrics


def strict_threshold(threshold: float) -> float:
    """Gives t so that `score > t` picks what `score >= threshold` picks among float32 scores.

    Component metrics compare strictly, the best-F1 threshold is itself a score; without this a
    map of zeros and ones would lose all its ones.

    >>> bool(np.float32(1) > strict_threshold(1.0)), bool(np.float32(0) > strict_threshold(1.0))
    (True, False)
    """
    with np.errstate(over='ignore'):  # below the smallest number lies minus infinity
        return float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))


def _part(state: dict[str, NDArray[np.generic]], prefix: str) -> dict[str, NDArray[np.generic]]:
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
