"""RbA's fine-tune: mask classification, and pasted pixels that every class rejects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from anomaly_seg_ros.model_output import class_probabilities, ModelOutput
from training.feeding.loading import Batch
from training.losses import Loss

from .mask_classification import aux_layers, MaskClassification
from .objective import Forward


class RbA(MaskClassification):
    """The terms of mask classification, and a squared hinge on the score of every layer.

    Section 3.3 speaks of one score; the authors' code takes the hinge of every auxiliary layer
    too, with the same weight. They train no more than the heads of class and mask:
    `lr_multipliers` of 0 for the rest.

    Args:
        loss: Not used.
        aux_weight: Weight of the terms of each auxiliary layer.
        class_weight: As in mask classification; so are the next.
        mask_weight: See there.
        dice_weight: See there.
        no_object: See there.
        points: See there.
        hinge_weight: Weight of the hinge of each layer.
        inlier: What the score of known pixels shall be at most.
        outlier: What the score of pasted pixels shall be at least. The score is never above 0, so
            that 5, the authors' value, pulls without end; 0 ends where every class rejects.

    Source: Nayal et al., "RbA: Segmenting Unknown Regions Rejected by All", 2023, section 3.3.
    """

    needs_outliers = True
    ignores_outliers = True

    @classmethod
    def score(cls, options: Mapping[str, Any]) -> str | None:
        """Gives the score of the same name."""
        return 'rba'

    def __init__(
        self,
        loss: Loss,
        aux_weight: float = 1.0,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        no_object: float = 0.1,
        points: int = 12544,
        hinge_weight: float = 1.0,
        inlier: float = 0.0,
        outlier: float = 5.0,
    ):
        super().__init__(
            loss, aux_weight, class_weight, mask_weight, dice_weight, no_object, points
        )
        if not hinge_weight > 0 or not inlier <= outlier:
            raise ValueError(
                f'rba has hinge_weight {hinge_weight}, inlier {inlier} and outlier {outlier}; the '
                'weight must be above 0, and inlier not above outlier'
            )
        self.hinge_weight, self.inlier, self.outlier = hinge_weight, inlier, outlier

    def forward(self, network: Forward, batch: Batch) -> dict[str, Tensor]:
        """Gives the terms of one batch.

        Raises:
            ValueError: The network has no queries.
        """
        output = network(batch.images.float() / 255)
        terms = self.mask_terms(output, batch.labels)
        terms['hinge'] = self.hinge_weight * self._hinge(output, batch)
        if layers := aux_layers(output):
            aux = torch.stack([self._hinge(layer, batch) for layer in layers]).sum()
            terms['aux_hinge'] = self.aux_weight * self.hinge_weight * aux
        return terms

    def _hinge(self, output: ModelOutput, batch: Batch) -> Tensor:
        return hinge_loss(output, batch.inlier, batch.outlier, self.inlier, self.outlier)


def hinge_loss(
    output: ModelOutput,
    known: Tensor,
    pasted: Tensor,
    inlier: float = 0.0,
    outlier: float = 5.0,
) -> Tensor:
    """Gives `(mean_in max(0, s - inlier)^2 + mean_out max(0, outlier - s)^2) / 2`.

    `s = -sum_c tanh(P_c)` at the masks' size, enlarged bilinearly, corner to corner. Without a
    pasted pixel it is the first mean, whole. Both as the authors do.

    Args:
        output: Its class and mask logits.
        known: (N, H, W) bool; pixels in neither have no part.
        pasted: (N, H, W) bool.
        inlier: What s of known pixels shall be at most.
        outlier: What s of pasted pixels shall be at least.

    Returns:
        Scalar; a mean over nothing counts as 0.
    """
    masks = output.given('mask_logits').float().sigmoid()
    shares = torch.einsum('nqk,nqhw->nkhw', class_probabilities(output), masks)
    score = functional.interpolate(
        -shares.tanh().sum(1, keepdim=True), known.shape[1:], mode='bilinear', align_corners=True
    ).squeeze(1)
    ours, theirs = (score[known] - inlier).clamp(min=0), (outlier - score[pasted]).clamp(min=0)
    terms = [part.square().sum() / max(part.numel(), 1) for part in (ours, theirs)]
    return torch.stack(terms).sum() / (2 if theirs.numel() else 1)
