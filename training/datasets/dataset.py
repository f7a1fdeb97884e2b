"""What every dataset gives: images with labels, matched by file stem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import LabelSet
from anomaly_seg_ros.frames.image_bytes import decode
from anomaly_seg_ros.frames.images import read_image


@dataclass(frozen=True)
class Sample:
    """One frame and its truth.

    Attributes:
        name: Frame name, unique in the split, fit for a file name.
        image: (H, W, 3) RGB uint8.
        train_ids: (H, W) uint8 train ids, 255 = ignore; None where the dataset has no classes.
        anomaly: (H, W) uint8, 0 inlier, 1 anomaly, 255 ignore; None where it has no anomalies.
    """

    name: str
    image: NDArray[np.uint8]
    train_ids: NDArray[np.uint8] | None = None
    anomaly: NDArray[np.uint8] | None = None

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
    """

    classes: LabelSet

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def read_labels(path: Path) -> NDArray[np.uint8]:
    """Reads an 8-bit label image as it is; of three equal channels the first is taken.

    Raises:
        ValueError: The file cannot be decoded as an 8-bit image, or its colours differ.
    """
    data = np.fromfile(path, np.uint8)
    # Not imread: that reports a broken file on stderr from C++.
    try:
        labels = decode(data, cv2.IMREAD_UNCHANGED)
    except ValueError as error:
        raise ValueError(f'cannot read {str(path)!r} as an 8-bit label image; {error}') from None
    if labels.dtype != np.uint8:
        raise ValueError(f'{str(path)!r} holds {labels.dtype}, not 8-bit label ids')
    if labels.ndim == 2:
        return labels.astype(np.uint8, copy=False)
    if (labels[..., 1:3] != labels[..., :1]).any():
        raise ValueError(f'{str(path)!r} is a colour picture, not label ids')
    return np.ascontiguousarray(labels[..., 0])


def pair_by_stem(
    image_dir: Path, label_dir: Path, suffixes: Sequence[str] = ('.png', '.jpg', '.jpeg', '.webp')
) -> list[tuple[Path, Path]]:
    """Pairs images with labels of the same stem, sorted by name.

    Raises:
        FileNotFoundError: A folder is missing or empty, or a file has no partner.
    """
    for folder in (image_dir, label_dir):
        if not folder.is_dir():
            raise FileNotFoundError(f'no folder {str(folder)!r}; check --root and --split')
    images = {p.stem: p for p in sorted(image_dir.iterdir()) if p.suffix.lower() in suffixes}
    labels = {p.stem: p for p in sorted(label_dir.iterdir()) if p.suffix.lower() in suffixes}
    if not images:
        raise FileNotFoundError(f'no images in {str(image_dir)!r}')
    if alone := sorted(images.keys() ^ labels.keys()):
        raise FileNotFoundError(
            f'{len(alone)} files of {str(image_dir)!r} and {str(label_dir)!r} have no partner, '
            f'the first is {alone[0]!r}'
        )
    return [(images[stem], labels[stem]) for stem in sorted(images)]


def read_pair(image_path: Path, label_path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Reads an image and its labels and checks that their sizes agree.

    Raises:
        ValueError: A file cannot be decoded, or the sizes differ.
    """
    image, labels = read_image(image_path), read_labels(label_path)
    if image.shape[:2] != labels.shape:
        raise ValueError(
            f'image {str(image_path)!r} is {image.shape[:2]}, its labels are {labels.shape}'
        )
    return image, labels
