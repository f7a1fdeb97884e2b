"""Reads frames whose label ids are mapped by an explicit table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import LabelSet
from anomaly_seg_ros.frames.images import read_image

from .dataset import check_size, Dataset, NO_CLASSES, Sample
from .label_ids import BY_LABEL_MAP, ids_in, LabelTable, read_ids
from .layout import FrameFiles

ReadImage = Callable[[Path], NDArray[np.uint8]]


class Frames(Dataset):
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
        changeable: bool = False,
        track: str = 'anomaly',
        towns: bool = False,
    ):
        """Takes the files and what their ids mean.

        Args:
            name: The dataset's name, for error texts.
            frames: The files.
            anomaly: Raw id to 0, 1 or 255; None if there is no anomaly truth.
            train_ids: Raw id to train id or 255; None if there are no classes.
            classes: What train ids mean.
            read: Reads an image file as (H, W, 3) RGB.
            changeable: Whether the user can say what the ids in `anomaly` mean.
            track: Which of its components count: a key of `TRACKS`.
            towns: Whether the first part of a frame's name is a fold of open-mIoU.
        """
        self.name = name
        self.frames = list(frames)
        self.classes, self.track, self.towns = classes, track, towns
        self.class_ids, self.anomaly_ids = train_ids or {}, anomaly or {}
        self._anomaly = (
            None
            if anomaly is None
            else LabelTable(anomaly, name, BY_LABEL_MAP if changeable else '')
        )
        self._train_ids = None if train_ids is None else LabelTable(train_ids, name)
        self._read = read

    def __len__(self) -> int:
        return len(self.frames)

    def files(self, index: int) -> tuple[Path, Path | None]:
        """Gives the image and label file of a frame."""
        return self.frames[index][1:]

    def image(self, index: int) -> NDArray[np.uint8]:
        """Reads the image of a frame."""
        return self._read(self.frames[index].image)

    def __getitem__(self, index: int) -> Sample:
        """Reads one frame.

        Raises:
            ValueError: A file cannot be decoded, sizes differ, or an id is unknown.
        """
        frame = self.frames[index]
        image = self.image(index)
        if frame.label is None:
            return Sample(frame.name, image)
        ids = read_ids(frame.label)
        check_size(frame.image, image, frame.label, ids)
        found = ids_in(ids)
        train_ids, anomaly = (
            None if table is None else table.meaning(ids, found, frame.label)
            for table in (self._train_ids, self._anomaly)
        )
        return Sample(frame.name, image, train_ids, anomaly, found)
