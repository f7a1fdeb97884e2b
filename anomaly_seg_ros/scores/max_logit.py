"""Maximum logit."""

from __future__ import annotations

from torch import nn, Tensor

from anomaly_seg_ros.model_output import ModelOutput


class MaxLogit(nn.Module):
    """`-max_c l_c`, any real number.

    Source: Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings",
    2022.

    >>> import torch
    >>> MaxLogit()(ModelOutput(torch.tensor([[[[1.0]], [[3.0]]]]))).item()
    -3.0
    """

    needs = frozenset({'logits'})

    def forward(self, output: ModelOutput) -> Tensor:
        return -output.given('logits').float().amax(1)
