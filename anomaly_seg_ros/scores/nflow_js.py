"""How close the softmax is to the uniform distribution, by Jensen and Shannon's divergence."""

from __future__ import annotations

import math

from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.scores.parts.tempered import divided

from .score import AnomalyScore

TEST_TEMPERATURE = 2.0
"""The paper's temperature at test time, whatever the network's calibration says."""


class NFlowJS(AnomalyScore):
    """`-JSD(U || p)` with p = softmax(logits / T) and U uniform over the K classes, in -ln 2..0.

    The divergence is small where the softmax is flat, as training on negatives of the flow makes
    it on anomalies, hence the sign. With m = (p + U) / 2, `ln m = logaddexp(ln p, -ln K) - ln 2
    = ln(1 + K p) - ln 2K`, which is finite also where p underflows, and

        JSD = ln 2 + (ln K + sum_c p_c ln p_c - sum_c (p_c + 1 / K) ln(1 + K p_c)) / 2

    has one exponential and one logarithm per class.

    Args:
        temperature: T; the paper's own, not the one that `fit_score` fits.

    Raises:
        ValueError: It is not above 0.

    Source: Grcić et al., "Dense Out-of-Distribution Detection by Robust Learning on Synthetic
    Negative Data" (NFlowJS), 2021, https://arxiv.org/abs/2112.12833; no code is public.

    >>> import torch
    >>> NFlowJS()(ModelOutput(torch.zeros(1, 4, 1, 1))).abs().item() < 1e-6
    True
    """

    needs = frozenset({'logits'})
    coarse = True

    def __init__(self, temperature: float = TEST_TEMPERATURE):
        super().__init__()
        if not temperature > 0:
            raise ValueError(f'temperature is {temperature}; nflow_js needs one above 0')
        self.temperature = temperature

    def forward(self, output: ModelOutput) -> Tensor:
        log_p = divided(output.given('logits').float(), self.temperature).log_softmax(1)
        classes = log_p.shape[1]
        p = log_p.exp()
        mixed = (p + 1 / classes) * (1 + classes * p).log()
        divergence = math.log(2) + (math.log(classes) + (p * log_p - mixed).sum(1)) / 2
        # Flat pixels would lie above 0 by a rounding error.
        return (-divergence).clamp(max=0)
