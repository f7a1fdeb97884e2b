"""AP, AUROC, FPR95 and best F1 from the counts of anomaly and inlier scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .known_bins import Keys
from .score_counts import Bins, scores_of

Doubles = NDArray[np.float64]
Counts = NDArray[np.int64]

FULL = 32
"""A bin with that many times the mean number of pixels holds a tie, or the curve is a needle."""


class CurvePoints(NamedTuple):
    """Points of the PR and ROC curves from the highest threshold to the lowest, (n,) each."""

    threshold: Doubles
    tpr: Doubles
    fpr: Doubles
    precision: Doubles


class Interval(NamedTuple):
    """Where an exact value certainly lies."""

    low: float
    high: float


@dataclass(frozen=True)
class Ranking:
    """For each bin that holds anomaly pixels, from the highest score down: what lies above it.

    Inlier-only bins change neither AP nor AUROC nor the best F1 beyond what is kept here.

    Attributes:
        threshold: (m,) lowest score of the bin; score >= threshold takes in all of it.
        hits: (m,) anomaly pixels in the bin.
        hits_above: (m,) anomaly pixels that score above the bin.
        alarms: (m,) inliers in the same bin, in an order among the anomalies that is not known.
        alarms_above: (m,) inliers that score above the anomalies of the bin.
        exact: (m,) whether all scores of the bin are tied, so that nothing is unknown.
        tied: (m,) where the values take the scores as tied: where they are, and in bins so full
            that nearly all of them must be one score. Elsewhere both classes are taken to
            alternate evenly.
        anomalies: P, all anomaly pixels.
        inliers: N, all inlier pixels.
    """

    threshold: NDArray[np.float32]
    hits: Counts
    hits_above: Counts
    alarms: Counts
    alarms_above: Counts
    exact: NDArray[np.bool_]
    tied: NDArray[np.bool_]
    anomalies: int
    inliers: int

    @classmethod
    def of(cls, anomaly: Bins, inlier: Bins, shift: int) -> Ranking:
        """Ranks two sets of bins that were made with the same `shift`."""
        low, high, hits = anomaly.low[::-1], anomaly.high[::-1], anomaly.counts[::-1]
        bin_index, paired = _partners(low, inlier.low, shift)
        inliers = int(inlier.counts.sum())
        from_top = inliers - np.concatenate([[0], np.cumsum(inlier.counts)])
        if inlier.low.size:
            other_low, other_high = inlier.low[bin_index], inlier.high[bin_index]
            shared = np.where(paired, inlier.counts[bin_index], 0)
        else:
            other_low, other_high, shared = low, high, np.zeros_like(hits)
        below = paired & (other_high < low)
        above = paired & (other_low > high)
        tied = (low == high) & (other_low == low) & (other_high == high)
        alarms = np.where(below | above, 0, shared)
        position = np.where(paired, bin_index, _insertion(low, inlier.low))
        alarms_above = from_top[position] - np.where(above, 0, shared)
        exact = (low == high) & (tied | (alarms == 0))
        total, bins = int(hits.sum()) + inliers, low.size + inlier.low.size
        full = hits + alarms > FULL * (total / max(bins, 1))
        return cls(
            threshold=scores_of(np.ascontiguousarray(low)),
            hits=hits,
            hits_above=np.cumsum(hits) - hits,
            alarms=alarms,
            alarms_above=alarms_above,
            exact=exact,
            tied=exact | full,
            anomalies=int(hits.sum()),
            inliers=inliers,
        )

    @property
    def tpr(self) -> Doubles:
        """(m,) share of the anomalies in the bin or above it."""
        rate: Doubles = (self.hits_above + self.hits) / self.anomalies
        return rate

    def average_precision(self) -> float | None:
        """Step sum over distinct scores; None without anomalies."""
        if not self.anomalies:
            return None
        last = self.hits_above + np.where(self.tied, self.hits, (self.hits + 1) / 2)
        wrong = self.alarms_above + np.where(self.tied, self.alarms, self.alarms / 2)
        return float((self.hits * (last / (last + wrong))).sum() / self.anomalies)

    def average_precision_bounds(self) -> Interval | None:
        """Gives the interval in which the AP of the unbinned scores lies.

        Lower end: all inliers of a bin above its anomalies, anomalies all distinct; the sum over
        these is at least its midpoint integral, as precision is concave in the number of hits.
        Upper end: all anomalies of a bin tied above its inliers.
        """
        if not self.anomalies:
            return None
        wrong = self.alarms_above + self.alarms
        end = self.hits_above + self.hits
        tied = self.hits * (end / (end + wrong))
        low = self.hits - wrong * np.log1p(self.hits / (self.hits_above + wrong + 0.5))
        high = self.hits * (end / (end + self.alarms_above))
        return Interval(
            float(np.where(self.exact, tied, low).sum() / self.anomalies),
            float(np.where(self.exact, tied, high).sum() / self.anomalies),
        )

    def auroc(self) -> float | None:
        """Probability that an anomaly outranks an inlier, ties one half; None without either."""
        if not self.anomalies or not self.inliers:
            return None
        lost = (self.hits * ((self.alarms_above + self.alarms / 2) / self.inliers)).sum()
        return float(1 - lost / self.anomalies)

    def auroc_bounds(self) -> Interval | None:
        """Gives the interval in which the AUROC of the unbinned scores lies."""
        value = self.auroc()
        if value is None:
            return None
        unknown = np.where(self.exact, 0, self.alarms) / self.inliers
        half = float((self.hits * unknown).sum() / self.anomalies / 2)
        return Interval(value - half, value + half)

    def fpr_at(self, tpr: float) -> float | None:
        """FPR at the first distinct score, from the top, whose TPR is at least `tpr`."""
        if not self.anomalies or not self.inliers:
            return None
        i = int(np.argmax(self.tpr >= tpr))
        if self.tied[i]:
            return float((self.alarms_above[i] + self.alarms[i]) / self.inliers)
        needed = np.ceil(tpr * self.anomalies) - self.hits_above[i]
        # Where the needed one of so many anomalies lies on average among the inliers.
        share = float(np.clip(needed / (self.hits[i] + 1), 0, 1))
        return float((self.alarms_above[i] + share * self.alarms[i]) / self.inliers)

    def fpr_at_bounds(self, tpr: float) -> Interval | None:
        """Gives the interval in which `fpr_at` of the unbinned scores lies."""
        value = self.fpr_at(tpr)
        if value is None:
            return None
        i = int(np.argmax(self.tpr >= tpr))
        if self.exact[i]:
            return Interval(value, value)
        above = int(self.alarms_above[i])
        return Interval(above / self.inliers, (above + int(self.alarms[i])) / self.inliers)

    def fpr_interpolated(self, tpr: float) -> float | None:
        """FPR where straight lines between the ROC points reach `tpr`.

        A plateau at exactly `tpr` gives its right end, the larger FPR.
        """
        if not self.anomalies or not self.inliers:
            return None
        i = int(np.argmax(self.tpr > tpr))
        share = (tpr * self.anomalies - self.hits_above[i]) / self.hits[i]
        if self.hits_above[i] / self.anomalies == tpr:
            share = 0.0
        return float((self.alarms_above[i] + share * self.alarms[i]) / self.inliers)

    def best_f1(self) -> tuple[float, float] | None:
        """Gives the largest F1 and the score at which it is first reached, from the top."""
        if not self.anomalies or not self.inliers:
            return None
        end = self.hits_above + self.hits
        f1 = 2 * end / (end + self.alarms_above + self.alarms + self.anomalies)
        i = int(np.argmax(f1))
        return float(f1[i]), float(self.threshold[i])

    def best_f1_bounds(self) -> Interval | None:
        """Gives the interval in which the best F1 of the unbinned scores lies."""
        best = self.best_f1()
        if best is None:
            return None
        end = self.hits_above + self.hits
        wrong = self.alarms_above + np.where(self.exact, self.alarms, 0)
        return Interval(best[0], float((2 * end / (end + wrong + self.anomalies)).max()))

    def threshold_at(self, tpr: float, strict: bool) -> float | None:
        """Gives the highest score t so that `score >= t` has a TPR of at least (above) `tpr`."""
        if not self.anomalies:
            return None
        reached = self.tpr > tpr if strict else self.tpr >= tpr
        return float(self.threshold[int(np.argmax(reached))]) if reached.any() else None

    def points(self, limit: int) -> CurvePoints:
        """Gives at most about `limit` points of the curves, ends included.

        Both ends of each chosen bin are points, so that few anomalies still give a true stair.
        Empty without anomalies or without inliers.
        """
        if not self.anomalies or not self.inliers:
            return CurvePoints(*(np.zeros(0) for _ in CurvePoints._fields))
        chosen = self._evenly(max(limit // 4, 1))
        hits = np.stack([self.hits_above, self.hits_above + self.hits], 1)[chosen].ravel()
        wrong = np.stack([self.alarms_above, self.alarms_above + self.alarms], 1)[chosen].ravel()
        levels = np.repeat(self.threshold[chosen].astype(np.float64), 2)
        levels[::2] = np.nextafter(self.threshold[chosen], np.float32(np.inf))
        hits = np.concatenate([[0], hits, [self.anomalies]])
        wrong = np.concatenate([[0], wrong, [self.inliers]])
        precision = np.divide(hits, hits + wrong, out=np.ones(hits.size), where=(hits + wrong) > 0)
        return CurvePoints(
            np.concatenate([[np.inf], levels, [-np.inf]]),
            hits / self.anomalies,
            wrong / self.inliers,
            precision,
        )

    def _evenly(self, count: int) -> NDArray[np.intp]:
        """Gives bins that are evenly spread over TPR and over FPR."""
        levels = np.linspace(0, 1, count)
        hits, wrong = self.hits_above + self.hits, self.alarms_above + self.alarms
        by_hits = np.searchsorted(hits, levels * self.anomalies)
        by_wrong = np.searchsorted(wrong, levels * self.inliers)
        return np.unique(np.minimum(np.concatenate([by_hits, by_wrong]), hits.size - 1))


def _insertion(keys: Keys, rising: Keys) -> NDArray[np.intp]:
    """Gives for each key how many of `rising` lie below it."""
    return np.searchsorted(rising, keys)


def _partners(keys: Keys, rising: Keys, shift: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Gives for each key the index of the bin that shares all but `shift` bits, and if it is."""
    if not rising.size:
        return np.zeros(keys.size, np.intp), np.zeros(keys.size, np.bool_)
    bins = rising >> shift
    index = np.minimum(np.searchsorted(bins, keys >> shift), bins.size - 1)
    return index, bins[index] == keys >> shift
