"""Cross-entropy over valid pixels: plain, class-weighted, or of the hardest pixels only."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from anomaly_seg_ros.classes import IGNORE


def cross_entropy(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Mean of `-w_y log p_y` over valid pixels, divided by the sum of their weights.

    Args:
        logits: (N, K, H, W); computed in float32.
        labels: (N, H, W) train ids, 255 = ignore.
        class_weights: (K,) weights, or None for 1.

    Returns:
        Scalar; 0 (with zero gradient) where no pixel is valid.
    """
    loss = functional.cross_entropy(
        logits.float(), labels, class_weights, ignore_index=IGNORE, reduction='sum'
    )
    valid = labels != IGNORE
    if class_weights is None:
        return loss / valid.sum().clamp(min=1)
    weight = class_weights[labels.where(valid, torch.zeros_like(labels))] * valid
    return loss / weight.sum().clamp(min=1e-6)


def ohem_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    threshold: float = 0.7,
    keep: float = 1 / 16,
) -> Tensor:
    """Mean cross-entropy of the pixels whose true class has a probability below `threshold`.

    When those are fewer than the share `keep` of the valid pixels, the hardest `keep` are taken.

    Args:
        logits: (N, K, H, W); computed in float32.
        labels: (N, H, W) train ids, 255 = ignore.
        class_weights: (K,) weights that multiply each kept pixel's loss, or None for 1.
        threshold: Probability of the true class under which a pixel is hard.
        keep: Smallest share of valid pixels that is kept.

    Returns:
        Scalar; 0 (with zero gradient) where no pixel is valid.

    Source: Shrivastava et al., "Training Region-based Object Detectors with Online Hard Example
    Mining", 2016, in BiSeNet's form (n_min = valid pixels / 16).
    """
    loss = functional.cross_entropy(
        logits.float(), labels, ignore_index=IGNORE, reduction='none'
    ).flatten()
    flat = labels.flatten()
    valid = flat != IGNORE
    if class_weights is not None:
        weight = class_weights[flat.where(valid, torch.zeros_like(flat))]
    else:
        weight = torch.ones_like(loss)
    least = int(valid.sum()) * keep
    hard = valid & (loss > -math.log(threshold))
    if int(hard.sum()) < least:
        chosen = loss.where(valid, torch.full_like(loss, -1.0)).topk(math.ceil(least)).indices
    else:
        chosen = hard.nonzero(as_tuple=True)[0]
    return (loss[chosen] * weight[chosen]).sum() / weight[chosen].sum().clamp(min=1e-6)
