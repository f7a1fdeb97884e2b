"""Maximum logit."""

from __future__ import annotations

from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.scores.parts.class_logits import over_class_logits

from .score import AnomalyScore


class MaxLogit(AnomalyScore):
    """`-max_c l_c`, any real number.

    Source: Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings",
    2022.

    >>> import torch
    >>> MaxLogit()(ModelOutput(torch.tensor([[[[1.0]], [[3.0]]]]))).item()
    -3.0
    """

    needs = frozenset({'logits'})
    from_masks = True

    def forward(self, output: ModelOutput) -> Tensor:
        return over_class_logits(output, lambda logits: -logits.amax(1))
