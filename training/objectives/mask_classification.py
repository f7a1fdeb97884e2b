"""Mask classification: each query learns one class and where it is, or that it shows nothing."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.model_output import ModelOutput
from training.feeding.loading import Batch
from training.losses import Loss

from .objective import Forward, Objective


def aux_layers(output: ModelOutput) -> list[ModelOutput]:
    """Gives class and mask logits of each auxiliary layer as an output of its own."""
    layers = zip(output.aux_class_logits, output.aux_mask_logits, strict=True)
    return [ModelOutput(class_logits=c, mask_logits=m) for c, m in layers]


class MaskClassification(Objective):
    """Hungarian matching of queries to the classes of an image, and the losses of the pairs.

    Each class of an image is one mask, unlabelled pixels belong to none. The matching and the
    losses are those of `transformers`; where a layer gives auxiliary masks, they are matched anew
    and learned in the same way.

    Args:
        loss: Not used: mask classification has losses of its own.
        aux_weight: Weight of the terms of each auxiliary layer.
        class_weight: Weight of the cross-entropy over what a query shows, in matching and loss.
        mask_weight: Weight of the masks' binary cross-entropy, likewise.
        dice_weight: Weight of their dice loss, likewise.
        no_object: Weight of the class of queries that show nothing.
        points: Where masks are compared, drawn for each pair: a quarter anywhere, the rest where
            the prediction is least sure.

    Source: Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation"
    (Mask2Former), 2022, section 4.
    """

    reads = frozenset({'class_logits', 'mask_logits'})
    uses_loss = False

    @classmethod
    def score(cls, options: Mapping[str, Any]) -> str | None:
        """Gives 'mask_msp', from what the queries show and nothing else."""
        return 'mask_msp'

    def __init__(
        self,
        loss: Loss,
        aux_weight: float = 1.0,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        no_object: float = 0.1,
        points: int = 12544,
    ):
        super().__init__()
        weights = (class_weight, mask_weight, dice_weight)
        if min(weights) < 0 or not max(weights) > 0 or not no_object > 0 or points < 1:
            raise ValueError(
                f'class_weight, mask_weight and dice_weight are {weights}, no_object {no_object}, '
                f'points {points}; none may be negative, one weight, no_object and points must be '
                'above 0'
            )
        self.aux_weight = aux_weight
        self.settings = SimpleNamespace(
            class_weight=class_weight,
            mask_weight=mask_weight,
            dice_weight=dice_weight,
            no_object_weight=no_object,
            train_num_points=points,
            oversample_ratio=3.0,
            importance_sample_ratio=0.75,
        )

    def forward(self, network: Forward, batch: Batch) -> dict[str, Tensor]:
        """Gives the terms of one batch.

        Raises:
            ValueError: The network has no queries.
        """
        return self.mask_terms(network(batch.images.float() / 255), batch.labels)

    def mask_terms(self, output: ModelOutput, labels: Tensor) -> dict[str, Tensor]:
        """Gives 'class', 'mask' and 'dice' and, where there are auxiliary masks, 'aux'.

        Args:
            output: Of a network with queries.
            labels: (N, H, W) train ids, 255 = ignore.

        Raises:
            ValueError: The network has no queries.
        """
        if output.class_logits is None or output.mask_logits is None:
            raise ValueError(
                "objective 'mask_classification' trains queries, which this network lacks; choose "
                'model: mask2anomaly, or objective: segmentation'
            )
        masks, classes = class_masks(labels)
        terms = self._layer(output.class_logits, output.mask_logits, masks, classes)
        aux = [
            value
            for layer in aux_layers(output)
            for value in self._layer(
                layer.given('class_logits'), layer.given('mask_logits'), masks, classes
            ).values()
        ]
        return terms | ({'aux': self.aux_weight * torch.stack(aux).sum()} if aux else {})

    def _layer(
        self, class_logits: Tensor, mask_logits: Tensor, masks: list[Tensor], classes: list[Tensor]
    ) -> dict[str, Tensor]:
        """Gives the weighted terms of one layer."""
        from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

        kind = torch.promote_types(mask_logits.dtype, torch.float32)
        class_logits, mask_logits = class_logits.to(kind), mask_logits.to(kind)
        masks = [image.to(kind) for image in masks]
        # All that the loss reads of a configuration; a whole one would be built for each step.
        settings: Any = SimpleNamespace(
            num_labels=class_logits.shape[2] - 1, **vars(self.settings)
        )
        library: Any = Mask2FormerLoss(settings, {}).to(class_logits.device)
        if any(len(found) for found in classes):
            losses = library(mask_logits, class_logits, masks, classes)
        else:
            none = [(torch.zeros(0, dtype=torch.long),) * 2] * len(classes)
            nothing = mask_logits.sum() * 0
            losses = library.loss_labels(class_logits, classes, none)
            losses |= {'loss_mask': nothing, 'loss_dice': nothing}
        return {
            'class': settings.class_weight * losses['loss_cross_entropy'],
            'mask': settings.mask_weight * losses['loss_mask'],
            'dice': settings.dice_weight * losses['loss_dice'],
        }


def class_masks(labels: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Gives the (M, H, W) float masks of the M classes in each image, and those classes.

    >>> masks, classes = class_masks(torch.tensor([[[2, 2, 255, 0]]]))
    >>> classes[0].tolist(), masks[0].tolist()
    ([0, 2], [[[0.0, 0.0, 0.0, 1.0]], [[1.0, 1.0, 0.0, 0.0]]])
    """
    classes = [found[found != IGNORE] for found in map(torch.unique, labels)]
    masks = [
        (image == found[:, None, None]).float()
        for image, found in zip(labels, classes, strict=True)
    ]
    return masks, classes
