"""IsoMax+: cross-entropy of scaled distance logits."""

from __future__ import annotations

from torch import Tensor

from .inner import inner_loss
from .reduction import full_precision


def isomax(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    scale: float = 10.0,
    inner: str = 'cross_entropy',
    gamma: float = 2.0,
) -> Tensor:
    """Cross-entropy or focal loss of the logits times the entropic scale.

    Meant for networks built with `head: isomax`, whose logits are distances in -2 |d_s|..0.
    The scale is for training alone: scores read the logits as they are.

    Args:
        logits: (N, K, H, W); computed in float32.
        labels: (N, H, W) train ids, 255 = ignore.
        class_weights: (K,) weights, or None for 1.
        scale: Entropic scale; without it (1) the loss hardly moves.
        inner: 'cross_entropy' or 'focal'.
        gamma: Of the inner focal loss; cross-entropy has none.

    Returns:
        Scalar; 0 (with zero gradient) where no pixel is valid.

    Raises:
        ValueError: `scale` is not above 0, or `inner` is unknown.

    Source: Macedo and Ludermir, "Enhanced Isotropy Maximization Loss", 2021, E_s = 10.
    """
    if not scale > 0:
        raise ValueError(f'scale {scale} of the isomax loss must be above 0')
    return inner_loss(inner, gamma, scale * full_precision(logits), labels, class_weights)
