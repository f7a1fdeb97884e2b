"""What a network says of the frame as a whole: its maps, averaged over all places."""

from __future__ import annotations

from collections.abc import Collection, Sequence
import math

import torch
from torch import nn, Tensor
from torch.nn.functional import conv2d

from anomaly_seg_ros.model_output import ModelOutput

FEATURES = 'features.'
RECONSTRUCTION = 'reconstruction'
LARGE = 1024
"""Places that are enough for the mean of a map: of a larger one rows and columns are left out."""
CLASS_MAPS = 'class_maps'
"""Logits or semantics, as the labels are made of them."""


class PooledFeatures(nn.Module):
    """Mean and standard deviation of each channel of the feature maps, in a fixed order.

    A network that gives its image again adds two values at the end: the mean squared error, and
    the relative distance `|x - x'| / |x|`. Of a network without feature maps those of its
    logits are taken.

    Args:
        provides: What the network gives, as `ModelOutput.given` takes it.
        wanted: Maps to take, `CLASS_MAPS` too; empty: all feature maps, by name.
    """

    def __init__(self, provides: Collection[str], wanted: Sequence[str] = ()):
        super().__init__()
        maps = sorted(name for name in provides if name.startswith(FEATURES))
        self.names = [*wanted] or maps or [CLASS_MAPS]
        self.reconstructs = RECONSTRUCTION in provides

    def forward(self, output: ModelOutput) -> Tensor:
        """Gives (N, F) float32."""
        parts: list[Tensor] = []
        for name in self.names:
            maps = output.class_maps if name == CLASS_MAPS else output.given(name)
            step = math.ceil(math.sqrt(int(maps.shape[2]) * int(maps.shape[3]) / LARGE))
            maps = every(maps, step).float()
            mean = maps.mean((2, 3), keepdim=True)
            parts += [mean.flatten(1), (maps - mean).square().mean((2, 3)).sqrt()]
        if self.reconstructs:
            image = output.given('image').float()
            error = (output.given(RECONSTRUCTION).float() - image).square()
            relative = (
                error.sum((1, 2, 3)) / image.square().sum((1, 2, 3)).clamp(min=1e-6)
            ).sqrt()
            parts += [error.mean((1, 2, 3))[:, None], relative[:, None]]
        return torch.cat(parts, 1)


def every(maps: Tensor, step: int) -> Tensor:
    """Gives every `step`-th row and column, as a convolution by one does.

    The same values as of a slice; but OpenVINO turns a map into float32 first where no convolution
    lies between it and an output of the graph, which takes longer than all that follows.

    Args:
        maps: (N, C, H, W).
        step: 1 or more.
    """
    channels = int(maps.shape[1])
    return conv2d(maps, maps.new_ones(channels, 1, 1, 1), stride=step, groups=channels)
