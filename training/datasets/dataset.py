"""What every dataset gives: images with labels, matched by file stem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import LabelSet
from anomaly_seg_ros.frames.images import (
    checked_file,
    list_files,
    printable,
    read_image,
    SUFFIXES,
    turned_note,
)

from .label_ids import Ids, read_ids
from .missing import NothingThereError, refuse_lone_files


@dataclass(frozen=True)
class Sample:
    """One frame and its truth.

    Attributes:
        name: Frame name, unique in the split, fit for a file name.
        image: (H, W, 3) RGB uint8.
        train_ids: (H, W) uint8 train ids, 255 = ignore; None where the dataset has no classes.
        anomaly: (H, W) uint8, 0 inlier, 1 anomaly, 255 ignore; None where it has no anomalies.
        stored: Ids that the label file holds, as far as they may be mapped to `anomaly`.
    """

    name: str
    image: NDArray[np.uint8]
    train_ids: NDArray[np.uint8] | None = None
    anomaly: NDArray[np.uint8] | None = None
    stored: frozenset[int] = frozenset()

    @property
    def labels(self) -> NDArray[np.uint8]:
        """(H, W) train ids, 255 = ignore, for those who cannot do without.

        Raises:
            ValueError: The dataset has no class labels.
        """
        if self.train_ids is None:
            raise ValueError(
                f'frame {self.name!r} has no class labels; use a dataset that has them, as '
                'cityscapes, camvid or streethazards'
            )
        return self.train_ids


NO_CLASSES = LabelSet((), ())
"""The label set of a dataset that knows anomalies alone."""


class Dataset(Protocol):
    """A sequence of samples with a fixed order.

    Attributes:
        classes: What train ids mean; `NO_CLASSES` where samples have none.
        track: Which of its components count: a key of `TRACKS`.
        towns: Whether the first part of a frame's name is a fold of open-mIoU.
        class_ids: What its label files hold, an id (or a colour, as `color_code` gives it) to
            train id or 255; empty where that is not known.
        anomaly_ids: The same to 0, 1 or 255 of `Sample.anomaly`.
        tells_pixels: Whether its labels tell one pixel of a frame from another.
    """

    classes: LabelSet
    track: str = 'anomaly'
    towns: bool = False
    class_ids: Mapping[int, int] = {}
    anomaly_ids: Mapping[int, int] = {}
    tells_pixels: bool = True

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def files(self, index: int) -> tuple[Path, Path | None] | None:
        """Gives the image and label file of a frame; None where it has no file of its own."""
        return None

    def image(self, index: int) -> NDArray[np.uint8]:
        """Gives the image of a frame alone, (H, W, 3) RGB; errors as of the frame."""
        return self[index].image


def files_by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Gives the files of a folder by the text of their stem, sorted; hidden ones are no data.

    Raises:
        FileNotFoundError: The folder is missing or has no such file, or a link leads nowhere.
        ValueError: Two files of one stem.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'no folder {str(folder)!r}')
    found: dict[str, Path] = {}
    for path in list_files(folder, suffixes):
        if path.is_dir():
            continue
        stem = printable(path.stem)
        if stem in found:
            raise ValueError(
                f'{str(found[stem])!r} and {str(path)!r} are of the same stem; keep one of them'
            )
        found[stem] = checked_file(path)
    if not found:
        raise FileNotFoundError(f'no {", ".join(suffixes)} files in {str(folder)!r}')
    return found


def pair_by_stem(image_dir: Path, label_dir: Path) -> list[tuple[str, Path, Path]]:
    """Pairs images with labels of the same stem, sorted by it: (stem, image, label).

    Raises:
        NothingThereError: Neither of the folders is there.
        FileNotFoundError: A folder is missing or empty, or a file has no partner.
        ValueError: Two files of one stem in a folder.
    """
    if not image_dir.is_dir() and not label_dir.is_dir():
        raise NothingThereError(f'no folder {str(image_dir)!r}; check --root and --split')
    for folder in (image_dir, label_dir):
        if not folder.is_dir():
            raise FileNotFoundError(f'no folder {str(folder)!r}; check --root and --split')
    images, labels = files_by_stem(image_dir, SUFFIXES), files_by_stem(label_dir, SUFFIXES)
    if alone := sorted(images.keys() ^ labels.keys()):
        refuse_lone_files(
            f'{len(alone)} files of {str(image_dir)!r} and {str(label_dir)!r} have no partner, '
            f'the first is {alone[0]!r}'
        )
    paired = sorted(images.keys() & labels.keys())
    return [(stem, images[stem], labels[stem]) for stem in paired]


def read_pair(image_path: Path, label_path: Path) -> tuple[NDArray[np.uint8], Ids]:
    """Reads an image and its label ids and checks that their sizes agree.

    Raises:
        ValueError: A file cannot be decoded, or the sizes differ.
    """
    image, ids = read_image(image_path), read_ids(label_path)
    check_size(image_path, image, label_path, ids)
    return image, ids


def check_size(image_path: Path, image: NDArray[np.uint8], label_path: Path, labels: Ids) -> None:
    """Checks that an image and its labels are of one size.

    Raises:
        ValueError: They are not; the text names both files.
    """
    if image.shape[:2] != labels.shape:
        raise ValueError(
            f'image {str(image_path)!r} is {image.shape[:2]}, its labels {str(label_path)!r} are '
            f'{labels.shape}{turned_note(image_path)}'
        )
