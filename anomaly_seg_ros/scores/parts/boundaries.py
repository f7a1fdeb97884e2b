"""Replaces a map's values near the boundaries of predicted classes by those around."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

WIDTHS = (3, 2, 1, 0)
"""By how many pixels the boundary is grown in each iteration."""


def suppress_boundaries(values: Tensor, labels: Tensor) -> Tensor:
    """Gives the map with the pixels of boundaries filled from outside inwards.

    In each iteration a pixel of the grown boundary becomes the mean of those of its 3x3
    neighbours that lie outside of it; without any it stays as it is.

    Args:
        values: (N, 1, H, W).
        labels: (N, 1, H, W) predicted classes as floats, which pooling can take.

    Source: Jung et al., "Standardized Max Logits", 2021, section 3.3.
    """
    grown = [boundaries(labels)]
    for _ in range(max(WIDTHS)):
        grown.append(dilated(grown[-1]))
    for width in WIDTHS:
        outside = 1 - grown[width]
        # Both means divide by nine, which their ratio does not see.
        both = functional.pad(torch.cat([values * outside, outside], 1), (1, 1, 1, 1), 'replicate')
        pooled = functional.avg_pool2d(both, 3, stride=1)
        total, count = pooled[:, :1], pooled[:, 1:]
        fill = (outside < 0.5) & (count > 0.05)
        values = torch.where(fill, total / count.clamp(min=0.05), values)
    return values


def boundaries(labels: Tensor) -> Tensor:
    """Gives 1 where the largest id in the 3x3 cross is not the smallest in the 3x3 square.

    Args:
        labels: (N, 1, H, W) class ids as floats.
    """
    smallest = -functional.max_pool2d(-labels, 3, stride=1, padding=1)
    return (dilated(labels) != smallest).float()


def dilated(values: Tensor) -> Tensor:
    """Gives the maximum over each pixel and its four neighbours: grows a mask by one pixel."""
    column = functional.max_pool2d(values, (3, 1), stride=1, padding=(1, 0))
    row = functional.max_pool2d(values, (1, 3), stride=1, padding=(0, 1))
    return torch.maximum(column, row)
