"""A score at every n-th pixel, enlarged: for scores that cost more than the labels."""

from __future__ import annotations

from torch import nn, Tensor
from torch.nn import functional

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
        score = self.score(ModelOutput(**fields))[:, None]
        # The values lie on pixels 0, step, 2 step, ...: what is enlarged ends on the last one.
        rows, columns = (self.step * (side - 1) + 1 for side in score.shape[-2:])
        large = functional.interpolate(score, (rows, columns), mode='bilinear', align_corners=True)
        return functional.pad(large, (0, width - columns, 0, height - rows), 'replicate')[:, 0]
