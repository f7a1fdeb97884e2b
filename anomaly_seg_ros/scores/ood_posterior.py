"""The outlier head alone."""

from __future__ import annotations

from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput

from .score import AnomalyScore


class OODPosterior(AnomalyScore):
    """`softmax(o)_1` of the outlier head's two logits, in 0..1: one half of `dense_hybrid`.

    Written as `sigmoid(o_1 - o_0)`, which is the same number.

    Source: Grcić et al., "DenseHybrid: Hybrid Anomaly Detection for Dense Open-set Recognition",
    2022, the ablation without likelihood; `energy` is the one without posterior.

    >>> import torch
    >>> output = ModelOutput(torch.zeros(1, 4, 1, 1), ood_logits=torch.zeros(1, 2, 1, 1))
    >>> OODPosterior()(output).item()
    0.5
    """

    needs = frozenset({'ood_logits'})

    def forward(self, output: ModelOutput) -> Tensor:
        head = output.given('ood_logits').float()
        return (head[:, 1] - head[:, 0]).sigmoid()
