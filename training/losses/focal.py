"""Focal loss."""

from __future__ import annotations

from torch import Tensor

from .cross_entropy import negative_log_likelihood
from .reduction import weighted_mean


def focal(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, gamma: float = 2.0
) -> Tensor:
    """Mean of `-w_y (1 - p_y)^gamma log p_y` over valid pixels, divided by the sum of weights.

    `log p` is the log-softmax and `1 - p` is `-expm1(log p)`, so no probability is subtracted.

    Args:
        logits: (N, K, H, W); computed in float32.
        labels: (N, H, W) train ids, 255 = ignore.
        class_weights: (K,) weights, or None for 1.
        gamma: How much right pixels are played down; 0 is plain cross-entropy.

    Returns:
        Scalar; 0 (with zero gradient) where no pixel is valid.

    Raises:
        ValueError: `gamma` is below 0.

    Source: Lin et al., "Focal Loss for Dense Object Detection", 2017, equation 4, gamma 2.
    """
    if not gamma >= 0:
        raise ValueError(f'gamma {gamma} of the focal loss must be 0 or more')
    loss = negative_log_likelihood(logits, labels)
    # Not below 1e-12: the slope of x^gamma at 0 is infinite for a gamma below 1.
    doubt = (-(-loss).expm1()).clamp(min=1e-12)
    return weighted_mean(doubt**gamma * loss, labels, class_weights)
