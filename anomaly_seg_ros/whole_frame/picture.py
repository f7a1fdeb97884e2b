"""What a few thousand pixels say of a picture before any network sees it: black, or frozen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GRID = 64
"""Rows and columns that are looked at, at most."""
DARK = 24
"""Of 255: a picture whose brightest hundredth is no brighter shows nothing."""


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Gives some pixels of a picture, evenly spaced, as a copy; nothing is averaged.

    Args:
        image: (h, w, 3) RGB.
    """
    rows, columns = (max(1, side // GRID) for side in image.shape[:2])
    pixels: NDArray[np.uint8] = image[rows // 2 :: rows, columns // 2 :: columns].copy()
    return pixels


def is_dark(pixels: NDArray[np.uint8]) -> bool:
    """Whether a thumbnail shows nothing but black, with or without the noise of a sensor."""
    # Channel by channel: numpy's own maximum over a last axis of three takes twenty times as long.
    brightest = np.maximum(np.maximum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])
    return bool(np.count_nonzero(brightest > DARK) * 100 <= brightest.size)


def is_same(pixels: NDArray[np.uint8], before: NDArray[np.uint8] | None) -> bool:
    """Whether a thumbnail is that of the frame before: a live sensor never gives it again."""
    return before is not None and np.array_equal(pixels, before)
