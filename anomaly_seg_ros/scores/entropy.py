"""Entropy of the softmax, divided by its largest value."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.scores.parts.class_logits import over_class_logits
from anomaly_seg_ros.scores.parts.tempered import divided

from .score import AnomalyScore


class Entropy(AnomalyScore):
    """`-(1 / ln K) sum_c p_c ln p_c` with p = softmax(logits / T), in 0..1 (MaxEntropy).

    From log-softmax, so that a probability of 0 adds 0 and not NaN.

    Source: Chan et al., "Entropy Maximization and Meta Classification for Out-of-Distribution
    Detection in Semantic Segmentation", 2021.

    >>> round(Entropy()(ModelOutput(torch.zeros(1, 5, 1, 1))).item(), 6)
    1.0
    >>> Entropy()(ModelOutput(torch.zeros(1, 1, 1, 1))).item()  # of one class there is no doubt
    0.0
    """

    needs = frozenset({'logits'})
    from_masks = True
    tempered = True
    coarse = True

    def __init__(self, temperature: float = 1.0):
        super().__init__()
        self.temperature = temperature

    def forward(self, output: ModelOutput) -> Tensor:
        return over_class_logits(output, self._of_logits)

    def _of_logits(self, logits: Tensor) -> Tensor:
        if logits.shape[1] == 1:
            return torch.zeros_like(logits[:, 0])
        log_p = divided(logits, self.temperature).log_softmax(1)
        return -(log_p.exp() * log_p).sum(1) / math.log(log_p.shape[1])
