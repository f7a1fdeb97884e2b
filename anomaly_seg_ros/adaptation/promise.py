"""How well a threshold keeps its promise on frames that it was not fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np
from numpy.typing import NDArray

STRETCHES = 10
"""Parts that frames are left out in, because neighbours in time are alike."""
IN_A_STRETCH = 3
"""Frames, at least: of single frames of one drive the interval is too narrow by far."""
LEAST_SCENES = 5
"""From so many scenes on whole scenes are left out, not stretches of frames."""
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t at 97.5 % for 1 to 9 degrees of freedom."""


@dataclass(frozen=True)
class SureShare:
    """A share of pixels, with its 95 % interval over scenes or stretches of frames.

    Attributes:
        share: 0..1.
        low: Lower end; 0 where one part alone says nothing of others.
        high: Upper end; likewise 1.
        parts: How many scenes or stretches there are.
    """

    share: float
    low: float
    high: float
    parts: int

    def __str__(self) -> str:
        """Reads as '1.02 % (0.81 to 1.29 %)'."""
        share, low, high = (100 * value for value in (self.share, self.low, self.high))
        return f'{share:.2f} % ({low:.2f} to {high:.2f} %)'


def stretches(scenes: Sequence[str]) -> NDArray[np.intp]:
    """Gives each frame the number of the part that it is left out with.

    Args:
        scenes: What each frame's scene is called, frames in order.

    >>> stretches(['a'] * 9).tolist(), stretches(list('abcdea')).tolist()
    ([0, 0, 0, 1, 1, 1, 2, 2, 2], [0, 1, 2, 3, 4, 0])
    """
    names = list(dict.fromkeys(scenes))
    scene = np.array([names.index(name) for name in scenes], np.intp)
    if len(names) >= LEAST_SCENES:
        return scene * min(STRETCHES, len(names)) // len(names)
    place = np.empty(len(scenes), np.intp)
    place[np.argsort(scene, kind='stable')] = np.arange(len(scenes))
    parts = min(STRETCHES, max(2, len(scenes) // IN_A_STRETCH), len(scenes))
    return place * parts // max(len(scenes), 1)


def left_out_shares(
    samples: Sequence[NDArray[np.float32]], parts: NDArray[np.intp], rate: float
) -> list[float]:
    """Gives each frame's share of pixels at or above the threshold of the other parts.

    Args:
        samples: Scores of each frame.
        parts: Of each frame.
        rate: The promised share.
    """
    shares = [0.0] * len(samples)
    for part in np.unique(parts):
        others = [samples[index] for index in map(int, np.flatnonzero(parts != part))]
        if not sum(map(len, others)):
            others = list(samples)
        threshold = float(np.quantile(np.concatenate(others), 1 - rate))
        for index in map(int, np.flatnonzero(parts == part)):
            shares[index] = share_above(samples[index], threshold)
    return shares


def share_above(sample: NDArray[np.float32], threshold: float) -> float:
    """Gives the share of scores at or above a threshold; 0 of none."""
    return float(np.count_nonzero(sample >= threshold)) / max(sample.size, 1)


def sure_share(shares: Sequence[float], parts: NDArray[np.intp]) -> SureShare:
    """Gives the mean share with its interval, which is wide where the parts differ.

    The interval is that of Student's t for the mean of the parts, each weighing as many frames as
    it has, on a logarithmic axis: shares are above zero and a few parts hold most of them.

    Args:
        shares: Of each frame.
        parts: Of each frame.
    """
    sizes = np.bincount(parts)
    sums = np.bincount(parts, weights=np.asarray(shares, np.float64))
    sizes, sums = sizes[sizes > 0], sums[sizes > 0]
    mean, count = float(sums.sum() / sizes.sum()), len(sizes)
    if count < 2:
        return SureShare(mean, 0, 1, count)
    if mean == 0:
        return SureShare(0, 0, 0, count)
    error = math.sqrt(count / (count - 1) * float(((sums - mean * sizes) ** 2).sum()))
    relative = T_975[min(count, STRETCHES) - 2] * error / float(sums.sum())
    factor = math.exp(min(relative, 20.0))
    return SureShare(mean, mean / factor, min(1.0, mean * factor), count)
