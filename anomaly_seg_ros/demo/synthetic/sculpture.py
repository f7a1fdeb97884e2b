"""Solids, rendered from the front to cut-outs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .sprite import make_sprite, Sprite
from .texture import Color, Floats, to_bytes, to_floats


class Part(NamedTuple):
    """A shaded solid: centre, radii, colour, roundness (2 an ellipsoid, more a box), turn."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    color: Color
    power: float = 2.0
    turn: float = 0.0


Pattern = Callable[[Floats, Floats, Floats, Floats], Floats]
"""Gives colours (h, w, 3) from base colours, right, up and depth, in m."""


def sculpt(
    parts: Sequence[Part], size: tuple[float, float], label: int, pattern: Pattern | None = None
) -> Sprite:
    """Renders solids seen from the front under an overcast sky, standing on the ground.

    Coordinates are in m: to the right of the middle, above the ground, towards the camera.
    """
    rows = 320
    columns = max(8, round(rows * size[0] / size[1]))
    right, up = np.meshgrid(
        np.linspace(-size[0] / 2, size[0] / 2, columns, dtype=np.float32),
        np.linspace(size[1], 0, rows, dtype=np.float32),
    )
    front = np.full((rows, columns), -9, np.float32)
    color = np.zeros((rows, columns, 3), np.float32)
    for part in parts:
        sine, cosine = math.sin(part.turn), math.cos(part.turn)
        x, y = right - part.centre[0], up - part.centre[1]
        u = np.abs((x * cosine + y * sine) / part.radii[0]) ** part.power
        v = np.abs((y * cosine - x * sine) / part.radii[1]) ** part.power
        rest = np.maximum(1 - u - v, 0)
        depth = part.centre[2] + part.radii[2] * rest ** (1 / part.power)
        nearer = (rest > 0) & (depth > front)
        front[nearer] = depth[nearer]
        color[nearer] = part.color
    solid = front > -9
    if pattern is not None:
        color = pattern(color, right, up, front)
    shaded = color * _sky_light(front, solid, up, size[1] / rows)[..., None]
    alpha = cv2.GaussianBlur(solid.astype(np.float32) * 255, (3, 3), 0)
    rgba = np.dstack([shaded * (alpha[..., None] / 255), alpha])
    return make_sprite(to_bytes(rgba), to_bytes(alpha), size, label)


def _sky_light(front: Floats, solid: NDArray[np.bool_], up: Floats, texel: float) -> Floats:
    """Gives brightness under an even sky: by the normal, by hollows, by nearness of the road."""
    depth = np.where(solid, front, front[solid].min() - 0.1)
    smooth = cv2.GaussianBlur(depth, (0, 0), 1.5)
    slope_y, slope_x = np.gradient(smooth, texel)
    length = np.sqrt(1 + slope_x**2 + slope_y**2)
    upward, leftward = slope_y / length, slope_x / length
    light = 0.72 + 0.42 * upward + 0.10 * leftward
    hollow = cv2.GaussianBlur(depth, (0, 0), 9) - depth
    light -= np.clip(hollow * 1.4, 0, 0.4)
    light *= 0.68 + 0.32 * np.clip(up / (0.5 * float(up.max())), 0, 1)
    return to_floats(np.clip(light, 0.12, 1.25))
