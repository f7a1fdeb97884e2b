"""EAM: an ensemble over the masks, each with what it is surest of."""

from __future__ import annotations

from torch import Tensor

from anomaly_seg_ros.model_output import class_probabilities, mask_sums, ModelOutput

from .score import AnomalyScore


class EAM(AnomalyScore):
    """`1 - sum_q max_c softmax(z_q)_c sigmoid(m_q)`, at most 1; below 0 where masks overlap.

    No object and void are no classes here.

    Source: Grcic et al., "On Advantages of Mask-level Recognition for Outlier-aware
    Segmentation", 2023, equation 4.
    """

    needs = frozenset({'class_logits', 'mask_logits'})

    def forward(self, output: ModelOutput) -> Tensor:
        surest = class_probabilities(output).amax(2, keepdim=True).mT
        return 1 - mask_sums(output, surest)[:, 0]
