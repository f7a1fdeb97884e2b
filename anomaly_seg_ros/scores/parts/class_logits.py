"""Logits of the classes, or what stands for them where a network has masks of queries."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput

LEAST = torch.finfo(torch.float32).tiny
ROWS = 64
"""Of the image at a time: semantics take more memory than all else, and a formula copies them."""


def over_class_logits(output: ModelOutput, formula: Callable[[Tensor], Tensor]) -> Tensor:
    """Gives the (N, H, W) of a formula of (N, K, H, W) float32, pixel by pixel.

    It reads `logits`, or `ln semantics`, whose softmax is P_c / sum_c P_c, a few rows at a time.

    >>> output = ModelOutput(semantics=torch.tensor([0.6, 0.2]).view(1, 2, 1, 1))
    >>> round(over_class_logits(output, lambda logits: logits.softmax(1)[:, 0]).item(), 4)
    0.75
    """
    if output.logits is not None or output.semantics is None:
        return formula(output.given('logits').float())
    parts = torch.split(output.semantics, ROWS, 2)
    return torch.cat([formula(part.float().clamp(min=LEAST).log()) for part in parts], 1)
