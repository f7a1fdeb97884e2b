"""RbA: rejected by all classes."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput

from .score import AnomalyScore

CLASSES = 4
"""Whose tanh is held at a time: all of them at the size of the image take as much as P itself."""


class RbA(AnomalyScore):
    """`-sum_c tanh(P_c)` with `P_c = sum_q softmax(z_q)_c sigmoid(m_q)`, in -K..0.

    Source: Nayal et al., "RbA: Segmenting Unknown Regions Rejected by All", 2023, equation 5.

    >>> import torch
    >>> round(RbA()(ModelOutput(semantics=torch.ones(1, 2, 1, 1))).item(), 4)
    -1.5232
    """

    needs = frozenset({'semantics'})

    def forward(self, output: ModelOutput) -> Tensor:
        parts = torch.split(output.given('semantics').float(), CLASSES, 1)
        sums = [part.tanh().sum(1) for part in parts]
        return -torch.stack(sums).sum(0)
