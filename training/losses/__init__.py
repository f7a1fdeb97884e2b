"""The losses, by public name: functions of (logits, labels) to a scalar."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from anomaly_seg_ros.registry import lookup

LOSSES = {
    'cross_entropy': 'training.losses.cross_entropy:cross_entropy',
    'ohem': 'training.losses.cross_entropy:ohem_cross_entropy',
}

Loss = Callable[[Tensor, Tensor], Tensor]


def build_loss(name: str, options: Mapping[str, Any]) -> Loss:
    """Gives a loss with its options bound.

    Raises:
        ValueError: Unknown loss; the text lists the valid ones.
    """
    return partial(lookup('loss', LOSSES, name), **options)
