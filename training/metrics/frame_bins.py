"""The scores of each frame in common bins, so that AP and FPR95 of any choice of frames follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bootstrap import divided, Doubles
from .pixel import PixelMetrics, TARGET_TPR
from .score_counts import scores_of

MAX_LEVELS = 1024
"""Bins at most; each then holds a thousandth of the anomalies."""


@dataclass(frozen=True)
class FrameBins:
    """Bins that begin at scores of the set's anomalies, each with about as many of them.

    Where the set has no more distinct anomaly scores than bins, each is a bin of its own and AP
    and FPR95 are exact; else the classes are taken to alternate evenly inside of a bin, as
    `Ranking` does.

    Attributes:
        levels: (B,) rising; the lowest anomaly score of each bin.
        tied: (B,) whether all anomalies of the bin have that very score.
    """

    levels: NDArray[np.float32]
    tied: NDArray[np.bool_]

    @classmethod
    def of(cls, metrics: PixelMetrics, limit: int = MAX_LEVELS) -> FrameBins:
        """Gives the bins for frames that have been measured as a set."""
        bins = metrics.anomaly.bins()
        above = np.cumsum(bins.counts)
        wanted = np.linspace(0, above[-1] if above.size else 0, limit, endpoint=False)
        start = np.unique(np.searchsorted(above, wanted, side='right'))
        if bins.low.size <= limit:
            start = np.arange(bins.low.size)
        alone = np.diff(start, append=bins.low.size) == 1
        return cls(
            scores_of(np.ascontiguousarray(bins.low[start])),
            alone & (bins.low[start] == bins.high[start]),
        )

    def count(self, score: NDArray[np.floating], anomaly: NDArray[np.uint8]) -> NDArray[np.uint32]:
        """Gives (2, B + 1) anomalies and inliers of a frame in each bin; first what is below all.

        Args:
            score: (H, W), higher = more anomalous.
            anomaly: (H, W) 0 inlier, 1 anomaly, 255 ignore.
        """
        with np.errstate(over='ignore'):
            values = score.astype(np.float32, copy=False)
        size = self.levels.size + 1
        parts = [
            np.bincount(
                np.searchsorted(self.levels, values[anomaly == label], 'right'), None, size
            )
            for label in (1, 0)
        ]
        return np.stack(parts).astype(np.uint32)

    def values(self, sums: Doubles) -> dict[str, Doubles]:
        """Gives 'ap' and 'fpr95' of (n, 2, B + 1) summed counts, (n,) each, NaN = undefined."""
        # From the highest score down.
        hits, alarms = sums[:, 0, :0:-1], sums[:, 1, :0:-1]
        tied = self.tied[::-1]
        anomalies, inliers = sums[:, 0].sum(1), sums[:, 1].sum(1)
        found, wrong = hits.cumsum(1), alarms.cumsum(1)
        last = found - np.where(tied, 0, (hits - 1) / 2)
        before = wrong - np.where(tied, 0, alarms / 2)
        with np.errstate(invalid='ignore'):
            precision = np.where(hits > 0, last / (last + before), 0)
        ap = divided((hits * precision).sum(1), anomalies)
        needed = np.ceil(TARGET_TPR * anomalies)
        if not tied.size:
            return {'ap': ap, 'fpr95': np.full(len(ap), np.nan)}
        at = (
            divided(found, np.broadcast_to(anomalies[:, None], found.shape)) >= TARGET_TPR
        ).argmax(1)
        rows = np.arange(len(at))
        missing = needed - (found - hits)[rows, at]
        share = np.where(tied[at], 1, np.clip(missing / (hits[rows, at] + 1), 0, 1))
        crossed = (wrong - alarms)[rows, at] + share * alarms[rows, at]
        fpr = divided(crossed, inliers)
        fpr[anomalies == 0] = np.nan
        return {'ap': ap, 'fpr95': fpr}
