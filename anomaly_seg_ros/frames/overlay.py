"""Pictures for people: class colours, and anomalies drawn over the camera image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from .resizing import resize_linear

HEAT_START = 0.95
"""Calibrated score at which heat begins to show; it is strongest at 1."""

HEAT_STRENGTH = 0.5
"""Largest opacity of the heat; the class colour must still be seen under it."""

ANOMALY_COLOR = (255, 60, 0)
OUTLINE_COLOR = (255, 255, 255)


def color_table(colors: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """Gives the (256, 1, 3) RGB look-up table of a label set; ids outside of it are black."""
    table = np.zeros((256, 1, 3), np.uint8)
    table[: len(colors), 0] = np.asarray(colors, np.uint8).reshape(-1, 3)
    return table


def colorize(labels: NDArray[np.uint8], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Gives the (H, W, 3) RGB picture of (H, W) train ids."""
    return cv2.applyColorMap(labels, table).astype(np.uint8, copy=False)


def draw_overlay(
    image: NDArray[np.uint8],
    colors: NDArray[np.uint8],
    alpha: float,
    heat: NDArray[np.uint8] | None = None,
    mask: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Blends class colours over an image and marks what is anomalous.

    What is laid over the image is mixed at its own size, which may be smaller than the image's.

    Args:
        image: (H, W, 3), the channels in the order of `colors`.
        colors: (h, w, 3) class colours.
        alpha: Share of the class colours, 0..1.
        heat: (h, w) uint8 calibrated score times 255; tints pixels above `HEAT_START`.
        mask: (h, w) uint8, 255 where anomalous, else 0; outlined in white.

    Returns:
        (H, W, 3), a new array.
    """
    if heat is None:
        heat = np.zeros(colors.shape[:2], np.uint8)
    left = cv2.LUT(heat, _CLASS_SHARE)
    paint = cv2.multiply(colors, cv2.merge([left, left, left]), scale=alpha / 255)
    paint = cv2.add(paint, cv2.applyColorMap(heat, _HEAT_COLORS))
    seen = cv2.LUT(heat, np.rint(_CLASS_SHARE * (1 - alpha)).astype(np.uint8))
    if mask is not None:
        outline = cv2.subtract(cv2.dilate(mask, np.ones((3, 3), np.uint8)), mask)
        paint[outline > 0] = OUTLINE_COLOR
        seen = cv2.subtract(seen, outline)
    size = image.shape[:2]
    seen = resize_linear(np.asarray(seen, np.uint8), size)
    picture = cv2.multiply(image, cv2.merge([seen, seen, seen]), scale=1 / 255)
    cv2.add(picture, resize_linear(np.asarray(paint, np.uint8), size), dst=picture)
    return picture.astype(np.uint8, copy=False)


def _heat_opacity() -> NDArray[np.float64]:
    """Opacity of the heat colour for each calibrated score times 255."""
    share = np.arange(256) / 255
    strength = np.clip((share - HEAT_START) / (1 - HEAT_START), 0, 1) ** 2
    return HEAT_STRENGTH * strength


_CLASS_SHARE = np.rint(255 * (1 - _heat_opacity())).astype(np.uint8)
"""What the heat leaves of the picture under it, times 255."""

_HEAT_COLORS = np.rint(_heat_opacity()[:, None, None] * ANOMALY_COLOR).astype(np.uint8)
"""(256, 1, 3) the heat's own part of the overlay, RGB."""
