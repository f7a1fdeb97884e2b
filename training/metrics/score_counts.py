"""Counts how often each float32 score occurs, in bounded memory and independent of order."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .known_bins import Keys, KnownBins, MOST_SHIFT

MAX_BINS = 1 << 20
"""Bins kept per class; 16 bytes each."""

BUFFER_KEYS = 1 << 20
"""Keys of no known bin gathered before they are sorted into the bins; 4 bytes each."""

_SLICE_KEYS = 1 << 18
_SIGN = np.uint32(1 << 31)


def ordered_keys(scores: NDArray[np.float32]) -> Keys:
    """Gives for each score an integer that orders like it; -0 and 0 get the same one.

    >>> keys = ordered_keys(np.float32([-np.inf, -1, -0.0, 0.0, 1e-40, np.inf]))
    >>> np.diff(keys.astype(np.int64)).tolist()
    [1073741824, 1065353217, 0, 71362, 2139023678]
    """
    bits = (scores + np.float32(0)).view(np.int32)
    flip = (bits >> np.int32(31)).view(np.uint32) | _SIGN
    keys: Keys = bits.view(np.uint32) ^ flip
    return keys


def scores_of(keys: Keys) -> NDArray[np.float32]:
    """Gives the scores that `ordered_keys` turned into `keys`."""
    flip = np.where(keys & _SIGN, _SIGN, np.uint32(0xFFFFFFFF))
    scores: NDArray[np.float32] = (keys ^ flip).view(np.float32)
    return scores


class Bins(NamedTuple):
    """Bins in rising order of the key; bins never overlap.

    Attributes:
        low: (B,) smallest key in the bin.
        high: (B,) largest key in the bin; equal to `low` where all its scores are tied.
        counts: (B,) how many scores it holds.
    """

    low: Keys
    high: Keys
    counts: NDArray[np.int64]


EMPTY = Bins(np.zeros(0, np.uint32), np.zeros(0, np.uint32), np.zeros(0, np.int64))


class ScoreCounts:
    """How often each score occurred.

    While at most `max_bins` distinct scores came, each has a bin of its own and the counts are
    exact. Above that, scores whose keys share all but the last `shift` bits share a bin. `shift`
    is the smallest that keeps `max_bins`, so it depends on the set of scores alone and neither
    on their order nor on how they were split among workers.

    Only scores that fall into no bin so far are sorted: of many frames a few in a hundred.

    >>> counts = ScoreCounts()
    >>> counts.add(np.float32([0.5, 2, 0.5]))
    >>> scores_of(counts.bins().low).tolist(), counts.bins().counts.tolist()
    ([0.5, 2.0], [2, 1])
    """

    def __init__(self, max_bins: int = MAX_BINS, buffer_keys: int = BUFFER_KEYS):
        if max_bins < 1 or buffer_keys < 1:
            raise ValueError(f'need at least 1 bin and key, got {max_bins} and {buffer_keys}')
        self.max_bins = max_bins
        self.buffer_keys = buffer_keys
        self.shift = 0
        self._bins = EMPTY
        self._known: KnownBins | None = None
        self._buffer: Keys | None = None
        self._filled = 0

    def add(self, scores: NDArray[np.float32]) -> None:
        """Counts scores, (n,) without NaN."""
        for start in range(0, scores.size, _SLICE_KEYS):
            keys = ordered_keys(scores[start : start + _SLICE_KEYS])
            if self._known is None and self._bins.low.size and self.shift <= MOST_SHIFT:
                self._known = KnownBins(*self._bins, self.shift)
            self._gather(keys if self._known is None else self._known.count(keys))

    def bins(self) -> Bins:
        """Gives all bins so far."""
        self._flush()
        self._buffer = None
        return self._bins

    def coarsen(self, shift: int) -> None:
        """Lets scores share a bin that share all but the last `shift` bits of their keys."""
        if shift > self.shift:
            self._settle()
            self.shift = shift
            self._bins = _coarser(self._bins, shift)

    def merge(self, other: ScoreCounts) -> None:
        """Adds what another worker counted; equal to having counted all scores here.

        Raises:
            ValueError: The other one was made with another `max_bins`.
        """
        if other.max_bins != self.max_bins:
            raise ValueError(f'cannot merge max_bins {other.max_bins} into {self.max_bins}')
        bins = other.bins()
        self._flush()
        self.coarsen(other.shift)
        self._bins = self._fitting(_joined(self._bins, _coarser(bins, self.shift), self.shift))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Gives everything as arrays, for `numpy.savez` or a message to another process."""
        bins = self.bins()
        settings = np.array([self.max_bins, self.buffer_keys, self.shift], np.int64)
        return {
            'settings': settings,
            'low': bins.low,
            'high': bins.high,
            'counts': bins.counts,
        }

    @classmethod
    def from_state(cls, state: dict[str, NDArray[np.generic]]) -> ScoreCounts:
        """Gives the counts that `state()` described."""
        max_bins, buffer_keys, shift = (int(value) for value in state['settings'])
        counts = cls(max_bins, buffer_keys)
        counts.shift = shift
        counts._bins = Bins(
            state['low'].astype(np.uint32),
            state['high'].astype(np.uint32),
            state['counts'].astype(np.int64),
        )
        return counts

    def __getstate__(self) -> dict[str, NDArray[np.generic]]:
        return self.state()

    def __setstate__(self, state: dict[str, NDArray[np.generic]]) -> None:
        vars(self).update(vars(ScoreCounts.from_state(state)))

    def _gather(self, keys: Keys) -> None:
        """Puts keys into the buffer, which is sorted into the bins when it is full."""
        if self._buffer is None:
            self._buffer = np.empty(self.buffer_keys, np.uint32)
        start = 0
        while start < keys.size:
            if self._filled == self.buffer_keys:
                self._make_room()
            taken = min(keys.size - start, self.buffer_keys - self._filled)
            end = self._filled + taken
            self._buffer[self._filled : end] = keys[start : start + taken]
            self._filled = end
            start += taken

    def _make_room(self) -> None:
        """Empties a full buffer, by a sort only if the bins are not known well enough."""
        self._widen()
        if self._filled > self.buffer_keys // 2:
            self._flush()

    def _widen(self) -> None:
        """Takes the keys of known bins out of the buffer."""
        if self._known is not None and self._buffer is not None:
            keys = self._known.widen(self._buffer[: self._filled])
            self._filled = keys.size
            self._buffer[: self._filled] = keys

    def _settle(self) -> None:
        """Gives the bins what was counted in them without a sort, before they change."""
        if self._known is not None:
            self._bins, self._known = Bins(*self._known.bins()), None

    def _flush(self) -> None:
        """Sorts the buffer into the bins."""
        self._widen()
        self._settle()
        if not self._filled:
            return
        assert self._buffer is not None
        keys = self._buffer[: self._filled]
        keys.sort()
        self._filled = 0
        self._take_in(keys)

    def _take_in(self, keys: Keys) -> None:
        """Joins keys that rise with the bins, slice by slice so that temporaries stay small."""
        cuts = np.unique((keys[_SLICE_KEYS::_SLICE_KEYS] >> self.shift) << self.shift)
        cuts = cuts[cuts > keys[0]]  # each slice holds a key
        key_cuts = [0, *np.searchsorted(keys, cuts).tolist(), keys.size]
        bin_cuts = [0, *np.searchsorted(self._bins.low, cuts).tolist(), self._bins.low.size]
        parts: list[Bins] = []
        for i in range(len(key_cuts) - 1):
            new = _runs(keys[key_cuts[i] : key_cuts[i + 1]], self.shift)
            old = _coarser(_part(self._bins, bin_cuts[i], bin_cuts[i + 1]), self.shift)
            parts.append(_joined(old, new, self.shift))
            while _total(parts, self.shift) > self.max_bins:
                self.shift += 1
                for place, part in enumerate(parts):
                    parts[place] = _coarser(part, self.shift)
        self._bins = EMPTY
        self._bins = _chained(parts, self.shift)

    def _fitting(self, bins: Bins) -> Bins:
        """Gives bins that rise made so coarse that they fit; raises `shift` if that is needed."""
        bins = _coarser(bins, self.shift)
        while bins.low.size > self.max_bins:
            self.shift += 1
            bins = _coarser(bins, self.shift)
        return bins


