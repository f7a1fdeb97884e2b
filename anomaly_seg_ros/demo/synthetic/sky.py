"""The sky, and the far end of the street."""

from __future__ import annotations

import math

import cv2
import numpy as np

from .measures import BUILDING, EMPTY, TREE
from .texture import (
    Bytes,
    mix,
    noise,
    Surface,
    to_bytes,
    to_floats,
)
from .view import View


def paint_sky(rng: np.random.Generator, size: tuple[int, int]) -> Bytes:
    """Paints an overcast sky, wider than the frame, for it to drift."""
    height, width = size
    shape = (height, width + width // 2)
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    clouds = noise(rng, shape, (7, 5), 4) * np.clip(1.1 - 1.6 * rows, 0.1, 1)
    color = to_floats([214, 227, 238]) + rows[..., None] * to_floats([60, 46, 32])
    return to_bytes(np.clip(color + clouds[..., None] * to_floats([17, 14, 10]), 0, 252))


def paint_backdrop(rng: np.random.Generator, view: View) -> Surface:
    """Paints what ends the street, far off: houses, trees, a spire in the haze."""
    shape = (view.height, view.width)
    color = np.empty((*shape, 3), np.uint8)
    color[:] = (166, 172, 174)
    labels = np.full(shape, EMPTY, np.uint8)
    unit, horizon = view.height / 360, round(view.horizon)
    bottom = horizon + math.ceil(4 * unit)
    crown = 9 + 4 * noise(rng, (view.width, 1), (view.width // 4 + 1, 1), 2)[:, 0]
    for column, high in enumerate(crown * unit):
        top = horizon - round(float(high))
        color[top:bottom, column] = (134, 142, 138)
        labels[top:bottom, column] = TREE
    x = view.centre - 70 * unit
    while x < view.centre + 70 * unit:
        wide, high = rng.uniform(8, 22) * unit, rng.uniform(8, 22) * unit
        box = (round(x), horizon - round(high)), (round(x + wide), bottom)
        tone = mix((168, 164, 160), rng.uniform(0.8, 1.02))
        if rng.random() < 0.7:
            cv2.rectangle(color, box[0], box[1], tone, -1)
            cv2.rectangle(labels, box[0], box[1], BUILDING, -1)
        x += wide
    foot = view.centre + 9 * unit
    spire = to_floats([(foot - 4 * unit, bottom), (foot - 4 * unit, horizon - 26 * unit),
                       (foot, horizon - 50 * unit), (foot + 4 * unit, horizon - 26 * unit),
                       (foot + 4 * unit, bottom)])  # fmt: skip
    cv2.fillPoly(color, [spire.astype(np.int32)], (158, 158, 158), cv2.LINE_AA)
    cv2.fillPoly(labels, [spire.astype(np.int32)], BUILDING)
    return Surface(color, labels)
