"""Shadows on the ground."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from .texture import Bytes, to_bytes, to_floats
from .view import Canvas, NEAR_M, View


@cache
def _soft_blob() -> Bytes:
    blob = np.zeros((48, 48), np.float32)
    blob[10:38, 10:38] = 185
    return to_bytes(cv2.GaussianBlur(blob, (0, 0), 3.2))


def draw_shadow(
    canvas: Canvas, view: View, x: tuple[float, float], z: tuple[float, float]
) -> None:
    """Darkens the ground under and around a thing that covers x by z, in m."""
    if z[0] < 2 * NEAR_M:
        return
    grow_x, grow_z = 0.3 * (x[1] - x[0]), 0.3 * (z[1] - z[0])
    left, right = x[0] - grow_x, x[1] + grow_x
    near, far = max(z[0] - grow_z, NEAR_M), z[1] + grow_z
    corners = to_floats([(left, 0, far), (right, 0, far), (right, 0, near), (left, 0, near)])
    pixels = view.project(corners)
    low = np.maximum(np.floor(pixels.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(pixels.max(0)).astype(int), (view.width, view.height))
    if (high <= low).any():
        return
    source = to_floats([(0, 0), (48, 0), (48, 48), (0, 48)])
    matrix = cv2.getPerspectiveTransform(source, (pixels - low).astype(np.float32))
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    shade = cv2.bitwise_not(cv2.warpPerspective(_soft_blob(), matrix, size))
    part = canvas.image[low[1] : high[1], low[0] : high[0]]
    cv2.multiply(part, cv2.cvtColor(shade, cv2.COLOR_GRAY2RGB), dst=part, scale=1 / 255)
