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
        every = (..., slice(None, None, self.step), slice(None, None, self.step))
        needed = ModelOutput()._replace(**{name: getattr(output, name) for name in needs})
        thin = needed.over_pixels(lambda maps: maps[every])
        score = self.score(thin).float()
        return enlarge(enlarge(score, self.step, 2, width), self.step, 1, height)


def enlarge(values: Tensor, step: int, dim: int, side: int) -> Tensor:
    """Gives `side` values along a dimension from those of 0, step, 2 step, ...

    Between two lies their linear mean, behind the last one itself. Plain arithmetic, as OpenVINO's
    operator takes 3 % of BiSeNetV2's time for one channel.

    Args:
        values: (N, h, w).
        step: Pixels between two values.
        dim: 1 or 2.
        side: Size of the result along it, above (n - 1) * step and at most n * step.
    """
    count = values.shape[dim]
    following = torch.cat(
        [values.narrow(dim, 1, count - 1), values.narrow(dim, count - 1, 1)], dim
    )
    share = torch.arange(step, device=values.device, dtype=values.dtype) / step
    share = share.view(step, 1) if dim == 1 else share
    first, change = (part.unsqueeze(dim + 1) for part in (values, following - values))
    return (first + share * change).flatten(dim, dim + 1).narrow(dim, 0, side)
