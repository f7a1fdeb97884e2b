"""A score at every n-th pixel, enlarged: for scores that cost more than the labels."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.scores.score import AnomalyScore


class CoarseScore(AnomalyScore):
    """Another score's value at every `step`-th pixel, both ways, and between these linearly.

    Logits of most networks are enlarged from an eighth of the image's size, so that little is
    lost; what is saved is an exponential of every logit of most pixels.

    Args:
        score: The score; all that it reads has a value for each pixel.
        step: Pixels between two values.
    """

    def __init__(self, score: AnomalyScore, step: int):
        super().__init__()
        self.score, self.step = score, step
        self.classes = score.classes

    def forward(self, output: ModelOutput) -> Tensor:
        given = [name for name, value in output._asdict().items() if value is not None]
        needs = self.score.reads(given)
        height, width = output.given(min(needs)).shape[-2:]
        needed = ModelOutput()._replace(**{name: getattr(output, name) for name in needs})
        score = self.score(needed.thinned(self.step)).float()
        return enlarge(enlarge(score, self.step, 2, width), self.step, 1, height)


def enlarge(values: Tensor, step: int, dim: int, side: int) -> Tensor:
    """Gives `side` values along a dimension from those of 0, step, 2 step, ...

    Between two lies their linear mean, behind the last one itself.

    Args:
        values: (N, h, w).
        step: Pixels between two values.
        dim: 1 or 2.
        side: Size of the result along it, above (n - 1) * step and at most n * step.
    """
    last = values.narrow(dim, values.shape[dim] - 1, 1)
    shares = torch.arange(step, device=values.device, dtype=values.dtype) / step
    return blended(torch.cat([values, last], dim), shares, dim).narrow(dim, 0, side)


def enlarge_cells(values: Tensor, stride: int, dim: int, side: int) -> Tensor:
    """Gives the first `side` values along a dimension from those of the middles of cells.

    Between two lies their linear mean, beyond the first and the last these themselves: torch's
    bilinear enlargement with `align_corners=False`.

    Args:
        values: (N, h, w).
        stride: Pixels of a cell's side.
        dim: 1 or 2.
        side: Size of the result along it, at most n * stride.
    """
    first, last = values.narrow(dim, 0, 1), values.narrow(dim, values.shape[dim] - 1, 1)
    shares = torch.arange(stride, device=values.device, dtype=values.dtype)
    shares = (shares + (0.5 if stride % 2 == 0 else 0.0)) / stride
    large = blended(torch.cat([first, values, last], dim), shares, dim)
    return large.narrow(dim, (stride + 1) // 2, side)


def blended(values: Tensor, shares: Tensor, dim: int) -> Tensor:
    """Gives mixtures of each two neighbours along a dimension, with these shares of the latter.

    Plain arithmetic, as OpenVINO's enlargement takes 3 % of BiSeNetV2's time for one channel.

    Args:
        values: (N, h, w).
        shares: (s,), of 0 to 1.
        dim: 1 or 2, from n values to (n - 1) * s.
    """
    count = values.shape[dim] - 1
    shares = shares.view(-1, 1) if dim == 1 else shares
    before, after = values.narrow(dim, 0, count), values.narrow(dim, 1, count)
    first, change = (part.unsqueeze(dim + 1) for part in (before, after - before))
    return (first + shares * change).flatten(dim, dim + 1)
