"""How losses per pixel become one number: precision, ignored pixels, class weights."""

from __future__ import annotations

import torch
from torch import distributed, Tensor

from anomaly_seg_ros.classes import IGNORE


def full_precision(logits: Tensor) -> Tensor:
    """Gives logits in float32, whatever autocast made of them; float64 stays as it is."""
    return logits if logits.dtype == torch.float64 else logits.float()


def weighted_mean(loss: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Gives `sum w_y loss / sum w_y` over the valid pixels.

    With several processes the divisor is the mean of theirs: the mean of their values, and of
    their gradients, is then that of the whole batch, however many pixels are valid in each.

    Args:
        loss: (N, H, W) loss of each pixel.
        labels: (N, H, W) train ids, 255 = ignore.
        class_weights: (K,) weights, or None for 1.

    Returns:
        Scalar; 0 (with zero gradient) where no pixel is valid.

    >>> weighted_mean(torch.tensor([[[2.0, 4.0, 9.0]]]), torch.tensor([[[0, 1, 255]]])).item()
    3.0
    """
    weight = pixel_weights(labels, class_weights)
    total = weight.sum()
    # Without a gradient nothing is trained: a trial of the options, maybe of one process alone.
    if loss.requires_grad and distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(total)
        total = total / distributed.get_world_size()
    return (loss * weight).sum() / total.clamp(min=1e-6)


def pixel_weights(labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Gives each pixel the weight of its class in float32; ignored pixels weigh 0.

    Args:
        labels: Train ids of any shape, 255 = ignore.
        class_weights: (K,) weights, or None for 1.
    """
    valid = labels != IGNORE
    if class_weights is None:
        return valid.float()
    return class_weights[labels.where(valid, torch.zeros_like(labels))] * valid
