"""Logits divided by the temperature of the softmax."""

from __future__ import annotations

from torch import Tensor


def divided(logits: Tensor, temperature: float) -> Tensor:
    """Gives logits / T; at T = 1 the logits as they are, so that an exported graph is no larger.

    >>> import torch
    >>> divided(torch.tensor([3.0]), 2.0).item()
    1.5
    """
    return logits if temperature == 1 else logits / temperature
