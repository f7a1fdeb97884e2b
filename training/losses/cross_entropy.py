"""Cross-entropy over valid pixels: plain, class-weighted, or of the hardest pixels only."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from anomaly_seg_ros.classes import IGNORE

from .reduction import full_precision, pixel_weights, weighted_mean


def cross_entropy(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Mean of `-w_y log p_y` over valid pixels, divided by the sum of their weights.

    Args:
        logits: (N, K, H, W); computed in float32.
        labels: (N, H, W) train ids, 255 = ignore.
        class_weights: (K,) weights, or None for 1.

    Returns:
        Scalar; 0 (with zero gradient) where no pixel is valid.
    """
    return weighted_mean(negative_log_likelihood(logits, labels), labels, class_weights)


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """Gives (N, H, W) `-log p_y` from the log-softmax; 0 where the label is 255."""
    return functional.cross_entropy(
        full_precision(logits), labels, ignore_index=IGNORE, reduction='none'
    )


def ohem_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    threshold: float = 0.7,
    keep: float = 1 / 16,
) -> Tensor:
    """Mean cross-entropy of the pixels whose true class has a probability below `threshold`.

    When those are fewer than the share `keep` of the valid pixels, rounded down, so many of the
    hardest are taken.
    With several devices each chooses among its own pixels and takes their mean.

    Args:
        logits: (N, K, H, W); computed in float32.
        labels: (N, H, W) train ids, 255 = ignore.
        class_weights: (K,) weights that multiply each kept pixel's loss, or None for 1.
        threshold: Probability of the true class under which a pixel is hard, 0 excluded, to 1.
        keep: Smallest share of valid pixels that is kept, 0..1.

    Returns:
        Scalar; 0 (with zero gradient) where no pixel is valid, or none is hard among so few that
        `keep` of them is none.

    Raises:
        ValueError: `threshold` or `keep` is out of its range.

    Source: Shrivastava et al., "Training Region-based Object Detectors with Online Hard Example
    Mining", 2016, in the form of CoinCheung/BiSeNet (n_min = valid pixels // 16).
    """
    if not 0 < threshold <= 1 or not 0 <= keep <= 1:
        raise ValueError(f'threshold {threshold} and keep {keep} of loss ohem must lie in 0..1')
    loss = negative_log_likelihood(logits, labels).flatten()
    flat = labels.flatten()
    valid = flat != IGNORE
    weight = pixel_weights(flat, class_weights)
    least = int(int(valid.sum()) * keep)
    hard = valid & (loss > -math.log(threshold))
    if int(hard.sum()) < least:
        chosen = loss.where(valid, torch.full_like(loss, -1.0)).topk(least).indices
    else:
        chosen = hard.nonzero(as_tuple=True)[0]
    return (loss[chosen] * weight[chosen]).sum() / weight[chosen].sum().clamp(min=1e-6)
