"""The Jensen-Shannon divergence between a pixel's softmax and the uniform distribution."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def divergence_to_uniform(logits: Tensor) -> Tensor:
    """Gives `(KL(U || m) + KL(p || m)) / 2` with m = (U + p) / 2, in 0..ln 2.

    `ln m = logaddexp(ln p, ln U) - ln 2` is finite also where p underflows.

    Args:
        logits: (..., K) before softmax, classes last; computed in float32.

    Returns:
        (...) in nats, 0 where all logits are equal.

    >>> divergence_to_uniform(torch.zeros(2, 4)).tolist()
    [0.0, 0.0]
    """
    log_p = logits.float().log_softmax(-1)
    log_u = -math.log(logits.shape[-1])
    log_m = torch.logaddexp(log_p, torch.full_like(log_p, log_u)) - math.log(2)
    uniform = (log_u - log_m).mean(-1)
    own = (log_p.exp() * (log_p - log_m)).sum(-1)
    return (uniform + own) / 2
