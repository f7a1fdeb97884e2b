"""Which regions of a frame were there before: ids that stay, and in how many frames each was."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .persistence import Persistence
from .regions import places, reached, Regions, Whole

COUNTED = 1 << 20
"""Pairs of regions that may be counted in a table; of more those that occur are sorted."""


def _none() -> Whole:
    return np.zeros(0, np.intp)


@dataclass(frozen=True)
class Tracks:
    """What is remembered of the regions of the last frames, after one of them.

    Attributes:
        ids: (n,) of each region that is remembered.
        histories: (n,) its last frames as bits, the newest the lowest: set where it was there.
        ages: (n,) frames since it was first there.
        raised: (n,) 1 where it has counted once, else 0.
        starts: (r,) places in the flattened picture where runs of a row of one began when it was
            last there.
        lengths: (r,) their pixels.
        owners: (r,) which one.
        next_id: Of the next region that is new.
    """

    ids: Whole = field(default_factory=_none)
    histories: Whole = field(default_factory=_none)
    ages: Whole = field(default_factory=_none)
    raised: Whole = field(default_factory=_none)
    starts: Whole = field(default_factory=_none)
    lengths: Whole = field(default_factory=_none)
    owners: Whole = field(default_factory=_none)
    next_id: int = 1


class Followed(NamedTuple):
    """What the past says of the regions of a frame; (n,) are of each region.

    Attributes:
        tracks: What is remembered now.
        ids: Of the regions.
        seen: In how many of the last frames each was there, this one included.
        delays: Of those that count now and never did before: frames since each was first there.
    """

    tracks: Tracks
    ids: Whole
    seen: Whole
    delays: Whole


def follow(tracks: Tracks, regions: Regions, persistence: Persistence) -> Followed:
    """Takes the regions of the next frame.

    A region has the past of the remembered one that most of its pixels lie on, and its id where no
    other region of this frame shares more pixels with it; else the id is new. So a region that
    falls apart keeps its past in all parts and its id in the largest.

    Args:
        tracks: After the frame before.
        regions: Of the frame.
        persistence: What counts, and how far back is remembered.
    """
    parents, children = _related(tracks, regions)
    # Sorted by shared pixels: the first of a parent's children is the one that shares most.
    heirs = _firsts(parents, len(tracks.ids))
    heirs_of, heirs = parents[heirs], children[heirs]
    past, ages, raised, ids = np.zeros((4, len(regions)), np.intp)
    past[children] = tracks.histories[parents]
    ages[children] = tracks.ages[parents] + 1
    raised[children] = tracks.raised[parents]
    ids[heirs] = tracks.ids[heirs_of]
    new = np.flatnonzero(ids == 0)
    ids[new] = tracks.next_id + np.arange(new.size)
    known = (1 << persistence.frames) - 1
    now = (past << 1 | 1) & known
    seen = _set_bits(now)
    first = (seen >= persistence.needed) & (raised == 0)
    later = tracks.histories << 1 & known
    later[heirs_of] = 0
    kept = np.flatnonzero(later)
    inside = later[tracks.owners] != 0
    after = Tracks(
        ids=np.concatenate([tracks.ids[kept], ids]),
        histories=np.concatenate([later[kept], now]),
        ages=np.concatenate([tracks.ages[kept] + 1, ages]),
        raised=np.concatenate([tracks.raised[kept], raised | first]),
        # Where two were, the later one counts: it comes last.
        starts=np.concatenate([tracks.starts[inside], regions.starts]),
        lengths=np.concatenate([tracks.lengths[inside], regions.lengths]),
        owners=np.concatenate(
            [(np.cumsum(later != 0) - 1)[tracks.owners[inside]], regions.owners + kept.size]
        ),
        next_id=tracks.next_id + int(new.size),
    )
    return Followed(after, ids, seen, ages[first])


def _related(tracks: Tracks, regions: Regions) -> tuple[Whole, Whole]:
    """Gives remembered and present regions that share pixels, the most shared first.

    Each present region comes once, with the remembered one that it shares most with.
    """
    names = len(tracks.ids)
    now = Runs(regions.starts, regions.starts + regions.lengths, regions.owners * names)
    shared = _common(now, _painted(tracks.starts, tracks.lengths, tracks.owners))
    keys, pixels = shared.owners, shared.ends - shared.starts
    if len(regions) * names <= COUNTED:
        table = np.bincount(keys, pixels)
        pairs = np.flatnonzero(table > 0)
        counts = table[pairs]
    else:
        pairs, which = np.unique(keys, return_inverse=True)
        counts = np.bincount(which, pixels)
    order = np.argsort(-counts, kind='stable')
    children, parents = np.divmod(pairs[order], max(names, 1))
    first = _firsts(children, len(regions))
    return parents[first], children[first]


class Runs(NamedTuple):
    """Runs of pixels in the flattened picture; (r,) are of each.

    Attributes:
        starts: (r,) places of the first pixels, rising.
        ends: (r,) behind the last ones, at most the next start.
        owners: (r,) whose they are.
    """

    starts: Whole
    ends: Whole
    owners: Whole


def _common(some: Runs, others: Runs) -> Runs:
    """Gives what is in two sets of runs, whose owners are added.

    >>> one = Runs(*np.array([[0, 6], [5, 9], [0, 10]]))
    >>> other = Runs(*np.array([[1, 3, 8], [2, 7, 12], [1, 2, 3]]))
    >>> np.array(_common(one, other)).tolist()
    [[1, 3, 6, 8], [2, 5, 7, 9], [1, 2, 12, 13]]
    """
    first, last = reached(others.starts, others.ends, some.starts + 1, some.ends - 1)
    count = last - first
    one, other = np.repeat(np.arange(count.size), count), places(first, count)
    return Runs(
        np.maximum(some.starts.take(one), others.starts.take(other)),
        np.minimum(some.ends.take(one), others.ends.take(other)),
        some.owners.take(one) + others.owners.take(other),
    )


def _painted(starts: Whole, lengths: Whole, owners: Whole) -> Runs:
    """Gives runs that do not overlap of such that may: later ones are painted over those before.

    >>> np.array(_painted(*np.array([[4, 0], [5, 6], [1, 2]]))).tolist()
    [[0, 4, 6], [4, 6, 9], [2, 2, 1]]
    """
    bounds = np.concatenate([starts, starts + lengths])
    order = np.argsort(bounds, kind='stable')  # the runs of each frame rise: they are merged
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    bounds = bounds.take(order)
    first, last = rank[: starts.size], rank[starts.size :]
    above = np.full(bounds.size, -1)
    above[places(first, last - first)] = np.repeat(owners, last - first)
    painted = np.flatnonzero((above[:-1] >= 0) & (bounds[:-1] < bounds[1:]))
    return Runs(bounds.take(painted), bounds.take(painted + 1), above.take(painted))


def _firsts(values: Whole, count: int) -> Whole:
    """Gives where each of the values 0 to `count` comes first, in their order.

    >>> _firsts(np.array([2, 0, 2, 0, 1]), 3).tolist()
    [0, 1, 4]
    """
    every = np.arange(values.size)
    first = np.empty(count, np.intp)
    first[values[::-1]] = every[::-1]  # of what is set more than once the last stays
    return np.flatnonzero(first[values] == every)


def _set_bits(numbers: Whole) -> Whole:
    """Gives how many bits are set in each number.

    >>> _set_bits(np.array([0, 1, 6, 2**40 + 3])).tolist()
    [0, 1, 2, 3]
    """
    octets: NDArray[np.uint8] = numbers.astype('<i8').view(np.uint8).reshape(-1, 8)
    found: Whole = np.unpackbits(octets, axis=1).sum(axis=1, dtype=np.intp)
    return found
