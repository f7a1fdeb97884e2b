"""The nearest of a bank of vectors to each cell of a grid, by plain operators of any graph.

The bank lies in blocks of vectors that are near to each other. `exact` compares with all of it, a
part at a time. `tiled` compares a tile of cells, which see much the same, with a few blocks: those
whose centre is nearest to some cell of the tile, or hardly further than the nearest.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .convolution import product

TILE = 4
"""Cells of a tile's side."""

PROBED = 52
"""Blocks that a tile is compared with, at most."""

SHARE, LEAST = 8, 16
"""Of a small bank it is one block of so many, but no fewer than so many."""

PART = 1 << 22
"""Distances that are held at a time, for each image: 16 MiB."""

FAR = 1e12
"""Squared distance of what is no vector of the bank."""

AXES = 32
"""Directions that vectors are ranked along before the nearest are measured along all."""

KEPT = 2
"""Groups that are measured along all directions, for each of the nearest that are wanted."""

GROUPS = (8, 4, 2, 1)
"""Vectors of a block that are ranked by the nearest of them: as many as fit its length."""


def exact(cells: Tensor, bank: Tensor, squares: Tensor, count: int) -> Tensor:
    """Gives (N, h, w, count) squared distances to the nearest vectors, from all of them.

    Args:
        cells: (N, D, h, w).
        bank: (R, D).
        squares: (R,) squared lengths, `FAR` of what does not count.
        count: How many.
    """
    height, width = cells.shape[2:]
    queries = cells.flatten(2).transpose(1, 2)
    rows = max(count, PART // (height * width))
    best: Tensor | None = None
    places: Tensor | None = None
    for start in range(0, len(bank), rows):
        part, lengths = bank[start : start + rows], squares[start : start + rows]
        near, where = _smallest(lengths - 2 * product(queries, part.T), min(count, len(part)))
        where = where + start
        if best is not None and places is not None:
            near, kept = _smallest(torch.cat([best, near], 2), count)
            where = torch.cat([places, where], 2).gather(2, kept)
        best, places = near, where
    assert places is not None, 'a bank has vectors'
    return _distances(queries, bank, places).view(-1, height, width, count)


def probed_of(blocks: int) -> int:
    """Gives with how many of the blocks of a bank a tile is compared.

    >>> probed_of(2000), probed_of(200), probed_of(20)
    (52, 25, 16)
    """
    return min(PROBED, max(LEAST, blocks // SHARE))


class RankedBy(NamedTuple):
    """What the vectors of a bank and the middles of its blocks are ranked by, and by how little.

    `|r|^2 / 2 - q r` puts vectors r in the order of their distance to q. Of the product the
    `AXES` directions along which the bank is widest are enough to find those that may be near.
    """

    axes: Tensor
    """(D, A) these directions."""
    blocks: Tensor
    """(M, L, A + 1) of each vector: it along the axes, negative, and `|r|^2 / 2`."""
    centres: Tensor
    """(M, A + 1) likewise of the middle of each block."""


def ranking_of(bank: Tensor, squares: Tensor) -> RankedBy:
    """Gives the ranking of a bank.

    Args:
        bank: (M, L, D), 0 where no vector is.
        squares: (M, L) squared lengths, `FAR` of what does not count.
    """
    centres = bank.sum(1) / (squares < FAR).sum(1, keepdim=True)
    rows = bank.flatten(0, 1).double()
    axes = torch.linalg.eigh(rows.T @ rows)[1].flip(1)[:, :AXES].float()
    halves = centres.square().sum(1, keepdim=True) / 2
    return RankedBy(
        axes,
        torch.cat([-(bank @ axes), squares[..., None] / 2], 2),
        torch.cat([-(centres @ axes), halves], 1),
    )


def tiled(
    cells: Tensor, bank: Tensor, squares: Tensor, ranking: RankedBy, probed: int, count: int
) -> Tensor:
    """Gives (N, h, w, count) squared distances to the nearest vectors, from the nearest blocks.

    Args:
        cells: (N, D, h, w).
        bank: (M, L, D).
        squares: (M, L) squared lengths, `FAR` of what does not count.
        ranking: Of the bank.
        probed: Blocks that a tile is compared with, fewer than M.
        count: How many.
    """
    (height, width), (_, size, depth) = cells.shape[2:], bank.shape
    padded = functional.pad(cells, (0, -width % TILE, 0, -height % TILE), 'replicate')
    rows, columns = padded.shape[2] // TILE, padded.shape[3] // TILE
    # (N, D, rows, TILE, columns, TILE) -> (N * rows * columns, TILE * TILE, D)
    tiles = padded.reshape(-1, depth, rows, TILE, columns, TILE)
    tiles = tiles.permute(0, 2, 4, 3, 5, 1).reshape(-1, TILE * TILE, depth)
    along = functional.pad(product(tiles, ranking.axes), (0, 1), value=1.0)
    gaps = product(along, ranking.centres.T)
    beyond = (gaps - gaps.amin(2, keepdim=True)).amin(1)
    chosen = _smallest(beyond, probed)[1]
    near = ranking.blocks.flatten(1).index_select(0, chosen.flatten())
    near = near.view(-1, probed * size, along.shape[2])
    # There are fewer groups to sort than vectors, and the nearest of them are measured anew.
    group = next(n for n in GROUPS if size % n == 0)
    values = product(along, near.transpose(1, 2))
    groups = values.view(*values.shape[:2], -1, group).amin(3)
    best = _smallest(groups, min(KEPT * count, groups.shape[2]))[1]
    block = chosen.gather(1, (best // (size // group)).flatten(1)).view(best.shape)
    first = block * size + best % (size // group) * group
    places = (first[..., None] + torch.arange(group, device=first.device)).flatten(2)
    far = squares.flatten().index_select(0, places.flatten()).view(places.shape)
    found = _distances(tiles, bank.flatten(0, 1), places) + (far >= FAR) * FAR
    found = _smallest(found, count)[0].view(-1, rows, columns, TILE, TILE, count).transpose(2, 3)
    return found.reshape(-1, rows * TILE, columns * TILE, count)[:, :height, :width]


def _smallest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Gives the smallest along the last axis, and where they are."""
    found = values.topk(count, dim=-1, largest=False)
    return found.values, found.indices


def _distances(queries: Tensor, bank: Tensor, places: Tensor) -> Tensor:
    """Gives (N, Q, count) squared distances to chosen vectors, from their differences.

    In half precision the difference of large squares would lose small distances.
    """
    chosen = bank.index_select(0, places.flatten()).view(*places.shape, bank.shape[1])
    return (queries[:, :, None] - chosen).square().sum(3)
