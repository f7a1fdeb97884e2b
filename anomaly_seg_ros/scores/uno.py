"""UNO: the uncertainty of the classes against the evidence for the negative one."""

from __future__ import annotations

from torch import Tensor

from anomaly_seg_ros.model_output import mask_sums, ModelOutput, query_probabilities

from .score import AnomalyScore


class UNO(AnomalyScore):
    """`-sum_q sigmoid(m_q) (max_c p_qc - p_qn)`, n the negative class and c the K others.

    p is over K + 2: no object too. The negative class is the network's void class, which a
    fine-tune learns from pasted outliers.

    Source: Delic et al., "Outlier detection by ensembling uncertainty with negative objectness",
    2024, equations 5 to 7.
    """

    needs = frozenset({'class_logits', 'mask_logits', 'void_class_logit'})

    def forward(self, output: ModelOutput) -> Tensor:
        probabilities = query_probabilities(output)
        # In their order: the classes, no object, and the negative one behind them.
        surest = probabilities[..., :-2].amax(2, keepdim=True)
        return -mask_sums(output, (surest - probabilities[..., -1:]).mT)[:, 0]
