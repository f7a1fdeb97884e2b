"""Margin between the two most probable classes."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.scores.parts.class_logits import over_class_logits

from .score import AnomalyScore


class Margin(AnomalyScore):
    """`-(p_1 - p_2)`, the negative gap of the two largest of p = softmax(l), in -1..0.

    The checkpoint's temperature does not act on it.

    Source: Scheffer et al., "Active Hidden Markov Models for Information Extraction", 2001.

    >>> Margin()(ModelOutput(torch.zeros(1, 4, 1, 1))).item() + 0.0
    0.0
    >>> Margin()(ModelOutput(torch.zeros(1, 1, 1, 1))).item()
    -1.0
    """

    needs = frozenset({'logits'})
    from_masks = True

    def forward(self, output: ModelOutput) -> Tensor:
        return over_class_logits(output, self._of_logits)

    def _of_logits(self, logits: Tensor) -> Tensor:
        if logits.shape[1] == 1:  # of one class the second probability is 0
            return -torch.ones_like(logits[:, 0])
        largest = (logits.topk(2, dim=1).values - logits.logsumexp(1, keepdim=True)).exp()
        return largest[:, 1] - largest[:, 0]
