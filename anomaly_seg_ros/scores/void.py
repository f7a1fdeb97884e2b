"""Probability of the trained void class."""

from __future__ import annotations

from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput

from .score import AnomalyScore


class Void(AnomalyScore):
    """`softmax([l, l_void])_void` over the K classes and void, in 0..1.

    Written as `sigmoid(l_void - logsumexp(l))`, which is the same number.

    Source: Blum et al., "The Fishyscapes Benchmark", 2021, section 4.3 (void classifier).

    >>> import torch
    >>> flat = ModelOutput(torch.zeros(1, 3, 1, 1), void_logit=torch.zeros(1, 1, 1, 1))
    >>> Void()(flat).item()
    0.25
    """

    needs = frozenset({'logits', 'void_logit'})

    def forward(self, output: ModelOutput) -> Tensor:
        logits, void = output.given('logits').float(), output.given('void_logit').float()
        return (void[:, 0] - logits.logsumexp(1)).sigmoid()
