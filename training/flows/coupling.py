"""Affine coupling: one half of the channels scales and shifts the other."""

from __future__ import annotations

import torch
from torch import nn, Tensor

from .coupling_net import CouplingNet


class AffineCoupling(nn.Module):
    """`z2 = exp(s(x1)) * x2 + t(x1)`, then the halves change places.

    `s = 2 tanh(u / 2)` of the network's output u keeps one step between e^-2 and e^2.

    Args:
        channels: Of the whole; the first half, the larger where odd, is read.
        hidden: See `CouplingNet`, as `depth` and `growth`.
        depth: Dense layers.
        growth: Channels that each of them appends.

    Source: Grcic et al., "Densely connected normalizing flows", 2021.
    """

    def __init__(self, channels: int, hidden: int, depth: int, growth: int):
        super().__init__()
        self.changed = channels // 2
        self.read = channels - self.changed
        self.net = CouplingNet(self.read, 2 * self.changed, hidden, depth, growth)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gives z and log |det dz/dx|, (N,)."""
        x1, x2 = x[:, : self.read], x[:, self.read :]
        log_scale, shift = self._scale_and_shift(x1)
        z2 = x2 * log_scale.exp() + shift
        return torch.cat([z2, x1], dim=1), log_scale.sum(dim=(1, 2, 3))

    def inverse(self, z: Tensor) -> Tensor:
        """Gives x."""
        z2, x1 = z[:, : self.changed], z[:, self.changed :]
        log_scale, shift = self._scale_and_shift(x1)
        return torch.cat([x1, (z2 - shift) * (-log_scale).exp()], dim=1)

    def _scale_and_shift(self, x1: Tensor) -> tuple[Tensor, Tensor]:
        u, shift = self.net(x1).chunk(2, dim=1)
        return 2 * torch.tanh(u / 2), shift
