"""What LogitNorm and IsoMax+ apply to the logits that they have changed."""

from __future__ import annotations

from torch import Tensor

from .cross_entropy import cross_entropy
from .focal import focal


def inner_loss(
    name: str, gamma: float, logits: Tensor, labels: Tensor, class_weights: Tensor | None
) -> Tensor:
    """Gives cross-entropy, or the focal loss with `gamma`.

    Raises:
        ValueError: Another name; the text lists the valid ones.
    """
    if name == 'cross_entropy':
        return cross_entropy(logits, labels, class_weights)
    if name == 'focal':
        return focal(logits, labels, class_weights, gamma)
    raise ValueError(f'unknown inner loss {name!r}; choose one of: cross_entropy, focal')
