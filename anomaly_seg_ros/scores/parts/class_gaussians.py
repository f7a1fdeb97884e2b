"""How the logits of each true class are spread, from training frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.model_output import ModelOutput

CHUNK = 1 << 18
"""Pixels that are held in float64 at a time."""

RIDGE = 1e-6
"""Share of the mean variance that is added to each variance, so that none is 0."""


class ClassGaussians:
    """Mean logits of each true class and one covariance around them, for `mahalanobis`.

    Pixels with label 255 are left out. Sums are kept in float64.

    Source: Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples",
    2018, equation 1. The covariance is divided by the number of valid pixels.
    """

    labelled = True

    def __init__(self, classes: int):
        self.counts = np.zeros(classes)
        self.sums = np.zeros((classes, classes))
        self.products = np.zeros((classes, classes))

    def update(self, output: ModelOutput, labels: NDArray[np.uint8] | None) -> None:
        """Takes the logits and the true classes of one frame."""
        assert labels is not None, 'it says that it reads them'
        classes, truth = len(self.counts), labels.ravel()
        flat = output.given('logits')[0].float().cpu().numpy().reshape(classes, -1)
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
