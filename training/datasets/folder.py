"""Any folder of images with anomaly masks: `images/` and `labels_masks/`, matched by stem."""

from __future__ import annotations

from collections.abc import Mapping
import logging
from pathlib import Path

from anomaly_seg_ros.frames.images import folders_below, list_files, printable, SUFFIXES

from .dataset import pair_by_stem
from .frames import Frames
from .label_ids import AS_IS
from .layout import FrameFiles
from .missing import check_split

SPLITS = ('all',)

logger = logging.getLogger(__name__)


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
    images = root / 'images'
    pairs = pair_by_stem(images, root / 'labels_masks')
    deeper = [at for at in folders_below(images) if at != images and list_files(at, SUFFIXES)]
    if deeper:
        logger.warning(
            'only the files directly in %s are read, and not those of %s',
            printable(repr(str(images))),
            printable(', '.join(at.name for at in deeper)),
        )
    frames = [FrameFiles(*pair) for pair in pairs]
    return Frames('folder', frames, anomaly=label_map, changeable=True)
