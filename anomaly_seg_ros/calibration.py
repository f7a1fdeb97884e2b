"""Raw anomaly scores to 0..1: the share of normal pixels that score lower."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TAIL = 4
"""How much finer than uniform the levels are near 1, where thresholds lie."""


def level_shares(count: int) -> NDArray[np.float64]:
    """Gives the shares of normal pixels at which levels are kept, rising from 0 to 1."""
    return 1 - (1 - np.linspace(0, 1, count)) ** TAIL


@dataclass(frozen=True)
class Calibration:
    """An empirical distribution of the raw score over normal (in-distribution) pixels.

    Attributes:
        levels: Raw scores at `level_shares(len(levels))`, never falling.
    """

    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        levels = np.asarray(self.levels, np.float64)
        if levels.ndim != 1 or levels.size < 2:
            raise ValueError(f'a calibration needs at least 2 levels, got {levels.size}')
        if not np.isfinite(levels).all() or (np.diff(levels) < 0).any():
            raise ValueError('the levels of a calibration must be finite and never fall')

    @classmethod
    def fit(cls, scores: NDArray[np.floating], count: int = 257) -> Calibration:
        """Fits the calibration to raw scores of normal pixels, in any order.

        Raises:
            ValueError: No scores, or some are not finite.
        """
        if scores.size == 0 or not np.isfinite(scores).all():
            raise ValueError('a calibration is fitted to finite scores of at least one pixel')
        levels = np.quantile(scores.astype(np.float64).ravel(), level_shares(count))
        return cls(tuple(float(level) for level in levels))

    def share(self, score: NDArray[np.floating]) -> NDArray[np.float32]:
        """Gives the share of normal pixels with a lower score, in 0..1, for each raw score.

        Linear between levels. A score that many normal pixels share gets the lowest share of the
        tie: as many pixels score *lower*. NaN counts as anomalous and gives 1.
        """
        levels, first = np.unique(np.asarray(self.levels, np.float64), return_index=True)
        shares = level_shares(len(self.levels))[first]
        result = np.interp(score.astype(np.float64), levels, shares, right=1.0)
        return np.nan_to_num(result, nan=1.0).astype(np.float32)

    def raw(self, share: float) -> float:
        """Gives the raw score of a calibrated one, such as a threshold; linear between levels.

        >>> Calibration((0.0, 1.0, 3.0)).raw(31 / 32)
        2.0
        """
        return float(np.interp(share, level_shares(len(self.levels)), self.levels))

    def table(self) -> CalibrationTable:
        """Gives `share` of every float16 value, indexed by its 16 bits."""
        halves = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(np.float16)
        return CalibrationTable(self.share(halves))


class CalibrationTable:
    """A calibration for whole frames: one gather by the 16 bits of a float16 score.

    float16 keeps three decimal digits of the score, finer than the calibration's own error.

    Args:
        shares: (65536,) calibrated score of every float16 value.
    """

    def __init__(self, shares: NDArray[np.float32]):
        self._shares = shares
        self._heat: NDArray[np.uint8] = np.rint(shares * np.float32(255)).astype(np.uint8)
        self._above: tuple[float, list[tuple[np.uint16, np.uint16]]] | None = None

    def share(self, bits: NDArray[np.uint16]) -> NDArray[np.float32]:
        """Gives (H, W) calibrated score, 0..1."""
        return np.take(self._shares, bits)

    def heat(self, bits: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Gives (H, W) calibrated score times 255."""
        return np.take(self._heat, bits)

    def above(self, bits: NDArray[np.uint16], threshold: float) -> NDArray[np.uint8]:
        """Gives (H, W) 255 where the calibrated score is at or above the threshold, else 0."""
        # One reference, replaced as a whole: another thread may ask for another threshold.
        kept = self._above
        if kept is None or kept[0] != threshold:
            self._above = kept = threshold, _runs(self._shares >= threshold)
        above = np.zeros(bits.shape, np.bool_)
        # The share never falls, so few ranges of bits are above: in a third of a gather's time.
        for first, further in kept[1]:
            above |= bits - first <= further
        return np.negative(above.view(np.uint8))


def _runs(wanted: NDArray[np.bool_]) -> list[tuple[np.uint16, np.uint16]]:
    """Gives of each run of true values among all of 16 bits its first index, and how many follow.

    >>> [tuple(map(int, run)) for run in _runs(np.arange(1 << 16) % 30000 < 5)]
    [(0, 4), (30000, 4), (60000, 4)]
    """
    edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False)).reshape(-1, 2)
    return [(np.uint16(first), np.uint16(after - first - 1)) for first, after in edges]


def score_bits(score: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Gives the 16 bits of each raw score as float16; a view where it is float16 already."""
    with np.errstate(over='ignore'):
        return score.astype(np.float16, copy=False).view(np.uint16)
