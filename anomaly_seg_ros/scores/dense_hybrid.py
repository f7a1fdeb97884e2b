"""DenseHybrid: the outlier head's posterior against the likelihood in the logits."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from anomaly_seg_ros.model_output import ModelOutput

from .score import AnomalyScore


class DenseHybrid(AnomalyScore):
    """`ln P(outlier | x) - ln sum_c exp(l_c)`, any real number.

    The first term is the log-softmax of the outlier head, channel 1, written as
    `-ln(1 + exp(o_0 - o_1))`; the authors' code takes the logarithm of a probability there, which
    is -inf once the softmax underflows.

    Source: Grcić et al., "DenseHybrid: Hybrid Anomaly Detection for Dense Open-set Recognition",
    2022, https://arxiv.org/abs/2207.02606.

    >>> import torch
    >>> output = ModelOutput(torch.zeros(1, 4, 1, 1), ood_logits=torch.zeros(1, 2, 1, 1))
    >>> round(DenseHybrid()(output).exp().item(), 6)
    0.125
    """

    needs = frozenset({'logits', 'ood_logits'})
    coarse = True

    def forward(self, output: ModelOutput) -> Tensor:
        head = output.given('ood_logits').float()
        # log-softmax of two: cheaper than a reduction over a map of two channels.
        log_outlier = -functional.softplus(head[:, 0] - head[:, 1])
        return log_outlier - output.given('logits').float().logsumexp(1)
