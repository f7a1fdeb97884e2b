"""From an image to the output of a network in train-id order, void apart: the same everywhere."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from anomaly_seg_ros.model_output import Extent, HOLDS, ModelOutput, over_tensors, with_semantics

from .network import Network


def normalised(
    images: Tensor, mean: Tensor, std: Tensor, gamma: float, least: float = 0.0
) -> Tensor:
    """Gives `(x ** gamma - mean) / std`.

    Args:
        images: (N, 3, H, W) RGB in 0..1.
        mean: (3, 1, 1) or (1, 3, 1, 1), as `CheckpointMeta.mean`.
        std: Likewise.
        gamma: Exponent; below 1 brightens.
        least: What darker values are taken for where gamma is not 1: the slope of `x ** gamma`
            at 0 is infinite, where somebody asks for it.
    """
    if gamma != 1:
        images = (images.clamp(min=least) if least else images).pow(gamma)
    return (images - mean) / std


def run_network(network: Network, images: Tensor, void_index: int | None) -> ModelOutput:
    """Gives the output for images of any size: padded and cut, void apart, with semantics.

    Args:
        network: In evaluation mode.
        images: (N, 3, H, W) normalised RGB.
        void_index: Place of the void channel, `CheckpointMeta.void_index`; None = it has none.

    Raises:
        ValueError: The network has no channel `void_index`.
    """
    return with_semantics(split_void(forward_padded(network, images), void_index))


def run_fields(network: Network, void_index: int | None) -> set[str]:
    """Gives the names of what `run_network` gives."""
    names = set(network.provides)
    if void_index is not None:
        names |= {holds.void for name, holds in HOLDS.items() if name in names and holds.void}
    return names | ({'semantics'} if 'mask_logits' in names else set())


def forward_padded(network: Network, images: Tensor) -> ModelOutput:
    """Runs a network on images whose border is repeated to the right and below, and cuts it off.

    Args:
        network: Its `stride` says what the sides must be a multiple of.
        images: (N, 3, H, W) normalised RGB of any size.

    Returns:
        The output with its `extent`, all that has a value per pixel of (H, W); maps of a size of
        their own keep the padded extent.
    """
    height, width = images.shape[-2:]
    bottom, right = -height % network.stride, -width % network.stride
    if bottom or right:
        images = functional.pad(images, (0, right, 0, bottom), mode='replicate')
    output = network.with_taken(network(images), (height + bottom, width + right))
    extent = Extent((height, width), (height + bottom, width + right))
    if bottom or right:
        output = output.over_pixels(lambda maps: maps[..., :height, :width])
    return output._replace(extent=extent)


def split_void(output: ModelOutput, void_index: int | None) -> ModelOutput:
    """Gives all that has a channel for each class in train-id order, with void on its own.

    In every known layout the classes stand in train-id order around the void channel, so that
    removing it is all the reordering there is: void last (index K) keeps them in place, void
    first (index 0) moves road from 1 to 0.

    Args:
        output: What a network gives, K + 1 channels for classes where it has a void channel.
        void_index: Place of the void channel, `CheckpointMeta.void_index`; None = it has none.

    Raises:
        ValueError: The network has no channel `void_index`.
    """
    if void_index is None:
        return output
    fields: dict[str, Any] = {}
    for name, holds in HOLDS.items():
        value = getattr(output, name)
        if holds.classes is None or value is None:
            continue
        without = partial(_without, index=void_index, axis=holds.classes)
        fields[name] = over_tensors(value, without)
        if holds.void:
            fields[holds.void] = _part(value, holds.classes, void_index, void_index + 1)
    return output._replace(**fields)


def _without(values: Tensor, index: int, axis: int) -> Tensor:
    """Drops one channel; at either end that is a view and copies nothing."""
    channels = values.shape[axis]
    if not 0 <= index < channels:
        raise ValueError(
            f'void_index {index} is outside of the {channels} channels of the network; '
            f'it is 0..{channels - 1}, or null for a network without void'
        )
    if index == 0:
        return _part(values, axis, 1, None)
    if index == channels - 1:
        return _part(values, axis, None, index)
    return torch.cat(
        [_part(values, axis, None, index), _part(values, axis, index + 1, None)], axis
    )


def _part(values: Tensor, axis: int, start: int | None, end: int | None) -> Tensor:
    where = (*[slice(None)] * axis, slice(start, end))
    return values[where]
