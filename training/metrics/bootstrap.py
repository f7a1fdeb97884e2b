"""How far a number may move because these frames were drawn and not others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import math

import numpy as np
from numpy.typing import NDArray

from .curve import Interval

ROUNDS = 1000
LEVEL = 0.95
SEED = 0
RULE = (
    f'{LEVEL:.0%} of {ROUNDS} resamples of the frames with replacement (seed {SEED}) lie between'
)
"""What an interval means, for the output."""

_BLOCK_BYTES = 1 << 26

Doubles = NDArray[np.float64]
Statistic = Callable[[Doubles], Mapping[str, Doubles]]
"""Takes (n, ...) summed counts of n resamples, gives values of (n,) each; NaN = undefined."""


def frame_weights(frames: int, rounds: int = ROUNDS, seed: int = SEED) -> Doubles:
    """Gives how often each resample holds each frame, (rounds, frames).

    The same for the same number of frames, so that two methods on one set are resampled alike.
    """
    random = np.random.default_rng(seed)
    drawn = random.multinomial(frames, np.full(frames, 1 / frames), rounds)
    return drawn.astype(np.float64)


def intervals(
    counts: NDArray[np.integer], statistic: Statistic, rounds: int = ROUNDS, seed: int = SEED
) -> dict[str, Interval | None]:
    """Gives the interval of each value of a statistic over resamples of the frames.

    A value must be a function of counts that add up over frames: a resample is then a product of
    its weights and these counts, and no pixel is looked at again.

    Args:
        counts: (frames, ...) what each frame adds.
        statistic: From summed counts to values by name.
        rounds: How many resamples.
        seed: Of the draw.

    Returns:
        Name to interval; None where fewer than two frames, or most resamples are undefined.

    >>> def share(sums):
    ...     return {'share': sums[:, 0] / sums[:, 1]}
    >>> intervals(np.array([[1, 4]] * 5), share)
    {'share': Interval(low=0.25, high=0.25)}
    """
    flat = counts.reshape(len(counts), math.prod(counts.shape[1:])).astype(np.float64)
    if len(flat) < 2:
        return dict.fromkeys(statistic(flat.reshape(counts.shape)))
    weights = frame_weights(len(flat), rounds, seed)
    step = max(1, _BLOCK_BYTES // (flat.shape[1] * 8))
    parts = [
        statistic((weights[start : start + step] @ flat).reshape(-1, *counts.shape[1:]))
        for start in range(0, rounds, step)
    ]
    return {key: _interval(np.concatenate([part[key] for part in parts])) for key in parts[0]}


def _interval(values: Doubles) -> Interval | None:
    defined = values[~np.isnan(values)]
    if 2 * defined.size < values.size:
        return None
    low, high = np.quantile(defined, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(float(low), float(high))


def divided(part: Doubles, whole: Doubles) -> Doubles:
    """Gives part / whole, NaN where the whole is 0."""
    result: Doubles = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return result
