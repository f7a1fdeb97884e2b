"""Cityscapes: 2975 train, 500 val and 1525 test frames of 2048x1024, 19 classes.

Source: Cordts et al., "The Cityscapes Dataset", 2016. The test labels are dummies. Registration
is needed to download it.
"""

from __future__ import annotations

from pathlib import Path

from anomaly_seg_ros.classes import CITYSCAPES, IGNORE

from .frames import Frames
from .layout import expect_count, find_frames, Layout
from .missing import check_split

COUNTS = {'train': 2975, 'val': 500, 'test': 1525}

_EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

LABEL_IDS = dict.fromkeys((*range(34), 255), IGNORE) | {
    label_id: train_id for train_id, label_id in enumerate(_EVALUATED)
}
"""`labelIds` to train ids; the licence plate, -1, is 255 in 8 bits."""

TRAIN_IDS = {train_id: train_id for train_id in (*range(19), IGNORE)}


def cityscapes(root: Path, split: str = 'val') -> Frames:
    """Gives `ROOT/leftImg8bit/SPLIT/CITY/*_leftImg8bit.png` with `ROOT/gtFine/SPLIT/CITY/*`.

    `labelIds` files are preferred, as some projects store other numbers in `labelTrainIds`.

    Raises:
        ValueError: Unknown split.
        FileNotFoundError: A folder or a partner file is missing.
    """
    check_split('cityscapes', split, tuple(COUNTS))
    image = rf'leftImg8bit/{split}/[^/]+/(?P<frame>[^/]+)_leftImg8bit\.png'
    label = rf'gtFine/{split}/[^/]+/(?P<frame>[^/]+)_gtFine_'
    layouts = (
        Layout('official', image, label + r'labelIds\.png', LABEL_IDS),
        Layout('train ids alone', image, label + r'labelTrainIds\.png', TRAIN_IDS),
    )
    layout, frames = find_frames('cityscapes', root, layouts)
    expect_count('cityscapes', split, frames, COUNTS[split])
    return Frames('cityscapes', frames, train_ids=layout.ids, classes=CITYSCAPES)
