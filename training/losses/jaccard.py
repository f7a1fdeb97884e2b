"""Soft Jaccard (intersection over union) loss."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly_seg_ros.classes import IGNORE

from .reduction import full_precision


def jaccard(logits: Tensor, labels: Tensor, eps: float = 1.0) -> Tensor:
    """One minus the mean soft IoU of the classes that occur in the labels.

    IoU_c = `(sum p_c y_c + eps) / (sum p_c + sum y_c - sum p_c y_c + eps)` with p the softmax
    and y the one-hot labels. The sums run over all valid pixels of the batch that one device
    holds, so with several devices each has its own.

    Args:
        logits: (N, K, H, W); computed in float32.
        labels: (N, H, W) train ids, 255 = ignore.
        eps: Smoothing in pixels, above 0.

    Returns:
        Scalar in 0..1; 0 (with zero gradient) where no pixel is valid.

    Raises:
        ValueError: `eps` is not above 0.

    Source: Rahman and Wang, "Optimizing Intersection-Over-Union in Deep Neural Networks for
    Image Segmentation", 2016, equation 5; the classes that are absent are left out.
    """
    if not eps > 0:
        raise ValueError(f'eps {eps} of the jaccard loss must be above 0')
    classes = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)
    truth = labels[:, None] == classes
    p = full_precision(logits).softmax(1) * (labels != IGNORE)[:, None]
    both = (p * truth).sum((0, 2, 3))
    pixels = truth.sum((0, 2, 3))
    iou = (both + eps) / (p.sum((0, 2, 3)) + pixels - both + eps)
    present = pixels > 0
    return ((1 - iou) * present).sum() / present.sum().clamp(min=1)
