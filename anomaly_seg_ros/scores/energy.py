"""Free energy of the logits."""

from __future__ import annotations

from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.scores.parts.class_logits import over_class_logits
from anomaly_seg_ros.scores.parts.tempered import divided

from .score import AnomalyScore


class Energy(AnomalyScore):
    """`-T ln sum_c exp(l_c / T)`, any real number.

    Source: Liu et al., "Energy-based Out-of-distribution Detection", 2020, equation 4.

    >>> import torch
    >>> round(Energy()(ModelOutput(torch.zeros(1, 1, 1, 1))).item(), 6) + 0.0
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
        logits = divided(logits, self.temperature)
        return -self.temperature * logits.logsumexp(1)
