"""LogitNorm: a loss of the direction of the logits alone."""

from __future__ import annotations

import torch
from torch import Tensor

from .inner import inner_loss
from .reduction import full_precision


def logit_norm(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    tau: float = 0.04,
    inner: str = 'cross_entropy',
    gamma: float = 2.0,
) -> Tensor:
    """Cross-entropy or focal loss of `l / (tau (|l| + 1e-7))`, |l| the norm over the classes.

    Only training sees the divided logits; scores and labels come from the logits as they are.

    Args:
        logits: (N, K, H, W); computed in float32.
        labels: (N, H, W) train ids, 255 = ignore.
        class_weights: (K,) weights, or None for 1.
        tau: Temperature; the divided logits lie in +-1 / tau.
        inner: 'cross_entropy' or 'focal'.
        gamma: Of the inner focal loss; cross-entropy has none.

    Returns:
        Scalar; 0 (with zero gradient) where no pixel is valid.

    Raises:
        ValueError: `tau` is not above 0, or `inner` is unknown.

    Source: Wei et al., "Mitigating Neural Network Overconfidence with Logit Normalization",
    2022, equation 5, tau 0.04.
    """
    if not tau > 0:
        raise ValueError(f'tau {tau} of the logit_norm loss must be above 0')
    logits = full_precision(logits)
    norm = torch.linalg.vector_norm(logits, dim=1, keepdim=True)
    divided = logits / (tau * (norm + 1e-7))
    return inner_loss(inner, gamma, divided, labels, class_weights)
