"""At which size a protocol compares: the labels' own, or the network's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.frames.preprocess import to_input_size
from anomaly_seg_ros.frames.resizing import resize_ids, resize_linear

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Size = tuple[int, int]


def network_input(image: Bytes, size: Size, protocol: str) -> Bytes:
    """Resizes an image for the network: as the node does, or for 'course' as PIL does."""
    if protocol != 'course':
        return to_input_size(image, size)
    if image.shape[:2] == size:
        return image
    from PIL import Image

    picture = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.array(picture, np.uint8)


def truth_size(labels: Bytes, size: Size, protocol: str) -> Bytes:
    """Gives labels at the size of comparison: as they are, or for 'course' at `size`."""
    return labels_at(labels, size, protocol) if protocol == 'course' else labels


def labels_at(labels: Bytes, size: Size, protocol: str) -> Bytes:
    """Resizes labels by the nearest pixel: as training does, or for 'course' as PIL does.

    PIL takes of two that are equally near the upper one, always: half the size is a quarter of a
    pixel off.
    """
    if protocol != 'course':
        return resize_ids(labels, size)
    if labels.shape == size:
        return labels
    from PIL import Image

    picture = Image.fromarray(labels).resize(size[::-1], Image.Resampling.NEAREST)
    return np.array(picture, np.uint8)


def score_at(score: Floats, size: Size) -> Floats:
    """Brings a score map to the size of comparison, bilinear."""
    return resize_linear(score, size)


def classes_at(labels: Bytes, size: Size) -> Bytes:
    """Brings predicted classes to the size of comparison, nearest, as the node does."""
    return resize_ids(labels, size)
