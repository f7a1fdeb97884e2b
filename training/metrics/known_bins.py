"""Counts keys that fall into bins which are known already, without sorting them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint32]

MOST_SHIFT = 16
"""Up to here 16 bits tell apart the keys of one place."""

_BLOCK = 1 << 15
"""Keys that are looked up at once: what is made of them stays in the processor's cache."""

_GATHERED = 1 << 20
"""Hits gathered before they are counted, as each counting walks the whole table."""

_FEWEST_BITS, _MOST_BITS = 16, 20
"""Of a place: a smaller table would not be faster, a larger one leaves the cache."""

_HALF = np.uint32(16)


class KnownBins:
    """A table that leads from a key to its bin in one look.

    Some bits of a key say at which place its bin lies, the rest of them whether it is in that bin.
    Of bins that want one place the fullest gets it, and keys of the others count as unknown: what
    the table holds decides how fast a key is counted and never where.

    Looking up and counting a key costs 10 to 15 ns, on any processor; sorting it in costs 35 to
    60 ns where numpy's fast sort is missing or slow, as on Zen 4.

    Args:
        low: (B,) smallest key of each bin.
        high: (B,) largest key of each bin.
        counts: (B,) what it holds, which says who is fuller.
        shift: Keys of one bin share all but so many last bits; at most `MOST_SHIFT`.
    """

    def __init__(self, low: Keys, high: Keys, counts: NDArray[np.int64], shift: int):
        self._shift = shift
        self._low, self._high, self._before = low, high, counts
        self._bits = min(max(int(low.size).bit_length(), _FEWEST_BITS), _MOST_BITS)
        size = 1 << self._bits
        # Where nothing is, the last key lies before the first one.
        self._first, self._last = np.ones(size, np.uint16), np.zeros(size, np.uint16)
        for chosen in (slice(None), np.flatnonzero(counts > counts.mean())):
            places = self._place(low[chosen])
            self._first[places] = self._rest(low[chosen])
            self._last[places] = self._rest(high[chosen])
        self._ends = (self._first.astype(np.uint32) << _HALF) | self._last
        self._counts = np.zeros(size + 1, np.int64)
        self._hits = np.empty(_GATHERED, np.int32)
        self._gathered = 0

    def count(self, keys: Keys) -> Keys:
        """Counts the keys between the ends of known bins and gives the others."""
        others = [keys[:0]]
        for start in range(0, keys.size, _BLOCK):
            part = keys[start : start + _BLOCK]
            places, rest = self._place(part), self._rest(part)
            ends = self._ends.take(places)
            other = rest < (ends >> _HALF)
            ends &= np.uint32(0xFFFF)
            other |= rest > ends
            missed = np.flatnonzero(other)
            places[missed] = self._ends.size  # a place of no bin
            self._gather(places)
            others.append(part[missed])
        return np.concatenate(others)

    def widen(self, keys: Keys) -> Keys:
        """Counts the keys that belong into known bins, widens those and gives the others."""
        others = [keys[:0]]
        for start in range(0, keys.size, _BLOCK):
            part = keys[start : start + _BLOCK]
            places, rest = self._place(part), self._rest(part)
            mine = self._hold(places, rest)
            others.append(part[~mine])
            places, rest = places[mine], rest[mine].astype(np.uint16)
            np.minimum.at(self._first, places, rest)
            np.maximum.at(self._last, places, rest)
            first, last = self._first[places].astype(np.uint32), self._last[places]
            self._ends[places] = (first << _HALF) | last
            self._gather(places)
        return np.concatenate(others)

    def bins(self) -> tuple[Keys, Keys, NDArray[np.int64]]:
        """Gives low, high and counts of all bins with what came since."""
        self._empty()
        places = self._place(self._low)
        owned = np.flatnonzero(self._hold(places, self._rest(self._low)))
        places = places[owned]
        low, high, counts = self._low.copy(), self._high.copy(), self._before.copy()
        last_bits = np.uint32((1 << self._shift) - 1)
        low[owned] = low[owned] & ~last_bits | self._first[places] & last_bits
        high[owned] = low[owned] & ~last_bits | self._last[places] & last_bits
        counts[owned] += self._counts[places]
        return low, high, counts

    def _hold(self, places: NDArray[np.intp], rest: Keys) -> NDArray[np.bool_]:
        """Tells at which places the bin of these keys is, whether or not it reaches to them."""
        first = self._first[places]
        same: NDArray[np.bool_] = first >> self._shift == rest >> self._shift
        return same & (first <= self._last[places])

    def _gather(self, places: NDArray[np.intp]) -> None:
        if self._gathered + places.size > _GATHERED:
            self._empty()
        end = self._gathered + places.size
        self._hits[self._gathered : end] = places
        self._gathered = end

    def _empty(self) -> None:
        """Counts the hits that were gathered."""
        hits = self._hits[: self._gathered]
        self._counts += np.bincount(hits, minlength=self._counts.size)
        self._gathered = 0

    def _place(self, keys: Keys) -> NDArray[np.intp]:
        """Gives the place of the bin of each key.

        Neighbours get different ones. So do multiples of a power of two, as scores that were
        float16 have: higher bits are mixed into the last ones.
        """
        shared = keys >> self._shift
        shared ^= shared >> 13
        shared &= np.uint32((1 << self._bits) - 1)
        return shared.astype(np.intp)

    def _rest(self, keys: Keys) -> Keys:
        """Gives the bits of each key that its place does not tell; they order the bin's keys."""
        rest: Keys = np.right_shift(keys >> self._shift, self._bits, dtype=np.uint32)
        if self._shift:
            rest <<= np.uint32(self._shift)
            rest |= keys & np.uint32((1 << self._shift) - 1)
        return rest
