"""The bank of features of training frames that `dnp` and `cdnp` compare with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.registry import did_you_mean

from .cell_sample import CellSample
from .class_logits import over_class_logits
from .feature_grid import gridded, layers_of
from .neighbours import exact

BLOCK = 64
"""Vectors of a block, at most."""

FILLED = 48
"""Vectors of a block, on average, before what is above `BLOCK` is parted."""

ROUNDS = 3
"""Of k-means. Blocks of a tree alone give a rank correlation of .9990 where these give .9996."""

PROBES = 30_000
"""Vectors whose distances to each other tell the largest distance of normal features."""

POOL = 100_000
"""Vectors that a coreset is chosen from."""

PROJECTED = 32
"""Dimensions that vectors are projected to while a coreset is chosen."""

CHUNK = 1 << 12
"""Vectors whose distances to all others are held at a time."""

SUBSAMPLES = ('random', 'coreset')


class FeatureBank:
    """A fixed random share of the features of labelled cells, for `dnp`.

    All cells are drawn alike, without replacement; more frames do not make it larger. With
    `subsample` 'coreset' it is those of a share of `POOL` of which each in turn is the furthest
    from the ones before.

    Args:
        classes: Number of classes.
        class_names: Their names.
        layer: As of the score.
        k: As of the score.
        grid: As of the score.
        bank_size: Vectors that are kept, at most.
        subsample: 'random' or 'coreset'.
        only: Names of the classes whose cells are taken, with commas; empty: all.
        seed: Of what is drawn.

    Raises:
        ValueError: An option has no such value.

    Source: Galesso et al., "Far Away in the Deep Space", 2023, section 3; the coreset is that of
    Roth et al., "Towards Total Recall in Industrial Anomaly Detection" (PatchCore), 2022.
    """

    labelled = True

    def __init__(
        self,
        classes: int,
        class_names: Sequence[str] = (),
        layer: str = 'last',
        k: int = 3,
        grid: int = 16,
        bank_size: int = 100_000,
        subsample: str = 'random',
        only: str = '',
        seed: int = 0,
    ):
        if subsample not in SUBSAMPLES:
            known = ', '.join(SUBSAMPLES)
            raise ValueError(f'unknown subsample {subsample!r}; choose one of: {known}')
        if k < 1 or bank_size < k:
            raise ValueError(
                f'a bank of {bank_size} vectors has no {k} nearest; take k from 1 to bank_size'
            )
        self.layers, self.k, self.grid = layers_of(layer), k, grid
        self.size, self.coreset, self.only = bank_size, subsample == 'coreset', only
        self.wanted = wanted_classes(only, class_names)
        self.sample = CellSample(max(bank_size, PROBES, POOL if self.coreset else 0), seed)

    def update(self, output: ModelOutput, labels: NDArray[np.uint8] | None) -> None:
        """Takes the features of one frame's cells that have a class."""
        assert labels is not None, 'it says that it reads them'
        maps, stride = gridded(output, self.layers, self.grid)
        truth = cell_labels(labels, (maps.shape[2], maps.shape[3]), stride).ravel()
        taken = truth != IGNORE
        if self.wanted is not None:
            taken &= np.isin(truth, self.wanted)
        self.sample.add(maps[0].flatten(1).T.cpu()[torch.from_numpy(taken)])

    def compute(self) -> dict[str, Tensor]:
        """Gives `bank` (M, L, D) float16, `counts` (M,) and `centre` (D,).

        Raises:
            ValueError: No cell has a wanted class, or fewer than k have.
        """
        bank, centre = self._bank()
        blocks = blocks_of(bank)
        size = max(map(len, blocks))
        stacked = torch.zeros(len(blocks), size, bank.shape[1], dtype=torch.float16)
        for place, rows in zip(stacked, blocks, strict=True):
            place[: len(rows)] = bank[rows]
        return {
            'bank': stacked,
            'counts': torch.tensor([float(len(rows)) for rows in blocks]),
            'centre': centre,
        }

    def furthest(self) -> float:
        """Gives the largest mean distance of `PROBES` vectors to their k nearest others.

        Raises:
            ValueError: They are all the same.
        """
        vectors = self._drawn()[:PROBES]
        vectors = vectors - vectors.mean(0)
        squares = vectors.square().sum(1)
        count = min(self.k, len(vectors) - 1)
        largest = 0.0
        for start in range(0, len(vectors), CHUNK):
            cells = vectors[start : start + CHUNK].T[None, :, :, None]
            near = exact(cells, vectors, squares, count + 1)[0, :, 0]
            # The nearest is the vector itself.
            largest = max(largest, near.sort(1).values[:, 1:].sqrt().mean(1).max().item())
        if not largest > 0:
            raise ValueError(f'features {"+".join(self.layers)} are the same in all cells')
        return largest

    def _drawn(self) -> Tensor:
        """Gives what was kept as (n, D) float32, in random order.

        Raises:
            ValueError: It is too little.
        """
        count = len(self.sample)
        if not count:
            which = f'of the classes {self.only}' if self.only else 'with a class'
            raise ValueError(
                f'no pixel {which} in these frames, so the bank would be empty; take other '
                "classes by the option 'only', or other frames"
            )
        if count < self.k + 1:
            raise ValueError(
                f'{count} cells of these frames can be taken, too few for {self.k} nearest; lower '
                'k, or take more frames'
            )
        return self.sample.drawn()

    def _bank(self) -> tuple[Tensor, Tensor]:
        """Gives the vectors of the bank without their mean, (n, D), and the mean (D,)."""
        vectors = self._drawn()
        if self.coreset:
            pool = vectors[:POOL]
            vectors = pool[furthest_points(pool, min(self.size, len(pool)))]
        vectors = vectors[: self.size]
        centre = vectors.double().mean(0).float()
        return vectors - centre, centre


