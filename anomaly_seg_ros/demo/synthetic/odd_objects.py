"""What does not belong on a road: a teddy, crates, a ball, a cow, a sofa."""

from __future__ import annotations

from functools import cache
import math

import cv2
import numpy as np

from .measures import ODD
from .sculpture import Part, sculpt
from .sprite import Sprite
from .texture import Floats, mix, noise, to_floats


def _sofa() -> Sprite:
    cloth, dark = (222, 60, 130), (178, 36, 100)
    parts = [
        Part((0, 0.62, 0.0), (1.05, 0.48, 0.2), cloth, 5),
        Part((0, 0.25, 0.3), (1.0, 0.17, 0.4), dark, 6),
        Part((-1.02, 0.42, 0.35), (0.17, 0.36, 0.45), cloth, 4),
        Part((1.02, 0.42, 0.35), (0.17, 0.36, 0.45), cloth, 4),
    ]
    for x in (-0.57, 0, 0.57):
        parts.append(Part((x, 0.78, 0.22), (0.3, 0.3, 0.12), cloth, 3.5))
        parts.append(Part((x, 0.48, 0.45), (0.3, 0.12, 0.35), cloth, 4))
    parts += [Part((x, 0.04, 0.3), (0.05, 0.06, 0.05), (60, 40, 24), 4) for x in (-0.9, 0.9)]
    return sculpt(parts, (2.5, 1.16), ODD)


def _teddy() -> Sprite:
    fur, pale = (196, 120, 40), (236, 190, 120)
    parts = [
        Part((0, 0.72, 0), (0.5, 0.56, 0.42), fur),
        Part((0, 0.7, 0.3), (0.33, 0.4, 0.2), pale),
        Part((0, 1.5, 0.05), (0.44, 0.4, 0.38), fur),
        Part((0, 1.38, 0.38), (0.19, 0.15, 0.16), pale),
        Part((0, 1.44, 0.52), (0.07, 0.05, 0.05), (24, 18, 16)),
    ]
    for side in (-1, 1):
        parts += [
            Part((side * 0.36, 1.82, 0), (0.17, 0.17, 0.1), fur),
            Part((side * 0.36, 1.81, 0.08), (0.1, 0.1, 0.05), pale),
            Part((side * 0.16, 1.57, 0.4), (0.05, 0.06, 0.05), (20, 16, 16)),
            Part((side * 0.58, 0.98, 0.1), (0.18, 0.4, 0.2), fur, 2, side * 0.6),
            Part((side * 0.45, 0.24, 0.35), (0.24, 0.24, 0.4), fur),
            Part((side * 0.45, 0.24, 0.72), (0.15, 0.16, 0.06), pale),
        ]

    def plush(color: Floats, right: Floats, up: Floats, front: Floats) -> Floats:
        rough = np.random.default_rng(5).normal(1, 0.16, right.shape).astype(np.float32)
        return (color * cv2.GaussianBlur(rough, (0, 0), 0.8)[..., None]).astype(np.float32)

    return sculpt(parts, (1.74, 2.02), ODD, plush)


def _ball() -> Sprite:
    radius = 0.85
    palette = to_floats([(222, 34, 40), (244, 240, 232), (24, 92, 200), (250, 204, 20),
                         (244, 240, 232), (20, 150, 80)])  # fmt: skip

    def panels(color: Floats, right: Floats, up: Floats, front: Floats) -> Floats:
        x, y, z = right, up - radius, front
        tilted = y * math.cos(0.7) - z * math.sin(0.7)
        ahead = y * math.sin(0.7) + z * math.cos(0.7)
        angle = np.arctan2(x * 0.9 + tilted * 0.43, ahead) + math.pi
        chosen = palette[(angle / math.tau * 12).astype(int) % 6]
        cap = (x * 0.43 - tilted * 0.9)[..., None] > 0.93 * radius
        return to_floats(np.where(cap, palette[0], chosen))

    part = Part((0, radius, 0), (radius, radius, radius), (255, 255, 255))
    return sculpt([part], (2 * radius + 0.06, 2 * radius + 0.04), ODD, panels)


def _cow() -> Sprite:
    hide, dark, pink = (232, 226, 214), (30, 26, 26), (214, 150, 140)
    parts = [
        Part((0.1, 1.0, 0), (0.88, 0.4, 0.38), hide, 2.6),
        Part((-0.82, 1.28, 0.1), (0.34, 0.2, 0.18), hide, 2, -0.7),
        Part((-1.05, 1.42, 0.2), (0.3, 0.17, 0.17), hide, 2.2, 0.35),
        Part((-1.26, 1.33, 0.26), (0.12, 0.13, 0.14), pink),
        Part((-1.0, 1.5, 0.36), (0.03, 0.03, 0.03), (10, 10, 10)),
        Part((-0.82, 1.56, 0.2), (0.15, 0.07, 0.06), dark, 2, 0.4),
        Part((-0.95, 1.64, 0.1), (0.04, 0.12, 0.04), (214, 200, 160), 2, 0.3),
        Part((0.45, 0.63, 0.12), (0.2, 0.13, 0.14), pink),
        Part((0.99, 0.9, 0), (0.045, 0.45, 0.05), dark, 3, 0.12),
    ]
    for x, z, tone in ((-0.5, 0.18, hide), (0.75, 0.18, hide), (-0.3, -0.25, (150, 144, 136)),
                       (0.55, -0.25, (150, 144, 136))):  # fmt: skip
        parts.append(Part((x, 0.42, z), (0.11, 0.44, 0.11), tone, 3))
        parts.append(Part((x, 0.06, z + 0.02), (0.12, 0.07, 0.12), dark, 3))

    def patches(color: Floats, right: Floats, up: Floats, front: Floats) -> Floats:
        blots = noise(np.random.default_rng(11), (right.shape[0], right.shape[1]), (5, 7), 2)
        black = (blots > 0.18) & (color.min(-1) > 200)
        return to_floats(np.where(black[..., None], to_floats(dark), color))

    return sculpt(parts, (2.9, 1.8), ODD, patches)


def _crates() -> Sprite:
    parts = []
    for x, y, z, wood in (
        (-0.44, 0.42, 0, (190, 138, 74)), (0.44, 0.42, 0.06, (176, 122, 60)),
        (-0.12, 1.26, 0.02, (204, 150, 84)),
    ):  # fmt: skip
        parts.append(Part((x, y, z), (0.41, 0.41, 0.35), (78, 50, 26), 14))
        parts += [
            Part((x, y + plank, z + 0.02), (0.4, 0.092, 0.36), wood, 12)
            for plank in (-0.3, -0.1, 0.1, 0.3)
        ]
        parts += [
            Part((x + side * 0.345, y, z + 0.05), (0.055, 0.41, 0.37), mix(wood, 1.1), 10)
            for side in (-1, 1)
        ]
        parts.append(Part((x, y, z + 0.06), (0.47, 0.05, 0.34), mix(wood, 1.1), 10, 0.78))

    def veins(color: Floats, right: Floats, up: Floats, front: Floats) -> Floats:
        lines = noise(np.random.default_rng(3), (right.shape[0], right.shape[1]), (90, 5), 2)
        return (color * (1 + 0.13 * lines)[..., None]).astype(np.float32)

    return sculpt(parts, (1.76, 1.7), ODD, veins)


@cache
def odd_sprites() -> tuple[Sprite, ...]:
    """Gives the odd objects in the order in which they stand on the road."""
    return _teddy(), _crates(), _ball(), _cow(), _sofa()
