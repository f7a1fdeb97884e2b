"""Whole frames without labels of pixels: a folder of images, or `normal/` beside `abnormal/`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anomaly_seg_ros.classes import LabelSet
from anomaly_seg_ros.frames.images import find_images, read_image

from .dataset import Dataset, Sample
from .missing import check_split

NORMAL, ABNORMAL = 'normal', 'abnormal'
FRAME = LabelSet(('frame',), ((128, 128, 128),))
"""The one class of all pixels, so that an autoencoder is trained as any network."""


class FrameFolders(Dataset):
    """Images of a folder, at any depth.

    Attributes:
        abnormal: Of each frame, whether it lies below `abnormal/`.
    """

    classes = FRAME
    tells_pixels = False

    def __init__(self, root: Path, paths: list[Path], abnormal: list[bool]):
        self.abnormal = abnormal
        self._root, self._paths = root, paths

    def __len__(self) -> int:
        return len(self._paths)

    def files(self, index: int) -> tuple[Path, Path | None]:
        """Gives the image file of a frame."""
        return self._paths[index], None

    def __getitem__(self, index: int) -> Sample:
        """Reads one frame; all its pixels are of the one class.

        Raises:
            ValueError: It cannot be decoded.
        """
        path = self._paths[index]
        image = read_image(path)
        name = '_'.join(path.relative_to(self._root).with_suffix('').parts)
        return Sample(name, image, np.zeros(image.shape[:2], np.uint8))


def refuse_abnormal(dataset: Dataset) -> None:
    """Refuses frames that are known to be abnormal, where all are taken for normal.

    Raises:
        ValueError: There are such frames.
    """
    if count := sum(getattr(dataset, 'abnormal', ())):
        raise ValueError(
            f'{count} of the {len(dataset)} frames lie below {ABNORMAL}/, and all their pixels '
            f'would be taken for normal; give --split {NORMAL} (a method for whole frames is '
            'measured on both)'
        )


def frame_folders(root: Path, split: str = 'all') -> FrameFolders:
    """Gives the images below ROOT/SPLIT, or below ROOT for the split 'all'.

    Of a folder with `normal/` and `abnormal/` 'all' gives those of both; any other folder holds
    normal frames alone.

    Raises:
        FileNotFoundError: There is no such folder, or no image in it.
        ValueError: The split is no plain name.
    """
    if split != 'all':
        folders = [path.name for path in sorted(root.glob('*')) if path.is_dir()]
        check_split('frames', split, ('all', *folders))
        paths = find_images([root / split], below=True)
        return FrameFolders(root / split, paths, [split == ABNORMAL] * len(paths))
    if not (root / ABNORMAL).is_dir():
        paths = find_images([root], below=True)
        return FrameFolders(root, paths, [False] * len(paths))
    good = find_images([root / NORMAL], below=True)
    bad = find_images([root / ABNORMAL], below=True)
    return FrameFolders(root, [*good, *bad], [False] * len(good) + [True] * len(bad))
