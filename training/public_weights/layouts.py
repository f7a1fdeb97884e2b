"""Which of the published layouts weights have, their classes, and where void is among them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly_seg_ros.classes import LabelSet
from anomaly_seg_ros.models import build_model, MODELS
from anomaly_seg_ros.models.parts.public_layout import NORMALISATIONS
from anomaly_seg_ros.registry import lookup
from training.datasets.classes_file import display_colors, read_classes_file

if TYPE_CHECKING:
    from torch import Tensor

    from anomaly_seg_ros.models.network import Network
    from anomaly_seg_ros.models.parts.public_layout import PublicLayout

UNKNOWN = 'unknown classes'
"""What a network was trained on whose channels have no names."""


def public_layouts(model: str) -> tuple[PublicLayout, ...]:
    """Gives the families of public files of a network, a key of `MODELS`."""
    network: type[Network] = lookup('model', MODELS, model)
    return network.public_layouts


def find_layout(weights: Mapping[str, Tensor], model: str, path: Path) -> PublicLayout:
    """Gives the key layout of the weights.

    Raises:
        ValueError: They are of another network; the text names it where it is known.
    """
    fitting = [layout for layout in public_layouts(model) if layout.classifier in weights]
    for layout in fitting:
        if layout.new_classes:
            if _fits(weights, model, layout):
                return layout
        elif output_channels(weights, layout) == len(layout.classes.names):
            return layout
    if fitting:
        return fitting[0]
    for other in MODELS:
        if any(layout.classifier in weights for layout in public_layouts(other)):
            raise ValueError(
                f'{str(path)!r} holds weights of {other!r}, not {model!r}; use --model {other}'
            )
    expected = ' or '.join(dict.fromkeys(layout.classifier for layout in public_layouts(model)))
    raise ValueError(
        f'{str(path)!r} holds no weights of {model!r}: no key {expected} among its '
        f'{len(weights)}; is --model right?'
    )


def _fits(weights: Mapping[str, Tensor], model: str, layout: PublicLayout) -> bool:
    """Whether the network of a layout has tensors of these shapes, its head apart."""
    network = build_model(model, len(layout.classes.names), layout.options)
    kept = {key: value.shape for key, value in network.named_as_own(weights).items()}
    heads = network.new_head_prefixes
    own = network.state_dict()
    return kept == {key: value.shape for key, value in own.items() if not key.startswith(heads)}


def output_channels(weights: Mapping[str, Tensor], layout: PublicLayout) -> int:
    """Gives the number of output channels that the weights were made for.

    Where the classes of a file are left out it is the one that the network has.
    """
    if layout.new_classes:
        return len(layout.classes.names)
    classifier = weights[layout.classifier]
    rows = classifier.shape[layout.axis] if classifier.ndim > layout.axis else 0
    return rows - layout.no_object


def with_normalisation(
    layout: PublicLayout, weights: Mapping[str, Tensor], name: str | None
) -> PublicLayout:
    """Gives a layout with what the images of the file were normalised with, or a name's."""
    if name is not None:
        return replace(layout, mean_std=NORMALISATIONS[name])
    if layout.normalised is not None:
        return replace(layout, mean_std=layout.normalised(weights))
    return layout


def with_classes(layout: PublicLayout, channels: int, file: Path | None) -> PublicLayout:
    """Gives a layout whose classes are those of a file, or have no names where they are others.

    Raises:
        FileNotFoundError: There is no such file of classes.
        ValueError: It does not follow its form.
    """
    if file is not None:
        return replace(layout, classes=read_classes_file(file).classes, trained_on='own classes')
    if channels - len(layout.classes.names) in (0, 1) or channels < 1:
        return layout
    names = tuple(f'class {index}' for index in range(channels))
    colors = display_colors([None] * channels)
    return replace(layout, classes=LabelSet(names, colors), trained_on=UNKNOWN)


def find_void_index(
    weights: Mapping[str, Tensor],
    beside: Collection[str],
    layout: PublicLayout,
    asked: int | None,
) -> tuple[int | None, str]:
    """Gives the place of the void channel, None without one, and how that is known.

    The two kinds of 20-channel files in ENet's layout 'a' have the same keys and shapes. The
    public one was written by a training script that always saves epoch and mIoU along, and counts
    'unlabeled' as class 0; whoever fine-tunes to train ids has void last.

    Args:
        weights: Of the file.
        beside: Names of what lay beside them.
        layout: Of the weights.
        asked: The place that the user gave.

    Raises:
        ValueError: Neither 19 nor 20 channels, or `asked` does not fit them.
    """
    channels = output_channels(weights, layout)
    classes = len(layout.classes.names)
    if channels not in (classes, classes + 1):
        raise ValueError(
            f'the weights have {channels} output channels; expected the {classes} classes '
            f'({layout.classes.names[0]}, ...), or {classes + 1} with void'
        )
    if asked is not None:
        if channels == classes or not 0 <= asked < channels:
            raise ValueError(
                f'--void-index {asked} does not fit {channels} output channels; '
                + (f'give 0..{classes}' if channels > classes else 'leave it out')
            )
        return asked, 'as asked'
    if channels == classes:
        return None, f'{classes} channels'
    if not layout.void_trained:
        return None, f'channel {classes} is untrained and was dropped'
    if layout.script and layout.beside <= set(beside):
        return 0, f'saved by the {layout.script} script'
    return classes, 'last channel'


def drop_last_channel(weights: Mapping[str, Tensor], layout: PublicLayout) -> dict[str, Tensor]:
    """Gives the weights without their last output channel; the others' logits stay the same."""
    kept = dict(weights)
    for key, axis in layout.per_class:
        if key in kept and kept[key].ndim > axis:
            kept[key] = kept[key].narrow(axis, 0, len(layout.classes.names)).clone()
    return kept
