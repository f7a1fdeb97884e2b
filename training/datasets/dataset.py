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
from anomaly_seg_ros.images import read_image


@dataclass(frozen=True)
class Sample:
    """One frame and its truth.

    Attributes:
        name: File stem, unique in the split.
        image: (H, W, 3) RGB uint8.
        labels: (H, W) uint8 train ids, 255 = ignore.
    """

    name: str
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]


class Dataset(Protocol):
    """A sequence of samples with a fixed order."""

    classes: LabelSet

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def read_labels(path: Path) -> NDArray[np.uint8]:
    """Reads an 8-bit label image as it is; of three equal channels the first is taken.

    Raises:
        ValueError: The file cannot be decoded as an 8-bit image.
    """
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.dtype != np.uint8:
        raise ValueError(f'cannot read {str(path)!r} as an 8-bit label image; is it truncated?')
    return np.ascontiguousarray(labels if labels.ndim == 2 else labels[..., 0])


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
