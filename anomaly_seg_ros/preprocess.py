"""Camera image to network input size."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def to_input_size(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resizes an image; the image itself where it fits already.

    Area averaging from a reduction of two on, because a linear filter then skips pixels and lets
    thin objects flicker; linear otherwise.

    Args:
        image: (H, W, 3) uint8.
        size: (height, width) of the result.

    Raises:
        ValueError: Not an image, or a side of it is zero.
    """
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f'an image must be (H, W, 3) with no side of zero, got {image.shape}')
    if image.shape[:2] == size:
        return image
    reduction = min(image.shape[0] / size[0], image.shape[1] / size[1])
    filter_ = cv2.INTER_AREA if reduction >= 2 else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=filter_).astype(np.uint8, copy=False)
