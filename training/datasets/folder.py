"""Any folder of images with anomaly masks: `images/` and `labels_masks/`, matched by stem."""

from __future__ import annotations

from pathlib import Path

from .dataset import pair_by_stem
from .frames import AS_IS, Frames
from .layout import check_split, FrameFiles

SPLITS = ('all',)


def folder(root: Path, split: str = 'all') -> Frames:
    """Gives `ROOT/images/NAME.*` with `ROOT/labels_masks/NAME.png`, 0/1/255.

    Raises:
        ValueError: A split other than 'all'.
        FileNotFoundError: A folder or a partner file is missing.
    """
    check_split('folder', split, SPLITS)
    pairs = pair_by_stem(root / 'images', root / 'labels_masks')
    return Frames('folder', [FrameFiles(i.stem, i, label) for i, label in pairs], anomaly=AS_IS)
