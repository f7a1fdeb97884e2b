"""How much of the features lies in the directions of normal ones, summed with the energy."""

from __future__ import annotations

from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.scores.parts.convolution import convolve
from anomaly_seg_ros.scores.parts.feature_grid import (
    cell_energy,
    extent_of,
    gridded,
    layers_of,
    to_pixels,
)
from anomaly_seg_ros.scores.parts.principal_components import PrincipalComponents

from .score import AnomalyScore


class NECO(AnomalyScore):
    """`z(-|P f| / |f|)`, plus `z(e)` unless `energy` is off; any real number.

    f are the features, each standardised, P their first principal components, e the energy
    -ln sum_c exp(l_c); z takes off the mean of normal frames and divides by their deviation. The
    authors multiply by the maximum logit instead. One 1x1 convolution on a coarse grid.

    Args:
        centre: (D,) mean of the features, from `fit_score`.
        scale: (D,) one divided by their standard deviation.
        components: (d, D) principal components of the standardised features.
        moments: (4,) mean and deviation of the ratio, then of the energy.
        layer: Name of the features; as of `DNP`.
        grid: Pixels of the image between two cells, at least.
        energy: Whether the energy is added.

    Raises:
        ValueError: The statistics do not fit together.

    Source: Ammar et al., "NECO: NEural Collapse Based Out-of-distribution detection", 2024,
    https://arxiv.org/abs/2310.06823, equation 7.

    >>> import torch
    >>> score = NECO(torch.zeros(2), torch.ones(2), torch.eye(2)[:1], torch.tensor([0.0, 1, 0, 1]))
    >>> output = ModelOutput(torch.zeros(1, 1, 1, 1), features={'last': torch.ones(1, 2, 1, 1)})
    >>> round(score(output).item(), 4)
    -0.7071
    """

    needs = frozenset({'logits'})
    from_masks = True
    statistics = ('centre', 'scale', 'components', 'moments')
    fit = PrincipalComponents
    centre: Tensor
    scale: Tensor
    components: Tensor
    moments: Tensor

    def __init__(
        self,
        centre: Tensor,
        scale: Tensor,
        components: Tensor,
        moments: Tensor,
        layer: str = 'last',
        grid: int = 8,
        energy: bool = True,
    ):
        super().__init__()
        wide = centre.numel()
        if scale.shape != (wide,) or components.shape[1:] != (wide,) or moments.shape != (4,):
            raise ValueError(
                f'centre {tuple(centre.shape)}, scale {tuple(scale.shape)}, components '
                f"{tuple(components.shape)} and moments {tuple(moments.shape)} of score 'neco' "
                'must be (D,), (D,), (d, D) and (4,)'
            )
        self.layers, self.grid, self.energy = layers_of(layer), grid, energy
        for name, value in (('centre', centre), ('scale', scale), ('components', components)):
            self.register_buffer(name, value)
        self.register_buffer('moments', moments)

    def cells(self, output: ModelOutput) -> tuple[Tensor, int]:
        """Gives (N, h, w) scores of the cells, and the pixels of a cell's side."""
        cells, stride = gridded(output, self.layers, self.grid)
        if cells.shape[1] != self.centre.numel():
            raise ValueError(
                f"score 'neco' was fitted to {self.centre.numel()} features, "
                f'{"+".join(self.layers)} of this network has {cells.shape[1]}; run fit_score '
                'again'
            )
        normal = (cells - self.centre.view(1, -1, 1, 1)) * self.scale.view(1, -1, 1, 1)
        kept = convolve(normal, self.components[:, :, None, None]).square().sum(1)
        whole = normal.square().sum(1).clamp(min=1e-12)
        mean, deviation, mean_energy, deviation_energy = self.moments.unbind()
        score = (-(kept / whole).sqrt() - mean) / deviation
        if self.energy:
            energy = cell_energy(output, cells, stride)
            score = score + (energy - mean_energy) / deviation_energy
        return score, stride

    def forward(self, output: ModelOutput) -> Tensor:
        cells, stride = self.cells(output)
        return to_pixels(cells, stride, extent_of(output), 'bilinear')
