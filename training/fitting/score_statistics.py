"""Fits the statistics of training frames that some scores need, in one pass over the frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from tqdm import tqdm

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.classes import IGNORE
from training.datasets import Dataset
from training.evaluation.network_pass import open_pass
from training.evaluation.resizing import nearest, network_input

from .temperature import check_classes

CHUNK = 1 << 18
"""Pixels that are held in float64 at a time."""

RIDGE = 1e-6
"""Share of the mean variance that is added to each variance, so that none is 0."""


class Statistics(Protocol):
    """Sums over pixels; what they hold does not grow with the number of frames."""

    def update(self, logits: NDArray[np.float32], labels: NDArray[np.uint8] | None) -> None:
        """Takes one frame: (K, h, w) logits, (h, w) train ids or None where there are none."""
        ...

    def compute(self) -> dict[str, Tensor]:
        """Gives the score's buffers as float32."""
        ...


class ClassGaussians:
    """Mean logits of each true class and one covariance around them, for `mahalanobis`.

    Pixels with label 255 are left out. Sums are kept in float64.

    Source: Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples",
    2018, equation 1. The covariance is divided by the number of valid pixels.
    """

    def __init__(self, classes: int):
        self.counts = np.zeros(classes)
        self.sums = np.zeros((classes, classes))
        self.products = np.zeros((classes, classes))

    def update(self, logits: NDArray[np.float32], labels: NDArray[np.uint8] | None) -> None:
        """Takes one frame: (K, h, w) logits, (h, w) train ids, 255 = ignore."""
        assert labels is not None
        classes, truth = len(self.counts), labels.ravel()
        flat = logits.reshape(classes, -1)
        for start in range(0, truth.size, CHUNK):
            part = truth[start : start + CHUNK]
            valid = part != IGNORE
            pixels = flat[:, start : start + CHUNK][:, valid].astype(np.float64)
            one_hot = part[valid] == np.arange(classes)[:, None]
            self.counts += one_hot.sum(axis=1)
            self.sums += one_hot @ pixels.T
            self.products += pixels @ pixels.T

    def compute(self) -> dict[str, Tensor]:
        """Gives `whitening` (K, K) and `means` (C, K) of the C classes that have pixels.

        Raises:
            ValueError: There is no labelled pixel, or the logits are all the same.
        """
        seen = self.counts > 0
        means = self.sums[seen] / self.counts[seen, None]
        covariance = self.products - (means.T * self.counts[seen]) @ means
        covariance /= max(self.counts.sum(), 1)
        variance = float(np.trace(covariance)) / len(covariance)
        if not variance > 0:
            raise ValueError(
                "score 'mahalanobis' cannot be fitted: these frames have no labelled pixels, or "
                'the same logits everywhere'
            )
        covariance = (covariance + covariance.T) / 2 + RIDGE * variance * np.eye(len(covariance))
        whitening = np.linalg.inv(np.linalg.cholesky(covariance))
        return {
            'whitening': torch.from_numpy(whitening).float().contiguous(),
            'means': torch.from_numpy(means).float().contiguous(),
        }


class MaxLogitMoments:
    """Mean and deviation of the maximum logit of each predicted class, for `sml`.

    All pixels count, whatever their label. A class that is predicted on one pixel
    only, or always with the same logit, takes those of all pixels.

    Source: Jung et al., "Standardized Max Logits", 2021, equations 2 and 3.
    """

    def __init__(self, classes: int):
        self.moments = np.zeros((3, classes))

    def update(self, logits: NDArray[np.float32], labels: NDArray[np.uint8] | None) -> None:
        """Takes one frame: (K, h, w) logits; its labels are not used."""
        predicted = logits.argmax(axis=0).ravel()
        largest = logits.max(axis=0).ravel().astype(np.float64)
        for power, moment in enumerate(self.moments):
            moment += np.bincount(predicted, largest**power, minlength=len(moment))

    def compute(self) -> dict[str, Tensor]:
        """Gives `mean` and `std` (K,).

        Raises:
            ValueError: The maximum logit is the same everywhere.
        """
        mean, std = deviation(self.moments)
        common_mean, common_std = deviation(self.moments.sum(axis=1, keepdims=True))
        if not common_std[0] > 0:
            raise ValueError(
                "score 'sml' cannot be fitted: the maximum logit is the same on all pixels"
            )
        own = std > 0
        return {
            'mean': torch.from_numpy(np.where(own, mean, common_mean)).float(),
            'std': torch.from_numpy(np.where(own, std, common_std)).float(),
        }


def deviation(moments: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gives mean and standard deviation of (3, n) counts, sums and sums of squares.

    A deviation below a millionth of the mean is rounding and becomes 0.

    >>> deviation(np.array([[2.0], [6.0], [20.0]]))
    (array([3.]), array([1.]))
    """
    count = np.maximum(moments[0], 1)
    mean = moments[1] / count
    variance = moments[2] / count - mean**2
    variance[variance <= 1e-12 * mean**2] = 0
    return mean, np.sqrt(variance)


STATISTICS: dict[str, type[ClassGaussians] | type[MaxLogitMoments]] = {
    'mahalanobis': ClassGaussians,
    'sml': MaxLogitMoments,
}
"""How each score of `FITTED` is fitted."""

LABELLED = frozenset({'mahalanobis'})
"""Those that read the class labels."""


def check_frames(meta: CheckpointMeta, scores: Sequence[str], dataset: Dataset) -> None:
    """Checks that the statistics of scores can be fitted on a dataset.

    Raises:
        ValueError: A score reads labels and the dataset has other classes than the checkpoint.
    """
    for score in scores:
        if score in LABELLED:
            check_classes(meta, dataset, f'score {score!r}')


def fit_statistics(
    checkpoint: Checkpoint, scores: Sequence[str], dataset: Dataset
) -> dict[str, dict[str, Tensor]]:
    """Gives the statistics of scores over all pixels of a dataset, at the network's size.

    Raises:
        ValueError: The dataset has other classes than the checkpoint, or nothing to fit.
    """
    meta = checkpoint.meta
    check_frames(meta, scores, dataset)
    fits: dict[str, Statistics] = {
        score: STATISTICS[score](len(meta.class_names)) for score in scores
    }
    network = open_pass(checkpoint, 'torch', ['max_logit'])
    for index in tqdm(range(len(dataset)), desc='statistics', unit='frame', disable=None):
        sample = dataset[index]
        output = network.infer(network_input(sample.image, network.input_size, 'exact'))
        assert output.logits is not None
        labels = None
        if LABELLED.intersection(scores):
            labels = nearest(sample.labels, network.input_size)
        for fit in fits.values():
            fit.update(output.logits, labels)
    network.close()
    return {score: fit.compute() for score, fit in fits.items()}
