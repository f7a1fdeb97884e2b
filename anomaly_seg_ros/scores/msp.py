"""Maximum softmax probability."""

from __future__ import annotations

from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.scores.parts.class_logits import over_class_logits
from anomaly_seg_ros.scores.parts.tempered import divided

from .score import AnomalyScore


class MSP(AnomalyScore):
    """`1 - max_c p_c` with p = softmax(logits / T), in 0..1 - 1/K.

    Source: Hendrycks and Gimpel, "A Baseline for Detecting Misclassified and Out-of-Distribution
    Examples in Neural Networks", 2017. Computed as `1 - exp(max - logsumexp)`, which needs no
    tensor of K probabilities.

    >>> import torch
    >>> flat = torch.zeros(1, 4, 1, 1)
    >>> MSP()(ModelOutput(flat)).item()
    0.75
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
        return 1 - (logits.amax(1) - logits.logsumexp(1)).exp()
