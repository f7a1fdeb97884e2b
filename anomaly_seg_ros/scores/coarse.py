"""A score at every n-th pixel, enlarged: for scores that cost more than the labels."""

from __future__ import annotations

import torch
from torch import nn, Tensor

from anomaly_seg_ros.model_output import ModelOutput


class CoarseScore(nn.Module):
    """Another score's value at every `step`-th pixel, both ways, and between these linearly.

    Logits of most networks are enlarged from an eighth of the image's size, so that little is
    lost; what is saved is an exponential of every logit of most pixels.

    Args:
        score: The score; reads the logits, and no `features`, which have a size of their own.
        step: Pixels between two values.
    """

    def __init__(self, score: nn.Module, step: int):
        super().__init__()
        self.score, self.step = score, step
        self.needs: frozenset[str] = score.needs  # type: ignore[assignment]

    def forward(self, output: ModelOutput) -> Tensor:
        height, width = output.logits.shape[-2:]
        every = (..., slice(None, None, self.step), slice(None, None, self.step))
        fields = {name: getattr(output, name)[every] for name in self.needs}
        score: Tensor = self.score(ModelOutput(**fields)).float()
        with torch.autocast(score.device.type, enabled=False):
            rows, columns = (between(side, self.step, score) for side in (height, width))
            return rows.T @ score @ columns


def between(side: int, step: int, like: Tensor) -> Tensor:
    """Gives the (n, side) weights that put n values on pixels 0, step, 2 step, ... of a row.

    Between two values lies their linear mean, behind the last one itself. To enlarge by matrix
    products costs OpenVINO next to nothing; its operator costs 3 % of BiSeNetV2 for one channel.
    """
    count = -(-side // step)
    places = torch.arange(side, device=like.device, dtype=torch.float32) / step
    values = torch.arange(count, device=like.device, dtype=torch.float32)
    return (1 - (places.clamp(max=count - 1) - values[:, None]).abs()).clamp(min=0)
