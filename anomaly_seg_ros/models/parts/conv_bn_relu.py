"""What both BiSeNets are made of: their block, under its weights' key names."""

from __future__ import annotations

from torch import nn, Tensor
from torch.nn import functional


class ConvBNReLU(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Gives (N, out_channels, h / stride, w / stride)."""
        return functional.relu(self.bn(self.conv(x)))
