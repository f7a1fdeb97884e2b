"""UNO's fine-tune: pasted outliers are one class more, which queries learn like any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from anomaly_seg_ros.classes import IGNORE
from training.feeding.loading import Batch

from .mask_classification import MaskClassification
from .objective import Forward


class UNO(MaskClassification):
    """The terms of mask classification over K classes and the negative one.

    That is the network's void class, the last before no object, so that a recipe has `void: true`.
    Pasted pixels alone are of it; what is unlabelled is nothing here. Where `init` lacks it, its
    weights and its bias begin as 0, as in the authors' code.

    Source: Delic et al., "Outlier detection by ensembling uncertainty with negative objectness",
    2024, section 3.3.
    """

    needs_outliers = True
    needs_void = True
    void_from_zero = True

    @classmethod
    def score(cls, options: Mapping[str, Any]) -> str | None:
        """Gives the score of the same name."""
        return 'uno'

    def forward(self, network: Forward, batch: Batch) -> dict[str, Tensor]:
        """Gives the terms of one batch.

        Raises:
            ValueError: The network has no queries.
        """
        output = network(batch.images.float() / 255)
        negative = output.given('class_logits').shape[2] - 2
        return self.mask_terms(output, negative_labels(batch.labels, batch.outlier, negative))


def negative_labels(labels: Tensor, outlier: Tensor, negative: int) -> Tensor:
    """Gives labels in which pasted pixels, and they alone, are of the negative class.

    Args:
        labels: (N, H, W) train ids; unlabelled pixels are `negative` or 255.
        outlier: (N, H, W) bool.
        negative: Its id.

    >>> import torch
    >>> labels = torch.tensor([[[0, 2, 255, 2]]])
    >>> negative_labels(labels, torch.tensor([[[False, False, True, True]]]), 2).tolist()
    [[[0, 255, 2, 2]]]
    """
    return labels.masked_fill(labels == negative, IGNORE).masked_fill(outlier, negative)