def _starts(sorted_keys: Keys, shift: int) -> NDArray[np.intp]:
    """Gives where each bin starts in keys that rise."""
    if not sorted_keys.size:
        return np.zeros(0, np.intp)
    groups = sorted_keys >> shift if shift else sorted_keys
    return np.concatenate([[0], np.flatnonzero(groups[1:] != groups[:-1]) + 1])


def _runs(keys: Keys, shift: int) -> Bins:
    """Gives the bins of single keys that rise."""
    starts = _starts(keys, shift)
    counts = np.diff(starts, append=keys.size)
    return Bins(keys[starts], keys[starts + counts - 1], counts)


def _joined(first: Bins, second: Bins, shift: int) -> Bins:
    """Gives the bins of both; in each alone no two share all but the last `shift` bits."""
    if not first.low.size or not second.low.size:
        return first if first.low.size else second
    low = np.concatenate([first.low, second.low])
    order = np.argsort(low, kind='stable')  # two rising runs: one linear merge
    low = low[order]
    high = np.concatenate([first.high, second.high])[order]
    counts = np.concatenate([first.counts, second.counts])[order]
    groups = low >> shift if shift else low
    twin = np.flatnonzero(groups[1:] == groups[:-1])
    counts[twin] += counts[twin + 1]
    high[twin] = np.maximum(high[twin], high[twin + 1])
    kept = np.ones(low.size, np.bool_)
    kept[twin + 1] = False
    return Bins(low[kept], high[kept], counts[kept])


