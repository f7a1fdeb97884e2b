"""What one frame of a dataset is, or what keeps it from being read."""

from __future__ import annotations

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
        pixels: All that its labels say something or nothing of.
        labelled: Pixels of each train id, or of normal, anomalous where there are no classes.
        anomaly: Pixels of normal (0) and anomalous (1); None where its labels do not say.
        ignored: Pixels that mean nothing: of no class, and not anomalous.
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
    pixels: int = 0
    labelled: dict[int, int] = field(default_factory=dict)
    anomaly: dict[int, int] | None = None
    ignored: int = 0
    unknown: dict[int, int] = field(default_factory=dict)
    stored: frozenset[int] = frozenset()
    label_digest: bytes = b''
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def anomalous(self) -> int:
        """Pixels of anomalies."""
        return (self.anomaly or {}).get(1, 0)


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
    facts.pixels, facts.stored = sum(values.values()), frozenset(values)
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
    truths = [truth for truth in (sample.train_ids, sample.anomaly) if truth is not None]
    if not truths:
        return
    facts.pixels = truths[0].size
    facts.labelled = _counts(truths[0])
    facts.anomaly = None if sample.anomaly is None else _counts(sample.anomaly)
    nothing = truths[0] == IGNORE
    if sample.anomaly is not None:
        nothing &= sample.anomaly != 1
    facts.ignored = int(np.count_nonzero(nothing))
    facts.label_digest = sha256(b''.join(truth.tobytes() for truth in truths)).digest()


def _counts(labels: NDArray[np.uint8]) -> dict[int, int]:
    """Gives the pixels of each value that means something."""
    counts = np.bincount(labels.ravel(), minlength=IGNORE + 1)[:IGNORE]
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
