"""Decoders that cost little: from an encoder's maps at 1/4 to 1/32 to one map at 1/4 or 1/8.

Source: pyramid pooling by Zhao et al., "Pyramid Scene Parsing Network", 2017,
https://arxiv.org/abs/1612.01105, the steps back to 1/4 are ours; LR-ASPP by Howard et al.,
"Searching for MobileNetV3", 2019, https://arxiv.org/abs/1905.02244, section 6.4; BiFPN by Tan et
al., "EfficientDet: Scalable and Efficient Object Detection", 2020,
https://arxiv.org/abs/1911.09070, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn, Tensor
from torch.nn import functional

from .conv_bn_relu import ConvBNReLU
from .efficientnet_lite import scaled

GRIDS = (1, 2, 3, 6)
"""Rows and columns of the pooled maps of the pyramid."""
LAYERS = 3
"""Of BiFPN."""
SMALL = 1e-4
"""Added to the sum of a fusion's weights, as in EfficientDet."""


class LightDecoder(nn.Module):
    """From an encoder's maps at 1/4, 1/8, 1/16 and 1/32 to what classifiers read.

    Attributes:
        stride: Of what it gives.
        width: Channels of what it gives.
    """

    stride: ClassVar[int]
    width: int

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Gives (N, width, H / stride, W / stride)."""
        raise NotImplementedError


def _resized(x: Tensor, like: Tensor) -> Tensor:
    size = (like.shape[2], like.shape[3])
    return functional.interpolate(x, size, mode='bilinear', align_corners=False)


class PoolingPyramid(nn.Module):
    """Joins a map with its means over coarse grids."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        level = channels // len(GRIDS)
        self.levels = nn.ModuleList(ConvBNReLU(in_channels, level, kernel=1) for _ in GRIDS)
        self.fuse = ConvBNReLU(in_channels + level * len(GRIDS), channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """Gives (N, channels, h, w) of (N, in_channels, h, w)."""
        maps = [x]
        for grid, level in zip(GRIDS, self.levels, strict=True):
            maps.append(_resized(level(functional.adaptive_avg_pool2d(x, grid)), x))
        fused: Tensor = self.fuse(torch.cat(maps, dim=1))
        return fused


class PyramidStep(nn.Module):
    """Doubles a map, adds the encoder's map of that size, and filters their sum."""

    def __init__(self, in_channels: int, skip_channels: int, channels: int):
        super().__init__()
        self.skip = nn.Sequential(
            nn.Conv2d(skip_channels, in_channels, 1, bias=False), nn.BatchNorm2d(in_channels)
        )
        self.blend = ConvBNReLU(in_channels, channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Gives (N, channels, 2 h, 2 w)."""
        blended: Tensor = self.blend(_resized(x, skip) + self.skip(skip))
        return blended


class PyramidDecoder(LightDecoder):
    """Pyramid pooling at 1/32, and a dense 3x3 block at each size up to 1/4."""

    stride = 4

    def __init__(self, widths: Sequence[int], factor: float):
        super().__init__()
        channels = [scaled(width, factor) for width in (128, 96, 64)]
        *skips, last = widths
        self.pyramid = PoolingPyramid(last, channels[0])
        self.steps = nn.ModuleList()
        width = channels[0]
        for skip, out in zip(reversed(skips), channels, strict=True):
            self.steps.append(PyramidStep(width, skip, out))
            width = out
        self.width = width

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Gives (N, width, H / 4, W / 4)."""
        *skips, last = maps
        x: Tensor = self.pyramid(last)
        for step, skip in zip(self.steps, reversed(skips), strict=True):
            x = step(x, skip)
        return x


class LRASPP(LightDecoder):
    """The last map, gated by its mean over the image, beside the encoder's map at 1/8.

    The paper's two classifiers, one on each, are here one on both.
    """

    stride = 8

    def __init__(self, widths: Sequence[int], factor: float):
        super().__init__()
        channels = scaled(128, factor)
        self.cbr = ConvBNReLU(widths[-1], channels, kernel=1)
        self.scale = nn.Conv2d(widths[-1], channels, 1, bias=False)
        self.width = channels + widths[1]

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Gives (N, width, H / 8, W / 8)."""
        low, high = maps[1], maps[-1]
        gate = torch.sigmoid(self.scale(high.mean((2, 3), keepdim=True)))
        return torch.cat([_resized(self.cbr(high) * gate, low), low], dim=1)


class Fusion(nn.Module):
    """A weighted mean of maps of one size, then a separable 3x3 convolution."""

    def __init__(self, inputs: int, channels: int):
        super().__init__()
        self.weights = nn.Parameter(torch.ones(inputs))
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Gives (N, channels, h, w)."""
        weights = functional.relu(self.weights)
        weights = weights / (weights.sum() + SMALL)
        mixed = maps[0] * weights[0]
        for i, x in enumerate(maps[1:], start=1):
            mixed = mixed + x * weights[i]
        fused: Tensor = self.conv(functional.relu(mixed))
        return fused


class BiFPNLayer(nn.Module):
    """From the coarsest map to the finest and, but in the last layer, back."""

    def __init__(self, levels: int, channels: int, last: bool):
        super().__init__()
        self.down = nn.ModuleList(Fusion(2, channels) for _ in range(levels - 1))
        inner = () if last else (3,) * (levels - 2) + (2,)
        self.up = nn.ModuleList(Fusion(inputs, channels) for inputs in inner)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Gives as many maps of the same sizes, finest first; the last layer the finest alone."""
        *finer, x = maps
        path = [x]
        for fuse, skip in zip(self.down, reversed(finer), strict=True):
            x = fuse([skip, _resized(x, skip)])
            path.insert(0, x)
        found = [x]
        for number, fuse in enumerate(self.up, start=1):
            smaller = functional.max_pool2d(found[-1], 3, stride=2, padding=1)
            between = [path[number]] if number + 1 < len(maps) else []
            found.append(fuse([maps[number], *between, smaller]))
        return found


class BiFPN(LightDecoder):
    """All maps at one width, fused up and down a few times; the finest goes on."""

    stride = 4

    def __init__(self, widths: Sequence[int], factor: float):
        super().__init__()
        channels = scaled(64, factor)
        self.narrow = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, channels, 1, bias=False), nn.BatchNorm2d(channels))
            for width in widths
        )
        self.layers = nn.ModuleList(
            BiFPNLayer(len(widths), channels, number + 1 == LAYERS) for number in range(LAYERS)
        )
        self.width = channels

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Gives (N, width, H / 4, W / 4)."""
        maps = [narrow(x) for narrow, x in zip(self.narrow, maps, strict=True)]
        for layer in self.layers:
            maps = layer(maps)
        return functional.relu(maps[0])
