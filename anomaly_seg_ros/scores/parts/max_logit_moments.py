"""How the maximum logit of each predicted class is spread, from training frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput


class MaxLogitMoments:
    """Mean and deviation of the maximum logit of each predicted class, for `sml`.

    All pixels count, whatever their label. A class that is predicted on one pixel only, or always
    with the same logit, takes those of all pixels.

    Source: Jung et al., "Standardized Max Logits", 2021, equations 2 and 3.
    """

    labelled = False

    def __init__(self, classes: int):
        self.moments = np.zeros((3, classes))

    def update(self, output: ModelOutput, labels: NDArray[np.uint8] | None) -> None:
        """Takes the logits of one frame; its labels are not used."""
        logits = output.given('logits')[0].float().cpu().numpy()
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
