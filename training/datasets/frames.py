"""Reads frames whose label ids are mapped by an explicit table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE, LabelSet
from anomaly_seg_ros.frames.images import read_image

from .dataset import NO_CLASSES, read_labels, Sample
from .layout import FrameFiles

UNKNOWN = -1

AS_IS = {0: 0, 1: 1, IGNORE: IGNORE}
"""Label files that hold 0 inlier, 1 anomaly, 255 ignore already."""

ReadImage = Callable[[Path], NDArray[np.uint8]]


class Frames:
    """A dataset from files on disk, at the labels' native size.

    Attributes:
        classes: What train ids mean; empty for a dataset that knows anomalies alone.
        frames: The files, in order.
    """

    def __init__(
        self,
        name: str,
        frames: Sequence[FrameFiles],
        *,
        anomaly: Mapping[int, int] | None = None,
        train_ids: Mapping[int, int] | None = None,
        classes: LabelSet = NO_CLASSES,
        read: ReadImage = read_image,
    ):
        """Takes the files and what their ids mean.

        Args:
            name: The dataset's name, for error texts.
            frames: The files.
            anomaly: Raw id to 0, 1 or 255; None if there is no anomaly truth.
            train_ids: Raw id to train id or 255; None if there are no classes.
            classes: What train ids mean.
            read: Reads an image file as (H, W, 3) RGB.
        """
        self.name = name
        self.frames = list(frames)
        self.classes = classes
        self._anomaly = None if anomaly is None else _table(anomaly)
        self._train_ids = None if train_ids is None else _table(train_ids)
        self._read = read

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        """Reads one frame.

        Raises:
            ValueError: A file cannot be decoded, sizes differ, or an id is unknown.
        """
        frame = self.frames[index]
        image = self._read(frame.image)
        if frame.label is None:
            return Sample(frame.name, image)
        ids = read_labels(frame.label)
        if image.shape[:2] != ids.shape:
            raise ValueError(
                f'image {str(frame.image)!r} is {image.shape[:2]}, its labels are {ids.shape}'
            )
        return Sample(
            frame.name,
            image,
            self._mapped(ids, self._train_ids, frame.label),
            self._mapped(ids, self._anomaly, frame.label),
        )

    def _mapped(
        self, ids: NDArray[np.uint8], table: NDArray[np.int16] | None, path: Path
    ) -> NDArray[np.uint8] | None:
        if table is None:
            return None
        strange = np.flatnonzero((np.bincount(ids.ravel(), minlength=256) > 0) & (table < 0))
        if strange.size:
            known = ', '.join(str(i) for i in np.flatnonzero(table >= 0)[:40])
            raise ValueError(f'{str(path)!r} holds label {strange[0]}; {self.name} has {known}')
        return table.astype(np.uint8)[ids]


def _table(ids: Mapping[int, int]) -> NDArray[np.int16]:
    table = np.full(256, UNKNOWN, np.int16)
    for raw, meaning in ids.items():
        table[raw] = meaning
    return table
