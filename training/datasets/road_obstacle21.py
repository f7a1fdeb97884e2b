"""RoadObstacle21, the ObstacleTrack of SegmentMeIfYouCan: 30 validation and 327 test frames.

Source: Chan et al., "SegmentMeIfYouCan", 2021. The region is the road alone; all else is 255.
Labels are public for validation only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .frames import Frames
from .label_ids import AS_IS
from .layout import expect_count, find_frames, Layout
from .missing import check_split

TEST_SCENES = frozenset(
    ('curvy-street', 'one-way-street', 'gravel', 'greyasphalt', 'motorway', 'paving',
     'darkasphalt', 'darkasphalt2')
)  # fmt: skip
SNOW_SCENES = frozenset(('snowstorm1', 'snowstorm2'))
NIGHT_SCENES = frozenset(('driveway',))

NOT_VALIDATION = ('validation_19', *(f'validation_{i}' for i in range(21, 30)))
"""Frames that carry the name but are not of the split."""

LAYOUTS = (
    Layout(
        'official',
        r'images/(?P<frame>[^/]+)\.(webp|jpg|png)',
        r'labels_masks/(?P<frame>[^/]+)_labels_semantic\.png',
        AS_IS,
    ),
    Layout(
        'course bundle',
        r'images/(?P<frame>\d+)\.(webp|jpg|png)',
        r'labels_masks/(?P<frame>\d+)\.png',
        AS_IS,
    ),
)


def _is_validation(frame: str) -> bool:
    if frame.isdigit():
        return True
    return frame.startswith('validation_') and not frame.startswith(NOT_VALIDATION)


def _of(scenes: frozenset[str]) -> Callable[[str], bool]:
    """Tells frames by their scene, the text before the first underscore."""
    return lambda frame: frame.split('_', 1)[0] in scenes


SPLITS: dict[str, tuple[Callable[[str], bool], int]] = {
    'validation': (_is_validation, 30),
    'test': (_of(TEST_SCENES), 327),
    'test_snow': (_of(SNOW_SCENES), 55),
    'test_night': (_of(NIGHT_SCENES), 30),
}
"""Split to which frames belong to it and how many were published."""


def road_obstacle21(root: Path, split: str = 'validation') -> Frames:
    """Gives `ROOT/images/NAME.webp` with `ROOT/labels_masks/NAME_labels_semantic.png`.

    The bundle with numbered files holds the validation frames. Test frames have no truth.

    Raises:
        ValueError: Unknown split.
        FileNotFoundError: No known layout, or a partner file is missing.
    """
    check_split('road_obstacle21', split, tuple(SPLITS))
    keep, count = SPLITS[split]
    layout, frames = find_frames(
        'road_obstacle21', root, LAYOUTS, keep, needs_labels=split == 'validation'
    )
    expect_count('road_obstacle21', split, frames, count)
    return Frames('road_obstacle21', frames, anomaly=layout.ids, track='obstacle')
