"""Mask2Anomaly's fine-tune: mask classification, and a margin between known and pasted pixels."""

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

MARGIN = 0.75
LITERAL_MARGIN = 1.0
"""That of the authors' code."""


class Mask2Anomaly(MaskClassification):
    """The terms of mask classification, and the mask contrastive loss of every layer.

    Args:
        loss: Not used.
        aux_weight: Weight of the terms of each auxiliary layer.
        class_weight: As in mask classification; so are the next.
        mask_weight: See there.
        dice_weight: See there.
        no_object: See there.
        points: See there.
        contrast_weight: Weight of the contrastive term of each layer.
        margin: Least score that a pasted pixel shall have; None: 0.75, with `literal` 1, as there.
        literal: Take the term as the released code has it, see `contrastive_loss`; known is then
            whatever is not pasted, unlabelled pixels and padding too.

    Source: Rai et al., "Unmasking Anomalies in Road-Scene Segmentation", 2023, section 3.2.
    """

    needs_outliers = True
    ignores_outliers = True

    @classmethod
    def score(cls, options: Mapping[str, Any]) -> str | None:
        """Gives 'mask2anomaly'."""
        return 'mask2anomaly'

    def __init__(
        self,
        loss: Loss,
        aux_weight: float = 1.0,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        no_object: float = 0.1,
        points: int = 12544,
        contrast_weight: float = 1.0,
        margin: float | None = None,
        literal: bool = False,
    ):
        super().__init__(
            loss, aux_weight, class_weight, mask_weight, dice_weight, no_object, points
        )
        if margin is None:
            margin = LITERAL_MARGIN if literal else MARGIN
        if not contrast_weight > 0 or not 0 < margin <= 1:
            raise ValueError(
                f'mask2anomaly has contrast_weight {contrast_weight} and margin {margin}; the '
                'weight must be above 0, the margin in 0..1'
            )
        self.contrast_weight, self.margin, self.literal = contrast_weight, margin, literal

    def forward(self, network: Forward, batch: Batch) -> dict[str, Tensor]:
        """Gives the terms of one batch.

        Raises:
            ValueError: The network has no queries.
        """
        output = network(batch.images.float() / 255)
        terms = self.mask_terms(output, batch.labels)
        terms['contrast'] = self.contrast_weight * self._contrast(output, batch)
        if layers := aux_layers(output):
            aux = torch.stack([self._contrast(layer, batch) for layer in layers]).sum()
            terms['aux_contrast'] = self.aux_weight * self.contrast_weight * aux
        return terms

    def _contrast(self, output: ModelOutput, batch: Batch) -> Tensor:
        known = ~batch.outlier if self.literal else batch.inlier
        return contrastive_loss(output, known, batch.outlier, self.margin, self.literal)


def contrastive_loss(
    output: ModelOutput,
    inlier: Tensor,
    outlier: Tensor,
    margin: float = MARGIN,
    literal: bool = False,
) -> Tensor:
    """Gives `(mean_in s^2 + mean_out max(0, margin - s)^2) / 2` with `s = 1 - max_c P_c`.

    `P_c = sum_q softmax(class_logits)_qc sigmoid(mask_logits)_q` at the masks' size; the score is
    enlarged bilinearly, corner to corner, as the authors do.

    Args:
        output: Its class and mask logits.
        inlier: (N, H, W) bool; pixels in neither have no part.
        outlier: (N, H, W) bool.
        margin: Least score that outliers shall have.
        literal: Take `s = -max_c P_c`, as the released code does. That lies in -1..0, so that the
            first term lowers the confidence of known pixels too, and the second never ends.

    Returns:
        Scalar; a mean over nothing counts as 0.
    """
    classes = class_probabilities(output).transpose(1, 2)
    masks = output.given('mask_logits').float().sigmoid()
    best = torch.einsum('nkq,nqhw->nkhw', classes, masks).amax(1, keepdim=True)
    score = -best if literal else 1 - best
    score = functional.interpolate(
        score, inlier.shape[1:], mode='bilinear', align_corners=True
    ).squeeze(1)
    known, pasted = score[inlier], score[outlier]
    pull = known.square().sum() / max(known.numel(), 1)
    push = (margin - pasted).clamp(min=0).square().sum() / max(pasted.numel(), 1)
    return (pull + push) / 2