class EnergyBank(FeatureBank):
    """`FeatureBank` with the limits of energy and distance, for `cdnp`."""

    low, high = float('inf'), -float('inf')

    def update(self, output: ModelOutput, labels: NDArray[np.uint8] | None) -> None:
        """Takes the features of one frame, and the lowest and highest energy of its pixels."""
        super().update(output, labels)
        energy = over_class_logits(output, lambda logits: 1 - logits.logsumexp(1))
        self.low = min(self.low, energy.min().item())
        self.high = max(self.high, energy.max().item())

    def compute(self) -> dict[str, Tensor]:
        """Gives those of `FeatureBank`, and `limits` (3,) e_min, e_max and d_max.

        Raises:
            ValueError: As of `FeatureBank`, or energy or features are the same everywhere.
        """
        found = super().compute()
        if not self.high > self.low:
            raise ValueError("score 'cdnp' cannot be fitted: the energy is the same on all pixels")
        return {**found, 'limits': torch.tensor([self.low, self.high, self.furthest()])}


def wanted_classes(only: str, names: Sequence[str]) -> list[int] | None:
    """Gives the ids of the classes in 'road,car'; None of ''.

    Raises:
        ValueError: There is no such class.
    """
    if not only:
        return None
    wanted = [name.strip() for name in only.split(',')]
    for name in wanted:
        if name not in names:
            near = did_you_mean(name, names) or f'; choose of: {", ".join(names)}'
            raise ValueError(f'no class {name!r} in this checkpoint{near}')
    return [list(names).index(name) for name in wanted]


def cell_labels(
    labels: NDArray[np.uint8], size: tuple[int, int], stride: int
) -> NDArray[np.uint8]:
    """Gives the class at the middle of each cell, 255 beyond the image.

    The authors' code takes the top left pixel: on CamVid's val split 13.6 % of cells have another
    class there, and 2.3 % are labelled by one of the two alone.

    Args:
        labels: (H, W) of the image.
        size: (h, w) cells.
        stride: Pixels of a cell's side.
    """
    middle = stride // 2
    beyond = [(0, max(0, n * stride - side)) for n, side in zip(size, labels.shape, strict=True)]
    padded = np.pad(labels, beyond, constant_values=IGNORE)
    return padded[middle::stride, middle::stride][: size[0], : size[1]]


def furthest_points(vectors: Tensor, count: int) -> Tensor:
    """Gives (count,) rows of which each is the furthest from all before it, the first the first.

    Measured after a random projection, which keeps distances within a few percent.

    Args:
        vectors: (n, D).
        count: At most n.
    """
    if vectors.shape[1] > PROJECTED:
        generator = torch.Generator().manual_seed(0)
        vectors = vectors @ torch.randn(vectors.shape[1], PROJECTED, generator=generator)
    squares = vectors.square().sum(1)
    nearest = torch.full_like(squares, float('inf'))
    rows = torch.zeros(count, dtype=torch.long)
    for number in range(1, count):
        last = rows[number - 1]
        to_last = squares + squares[last] - 2 * (vectors @ vectors[last])
        nearest = torch.minimum(nearest, to_last)
        # Never again, however the differences are rounded.
        nearest[last] = -float('inf')
        rows[number] = nearest.argmax()
    return rows


def blocks_of(vectors: Tensor) -> list[Tensor]:
    """Gives the rows of blocks of at most `BLOCK` vectors that are near to each other.

    K-means from the blocks of a tree; what is too large then is parted along its longest axis.

    Args:
        vectors: (n, D).
    """
    blocks = list(parted(vectors, torch.arange(len(vectors)), FILLED))
    for _ in range(ROUNDS):
        centres = torch.stack([vectors[rows].mean(0) for rows in blocks])
        blocks = nearest_to(vectors, centres)
    return [part for rows in blocks for part in parted(vectors, rows, BLOCK)]


def nearest_to(vectors: Tensor, centres: Tensor) -> list[Tensor]:
    """Gives the rows that are nearest to each centre, without centres that have none."""
    lengths = centres.square().sum(1)
    starts = range(0, len(vectors), CHUNK)
    parts = (vectors[start : start + CHUNK] for start in starts)
    nearest = torch.cat([(lengths - 2 * part @ centres.T).argmin(1) for part in parts])
    order = nearest.argsort(stable=True)
    counts = torch.bincount(nearest, minlength=len(centres)).tolist()
    return [rows for rows in torch.split(order, counts) if len(rows)]


def parted(vectors: Tensor, rows: Tensor, size: int) -> Iterator[Tensor]:
    """Gives the rows in parts of at most `size`, each cut at the middle of its longest axis."""
    if len(rows) <= size:
        yield rows
        return
    own = vectors[rows]
    centred = own - own.mean(0)
    axis = torch.linalg.eigh(centred.T @ centred)[1][:, -1]
    order = (centred @ axis).argsort()
    half = -(-len(rows) // size) // 2 * len(rows) // -(-len(rows) // size)
    yield from parted(vectors, rows[order[:half]], size)
    yield from parted(vectors, rows[order[half:]], size)
