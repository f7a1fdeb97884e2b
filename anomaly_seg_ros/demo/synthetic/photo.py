"""What the camera adds to a frame."""

from __future__ import annotations

import math

import cv2
import numpy as np

from .texture import Bytes, to_bytes


class Finish:
    """What the camera adds: soft lens, darker corners, film curve, colour cast, grain."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        self._size = size
        height, width = size
        rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
        corner = 255 * (1 - 0.1 * (rows**2 + columns**2))
        self._vignette = cv2.cvtColor(to_bytes(corner), cv2.COLOR_GRAY2RGB)
        steps = np.linspace(0, 1, 256)
        curve = 0.55 * steps + 0.45 * (3 * steps**2 - 2 * steps**3)
        cast = np.array([0.99, 1.0, 1.025])
        self._curve = to_bytes(255 * curve[:, None, None] ** (1 / cast) * 1.02).reshape(1, 256, 3)
        blur = 0.45 * max(1.0, height / 500)
        self._blur = (2 * math.ceil(1.8 * blur) + 1, blur)
        noise = rng.normal(0, 1.9, (height + 64, width + 64, 1))
        noise = noise + rng.normal(0, 0.9, (height + 64, width + 64, 3))
        self._grain = np.clip(np.round(noise), -20, 20).astype(np.int8)

    def __call__(self, image: Bytes, index: int) -> Bytes:
        """Gives the image as the camera records it; the grain depends on `index`."""
        count, sigma = self._blur
        soft = cv2.GaussianBlur(image, (count, count), sigma)
        toned = cv2.LUT(cv2.multiply(soft, self._vignette, scale=1 / 255), self._curve)
        top, left = index * 37 % 64, index * 23 % 64
        grain = self._grain[top : top + self._size[0], left : left + self._size[1]]
        return cv2.add(toned, grain, dtype=cv2.CV_8U).astype(np.uint8, copy=False)
