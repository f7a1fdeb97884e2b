"""DenseNet to 1/32 of the size, with the maps that a decoder wants on the way.

Source: Huang et al., "Densely Connected Convolutional Networks", 2017,
https://arxiv.org/abs/1608.06993; memory-frugal training as in Pleiss et al., "Memory-Efficient
Implementation of DenseNets", 2017. Module names follow the key layout of the public Ladder
DenseNet weights (matejgrcic/DenseHybrid), so that those load strictly; written anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn, Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from .bn_relu_conv import MOMENTUM

BOTTLENECK = 4
"""Width of a dense layer's inner map, in multiples of what it adds."""


class DenseLayer(nn.Module):
    """Adds `growth` channels, computed from all maps before it in the block.

    Args:
        in_channels: Channels of all those maps together.
        growth: Channels that it gives.
        memory_efficient: In training keep nothing between input and output; the backward pass
            computes it again.
    """

    def __init__(self, in_channels: int, growth: int, memory_efficient: bool):
        super().__init__()
        inner = BOTTLENECK * growth
        self.norm1 = nn.BatchNorm2d(in_channels, momentum=MOMENTUM)
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(inner, momentum=MOMENTUM)
        self.conv2 = nn.Conv2d(inner, growth, 3, padding=1, bias=False)
        self.memory_efficient = memory_efficient

    def forward(self, *maps: Tensor) -> Tensor:
        """Gives (N, growth, h, w) of the maps of (N, *, h, w)."""
        if not (self.memory_efficient and self.training and torch.is_grad_enabled()):
            return self._grow(*maps)
        grown: Tensor = checkpoint(
            self._grow, *maps, use_reentrant=False, context_fn=self._contexts
        )
        return grown

    def _grow(self, *maps: Tensor) -> Tensor:
        x = self.conv1(functional.relu(self.norm1(torch.cat(maps, dim=1))))
        grown: Tensor = self.conv2(functional.relu(self.norm2(x)))
        return grown

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """What surrounds the first computation, and each later one."""
        return nullcontext(), _KeptStatistics(self.norm1, self.norm2)


class _KeptStatistics(AbstractContextManager[None]):
    """Keeps norms from counting the same batch twice; may be entered again, once it was left.

    An objective that goes back through the network twice has it computed twice.
    """

    def __init__(self, *norms: nn.BatchNorm2d):
        self._norms = norms
        self._before: list[tuple[float | None, Tensor | None]] = []

    def __enter__(self) -> None:
        self._before = [(norm.momentum, norm.num_batches_tracked) for norm in self._norms]
        for norm in self._norms:
            norm.momentum = 0.0
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked = norm.num_batches_tracked.clone()

    def __exit__(self, *error: object) -> None:
        for norm, (momentum, batches) in zip(self._norms, self._before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches


class DenseBlock(nn.Module):
    """Dense layers, `denselayer1` and so on; gives its input and all they added, joined."""

    def __init__(self, layers: int, in_channels: int, growth: int, memory_efficient: bool):
        super().__init__()
        for i in range(layers):
            layer = DenseLayer(in_channels + i * growth, growth, memory_efficient)
            self.add_module(f'denselayer{i + 1}', layer)

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for layer in self.children():
            maps.append(layer(*maps))
        return torch.cat(maps, dim=1)


class Transition(nn.Module):
    """Halves channels and size; the mean at the border is over real pixels alone."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels, momentum=MOMENTUM)
        self.conv = nn.Conv2d(in_channels, in_channels // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(functional.relu(self.norm(x)))
        return functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)


class DenseNet(nn.Module):
    """The feature extractor of DenseNet, with `layers` (6, 12, 24, 16) DenseNet-121.

    Args:
        layers: Dense layers of each of the four blocks.
        growth: Channels that a dense layer adds.
        stem: Width of the first convolution.
        memory_efficient: See `DenseLayer`.

    Attributes:
        widths: Channels of the map of each block, the last one's at 1/32.
    """

    def __init__(self, layers: Sequence[int], growth: int, stem: int, memory_efficient: bool):
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module('conv0', nn.Conv2d(3, stem, 7, 2, 3, bias=False))
        self.features.add_module('norm0', nn.BatchNorm2d(stem, momentum=MOMENTUM))
        self.features.add_module('relu0', nn.ReLU())
        self.features.add_module('pool0', nn.MaxPool2d(2, stride=2))
        self.widths: list[int] = []
        width = stem
        for i, count in enumerate(layers, start=1):
            block = DenseBlock(count, width, growth, memory_efficient)
            self.features.add_module(f'denseblock{i}', block)
            width += count * growth
            self.widths.append(width)
            if i < len(layers):
                self.features.add_module(f'transition{i}', Transition(width))
                width //= 2

    def forward(self, x: Tensor) -> list[Tensor]:
        """Gives the map of each block, at 1/4, 1/8, 1/16 and 1/32 of the size."""
        maps = []
        for module in self.features:
            x = module(x)
            if isinstance(module, DenseBlock):
                maps.append(x)
        return maps
