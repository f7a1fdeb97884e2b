"""Feeds training: which frames in which order, augmented the same way on every run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate, Sampler
from torch.utils.data import Dataset as TorchDataset

from anomaly_seg_ros.classes import IGNORE
from training.datasets import Dataset

from . import loading_processes
from .camera import change_camera
from .ground import ground_ids, mark_ground
from .transforms import Augmentation

SampleKey = tuple[int, int]
"""(epoch, index): all that the randomness of one training sample depends on."""

PasteOutliers = Callable[
    [NDArray[np.uint8], NDArray[np.uint8], np.random.Generator],
    tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]],
]
"""Puts outliers into a crop: (H, W, 3) RGB and (H, W) train ids to those and (H, W) outlier."""


class Batch(NamedTuple):
    """What one training step learns from; a sample is the same without the N."""

    images: Tensor
    """(N, 3, H, W) uint8 RGB."""
    labels: Tensor
    """(N, H, W) int64 train ids, 255 = ignore; pasted pixels are 255, or void where learned."""
    outlier: Tensor
    """(N, H, W) bool, where an outlier was pasted."""

    @property
    def inlier(self) -> Tensor:
        """(N, H, W) bool, where the frame itself is labelled; pasted pixels are none of it."""
        return (self.labels != IGNORE) & ~self.outlier


class EpochSampler(Sampler[list[SampleKey]]):
    """Shuffled batches of one epoch, from any step on.

    The order depends on the seed and the epoch alone, so a stopped run goes on exactly. With
    several ranks each takes its share of every batch.

    Attributes:
        epoch: The epoch that the next iteration gives.
        first_step: How many of its batches are skipped.
    """

    def __init__(self, length: int, batch_size: int, seed: int, rank: int = 0, ranks: int = 1):
        if batch_size % ranks:
            raise ValueError(f'batch_size {batch_size} is not divisible by {ranks} devices')
        if length < batch_size:
            raise ValueError(
                f'batch_size {batch_size} is above the {length} frames of the train split'
            )
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.rank, self.ranks = rank, ranks
        self.epoch = self.first_step = 0

    def __len__(self) -> int:
        return self.length // self.batch_size

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        for step in range(self.first_step, len(self)):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield [(self.epoch, int(index)) for index in batch[self.rank :: self.ranks]]


class AugmentedFrames(TorchDataset['Batch | Exception']):
    """A dataset's frames, augmented by a generator seeded with (seed, epoch, index).

    Args:
        dataset: Gives images with train ids.
        augmentation: Makes the crop.
        seed: Of all randomness.
        paster: Puts outliers into the crop; None for none.
        camera_changes: Probability of each change of `change_camera`, after all else.
        ground_changes: Probability of `mark_ground`, before outliers are pasted.
        void_label: Train id that unlabelled and pasted pixels get, where void is learned as a
            class; padding stays 255. None: they stay 255.
    """

    def __init__(
        self,
        dataset: Dataset,
        augmentation: Augmentation,
        seed: int,
        paster: PasteOutliers | None = None,
        void_label: int | None = None,
        camera_changes: float = 0.0,
        ground_changes: float = 0.0,
    ):
        self.camera_changes, self.ground_changes = camera_changes, ground_changes
        self.ground = ground_ids(dataset.classes)
        self.dataset, self.augmentation, self.seed = dataset, augmentation, seed
        self.paster, self.void_label = paster, void_label

    def __getitem__(self, key: SampleKey) -> Batch | Exception:
        """Gives a sample, or what is wrong with its files.

        An error that is raised in a worker process would arrive as the text of a traceback.
        """
        try:
            return self._sample(*key)
        except (ValueError, OSError) as error:
            return error

    def _sample(self, epoch: int, index: int) -> Batch:
        sample = self.dataset[index]
        random = np.random.default_rng((self.seed, epoch, index))
        labels = sample.labels
        if self.void_label is not None:
            labels = np.where(labels == IGNORE, np.uint8(self.void_label), labels)
        image, labels = self.augmentation(sample.image, labels, random)
        image = mark_ground(image, labels, self.ground, self.ground_changes, random)
        outlier = np.zeros(labels.shape, np.bool_)
        if self.paster is not None:
            image, labels, outlier = self.paster(image, labels, random)
            if self.void_label is not None:
                labels = np.where(outlier, np.uint8(self.void_label), labels)
        image = change_camera(image, self.camera_changes, random)
        return Batch(
            torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1),
            torch.from_numpy(labels).long(),
            torch.from_numpy(outlier),
        )


def collate(samples: list[Batch | Exception]) -> Batch | Exception:
    """Gives the batch of these samples, or the first error among them."""
    for sample in samples:
        if isinstance(sample, Exception):
            return sample
    batch: Batch = default_collate(samples)
    return batch


def checked(batches: Iterator[Batch | Exception]) -> Iterator[Batch]:
    """Gives the batches; raises the error that came in the place of one."""
    for batch in batches:
        if isinstance(batch, Exception):
            try:
                raise batch
            finally:
                # The error holds this frame: a circle, whose loading processes would only end
                # when and where the garbage collector happens to run.
                del batch, batches
        yield batch


def training_loader(
    frames: AugmentedFrames, sampler: EpochSampler, workers: int
) -> DataLoader[Batch | Exception]:
    """Gives batches in the sampler's order; the worker processes live across epochs.

    Read it through `checked`. With workers, all of `frames` must be picklable.
    """
    if workers:
        loading_processes.start_server()
    return DataLoader(
        frames,
        batch_sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=collate,
        multiprocessing_context=loading_processes.START_METHOD if workers else None,
        worker_init_fn=loading_processes.set_up if workers else None,
    )