def _coarser(bins: Bins, shift: int) -> Bins:
    """Gives bins that rise, those that share all but the last `shift` bits made one."""
    starts = _starts(bins.low, shift)
    if starts.size == bins.low.size:
        return bins
    return Bins(
        bins.low[starts],
        np.maximum.reduceat(bins.high, starts),
        np.add.reduceat(bins.counts, starts),
    )


def _part(bins: Bins, start: int, end: int) -> Bins:
    return Bins(bins.low[start:end], bins.high[start:end], bins.counts[start:end])


def _meet(left: Bins, right: Bins, shift: int) -> bool:
    """Tells whether the last bin of one part and the first of the next are the same."""
    return bool(left.low[-1] >> shift == right.low[0] >> shift)


def _total(parts: list[Bins], shift: int) -> int:
    """Counts the bins of parts that follow each other."""
    met = sum(_meet(a, b, shift) for a, b in pairwise(parts))
    return sum(part.low.size for part in parts) - met


def _chained(parts: list[Bins], shift: int) -> Bins:
    """Gives the bins of parts that follow each other; empties the list as it goes."""
    size = _total(parts, shift)
    bins = Bins(np.empty(size, np.uint32), np.empty(size, np.uint32), np.empty(size, np.int64))
    end = 0
    parts.reverse()
    while parts:
        part = parts.pop()
        if end and _meet(_part(bins, 0, end), part, shift):
            bins.counts[end - 1] += part.counts[0]
            bins.high[end - 1] = max(bins.high[end - 1], part.high[0])
            part = _part(part, 1, part.low.size)
        start, end = end, end + part.low.size
        bins.low[start:end] = part.low
        bins.high[start:end] = part.high
        bins.counts[start:end] = part.counts
    return bins
