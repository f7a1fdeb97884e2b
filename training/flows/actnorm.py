"""ActNorm: a trained shift and scale per channel, set by the first batch it sees."""

from __future__ import annotations

import torch
from torch import nn, Tensor

SMALLEST_STD = 1e-6


class ActNorm(nn.Module):
    """`z = (x - shift) * exp(-log_scale)`.

    The first batch in training mode sets mean 0 and deviation 1 of each channel.

    Source: Kingma and Dhariwal, "Glow: Generative Flow with Invertible 1x1 Convolutions", 2018,
    section 3.1.
    """

    initialized: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.register_buffer('initialized', torch.zeros(1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gives z and log |det dz/dx|, (N,)."""
        if self.training and not self.initialized:
            self._initialize(x.detach())
        log_det = -self.log_scale.sum() * x.shape[2] * x.shape[3]
        return (x - self.shift) * (-self.log_scale).exp(), log_det.expand(x.shape[0])

    def inverse(self, z: Tensor) -> Tensor:
        """Gives x."""
        return self.shift + z * self.log_scale.exp()

    @torch.no_grad()
    def _initialize(self, x: Tensor) -> None:
        self.shift.copy_(x.mean(dim=(0, 2, 3), keepdim=True))
        std = x.std(dim=(0, 2, 3), keepdim=True, correction=0)
        self.log_scale.copy_(std.clamp(min=SMALLEST_STD).log())
        self.initialized.fill_(1)
