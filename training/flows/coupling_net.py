"""The network inside an affine coupling: one residual dense block with a gated output."""

from __future__ import annotations

import torch
from torch import nn, Tensor


class CouplingLayer(nn.Module):
    """1x1 convolution, ReLU, 3x3 convolution, ReLU; the result is appended to the input."""

    def __init__(self, channels: int, growth: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 1),
            nn.ReLU(),
            nn.Conv2d(channels, growth, 3, padding=1),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Gives (N, channels + growth, h, w)."""
        return torch.cat([x, self.layers(x)], dim=1)


class GatedConv(nn.Module):
    """`a + b * sigmoid(c)` of the three thirds of a 1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 3 * out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Gives (N, out_channels, h, w)."""
        a, b, c = self.conv(x).chunk(3, dim=1)
        gated: Tensor = a + b * torch.sigmoid(c)
        return gated


class CouplingNet(nn.Module):
    """Gives scale and shift of one half of the channels from the other.

    Args:
        in_channels: Of the half that is read.
        out_channels: Two numbers for each channel that is changed; 0 before training.
        hidden: Width that the dense block starts with and ends in.
        depth: Dense layers.
        growth: Channels that each of them appends.
    """

    def __init__(self, in_channels: int, out_channels: int, hidden: int, depth: int, growth: int):
        super().__init__()
        self.enter = nn.Conv2d(in_channels, hidden, 1)
        self.dense = nn.Sequential(
            *(CouplingLayer(hidden + i * growth, growth) for i in range(depth)),
            GatedConv(hidden + depth * growth, hidden),
        )
        self.leave = nn.Conv2d(hidden, out_channels, 1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Gives (N, out_channels, h, w)."""
        x = self.enter(x)
        result: Tensor = self.leave(x + self.dense(x))
        return result
