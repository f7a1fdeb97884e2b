"""From an engine's prediction to what is asked for, at the camera's size."""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Value = TypeVar('Value', np.uint8, np.float32)


def drop_small_regions(mask: NDArray[np.uint8], min_area: float) -> NDArray[np.uint8]:
    """Drops small regions of a mask.

    Args:
        mask: (H, W) uint8, not 0 where anomalous; changed in place.
        min_area: 8-connected regions with fewer pixels are dropped.

    Returns:
        The mask.
    """
    if min_area <= 1:
        return mask
    count, regions, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    small = statistics[:, cv2.CC_STAT_AREA] < min_area
    small[0] = False
    if count > 1 and small.any():
        mask[small[regions]] = 0
    return mask


def resize_linear(values: NDArray[Value], size: tuple[int, int]) -> NDArray[Value]:
    """Enlarges a score to (height, width); the array itself where it fits already."""
    if values.shape == size:
        return values
    resized = cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR)
    return resized.astype(values.dtype, copy=False)
