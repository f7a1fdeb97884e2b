"""Feeds training: which frames in which order, augmented the same way on every run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from .datasets import Dataset
from .transforms import Augmentation

Key = tuple[int, int]
"""(epoch, index): all that the randomness of one training sample depends on."""


class EpochSampler(Sampler[list[Key]]):
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

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        for step in range(self.first_step, len(self)):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield [(self.epoch, int(index)) for index in batch[self.rank :: self.ranks]]


class AugmentedFrames(TorchDataset[tuple[Tensor, Tensor]]):
    """A dataset's frames, augmented by a generator seeded with (seed, epoch, index)."""

    def __init__(self, dataset: Dataset, augmentation: Augmentation, seed: int):
        self.dataset, self.augmentation, self.seed = dataset, augmentation, seed

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        """Gives (3, h, w) uint8 RGB and (h, w) int64 train ids."""
        epoch, index = key
        sample = self.dataset[index]
        random = np.random.default_rng((self.seed, epoch, index))
        image, labels = self.augmentation(sample.image, sample.labels, random)
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(labels).long()


def training_loader(
    dataset: Dataset, augmentation: Augmentation, sampler: EpochSampler, workers: int
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Gives batches in the sampler's order; the worker processes live across epochs."""
    return DataLoader(
        AugmentedFrames(dataset, augmentation, sampler.seed),
        batch_sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
