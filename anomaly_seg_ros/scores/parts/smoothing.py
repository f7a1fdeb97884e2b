"""Gaussian smoothing with gaps between the taps."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .convolution import convolve

TAPS = 7
DILATION = 6
SIGMA = 1.0
"""Of the Gaussian, in taps."""


def smooth_dilated(values: Tensor, taps: Tensor) -> Tensor:
    """Gives a map smoothed by a 7x7 Gaussian of dilation 6, borders replicated.

    Rows and columns are smoothed one after the other, which is the same kernel.

    Args:
        values: (N, 1, H, W).
        taps: What `gaussian` gives.

    Source: Jung et al., "Standardized Max Logits", 2021, section 3.3.
    """
    reach = DILATION * (TAPS // 2)
    padded = functional.pad(values, (reach, reach, reach, reach), 'replicate')
    columns = convolve(padded, taps.view(1, 1, TAPS, 1), dilation=DILATION)
    return convolve(columns, taps.view(1, 1, 1, TAPS), dilation=DILATION)


def gaussian() -> Tensor:
    """Gives the `TAPS` weights; their sum is 1.

    >>> [round(float(weight), 4) for weight in gaussian()]
    [0.0044, 0.054, 0.242, 0.3991, 0.242, 0.054, 0.0044]
    """
    distance = torch.arange(TAPS, dtype=torch.float32) - TAPS // 2
    weights = (-(distance**2) / (2 * SIGMA**2)).exp()
    return weights / weights.sum()
