"""One camera image as it came: RGB at network size first, at its own size only for pictures."""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from .preprocess import to_input_size

_PER_PIXEL = frozenset(
    {
        None,
        cv2.COLOR_BGR2RGB,
        cv2.COLOR_RGBA2RGB,
        cv2.COLOR_BGRA2RGB,
        cv2.COLOR_GRAY2RGB,
    }
)
"""Conversions that only move channels: resizing before or after them gives the same bytes."""


class CameraFrame:
    """An image in its camera's encoding.

    Args:
        pixels: (H, W, C) or (H, W) uint8; its rows may lie apart. Of a 4:2:0 image (3 H / 2, W).
        code: OpenCV's conversion to RGB; None where it is RGB already.
        size: (height, width) of the image; None: that of `pixels`.
        encoding: What the image came in, for people.

    Raises:
        ValueError: Not an image, or a side of it is zero.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        code: int | None = None,
        size: tuple[int, int] | None = None,
        encoding: str = '',
    ):
        if (code is None and (pixels.ndim != 3 or pixels.shape[2] != 3)) or 0 in pixels.shape:
            raise ValueError(
                f'an image must be (H, W, 3) with no side of zero, got {pixels.shape}'
            )
        self._pixels = pixels
        self._code = code
        self.size = size or (pixels.shape[0], pixels.shape[1])
        self.encoding = encoding

    @cached_property
    def rgb(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB; a view of the camera's bytes where they are RGB already."""
        return self._converted(self._pixels)

    def rgb_at(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Gives (height, width, 3) RGB at `size`.

        Where the encoding allows it the channels are moved after the image has become small.
        """
        if size == self.size or self._code not in _PER_PIXEL or 'rgb' in self.__dict__:
            return to_input_size(self.rgb, size)
        return self._converted(to_input_size(self._pixels, size))

    def _converted(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._code is None:
            return pixels
        return cv2.cvtColor(np.ascontiguousarray(pixels), self._code).astype(np.uint8, copy=False)
