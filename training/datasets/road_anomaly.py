"""RoadAnomaly: 60 photographs of 1280x720 with animals, rocks and lost cargo on roads.

Source: Lis et al., "Detecting the Unexpected via Image Resynthesis", 2019. Labels are 0 and 2;
nothing is ignored. A random score has AP 9.85 %.
"""

from __future__ import annotations

import json
from pathlib import Path

from .frames import Frames
from .layout import expect_count, expect_names, find_frames, Layout
from .missing import check_split

SPLITS = ('all',)
COUNT = 60

_IMAGE = r'\.(jpg|webp|png)'

LAYOUTS = (
    Layout(
        'official',
        r'frames/(?P<frame>[^/]+)' + _IMAGE,
        r'frames/(?P<frame>[^/]+)\.labels/labels_semantic\.png',
        {0: 0, 2: 1},
    ),
    Layout(
        'course bundle',
        r'images/(?P<frame>[^/]+)' + _IMAGE,
        r'labels_masks/(?P<frame>[^/]+)\.png',
        {0: 0, 2: 1},
    ),
    Layout(
        'PEBAL',
        r'original/(?P<frame>[^/]+)' + _IMAGE,
        r'labels/(?P<frame>[^/]+)\.png',
        {0: 0, 1: 1},
    ),
)


def road_anomaly(root: Path, split: str = 'all') -> Frames:
    """Gives `ROOT/frames/NAME.*` with `ROOT/frames/NAME.labels/labels_semantic.png`, or a repack.

    Raises:
        ValueError: A split other than 'all', or a broken `frame_list.json`.
        FileNotFoundError: No known layout, or a partner file is missing.
    """
    check_split('road_anomaly', split, SPLITS)
    layout, frames = find_frames('road_anomaly', root, LAYOUTS)
    frame_list = root / 'frame_list.json'
    if frame_list.is_file():
        expect_names('road_anomaly', split, frames, listed_frames(frame_list))
    else:
        expect_count('road_anomaly', split, frames, COUNT)
    return Frames('road_anomaly', frames, anomaly=layout.ids)


def listed_frames(path: Path) -> list[str]:
    """Gives the frames that `frame_list.json` names, without their suffix.

    Raises:
        ValueError: It is no list of names.
    """
    try:
        names = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(
            f'{str(path)!r} is no JSON ({error}); copy it again, or remove it'
        ) from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f'{str(path)!r} is no list of file names; copy it again, or remove it')
    return [Path(name).stem for name in names]
