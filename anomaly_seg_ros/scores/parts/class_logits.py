"""Logits of the classes, or what stands for them where a network has masks of queries."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput

LEAST = torch.finfo(torch.float32).tiny


def class_logits(output: ModelOutput) -> Tensor:
    """Gives (N, K, H, W) float32: `logits`, or `ln semantics`, whose softmax is P_c / sum_c P_c.

    >>> output = ModelOutput(semantics=torch.tensor([0.6, 0.2]).view(1, 2, 1, 1))
    >>> [round(p, 4) for p in class_logits(output).softmax(1).flatten().tolist()]
    [0.75, 0.25]
    """
    if output.logits is None and output.semantics is not None:
        return output.semantics.float().clamp(min=LEAST).log()
    return output.given('logits').float()
