"""Class weights from how often each class occurs in a training set."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from anomaly_seg_ros.classes import IGNORE
from training.datasets import Dataset


def enet_weights(dataset: Dataset) -> Tensor:
    """Gives `1 / ln(1.02 + f_c)`, f_c the share of class c among the labelled pixels.

    Returns:
        (K,) float32, about 1.4 (always there) to 50.5 (never there).

    Source: Paszke et al., "ENet", 2016, section 5.2.
    """
    counts = np.zeros(256, np.int64)
    for index in range(len(dataset)):
        counts += np.bincount(dataset[index].labels.ravel(), minlength=256)
    counts[IGNORE] = 0
    share = counts[: len(dataset.classes.names)] / max(int(counts.sum()), 1)
    return torch.tensor(1 / np.log(1.02 + share), dtype=torch.float32)
