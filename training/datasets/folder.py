"""Any folder of images with anomaly masks: `images/` and `labels_masks/`, matched by stem."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .dataset import pair_by_stem
from .frames import Frames
from .label_ids import AS_IS
from .layout import FrameFiles
from .missing import check_split

SPLITS = ('all',)


def folder(root: Path, split: str = 'all', label_map: Mapping[int, int] = AS_IS) -> Frames:
    """Gives `ROOT/images/NAME.*` with `ROOT/labels_masks/NAME.*`.

    Args:
        root: Folder that holds both.
        split: There is one.
        label_map: What the ids of the label files mean: 0, 1 or 255.

    Raises:
        ValueError: A split other than 'all'.
        FileNotFoundError: A folder or a partner file is missing.
    """
    check_split('folder', split, SPLITS)
    pairs = pair_by_stem(root / 'images', root / 'labels_masks')
    frames = [FrameFiles(*pair) for pair in pairs]
    return Frames('folder', frames, anomaly=label_map, changeable=True)
