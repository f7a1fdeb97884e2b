"""Plain segmentation: the loss on the logits and, weighted, on those of auxiliary heads."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput
from training.feeding.loading import Batch
from training.losses import Loss

from .objective import Forward, Objective


def segmentation_terms(
    output: ModelOutput, labels: Tensor, loss: Loss, aux_weight: float
) -> dict[str, Tensor]:
    """Gives 'segmentation' and, where the network gives auxiliary logits, their sum as 'aux'.

    Args:
        output: Logits of (N, K, H, W), auxiliary ones too.
        labels: (N, H, W) train ids, 255 = ignore.
        loss: Of (logits, labels) to a scalar.
        aux_weight: Weight of each auxiliary head.
    """
    terms = {'segmentation': loss(output.given('logits'), labels)}
    if output.aux_logits:
        aux = torch.stack([loss(logits, labels) for logits in output.aux_logits])
        terms['aux'] = aux_weight * aux.sum()
    return terms


class Segmentation(Objective):
    """The loss alone; pasted outliers count as their labels say (ignored, or void)."""

    def __init__(self, loss: Loss, aux_weight: float = 1.0):
        super().__init__()
        self.loss, self.aux_weight = loss, aux_weight

    def forward(self, network: Forward, batch: Batch) -> dict[str, Tensor]:
        """Gives the terms of one batch."""
        output = network(batch.images.float() / 255)
        return segmentation_terms(output, batch.labels, self.loss, self.aux_weight)
