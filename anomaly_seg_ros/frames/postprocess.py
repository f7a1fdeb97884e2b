"""From an engine's prediction to what is asked for, at the camera's size."""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Value = TypeVar('Value', np.uint8, np.float32)


def resize_linear(values: NDArray[Value], size: tuple[int, int]) -> NDArray[Value]:
    """Enlarges a score to (height, width); the array itself where it fits already."""
    if values.shape == size:
        return values
    resized = cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR)
    return resized.astype(values.dtype, copy=False)
