"""How what is far off fades."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from .measures import LEFT_M, RIGHT_M, WALL_TOP_M
from .texture import Bytes, Color, to_bytes, to_floats
from .view import CAMERA_M, FAR_M, View

HAZE: Color = (220, 226, 231)


def haze_at(depth: float) -> float:
    """Gives the share of haze, 0..1, in what is `depth` m away."""
    return 1 - math.exp(-max(0.0, depth - 8) / 190)


class HazeWindow(NamedTuple):
    """The part of the frame where the street is far enough for haze."""

    where: tuple[slice, slice]
    keep: Bytes
    veil: Bytes


def haze_window(view: View) -> HazeWindow:
    """Prepares how ground and facades fade with distance."""
    rows, columns = np.mgrid[: view.height, : view.width].astype(np.float32) + 0.5
    right, down = (columns - view.centre) / view.focal, (rows - view.horizon) / view.focal
    nearest = np.minimum(
        CAMERA_M / np.maximum(down, 1e-4),
        np.where(right < 0, -LEFT_M, RIGHT_M) / np.maximum(np.abs(right), 1e-4),
    )
    share = 1 - np.exp(-np.clip(nearest - 8, 0, FAR_M) / 190)
    height = CAMERA_M - down * nearest
    share *= np.clip((WALL_TOP_M - height) / 5, 0, 1)  # none in the sky
    share[nearest > FAR_M] = 0  # the backdrop has its own
    inside = share > 0.03
    ys, xs = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    where = (slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1))
    keep = to_bytes(np.repeat(255 * (1 - share[where])[..., None], 3, axis=2))
    veil = to_bytes(share[where][..., None] * to_floats(HAZE))
    return HazeWindow(where, keep, veil)


def apply_haze(image: Bytes, haze: HazeWindow) -> None:
    """Fades ground and facades of a frame, in place."""
    part = image[haze.where]
    cv2.add(cv2.multiply(part, haze.keep, scale=1 / 255), haze.veil, dst=part)
