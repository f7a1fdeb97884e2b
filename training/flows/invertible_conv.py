"""An invertible 1x1 convolution: every pixel's channels are mixed by one square matrix."""

from __future__ import annotations

import torch
from torch import nn, Tensor
from torch.nn import functional


class InvertibleConv(nn.Module):
    """`z = W x` at every pixel; W begins as a random rotation.

    Source: Kingma and Dhariwal, "Glow", 2018, section 3.2.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(channels, channels)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gives z and log |det dz/dx|, (N,)."""
        log_det = torch.linalg.slogdet(self.weight).logabsdet * x.shape[2] * x.shape[3]
        return functional.conv2d(x, self.weight[..., None, None]), log_det.expand(x.shape[0])

    def inverse(self, z: Tensor) -> Tensor:
        """Gives x."""
        return functional.conv2d(z, torch.linalg.inv(self.weight)[..., None, None])
