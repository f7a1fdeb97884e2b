"""DenseHybrid with odds: no end to what the outlier head can say."""

from __future__ import annotations

from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput

from .score import AnomalyScore


class DenseHybridOdds(AnomalyScore):
    """`ln P(outlier | x) / P(inlier | x) - max_c l_c`, any real number.

    The probability of `dense_hybrid` ends at 1, so that among pixels that the outlier head is sure
    of the likelihood alone decides; their odds, the difference of the head's two logits, go on.
    The largest logit stands for the likelihood as it does in `max_logit`.

    Source: ours, after Grcić et al., "DenseHybrid: Hybrid Anomaly Detection for Dense Open-set
    Recognition", 2022, https://arxiv.org/abs/2207.02606.

    >>> import torch
    >>> output = ModelOutput(torch.tensor([2.0, 5.0]).view(1, 2, 1, 1),
    ...                      ood_logits=torch.tensor([1.0, 4.0]).view(1, 2, 1, 1))
    >>> DenseHybridOdds()(output).item()
    -2.0
    """

    needs = frozenset({'logits', 'ood_logits'})

    def forward(self, output: ModelOutput) -> Tensor:
        head = output.given('ood_logits').float()
        return head[:, 1] - head[:, 0] - output.given('logits').float().amax(1)
