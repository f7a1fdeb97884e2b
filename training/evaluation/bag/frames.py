"""Keeps the frames of a bag that have labels, so that they can be measured in two passes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.frames.resizing import resize_ids
from anomaly_seg_ros.frames.result import Result
from training.datasets import NO_CLASSES
from training.datasets.label_ids import AS_IS
from training.evaluation.frame import Frame
from training.evaluation.map_frames import read_truth, truth_table
from training.evaluation.resizing import score_at

PICTURE_WIDTH = 640


class LabelledFrames:
    """A `FrameSource` over the frames that were added; see there for the attributes.

    Score maps are kept at the network's size and images at that of a thumbnail, some 2 MB a
    frame.

    Args:
        score: Name of the score.
        store: An empty folder.
        label_map: What the ids of the label files mean: 0, 1 or 255.
        ignored: (h, w) true where the image does not count, at the network's size; labels there
            are 255.
    """

    has_anomalies = True
    has_images = True
    classes = NO_CLASSES

    def __init__(
        self,
        score: str,
        store: Path,
        label_map: Mapping[int, int] = AS_IS,
        ignored: NDArray[np.bool_] | None = None,
    ):
        self.scores: tuple[str, ...] = (score,)
        self._store = store
        self.label_map = label_map
        self._table = truth_table(label_map)
        self._ignored = None if ignored is None else ignored.astype(np.uint8)
        self._frames: list[tuple[str, Path]] = []

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, name: str, result: Result, label: Path) -> None:
        """Keeps what is needed of a frame; a name that is there already gets its number.

        Raises:
            ValueError: The label cannot be used; its size differs, for instance.
        """
        truth, _ = read_truth(label, self._table)
        size = result.image.shape[:2]
        if truth.shape != size:
            raise ValueError(f'frame {name!r} is {size}, its labels {str(label)!r} {truth.shape}')
        index = len(self._frames)
        if any(name == other for other, _ in self._frames):
            name = f'{name}_{index}'
        scale = min(1.0, PICTURE_WIDTH / size[1])
        width, height = round(size[1] * scale), max(1, round(size[0] * scale))
        image = cv2.resize(result.image, (width, height), interpolation=cv2.INTER_AREA)
        np.save(self._store / f'{index}_image.npy', image)
        score = result.prediction.score.astype(np.float32, copy=False)  # OpenCV resizes no halves
        np.save(self._store / f'{index}_score.npy', score)
        self._frames.append((name, label))

    def first(self, index: int) -> Frame:
        """Gives a frame at the size of its labels."""
        name, label = self._frames[index]
        truth, stored = read_truth(label, self._table)
        size = (truth.shape[0], truth.shape[1])
        if self._ignored is not None:
            truth = np.where(resize_ids(self._ignored, size), np.uint8(IGNORE), truth)
        score = np.load(self._store / f'{index}_score.npy')
        return Frame(
            name=name,
            truth=truth,
            scores={self.scores[0]: score_at(score, size)},
            image=np.load(self._store / f'{index}_image.npy'),
            stored=stored,
        )

    def again(self, index: int) -> Frame:
        """Gives a frame once more."""
        return self.first(index)
