"""The directions that the features of normal frames lie in, for `neco`."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput

from .cell_sample import CellSample
from .feature_grid import cell_energy, gridded, layers_of

SAMPLE = 100_000
"""Cells that components and spreads are fitted on, at most, drawn from all frames."""


class PrincipalComponents:
    """Principal components of the standardised features of all cells, for `neco`.

    Args:
        classes: Number of classes; not used.
        layer: As of the score.
        grid: As of the score.
        variance: Share of the variance that the components kept have at least, above 0 to 1.

    Raises:
        ValueError: `variance` is no share.

    Source: Ammar et al., "NECO: NEural Collapse Based Out-of-distribution detection", 2024,
    https://arxiv.org/abs/2310.06823, section 4.
    """

    labelled = False

    def __init__(self, classes: int, layer: str = 'last', grid: int = 8, variance: float = 0.9):
        if not 0 < variance <= 1:
            raise ValueError(f'variance {variance} must lie above 0 and at most at 1')
        self.layers, self.grid, self.variance = layers_of(layer), grid, variance
        self.sample = CellSample(SAMPLE, 0)

    def update(self, output: ModelOutput, labels: NDArray[np.uint8] | None) -> None:
        """Takes features and energy of one frame's cells; its labels are not used."""
        cells, stride = gridded(output, self.layers, self.grid)
        energy = cell_energy(output, cells, stride)
        self.sample.add(torch.cat([cells, energy[:, None]], 1)[0].flatten(1).T)

    def compute(self) -> dict[str, Tensor]:
        """Gives `centre` and `scale` (D,), `components` (d, D) and `moments` (4,).

        Raises:
            ValueError: There are no cells, or features or energy are the same in all.
        """
        if not len(self.sample):
            raise ValueError("score 'neco' cannot be fitted: there are no frames")
        drawn = self.sample.drawn().double()
        cells, energy = drawn[:, :-1], drawn[:, -1]
        spread, centre = (value for value in torch.std_mean(cells, 0, correction=0))
        # What never changes says nothing, and nothing is divided by 0.
        scale = torch.where(spread > 1e-6 * centre.abs(), 1 / spread, 0)
        normal = (cells - centre) * scale
        values, vectors = torch.linalg.eigh(normal.T @ normal)
        shares = values.flip(0).clamp(min=0).cumsum(0) / values.clamp(min=0).sum()
        kept = int((shares < self.variance - 1e-9).sum()) + 1
        components = vectors.flip(1)[:, :kept].T
        ratio = -((normal @ components.T).norm(dim=1) / normal.norm(dim=1).clamp(min=1e-12))
        moments = [part for score in (ratio, energy) for part in (score.mean(), score.std())]
        if not (moments[1] > 0 and moments[3] > 0):
            raise ValueError(
                f"score 'neco' cannot be fitted: features {'+'.join(self.layers)} or the energy "
                'are the same in all cells'
            )
        found = {
            'centre': centre,
            'scale': scale,
            'components': components,
            'moments': torch.stack(moments),
        }
        return {name: cast('Tensor', value.float().contiguous()) for name, value in found.items()}
