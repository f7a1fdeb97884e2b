"""What one frame of a dataset is, or what keeps it from being read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.frames.images import decode_upright, read_bytes, SUFFIXES
from anomaly_seg_ros.frames.orientation import orientation, UPRIGHT
from anomaly_seg_ros.frames.significant_bits import SignificantBits
from training.datasets import Dataset
from training.datasets.classes import OwnClasses, read_colors
from training.datasets.dataset import check_size
from training.datasets.label_ids import read_ids

THUMBNAIL = 24
"""Side of what two pictures are compared by."""

FEW_COLORS = 40
"""A photo has more of them."""


@dataclass
class FrameFacts:
    """What is known of a frame.

    Attributes:
        split: Where it stands.
        index: Its place there.
        image: Its image file; None where it has none of its own.
        label: Its label file.
        size: (height, width) of the image as it is learned from; None where it cannot be read.
        bits: Of a value of the image, those that its largest value needs where there are 16.
        channels: Of the image.
        turned: As Exif numbers it, 1 is upright.
        colors: How many the image has, up to `FEW_COLORS`.
        digest: Of the image's pixels.
        thumbnail: Its picture, small; None where it cannot be read.
        labelled: Pixels of each train id, or of normal, anomalous where there are no classes.
        ignored: Pixels that mean nothing.
        unknown: Pixels of each id or colour without a meaning.
        stored: Ids or colours that the label file holds; empty where they are not known.
        label_digest: Of what the label file holds.
        problems: Kind of problem to its text.
    """

    split: str
    index: int
    image: Path | None = None
    label: Path | None = None
    size: tuple[int, int] | None = None
    bits: int = 8
    channels: int = 3
    turned: int = UPRIGHT
    colors: int = FEW_COLORS
    digest: bytes = b''
    thumbnail: NDArray[np.uint8] | None = None
    labelled: dict[int, int] = field(default_factory=dict)
    ignored: int = 0
    unknown: dict[int, int] = field(default_factory=dict)
    stored: frozenset[int] = frozenset()
    label_digest: bytes = b''
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def pixels(self) -> int:
        """All that its labels say something or nothing of."""
        return sum(self.labelled.values()) + self.ignored + sum(self.unknown.values())


def look(dataset: Dataset, split: str, index: int) -> FrameFacts:
    """Gives what a frame is; what cannot be read is told in `problems`."""
    facts = FrameFacts(split, index)
    files = dataset.files(index)
    if files is not None:
        facts.image, facts.label = files
        try:
            if files[0].suffix.lower() in SUFFIXES:
                _look_at_image(facts, files[0])
            else:
                _see(facts, dataset.image(index))
        except (ValueError, OSError) as error:
            facts.problems['image'] = str(error)
    try:
        if isinstance(dataset, OwnClasses):
            _look_at_own_labels(facts, dataset)
        elif 'image' not in facts.problems and dataset.tells_pixels:
            _look_at_sample(facts, dataset)
    except (ValueError, OSError) as error:
        facts.problems['label'] = str(error)
    return facts


def _look_at_image(facts: FrameFacts, path: Path) -> None:
    data = read_bytes(path)
    image = decode_upright(path, data, cv2.IMREAD_UNCHANGED)
    if image.dtype == np.uint16:
        bits = SignificantBits()
        image = bits.to_eight(image)
        facts.bits = bits.bits
    elif image.dtype != np.uint8:
        raise ValueError(f'{str(path)!r} holds {image.dtype}; an image has 8 or 16 bits a value')
    facts.turned = orientation(data)
    _see(facts, image)


def _see(facts: FrameFacts, image: NDArray[np.uint8]) -> None:
    facts.size = image.shape[0], image.shape[1]
    facts.channels = 1 if image.ndim == 2 else image.shape[2]
    facts.digest = sha256(repr(image.shape).encode() + image.tobytes()).digest()
    plain = image if image.ndim == 2 else image[..., :3]
    small = cv2.resize(plain, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    even = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR) if small.ndim == 2 else small
    facts.thumbnail = even.astype(np.uint8, copy=False)
    sample = plain[:: max(1, plain.shape[0] // 200), :: max(1, plain.shape[1] // 200)]
    channels = np.atleast_3d(sample).astype(np.int32)
    codes = sum(channels[..., i] << 8 * i for i in range(channels.shape[2]))
    facts.colors = min(FEW_COLORS, len(np.unique(codes)))


def _look_at_own_labels(facts: FrameFacts, dataset: OwnClasses) -> None:
    assert facts.label is not None
    values, shape, facts.label_digest = label_values(facts.label, dataset.file.by_color)
    if facts.size is not None and facts.size != shape:
        try:
            check_size(facts.image or facts.label, np.zeros((*facts.size, 0), np.uint8),
                       facts.label, np.zeros(shape, np.uint8))  # fmt: skip
        except ValueError as error:
            facts.problems['size'] = str(error)
    facts.stored = frozenset(values)
    for value, count in values.items():
        meant = dataset.file.meanings.get(value)
        if meant is None:
            facts.unknown[value] = count
        elif meant == IGNORE:
            facts.ignored += count
        else:
            facts.labelled[meant] = facts.labelled.get(meant, 0) + count


def label_values(path: Path, by_color: bool) -> tuple[dict[int, int], tuple[int, int], bytes]:
    """Gives the pixels of each id or colour of a label file, its size and a digest of it.

    Raises:
        ValueError: It cannot be read so.
    """
    stored: NDArray[Any] = read_colors(path) if by_color else read_ids(path)
    flat = stored.ravel()
    # Labels are runs of one value; of each there is one to sort.
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    lengths = np.diff(np.append(starts, flat.size))
    values, inverse = np.unique(flat[starts], return_inverse=True)
    counts = np.bincount(inverse.ravel(), lengths).astype(np.int64)
    found = dict(zip(values.tolist(), counts.tolist(), strict=True))
    return found, (stored.shape[0], stored.shape[1]), sha256(flat.tobytes()).digest()


def _look_at_sample(facts: FrameFacts, dataset: Dataset) -> None:
    sample = dataset[facts.index]
    if facts.thumbnail is None:
        _see(facts, sample.image)
    facts.stored = sample.stored
    labels = sample.train_ids if sample.train_ids is not None else sample.anomaly
    if labels is None:
        return
    counts: Mapping[int, int] = {
        int(value): int(count)
        for value, count in enumerate(np.bincount(labels.ravel(), minlength=256))
        if count
    }
    facts.labelled = {value: count for value, count in counts.items() if value != IGNORE}
    facts.ignored = counts.get(IGNORE, 0)
    facts.label_digest = sha256(labels.tobytes()).digest()
