"""LostAndFound: small obstacles on the road, 2048x1024, three label rules.

Source: Pinggera et al., "Lost and Found", 2016. The rules do not cover the same pixels:
`smiyc` (the default; also "original labels" of Fishyscapes) has free road as inlier and every
object as anomaly; `meta_ood` also ignores the seven non-hazards; `rba` counts these as inlier.
"""

from __future__ import annotations

from pathlib import Path

from anomaly_seg_ros.classes import IGNORE

from .frames import Frames
from .layout import expect_count, find_frames, FrameFiles, Layout, split_rule

RULES = ('smiyc', 'meta_ood', 'rba')

COUNTS = {'train': 1030, 'test': 1186, 'test_no_known': 1043}
"""Frames with usable labels; `test_no_known` leaves out scenes with children and bicycles."""

INVALID = {
    'train': (1036, (44, 67, 88, 109, 131, 614)),
    'test': (
        1203,
        (17, 37, 55, 72, 91, 110, 129, 153, 174, 197, 218, 353, 490, 618, 686, 792, 793),
    ),
}
"""Frames in the download, and places in its sorted list whose labels are all 0."""

KNOWN_OBJECTS = (
    '15_Rechbergstr_Deckenpfronn',
    '01_Hanns_Klemm_Str_45_000006',
    '01_Hanns_Klemm_Str_45_000007',
    '10_Schlossberg_9_000004',
)

ROAD = 1
NON_HAZARDS = (31, 33, 34, 36, 37, 38, 39)
OBJECTS = range(2, 201)

_NON_HAZARD = {'smiyc': 1, 'meta_ood': IGNORE, 'rba': 0}
"""What a non-hazard means under each rule; all else is alike."""


def label_ids(rule: str) -> dict[int, int]:
    """Gives what each value of a `labelIds` file means under a rule."""
    outside = {0: IGNORE, 255: IGNORE, ROAD: 0}
    return outside | dict.fromkeys(OBJECTS, 1) | dict.fromkeys(NON_HAZARDS, _NON_HAZARD[rule])


def train_ids(rule: str) -> dict[int, int]:
    """Gives what each value of a `labelTrainIds` file means under a rule."""
    return {0: _NON_HAZARD[rule], 1: 0, 2: 1, 255: IGNORE}


def lost_and_found(root: Path, split: str = 'test_no_known') -> Frames:
    """Gives `ROOT/leftImg8bit/SPLIT/SCENE/*` with `ROOT/gtCoarse/SPLIT/SCENE/*`.

    Args:
        root: Folder that holds `leftImg8bit` and `gtCoarse`.
        split: train, test or test_no_known; with ':meta_ood' or ':rba' for these label rules.

    Raises:
        ValueError: Unknown split or rule.
        FileNotFoundError: A folder or a partner file is missing.
    """
    base, rule = split_rule('lost_and_found', split, tuple(COUNTS), RULES)
    folder = 'train' if base == 'train' else 'test'
    image = rf'leftImg8bit/{folder}/[^/]+/(?P<frame>[^/]+)_leftImg8bit\.png'
    label = rf'gtCoarse/{folder}/[^/]+/(?P<frame>[^/]+)_gtCoarse_'
    layouts = (
        Layout('official', image, label + r'labelIds\.png', label_ids(rule)),
        Layout('train ids alone', image, label + r'labelTrainIds\.png', train_ids(rule)),
    )
    layout, frames = find_frames('lost_and_found', root, layouts)
    frames = _usable(frames, folder)
    if base == 'test_no_known':
        frames = [frame for frame in frames if not frame.name.startswith(KNOWN_OBJECTS)]
    expect_count('lost_and_found', base, frames, COUNTS[base])
    return Frames('lost_and_found', frames, anomaly=layout.ids, track='obstacle')


def _usable(frames: list[FrameFiles], folder: str) -> list[FrameFiles]:
    """Drops the frames without labels; their places are known in the whole download alone."""
    total, invalid = INVALID[folder]
    if len(frames) != total:
        return frames
    return [frame for place, frame in enumerate(frames) if place not in invalid]
