"""How unusual a vector is: principal components, then a Gaussian kernel density in log space.

Source: DFKDE of anomalib ("Deep Feature Kernel Density Estimation"), Apache-2.0,
https://github.com/open-edge-platform/anomalib: components by SVD, kernels of the vectors' own
covariance, Scott's width. Ours sums in log space, where no far vector underflows, and counts what
the components do not hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

LEAST_FRAMES = 16
"""Fewer vectors make no density."""
MOST_FRAMES = 40_000
"""Vectors that are kept; of more an even part."""
LEAST_REST = 1e-3
"""What lies behind the components counts from this share of the longest vector on."""
FLAT = 1e-6
"""Deviation below which a value says nothing."""


@dataclass(frozen=True)
class Density:
    """A Gaussian kernel density over the principal components of vectors.

    Attributes:
        mean: (F,) of the vectors.
        components: (F, D) to the components, each in widths of the kernels along it.
        support: (n, D) the vectors it is made of, likewise.
        basis: (F, D) to the components, orthonormal, of scaled values.
        scale: (F,) that values are divided by before.
        residual: Length behind the components that counts as much as all of them; infinite:
            it does not count.
        log_height: Logarithm of a kernel's height.
    """

    mean: Floats
    components: Floats
    support: Floats
    basis: Floats
    scale: Floats
    residual: float
    log_height: float

    @classmethod
    def fit(
        cls,
        vectors: Floats,
        components: int = 16,
        standardise: bool = False,
        residual: bool = False,
    ) -> Density:
        """Fits a density.

        Args:
            vectors: (n, F) of normal frames.
            components: D, at most; fewer where the vectors span fewer.
            standardise: Divide values by their deviation first; else only those that never
                change are left out.
            residual: Count what lies behind the components: nine tenths of these vectors have
                less of it than counts as much as all components.

        Raises:
            ValueError: Fewer than `LEAST_FRAMES` vectors, or all are the same.
        """
        if len(vectors) < LEAST_FRAMES:
            raise ValueError(f'{len(vectors)} frames; a density needs {LEAST_FRAMES} or more')
        if len(vectors) > MOST_FRAMES:
            vectors = vectors[np.linspace(0, len(vectors) - 1, MOST_FRAMES).astype(np.intp)]
        values = vectors.astype(np.float64)
        mean, deviation = values.mean(0), values.std(0)
        if not (deviation > FLAT).any():
            raise ValueError(f'all {len(vectors)} frames are the same; give others')
        scale = np.where(deviation > FLAT, deviation if standardise else 1.0, np.inf)
        centred = (values - mean) / scale
        _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
        kept = min(components, int(np.count_nonzero(sizes > 1e-9 * sizes[0])))
        basis = axes[:kept].T
        placed = centred @ basis
        count = len(values)
        widths = placed.std(0, ddof=1) * count ** (-1 / (kept + 4))
        rest = np.linalg.norm(centred - placed @ basis.T, axis=1)
        # Of vectors that the components hold whole the rest is rounding alone.
        least = LEAST_REST * float(np.linalg.norm(centred, axis=1).max())
        limit = max(float(np.quantile(rest, 0.9)), least) / math.sqrt(kept / 2)
        return cls(
            mean=mean,
            components=basis / widths,
            support=placed / widths,
            basis=basis,
            scale=scale,
            residual=limit if residual else math.inf,
            log_height=-float(np.log(widths).sum()) - kept / 2 * math.log(2 * math.pi),
        )

    def energy(self, vectors: Floats) -> NDArray[np.float64]:
        """Gives (n,) of (n, F): how far the density lies below a kernel's height, 0 or more.

        That is `-log mean_i exp(-|y - y_i|^2 / 2)`, and the squared residual beside it.
        """
        return np.array([self._energy(vector) for vector in vectors])

    def _energy(self, vector: Floats) -> float:
        # Every frame of a camera comes here alone, with caches that the network has emptied: what
        # counts is how few different operations there are.
        scaled = (vector - self.mean) * self._inverse
        kept = self.components.shape[1]
        both = scaled @ self._axes
        placed, inside = both[:kept], both[kept:]
        halves = self._half_squares - self.support @ placed
        nearest = float(halves.min())
        kernels = float(np.exp(nearest - halves).sum()) / len(self.support)
        energy = float(placed @ placed) / 2 + nearest - math.log(kernels)
        if math.isfinite(self.residual):
            rest = float(scaled @ scaled) - float(inside @ inside)
            energy += max(rest, 0.0) / self.residual**2
        return energy if energy > 0 or math.isnan(energy) else 0.0

    @cached_property
    def _inverse(self) -> NDArray[np.float64]:
        """(F,) one over the scale."""
        inverse: NDArray[np.float64] = 1 / self.scale
        return inverse

    @cached_property
    def _axes(self) -> NDArray[np.float64]:
        """(F, 2 D) components and basis side by side."""
        return np.concatenate([self.components, self.basis], 1)

    @cached_property
    def _half_squares(self) -> NDArray[np.float64]:
        """(n,) half the squared lengths of the support."""
        halves: NDArray[np.float64] = np.square(self.support).sum(1) / 2
        return halves

    def log_density(self, vectors: Floats) -> NDArray[np.float64]:
        """Gives (n,) logarithms of the density in the components; finite however far."""
        without = replace(self, residual=math.inf)
        return self.log_height - without.energy(vectors)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Gives what a checkpoint keeps; `from_arrays` reads it."""
        numbers = {
            'inverse_scale': 1 / self.scale,
            'inverse_residual': np.array([1 / self.residual]),
            'log_height': np.array([self.log_height]),
        }
        names = ('mean', 'components', 'support', 'basis')
        kept = {**{name: getattr(self, name) for name in names}, **numbers}
        return {name: np.asarray(value, np.float32) for name, value in kept.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Floats]) -> Density:
        """Reads what `arrays` gave.

        Raises:
            ValueError: Some are missing, or do not fit together.
        """
        doubles = {name: values.astype(np.float64) for name, values in arrays.items()}
        try:
            with np.errstate(divide='ignore'):
                density = cls(
                    mean=doubles['mean'],
                    components=doubles['components'],
                    support=doubles['support'],
                    basis=doubles['basis'],
                    scale=1 / doubles['inverse_scale'],
                    residual=float(1 / doubles['inverse_residual'][0]),
                    log_height=float(doubles['log_height'][0]),
                )
        except KeyError as error:
            raise ValueError(f'array {error} is missing') from None
        values, kept = density.components.shape
        if not (
            density.mean.shape == density.scale.shape == (values,)
            and density.basis.shape == (values, kept)
            and density.support.shape[1:] == (kept,)
        ):
            raise ValueError('the arrays are of different sizes')
        return density
