"""Convolution and product in the precision of their input, whatever autocast would make of it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def convolve(
    values: Tensor, weight: Tensor, bias: Tensor | None = None, dilation: int = 1
) -> Tensor:
    """Gives a 2-d convolution without padding, in float32 also under autocast.

    Args:
        values: (N, C, H, W).
        weight: (D, C, h, w).
        bias: (D,) or None.
        dilation: Step between the taps, in pixels.
    """
    kind = values.device.type
    if torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):
            return functional.conv2d(values, weight, bias, dilation=dilation)
    return functional.conv2d(values, weight, bias, dilation=dilation)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Gives a matrix product, in float32 also under autocast.

    Args:
        a: (N, I, D).
        b: (N, D, J), or (D, J) of all.
    """
    kind = a.device.type
    if torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):
            return product(a, b)
    # Of `a @ b` in three axes a graph keeps steps that copy b.
    return torch.bmm(a, b) if b.ndim > 2 else a @ b
