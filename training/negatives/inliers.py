"""Parts of other training frames that are pasted with their own label: borders are no anomaly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from training.datasets import build_dataset

from .negative import Negative

MIN_AREA = 150
"""Smallest piece that is taken, pixels of the frame."""
TRIES = 20


class InlierParts:
    """Connected pieces of some classes, as cars and pedestrians, cut out of labelled frames.

    Pasted like outliers, but with their train id: whatever can be seen at the border of a paste
    then says nothing of outliers.

    Args:
        root: Folder of the dataset.
        dataset: A key of `DATASETS`.
        classes: Names of the classes.
        split: Which frames.

    Raises:
        FileNotFoundError: The dataset is not under `root`.
        ValueError: Unknown dataset, or the dataset has no such class.
    """

    shapes: ClassVar[dict[str, float]] = {'regions': 1.0}
    short_side = 0
    crop = 512

    def __init__(
        self, root: str | Path, dataset: str, classes: Sequence[str], split: str = 'train'
    ):
        self.frames = build_dataset(dataset, Path(root).expanduser(), split)
        names = self.frames.classes.names
        if not classes or set(classes) - set(names):
            unknown = sorted(set(classes) - set(names))
            raise ValueError(f'{dataset} has no classes {unknown}; it has: {", ".join(names)}')
        self.ids = [names.index(name) for name in classes]

    def draw(self, rng: np.random.Generator) -> Negative:
        """Gives one piece in its bounding box.

        Raises:
            ValueError: A file of the frames is broken, or hardly any frame has such a piece.
        """
        for _ in range(TRIES):
            sample = self.frames[int(rng.integers(len(self.frames)))]
            label = int(rng.choice(self.ids))
            mask = (sample.labels == label).astype(np.uint8)
            count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask)
            large = [i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= MIN_AREA]
            if not large:
                continue
            piece = large[int(rng.integers(len(large)))]
            x, y, width, height = stats[piece, : cv2.CC_STAT_AREA]
            box = slice(y, y + height), slice(x, x + width)
            return Negative(sample.image[box], (pieces[box] == piece).astype(np.uint8), label)
        raise ValueError(
            f'{TRIES} frames in a row hold no piece of {MIN_AREA} pixels of the classes '
            f'{[self.frames.classes.names[i] for i in self.ids]}; choose others'
        )
