"""Flat cut-outs that face the camera."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from .haze import HAZE, haze_at
from .texture import Bytes
from .view import CAMERA_M, Canvas, Point, View


class Sprite(NamedTuple):
    """A flat cut-out facing the camera, in halving sizes.

    Attributes:
        levels: (h, w, 4) RGB times alpha, alpha.
        covers: (h, w), 255 where the label goes; wider than alpha between a tree's twigs.
        size: Width and height in m.
    """

    levels: tuple[Bytes, ...]
    covers: tuple[Bytes, ...]
    size: tuple[float, float]
    label: int


def make_sprite(rgba: Bytes, cover: Bytes, size: tuple[float, float], label: int) -> Sprite:
    """Gives the cut-out with its smaller sizes."""
    levels, covers = [rgba], [cover]
    while min(levels[-1].shape[:2]) > 12:
        half = (levels[-1].shape[1] // 2, levels[-1].shape[0] // 2)
        levels.append(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA).astype(np.uint8))
        covers.append(cv2.resize(covers[-1], half, interpolation=cv2.INTER_AREA).astype(np.uint8))
    return Sprite(tuple(levels), tuple(covers), size, label)


def paste(canvas: Canvas, view: View, sprite: Sprite, base: Point) -> None:
    """Draws a cut-out with the middle of its foot at `base`."""
    scale = view.focal / base[2]
    wide, high = sprite.size[0] * scale, sprite.size[1] * scale
    left = view.centre + base[0] * scale - wide / 2
    top = view.horizon + (CAMERA_M - base[1]) * scale - high
    x0, y0 = max(0, math.floor(left)), max(0, math.floor(top))
    x1 = min(view.width, math.ceil(left + wide))
    y1 = min(view.height, math.ceil(top + high))
    if x1 <= x0 or y1 <= y0:
        return
    level = 0
    while level + 1 < len(sprite.levels) and sprite.levels[level].shape[1] > 1.5 * wide:
        level += 1
    rgba = sprite.levels[level]
    step_x, step_y = rgba.shape[1] / wide, rgba.shape[0] / high
    to_x, to_y = (x0 + 0.5 - left) * step_x - 0.5, (y0 + 0.5 - top) * step_y - 0.5
    inverse = np.array([(step_x, 0, to_x), (0, step_y, to_y)])
    size, flags = (x1 - x0, y1 - y0), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    patch = cv2.warpAffine(rgba, inverse, size, flags=flags)
    cover = cv2.warpAffine(sprite.covers[level], inverse, size, flags=flags)
    color = cv2.cvtColor(patch, cv2.COLOR_RGBA2RGB)
    alpha = cv2.cvtColor(cv2.extractChannel(patch, 3), cv2.COLOR_GRAY2RGB)
    haze = haze_at(base[2])
    color = cv2.addWeighted(color, 1 - haze, alpha, haze * HAZE[1] / 255, 0)
    part = canvas.image[y0:y1, x0:x1]
    behind = cv2.multiply(part, cv2.bitwise_not(alpha), scale=1 / 255)
    cv2.add(behind, color, dst=part)
    canvas.labels[y0:y1, x0:x1][cover > 127] = sprite.label
