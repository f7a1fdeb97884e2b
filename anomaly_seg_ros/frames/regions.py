"""The anomalous regions of one frame, at the size of the network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Whole: TypeAlias = NDArray[np.intp]


@dataclass(frozen=True)
class Regions:
    """What hangs together in a mask; (n,) are of each region, (r,) of each run of a row in one.

    Attributes:
        boxes: (n, 4) first column, first row, columns and rows.
        areas: (n,) pixels.
        starts: (r,) places of the first pixel of the runs in the flattened picture, rising.
        lengths: (r,) pixels of the runs.
        owners: (r,) to which region each belongs.
    """

    boxes: Whole
    areas: Whole
    starts: Whole
    lengths: Whole
    owners: Whole

    def __len__(self) -> int:
        return len(self.areas)

    @cached_property
    def pixels(self) -> Whole:
        """(p,) places of the pixels of all regions in the flattened picture, rising."""
        return places(self.starts, self.lengths)

    def means(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Gives the mean over each region of values that are given for `pixels`."""
        if not len(self):
            return np.zeros(0)
        firsts = np.cumsum(self.lengths) - self.lengths
        sums = np.add.reduceat(values, firsts, dtype=np.float64)
        return np.bincount(self.owners, sums, len(self)) / self.areas

    def only(self, wanted: NDArray[np.bool_]) -> Regions:
        """Gives those regions that are wanted, in the same order."""
        if wanted.all():
            return self
        inside = wanted[self.owners]
        renamed = np.cumsum(wanted) - 1
        return Regions(
            self.boxes[wanted],
            self.areas[wanted],
            self.starts[inside],
            self.lengths[inside],
            renamed[self.owners[inside]],
        )


def places(starts: Whole, lengths: Whole) -> Whole:
    """Gives the places of all pixels of runs.

    >>> places(np.array([3, 10]), np.array([2, 3])).tolist()
    [3, 4, 10, 11, 12]
    """
    ends = np.cumsum(lengths)
    found = np.repeat(starts - ends + lengths, lengths)
    found += np.arange(found.size)
    return found


def find_regions(mask: NDArray[np.uint8], min_area: float = 0) -> Regions:
    """Gives the 8-connected regions of a mask, in the order of their first pixels.

    They are found and measured by the runs of their rows, which are far fewer than the pixels.

    Args:
        mask: (H, W) uint8, 255 where anomalous, else 0.
        min_area: Regions of fewer pixels are left out.
    """
    columns = mask.shape[1]
    begins, ends = _runs(mask)
    if not begins.size:
        return Regions(np.zeros((0, 4), np.intp), *np.zeros((4, 0), np.intp))
    owners, count = _connected(begins, ends, columns + 1)
    y, left = np.divmod(begins, columns + 1)
    lengths = ends - begins
    areas = np.bincount(owners, lengths, count).astype(np.intp)
    # NumPy sorts sixteen bits by their digits, in a tenth of the time.
    order = np.argsort(owners.astype(np.uint16) if count <= 1 << 16 else owners, kind='stable')
    behind = np.cumsum(np.bincount(owners, minlength=count))
    firsts = np.concatenate([[0], behind[:-1]])
    boxes = np.empty((count, 4), np.intp)
    boxes[:, 0] = np.minimum.reduceat(left[order], firsts)
    boxes[:, 1] = y[order[firsts]]
    boxes[:, 2] = np.maximum.reduceat((left + lengths)[order], firsts) - boxes[:, 0]
    boxes[:, 3] = y[order[behind - 1]] + 1 - boxes[:, 1]
    found = Regions(boxes, areas, begins - y, lengths, owners)
    return found.only(areas >= min_area)


def _runs(mask: NDArray[np.uint8]) -> tuple[Whole, Whole]:
    """Gives (r,) where the runs of the rows of a mask begin and where they end.

    Places are those in the flattened picture with one more column behind the last, so that no run
    touches one of another row.
    """
    rows, columns = mask.shape
    padded = np.zeros(rows * (columns + 1) + 1, np.uint8)
    padded[:-1].reshape(rows, columns + 1)[:, 1:] = mask
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return edges[::2], edges[1::2]


def reached(begins: Whole, ends: Whole, lows: Whole, highs: Whole) -> tuple[Whole, Whole]:
    """Gives which runs lie at least in part between each low and high: the first, behind the last.

    Args:
        begins: (r,) of the first pixels of runs that do not overlap, rising.
        ends: (r,) behind each.
        lows: (n,) rising: the least end of a run that counts.
        highs: (n,) rising: the largest beginning of one.

    >>> first, last = reached(*np.array([[0, 4, 9], [2, 6, 12]]), *np.array([[1, 7], [4, 8]]))
    >>> first.tolist(), last.tolist()
    ([0, 2], [2, 2])
    """
    first = _ranks(ends, lows)
    # One or two each, as a rule: to count on takes a quarter of searching again.
    behind = np.concatenate([begins, [np.iinfo(np.intp).max]])
    last = first + (behind[first] <= highs)
    last += behind[last] <= highs
    more = np.flatnonzero(behind[last] <= highs)
    if more.size:
        last[more] = np.searchsorted(begins, highs[more], 'right')
    return first, last


def _ranks(among: Whole, values: Whole) -> Whole:
    """Gives how many are less than each value; both rise, so they are merged, not searched.

    >>> _ranks(np.array([1, 4, 4]), np.array([0, 4, 5])).tolist()
    [0, 1, 3]
    """
    merged = np.argsort(np.concatenate([values, among]), kind='stable')
    ranks: Whole = np.flatnonzero(merged < values.size)
    ranks -= np.arange(values.size)
    return ranks


def _connected(begins: Whole, ends: Whole, pitch: int) -> tuple[Whole, int]:
    """Gives (r,) to which region each run belongs, in the order of their first runs, and how many.

    Args:
        begins: (r,) rising.
        ends: (r,) behind each.
        pitch: From a pixel to the one below.
    """
    every = np.arange(begins.size)
    first, last = reached(begins, ends, begins - pitch, ends - pitch)
    # Each hangs on the first that it touches of the row above; where there are more, regions meet.
    root = _flattened(np.where(last > first, first, every))
    owners, count = _numbered(root == every)
    owners = owners[root]
    meeting = np.flatnonzero(last > first + 1)
    if not meeting.size:
        return owners, count
    more = last[meeting] - first[meeting] - 1
    above = owners[places(first[meeting] + 1, more)]
    below = owners[np.repeat(meeting, more)]
    joined = np.arange(count)
    while above.size:
        one, other = joined[above], joined[below]
        joined[np.maximum(one, other)] = np.minimum(one, other)
        joined = _flattened(joined)
        apart = joined[above] != joined[below]
        above, below = above[apart], below[apart]
    numbers, count = _numbered(joined == np.arange(count))
    return numbers[joined][owners], count


def _numbered(chosen: NDArray[np.bool_]) -> tuple[Whole, int]:
    """Gives a number to each that is chosen, in their order, and how many there are."""
    return np.cumsum(chosen) - 1, int(np.count_nonzero(chosen))


def _flattened(parents: Whole) -> Whole:
    """Gives the root of each in a forest whose parents come before their children."""
    for _ in range(parents.size.bit_length()):  # each time the ways are half as long
        parents = parents.take(parents)
    return parents
