"""Distance of the features to the nearest ones of training frames."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.scores.parts.feature_bank import FeatureBank
from anomaly_seg_ros.scores.parts.feature_grid import (
    ENLARGED,
    extent_of,
    gridded,
    layers_of,
    to_pixels,
)
from anomaly_seg_ros.scores.parts.neighbours import (
    exact,
    FAR,
    probed_of,
    RankedBy,
    ranking_of,
    tiled,
)

from .score import AnomalyScore

SEARCHES = ('tiles', 'exact')


class DNP(AnomalyScore):
    """`1/k sum_j |f - r_j|` over the k vectors r_j nearest to the features f, 0 or more.

    Args:
        bank: (M, L, D) features of training frames without `centre`, in M blocks of vectors that
            are near to each other, from `fit_score`.
        counts: (M,) how many of a block's L vectors count, the first ones.
        centre: (D,) mean of the features.
        layer: Name of the features that the network gives, or of any of its modules; several with
            '+' between them, one behind the other.
        k: Neighbours.
        grid: Pixels of the image between two cells, at least; a finer map is averaged over them.
        search: 'tiles' compares with the nearest blocks, 'exact' with the whole bank.
        enlarge: From cells to pixels, 'bilinear' or, as the authors' code does, 'nearest'.

    Raises:
        ValueError: The statistics do not fit together, or an option has no such value.

    Source: Galesso et al., "Far Away in the Deep Space: Dense Nearest-Neighbor-Based
    Out-of-Distribution Detection", 2023, https://arxiv.org/abs/2211.06660, section 3.

    >>> score = DNP(torch.zeros(1, 3, 2), torch.tensor([3.0]), torch.zeros(2))
    >>> output = ModelOutput(features={'last': torch.tensor([[[[3.0]], [[4.0]]]])})
    >>> score(output._replace(logits=torch.zeros(1, 2, 1, 1))).item()
    5.0
    """

    needs = frozenset()
    statistics = ('bank', 'counts', 'centre')
    fit = FeatureBank
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        'fast': {'bank_size': 4000, 'subsample': 'coreset', 'grid': 32}
    }
    bank: Tensor
    counts: Tensor
    centre: Tensor
    squares: Tensor
    ranking_axes: Tensor
    ranking_blocks: Tensor
    ranking_centres: Tensor

    def __init__(
        self,
        bank: Tensor,
        counts: Tensor,
        centre: Tensor,
        layer: str = 'last',
        k: int = 3,
        grid: int = 16,
        search: str = 'tiles',
        enlarge: str = 'bilinear',
    ):
        super().__init__()
        if bank.ndim != 3 or counts.shape != bank.shape[:1] or centre.shape != bank.shape[2:]:
            raise ValueError(
                f'bank {tuple(bank.shape)}, counts {tuple(counts.shape)} and centre '
                f'{tuple(centre.shape)} of a score of neighbours must be (M, L, D), (M,) and (D,)'
            )
        for name, value, known in (('search', search, SEARCHES), ('enlarge', enlarge, ENLARGED)):
            if value not in known:
                raise ValueError(f'unknown {name} {value!r}; choose one of: {", ".join(known)}')
        if not 1 <= k <= int(counts.sum()):
            raise ValueError(
                f'k {k} must lie between 1 and the {int(counts.sum())} vectors of the bank; lower '
                'k, or run fit_score with a larger bank'
            )
        self.layers, self.k, self.grid, self.mode = layers_of(layer), k, grid, enlarge
        # What tiles are compared with must not be all there is, and hold enough.
        self.probed = probed_of(len(bank))
        least = counts.sort().values[: self.probed].sum()
        self.exact = search == 'exact' or len(bank) <= self.probed or k > int(least)
        self.register_buffer('bank', bank)
        self.register_buffer('counts', counts)
        self.register_buffer('centre', centre)
        counts, whole = counts[:, None], bank.float()
        valid = torch.arange(bank.shape[1], device=bank.device) < counts
        squares = whole.square().sum(2).masked_fill(~valid, FAR)
        self.register_buffer('squares', squares, persistent=False)
        if not self.exact:
            for name, value in ranking_of(whole, squares)._asdict().items():
                self.register_buffer(f'ranking_{name}', value, persistent=False)

    def cells(self, output: ModelOutput) -> tuple[Tensor, int]:
        """Gives (N, D, h, w) features without `centre`, and the pixels of a cell's side."""
        cells, stride = gridded(output, self.layers, self.grid)
        if cells.shape[1] != self.centre.numel():
            raise ValueError(
                f'the bank has vectors of {self.centre.numel()} features, {"+".join(self.layers)} '
                f'of this network has {cells.shape[1]}; run fit_score again'
            )
        return cells - self.centre.view(1, -1, 1, 1), stride

    def search(self, cells: Tensor) -> Tensor:
        """Gives (N, h, w, k) squared distances to the nearest vectors of the bank."""
        bank = self.bank.float()
        if self.exact:
            return exact(cells, bank.flatten(0, 1), self.squares.flatten(), self.k)
        return tiled(cells, bank, self.squares, self.ranking, self.probed, self.k)

    @property
    def ranking(self) -> RankedBy:
        """What the search in tiles ranks by."""
        return RankedBy(self.ranking_axes, self.ranking_blocks, self.ranking_centres)

    def joined(self, output: ModelOutput, distance: Tensor, stride: int) -> Tensor:
        """Gives the score at every pixel from the (N, h, w) mean distances of the cells."""
        return to_pixels(distance, stride, extent_of(output), self.mode)

    def forward(self, output: ModelOutput) -> Tensor:
        cells, stride = self.cells(output)
        return self.joined(output, self.search(cells).sqrt().mean(3), stride)
