"""Class weights: from how often each class occurs in a training set, or as given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from anomaly_seg_ros.classes import IGNORE
from training.datasets import Dataset
from training.losses import CLASS_WEIGHTS


def class_weights(
    kind: str | Sequence[float], dataset: Dataset, void: bool = False
) -> Tensor | None:
    """Gives the weights that losses multiply the pixels of each class by.

    Args:
        kind: One of `CLASS_WEIGHTS`, or the weights themselves.
        dataset: The training set; read once for 'enet' and 'median_frequency'.
        void: Whether pixels without a class (255) are trained as class K.

    Returns:
        (K,) or with void (K + 1,) float32 on the CPU; None for 'none'.

    Raises:
        ValueError: Unknown kind, or weights whose number or values do not fit.
    """
    channels = len(dataset.classes.names) + void
    if not isinstance(kind, str):
        return given_weights(kind, channels)
    if kind not in CLASS_WEIGHTS:
        raise ValueError(
            f'unknown class_weights {kind!r}; choose one of: {", ".join(CLASS_WEIGHTS)}, or give '
            f'a list of {channels} numbers'
        )
    if kind == 'none':
        return None
    pixels = pixel_counts(dataset, void)
    return enet_weights(pixels) if kind == 'enet' else median_frequency_weights(pixels)


def given_weights(weights: Sequence[float], channels: int) -> Tensor:
    """Gives weights as a tensor.

    Raises:
        ValueError: Not one weight per channel, or one is negative or not finite, or all are 0.
    """
    values = torch.tensor([float(weight) for weight in weights])
    if len(values) != channels:
        raise ValueError(f'{len(values)} class_weights for {channels} classes (void included)')
    if not bool(values.isfinite().all()) or bool((values < 0).any()) or not bool(values.any()):
        raise ValueError(f'class_weights {list(weights)} must be 0 or more, and not all 0')
    return values


def pixel_counts(dataset: Dataset, void: bool = False) -> NDArray[np.int64]:
    """Gives (frames, K) pixels of each class in each frame; with void (frames, K + 1).

    Without `void` the pixels of label 255 are not counted at all.
    """
    classes = len(dataset.classes.names)
    rows = []
    for index in range(len(dataset)):
        counts = np.bincount(dataset[index].labels.ravel(), minlength=256)
        rows.append([*counts[:classes], *([counts[IGNORE]] if void else [])])
    return np.array(rows, np.int64)


def enet_weights(pixels: NDArray[np.int64]) -> Tensor:
    """Gives `1 / ln(1.02 + f_c)`, f_c the share of class c among all counted pixels.

    Args:
        pixels: (frames, K) pixels of each class in each frame.

    Returns:
        (K,) float32, 1.4 (all pixels) to 50.5 (none).

    Source: Paszke et al., "ENet", 2016, section 5.2.
    """
    share = pixels.sum(axis=0) / max(int(pixels.sum()), 1)
    return torch.tensor(1 / np.log(1.02 + share), dtype=torch.float32)


def median_frequency_weights(pixels: NDArray[np.int64]) -> Tensor:
    """Gives `median f / f_c`, f_c the share of class c in the frames where it occurs.

    The median is that of the classes that occur; a class that never does has weight 0.

    Args:
        pixels: (frames, K) pixels of each class in each frame.

    Returns:
        (K,) float32.

    Source: Eigen and Fergus, "Predicting Depth, Surface Normals and Semantic Labels with a
    Common Multi-Scale Convolutional Architecture", 2015, section 6.1.
    """
    frame_pixels = pixels.sum(axis=1, keepdims=True)
    around = ((pixels > 0) * frame_pixels).sum(axis=0)
    occurs = around > 0
    share = pixels.sum(axis=0)[occurs] / around[occurs]
    weights = np.zeros(pixels.shape[1])
    if share.size:
        weights[occurs] = np.median(share) / share
    return torch.tensor(weights, dtype=torch.float32)
