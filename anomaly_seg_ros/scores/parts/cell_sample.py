"""A fixed random share of the feature vectors of training frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

HALF_MAX = 65504.0
"""Largest float16."""


class CellSample:
    """At most `size` of all vectors that it is given, each with the same chance.

    Each gets a random number once, and those with the smallest are kept, in float16.

    Args:
        size: How many are kept.
        seed: Of what is drawn.
    """

    def __init__(self, size: int, seed: int):
        self.size, self.random = size, np.random.default_rng(seed)
        self.vectors: NDArray[np.float16] | None = None
        self.order = np.zeros(0)

    def __len__(self) -> int:
        return len(self.order)

    def add(self, cells: Tensor) -> None:
        """Takes (n, D) vectors.

        Raises:
            ValueError: One is beyond what float16 holds.
        """
        if not bool((cells.abs() <= HALF_MAX).all()):
            raise ValueError('features go beyond 65504; take those of another layer')
        new = cells.cpu().numpy().astype(np.float16)
        vectors = new if self.vectors is None else np.concatenate([self.vectors, new])
        order = np.concatenate([self.order, self.random.random(len(new))])
        if len(order) > self.size:
            kept = np.argpartition(order, self.size)[: self.size]
            vectors, order = vectors[kept], order[kept]
        self.vectors, self.order = vectors, order

    def drawn(self) -> Tensor:
        """Gives what was kept as (n, D) float32, in random order; there must be some."""
        assert self.vectors is not None, 'vectors were added'
        return torch.from_numpy(self.vectors[np.argsort(self.order)]).float()
