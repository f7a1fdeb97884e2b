"""Which classes a network knew before by name, and the rows of its last layer that they keep."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
import re
from typing import Any

import torch
from torch import Tensor

from anomaly_seg_ros.models import build_model

SYNONYMS = (
    {'road', 'drivable', 'drivable area', 'driveable', 'street', 'carriageway'},
    {'pavement', 'sidewalk', 'footpath', 'walkway'},
    {'tree', 'vegetation', 'plant', 'bush'},
    {'pedestrian', 'person', 'people', 'human'},
    {'bicyclist', 'cyclist', 'rider'},
    {'sign', 'traffic sign', 'signsymbol'},
    {'car', 'vehicle'},
    {'pole', 'column', 'post'},
    {'building', 'house'},
)
"""Names that label sets have for one thing."""


def match_classes(ours: Sequence[str], theirs: Sequence[str]) -> dict[int, int]:
    """Gives the place in `theirs` of each of our classes that stands there too.

    Case, number and the signs between words do not count, and a few names mean the same; the
    same name goes first. Each of theirs is given once.

    >>> match_classes(['Traffic_Sign', 'people', 'cone'], ['person', 'sky', 'sign'])
    {0: 2, 1: 0}
    """
    found: dict[int, int] = {}
    for alike in (_plain, _meaning):
        known = {alike(name): place for place, name in reversed(list(enumerate(theirs)))}
        for place, name in enumerate(ours):
            other = known.get(alike(name))
            if place not in found and other is not None and other not in found.values():
                found[place] = other
    return dict(sorted(found.items()))


def _plain(name: str) -> str:
    words = ' '.join(re.split(r'[\W_]+', name.casefold())).strip()
    return words.removesuffix('s')


def _meaning(name: str) -> str:
    plain = _plain(name)
    return next((min(group) for group in SYNONYMS if plain in map(_plain, group)), plain)


def class_axes(model: str, options: Mapping[str, Any]) -> dict[str, int]:
    """Gives the weights of a network that have one row a class, and the axis of the rows."""
    with torch.device('meta'):
        few, more = (build_model(model, count, options).state_dict() for count in (5, 6))
    axes = {}
    for key, value in few.items():
        differing = [i for i, pair in enumerate(zip(value.shape, more[key].shape, strict=True))
                     if pair[0] != pair[1]]  # fmt: skip
        if len(differing) == 1:
            axes[key] = differing[0]
    return axes


def keep_rows(
    own: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    axes: Mapping[str, int],
    places: Mapping[int, int],
    channels: tuple[int, int],
    zero: Collection[int] = (),
) -> dict[str, Tensor]:
    """Gives weights for other classes: rows of classes that were known, fresh ones else.

    Args:
        own: The state of the new network.
        weights: That of the old one.
        axes: As `class_axes` gives them.
        places: New row to old row.
        channels: Rows of the new network and of the old one, void among them. A layer that has one
            more, behind them, has it for no object, which stays no object.
        zero: New rows that are 0 instead of fresh.
    """
    kept = dict(weights)
    for key, axis in axes.items():
        if key not in own or key not in weights or own[key].ndim != weights[key].ndim:
            continue
        mixed = own[key].detach().clone()
        rows = weights[key].movedim(axis, 0)
        if mixed.movedim(axis, 0).shape[1:] == rows.shape[1:]:
            found = dict(places)
            if (mixed.shape[axis], len(rows)) == (channels[0] + 1, channels[1] + 1):
                found[channels[0]] = channels[1]
            if found:
                new, old = (torch.tensor(list(r)) for r in (found.keys(), found.values()))
                mixed.movedim(axis, 0)[new] = rows[old].to(mixed.dtype)
            mixed.movedim(axis, 0)[list(zero)] = 0
            kept[key] = mixed
    return kept
