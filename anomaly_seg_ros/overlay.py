"""Pictures for people: class colours, and anomalies drawn over the camera image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

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

    Args:
        image: (H, W, 3) RGB.
        colors: (H, W, 3) RGB class colours.
        alpha: Share of the class colours, 0..1.
        heat: (H, W) uint8 calibrated score times 255; tints pixels above `HEAT_START`.
        mask: (H, W) uint8, not 0 where anomalous; outlined in white.

    Returns:
        (H, W, 3) RGB, a new array.
    """
    picture = cv2.addWeighted(colors, alpha, image, 1 - alpha, 0)
    if heat is not None:
        tint = cv2.LUT(heat, _HEAT_TINT)
        weight = cv2.merge([tint, tint, tint])
        solid = np.full_like(picture, ANOMALY_COLOR)
        picture = cv2.add(
            cv2.multiply(solid, weight, scale=1 / 255),
            cv2.multiply(picture, cv2.bitwise_not(weight), scale=1 / 255),
        )
    if mask is not None:
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        width = max(1, round(min(mask.shape) / 360))
        cv2.drawContours(picture, contours, -1, OUTLINE_COLOR, width, cv2.LINE_AA)
    return picture.astype(np.uint8, copy=False)


def _heat_tint() -> NDArray[np.uint8]:
    """Opacity of the heat colour for each calibrated score times 255."""
    share = np.arange(256) / 255
    strength = np.clip((share - HEAT_START) / (1 - HEAT_START), 0, 1) ** 2
    tint: NDArray[np.uint8] = np.round(255 * HEAT_STRENGTH * strength).astype(np.uint8)
    return tint


_HEAT_TINT = _heat_tint()
