"""The nearest of a bank of vectors to each cell of a grid, by plain operators of any graph.

The bank lies in blocks of vectors that are near to each other. `exact` compares with all of it, a
part at a time. `tiled` compares a tile of cells, which see much the same, with a few blocks: those
whose centre is nearest to some cell of the tile, or hardly further than the nearest.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from anomaly_seg_ros.scores.parts.convolution import product

TILE = 4
"""Cells of a tile's side."""

PROBED = 32
"""Blocks that a tile is compared with, at most."""

SHARE, LEAST = 8, 16
"""Of a small bank it is one block of so many, but no fewer than so many."""

PART = 1 << 22
"""Distances that are held at a time, for each image: 16 MiB."""

FAR = 1e12
"""Squared distance of what is no vector of the bank."""


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
    (32, 25, 16)
    """
    return min(PROBED, max(LEAST, blocks // SHARE))


def tiled(
    cells: Tensor, blocks: Tensor, squares: Tensor, centres: Tensor, probed: int, count: int
) -> Tensor:
    """Gives (N, h, w, count) squared distances to the nearest vectors, from the nearest blocks.

    Args:
        cells: (N, D, h, w).
        blocks: (M, L, D).
        squares: (M, L) squared lengths, `FAR` of what does not count.
        centres: (M, D) of the blocks.
        probed: Blocks that a tile is compared with, fewer than M.
        count: How many.
    """
    (height, width), (blocks_, size, depth) = cells.shape[2:], blocks.shape
    padded = functional.pad(cells, (0, -width % TILE, 0, -height % TILE), 'replicate')
    rows, columns = padded.shape[2] // TILE, padded.shape[3] // TILE
    # (N, D, rows, TILE, columns, TILE) -> (N * rows * columns, TILE * TILE, D)
    tiles = padded.reshape(-1, depth, rows, TILE, columns, TILE)
    tiles = tiles.permute(0, 2, 4, 3, 5, 1).reshape(-1, TILE * TILE, depth)
    gaps = centres.square().sum(1) - 2 * product(tiles, centres.T)
    beyond = (gaps - gaps.amin(2, keepdim=True)).amin(1)
    chosen = _smallest(beyond, probed)[1].flatten()
    near = blocks.reshape(blocks_, size * depth).index_select(0, chosen)
    near = near.view(-1, probed * size, depth)
    lengths = squares.index_select(0, chosen).view(-1, 1, probed * size)
    ranked = lengths - 2 * product(tiles, near.transpose(1, 2))
    places = _smallest(ranked, count)[1]
    block = chosen.view(-1, probed).gather(1, (places // size).flatten(1)).view(places.shape)
    found = _distances(tiles, blocks.flatten(0, 1), block * size + places % size)
    found = found.view(-1, rows, columns, TILE, TILE, count).transpose(2, 3)
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
