"""One minus the largest share of a class in the masks."""

from __future__ import annotations

from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput

from .score import AnomalyScore


class MaskMSP(AnomalyScore):
    """`1 - max_c P_c` with `P_c = sum_q softmax(z_q)_c sigmoid(m_q)`, at most 1.

    Below 0 where several masks of one class lie over each other. P is not made a distribution
    over the classes first: that is `msp`.

    Source: Rai et al., "Unmasking Anomalies in Road-Scene Segmentation", 2023, equation 5.

    >>> import torch
    >>> MaskMSP()(ModelOutput(semantics=torch.full((1, 4, 1, 1), 0.25))).item()
    0.75
    """

    needs = frozenset({'semantics'})

    def forward(self, output: ModelOutput) -> Tensor:
        return 1 - output.given('semantics').float().amax(1)
