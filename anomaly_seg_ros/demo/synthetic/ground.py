"""The road and the pavements."""

from __future__ import annotations

import cv2
import numpy as np

from .measures import (
    CENTRE_M,
    KERB_LEFT_M,
    KERB_RIGHT_M,
    LEFT_M,
    PAVEMENT,
    PERIOD_M,
    RIGHT_M,
    ROAD,
)
from .texture import (
    Floats,
    grain,
    noise,
    Surface,
    to_bytes,
    to_floats,
)


def paint_ground(rng: np.random.Generator, density: float) -> Surface:
    """Paints asphalt, lines, kerbs and slabs; `density` is in texels per m."""
    shape = (round(PERIOD_M * density), round((RIGHT_M - LEFT_M) * density))
    across = np.linspace(LEFT_M, RIGHT_M, shape[1], dtype=np.float32)
    along = np.linspace(0, PERIOD_M, shape[0], dtype=np.float32)
    grey = 93 + 5 * noise(rng, shape, (24, 4), 3) + 5 * noise(rng, shape, (6, 16), 2)
    for track in (-0.75, 0.75, 3.6, 5.1):
        grey -= 7 * np.exp(-(((across - track) / 0.25) ** 2))
    grey -= 6 * np.exp(-((across / 0.3) ** 2))
    _patch_asphalt(rng, grey, density)
    color = grey[..., None] * np.array([0.985, 1.0, 1.02], np.float32)
    _paint_lines(rng, color, across, along)
    labels = np.full(shape, ROAD, np.uint8)
    for kerb, side in ((KERB_LEFT_M, -1), (KERB_RIGHT_M, 1)):
        out = (across - kerb) * side
        _paint_pavement(rng, color, out, along)
        labels[:, out > 0] = PAVEMENT
    color += grain(rng, shape, 7)[..., None]
    return Surface(to_bytes(color), labels)


def _patch_asphalt(rng: np.random.Generator, grey: Floats, density: float) -> None:
    """Adds what road works left: dark patches, tar seams, covers."""
    for _ in range(16):
        x, z = rng.uniform(KERB_LEFT_M + 0.2, KERB_RIGHT_M - 2.5), rng.uniform(0, PERIOD_M - 9)
        left, top = round((x - LEFT_M) * density), round(z * density)
        right = left + round(rng.uniform(0.6, 2.2) * density)
        bottom = top + round(rng.uniform(1, 8) * density)
        grey[top:bottom, left:right] += rng.uniform(-13, 7)
        cv2.rectangle(grey, (left, top), (right, bottom), 58, max(1, round(density / 30)))
    for _ in range(9):
        x, z = rng.uniform(KERB_LEFT_M + 0.5, KERB_RIGHT_M - 0.5), rng.uniform(1, PERIOD_M - 1)
        middle = (round((x - LEFT_M) * density), round(z * density))
        cv2.circle(grey, middle, round(0.33 * density), 48, -1)
        cv2.circle(grey, middle, round(0.27 * density), 62, -1)
    cv2.GaussianBlur(grey, (3, 3), 0, dst=grey)


def _paint_lines(rng: np.random.Generator, color: Floats, across: Floats, along: Floats) -> None:
    """Adds the dashes of the centre and the double yellow lines, both worn."""
    wear = 0.78 + 0.25 * noise(rng, (len(along), len(across)), (160, 30), 2)
    dashes = (np.abs(across - CENTRE_M) < 0.08) & (along[:, None] % 6 < 4)
    yellow = np.zeros_like(dashes)
    for x in (KERB_LEFT_M + 0.3, KERB_LEFT_M + 0.5, KERB_RIGHT_M - 0.3, KERB_RIGHT_M - 0.5):
        yellow |= np.abs(across - x) < 0.04
    for where, paint in ((dashes, (205, 206, 202)), (yellow, (152, 138, 84))):
        share = np.clip(wear[where], 0, 1)[:, None]
        color[where] += share * (np.array(paint, np.float32) - color[where])


def _paint_pavement(rng: np.random.Generator, color: Floats, out: Floats, along: Floats) -> None:
    """Paints one pavement; `out` is the way from the kerb's face, in m, for each column."""
    columns = np.flatnonzero(out > 0)
    where = slice(columns[0], columns[-1] + 1)
    own = out[where]
    shape = (len(along), len(own))
    slabs = rng.uniform(-6, 6, (int(PERIOD_M / 0.75), 5)).astype(np.float32)
    grey = to_floats(118 + cv2.resize(slabs, shape[::-1], interpolation=cv2.INTER_NEAREST))
    grey += 5 * noise(rng, shape, (30, 4), 2)
    joints = (along[:, None] % 0.75 < 0.03) | (own % 0.6 < 0.03)
    grey[joints] -= 26
    kerb = own < 0.28
    grey[:, kerb] = 138 + 5 * noise(rng, (shape[0], int(kerb.sum())), (100, 2))
    grey[:, own < 0.1] -= 48  # the kerb's face, in shade
    grey -= 34 * np.clip((own - 1.5) / 0.9, 0, 1) ** 2  # the foot of the walls gets less sky
    color[:, where] = grey[..., None] * np.array([1.0, 0.985, 0.965], np.float32)
    gutter = (out > -0.2) & (out <= 0)
    color[:, gutter] *= 0.82
