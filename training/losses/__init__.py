"""The losses, by public name: functions of (logits, labels) to a scalar, and their sums.

Importing this file imports no torch, so that a recipe is checked before torch is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
import inspect
from typing import Any, TYPE_CHECKING, TypeAlias

from anomaly_seg_ros.registry import check_options, lookup

if TYPE_CHECKING:
    from torch import Tensor

LOSSES = {
    'cross_entropy': 'training.losses.cross_entropy:cross_entropy',
    'focal': 'training.losses.focal:focal',
    'isomax': 'training.losses.isomax:isomax',
    'jaccard': 'training.losses.jaccard:jaccard',
    'logit_norm': 'training.losses.logit_norm:logit_norm',
    'ohem': 'training.losses.cross_entropy:ohem_cross_entropy',
}

CLASS_WEIGHTS = ('none', 'enet', 'median_frequency')
"""How class weights are found, see `training.losses.class_weights`."""

Loss: TypeAlias = 'Callable[[Tensor, Tensor], Tensor]'

_FIXED = ('logits', 'labels', 'class_weights')


def build_loss(
    terms: Mapping[str, float],
    options: Mapping[str, Mapping[str, Any]] | None = None,
    class_weights: Tensor | None = None,
) -> Loss:
    """Gives the weighted sum of named losses.

    Args:
        terms: Name of a loss to its weight, such as `{'focal': 1.0, 'jaccard': 1.0}`.
        options: Name of a loss to its keyword arguments, such as `{'focal': {'gamma': 2.0}}`.
        class_weights: (K,) weights for those losses that take them, on the logits' device.

    Returns:
        A function of (N, K, H, W) logits and (N, H, W) labels, 255 = ignore.

    Raises:
        ValueError: No loss, an unknown one, a weight that is not above 0, an option that does
            not fit, or class weights that none of the losses takes.
    """
    options = options or {}
    check_terms(terms, options)
    parts = [
        (float(weight), _bind(name, options.get(name) or {}, class_weights))
        for name, weight in terms.items()
    ]
    if class_weights is not None and not any('class_weights' in p.keywords for _, p in parts):
        raise ValueError(f'class_weights are given, but {", ".join(terms)} does not take them')
    return partial(weighted_sum, parts)


def check_terms(terms: Mapping[str, float], options: Mapping[str, Mapping[str, Any]]) -> None:
    """Checks all of a sum of losses that can be checked without torch.

    Raises:
        ValueError: No loss, an unknown one, a weight that is not above 0, or options of another.
    """
    if not terms:
        raise ValueError(f'no loss is given; choose of: {", ".join(sorted(LOSSES))}')
    if surplus := sorted(options.keys() - terms.keys()):
        raise ValueError(f'loss_options of {surplus} without that loss; it is: {", ".join(terms)}')
    for name, weight in terms.items():
        check_options('loss', LOSSES, name, options.get(name) or (), fixed=_FIXED)
        if not weight > 0:
            raise ValueError(f'weight {weight} of loss {name!r} must be above 0')


def weighted_sum(
    parts: list[tuple[float, partial[Tensor]]], logits: Tensor, labels: Tensor
) -> Tensor:
    """Gives the sum of losses times their weights."""
    import torch

    total = logits.new_zeros((), dtype=torch.float32)
    for weight, loss in parts:
        total = total + weight * loss(logits, labels)
    return total


def _bind(name: str, options: Mapping[str, Any], class_weights: Tensor | None) -> partial[Tensor]:
    """Binds options to a loss and tries it on one pixel, so that a wrong value fails at start."""
    import torch

    loss = lookup('loss', LOSSES, name)
    bound = partial(loss, **options)
    try:
        bound(torch.zeros(1, 2, 1, 1), torch.zeros(1, 1, 1, dtype=torch.long))
    except TypeError as error:
        raise ValueError(f'loss {name!r} does not take options {dict(options)}: {error}') from None
    if class_weights is not None and 'class_weights' in inspect.signature(loss).parameters:
        bound.keywords['class_weights'] = class_weights
    return bound
