"""Batch norm, ReLU and a convolution: the pre-activation unit of ladder-style networks."""

from __future__ import annotations

from torch import nn, Tensor
from torch.nn import functional

MOMENTUM = 0.01
"""Of the running statistics; the authors' value, for small batches."""


class BNReLUConv(nn.Module):
    """Batch norm, ReLU, then a convolution that keeps the size.

    With kernel 1, a bias and two output channels it is DenseHybrid's outlier head; `OutlierHead`
    is that of the small networks, with a faster momentum and a cheaper enlargement.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel: Odd side of the kernel.
        bias: Whether the convolution has one, as classifiers do.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, bias: bool = False):
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels, momentum=MOMENTUM)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Gives (N, out_channels, h, w) of (N, in_channels, h, w)."""
        y: Tensor = self.conv(functional.relu(self.norm(x)))
        return y
