"""RoadAnomaly21, the AnomalyTrack of SegmentMeIfYouCan: 10 validation and 100 test frames.

Source: Chan et al., "SegmentMeIfYouCan", 2021. Labels are public for validation only.
"""

from __future__ import annotations

from pathlib import Path

from .frames import Frames
from .label_ids import AS_IS
from .layout import expect_count, expect_names, find_frames, Layout
from .missing import check_split

SPLITS = ('validation', 'test')

LAYOUTS = (
    Layout(
        'official',
        r'images/(?P<frame>[^/]+)\.(jpg|webp|png)',
        r'labels_masks/(?P<frame>[^/]+)_labels_semantic\.png',
        AS_IS,
    ),
    Layout(
        'course bundle',
        r'images/(?P<frame>\d+)\.(jpg|webp|png)',
        r'labels_masks/(?P<frame>\d+)\.png',
        AS_IS,
    ),
)


def road_anomaly21(root: Path, split: str = 'validation') -> Frames:
    """Gives `ROOT/images/NAME.jpg` with `ROOT/labels_masks/NAME_labels_semantic.png`.

    The bundle with numbered files holds the validation frames. Test frames have no truth.

    Raises:
        ValueError: Unknown split.
        FileNotFoundError: No known layout, or a partner file is missing.
    """
    check_split('road_anomaly21', split, SPLITS)
    if split == 'test':
        layout, frames = find_frames(
            'road_anomaly21', root, LAYOUTS[:1], _is_test, needs_labels=False
        )
        expect_count('road_anomaly21', split, frames, 100)
    else:
        layout, frames = find_frames('road_anomaly21', root, LAYOUTS, _is_validation)
        pattern = '{}' if layout.name == 'course bundle' else 'validation{:04}'
        names = [pattern.format(i) for i in range(10)]
        expect_names('road_anomaly21', split, frames, names)
    return Frames('road_anomaly21', frames, anomaly=layout.ids)


def _is_validation(frame: str) -> bool:
    return frame.startswith('validation') or frame.isdigit()


def _is_test(frame: str) -> bool:
    return not _is_validation(frame)
