"""Frames at the size that the network sees, read and reduced once for all epochs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from anomaly_seg_ros.frames.preprocess import to_input_size
from anomaly_seg_ros.frames.resizing import resize_ids
from anomaly_seg_ros.process.cores import usable_cores
from training.datasets import Dataset, Sample

CHANNELS = 4
"""RGB and the train id of each pixel."""


class ResizedFrames(Dataset):
    """A dataset whose images and labels are of one size.

    A photo of twelve million pixels takes longer to read than a step of training; so all are kept
    reduced in one file, which loading processes share.

    Args:
        dataset: Gives frames with class labels, of any sizes.
        size: (height, width) of the results.
        file: Where they are kept; `read` writes it, and whoever made it deletes it.
    """

    def __init__(self, dataset: Dataset, size: tuple[int, int], file: Path):
        self.dataset, self.size, self.file = dataset, size, file
        self.classes = dataset.classes
        self.names: list[str] = []

    def __len__(self) -> int:
        return len(self.dataset)

    def files(self, index: int) -> tuple[Path, Path | None] | None:
        """Gives the files that a frame was read from."""
        return self.dataset.files(index)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the mapped file behind: each process maps it itself."""
        return {key: value for key, value in self.__dict__.items() if key != '_kept'}

    def __getitem__(self, index: int) -> Sample:
        kept = np.array(self._kept[index])
        return Sample(self.names[index], kept[..., :3], np.ascontiguousarray(kept[..., 3]))

    def read(self) -> None:
        """Reads all frames.

        Raises:
            ValueError: A frame cannot be read, or has no class labels.
            OSError: They do not fit on the disk.
        """
        self.file.parent.mkdir(parents=True, exist_ok=True)
        shape = (len(self), *self.size, CHANNELS)
        kept = np.lib.format.open_memmap(self.file, 'w+', np.uint8, shape)

        def read(index: int) -> str:
            sample = self.dataset[index]
            kept[index, ..., :3] = to_input_size(sample.image, self.size)
            kept[index, ..., 3] = resize_ids(sample.labels, self.size)
            return sample.name

        with ThreadPoolExecutor(usable_cores()) as pool:
            done = pool.map(read, range(len(self)))
            self.names = list(tqdm(done, 'read', len(self), leave=False, disable=None))
        kept.flush()

    @cached_property
    def _kept(self) -> NDArray[np.uint8]:
        kept: NDArray[np.uint8] = np.load(self.file, mmap_mode='r')
        return kept
