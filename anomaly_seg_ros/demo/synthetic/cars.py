"""Cars, as meshes of flat faces."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .haze import HAZE, haze_at
from .measures import CAR
from .texture import Color, Floats, to_floats
from .view import Canvas, Point, View


class _Mesh(NamedTuple):
    """Flat faces in the order to paint them.

    Attributes:
        points: (N, 3) right, above the road, ahead of the rear bumper, in m.
        spans: First point and end of each face, counter-clockwise when it faces the camera.
        colors: Colour of each face, or None for the car's paint.
        gains: Brightness of each face.
        length: From bumper to bumper, in m.
    """

    points: Floats
    spans: NDArray[np.intp]
    colors: tuple[Color | None, ...]
    gains: tuple[float, ...]
    length: float


class _MeshBuilder:
    """Collects the faces of a car."""

    def __init__(self) -> None:
        self.faces: list[tuple[list[Point], Color | None, float]] = []

    def add(self, points: Sequence[Point], color: Color | None, gain: float) -> None:
        self.faces.append((list(points), color, gain))

    def side(
        self, x: float, outline: Sequence[tuple[float, float]], color: Color | None, gain: float,
        top: float | None = None,
    ) -> None:  # fmt: skip
        """Adds an outline (ahead, above) to both flanks; `top` leans the upper points in."""
        belt = min(y for _, y in outline)
        for sign in (-1, 1):
            ring = [(sign * (x if top is None or y <= belt + 0.02 else top), y, z)
                    for z, y in outline]  # fmt: skip
            self.add(ring[::-sign], color, gain)

    def strip(
        self, ends: tuple[Point, Point],
        color: Color | None, gain: float, across: tuple[float, float] = (-1, 1),
        along: tuple[float, float] = (0, 1),
    ) -> None:  # fmt: skip
        """Adds part of a band across the car between two (half width, above, ahead)."""
        points = []
        for share, pair in ((along[0], across), (along[1], across[::-1])):
            half, y, z = (a + share * (b - a) for a, b in zip(*ends, strict=True))
            points += [(edge * half, y, z) for edge in pair]
        self.add(points, color, gain)

    def build(self, length: float) -> _Mesh:
        counts = [len(points) for points, _, _ in self.faces]
        ends = np.cumsum(counts)
        return _Mesh(
            np.array([point for points, _, _ in self.faces for point in points], np.float32),
            np.stack([ends - counts, ends], axis=1),
            tuple(color for _, color, _ in self.faces),
            tuple(gain for _, _, gain in self.faces),
            length,
        )


GLASS: Color = (34, 39, 45)
SHEEN: Color = (92, 102, 112)
TYRE: Color = (24, 24, 25)


@cache
def _car_mesh(tall: float) -> _Mesh:
    """Gives a hatchback, or a small van where `tall` is above 0 (more roof, in m)."""
    roof = 1.45 + tall
    rear, front = 0.42 - 0.25 * (tall > 0), 2.05 - 0.1 * tall
    low_r, bump_r, belt_r = (0.80, 0.30, 0.03), (0.86, 0.64, 0.0), (0.85, 0.98, 0.12)
    roof_r, roof_f = (0.66, roof - 0.03, rear), (0.66, roof, front)
    belt_f, nose, bump_f = (0.84, 1.0, 2.95), (0.80, 0.80, 3.92), (0.84, 0.62, 4.05)
    low_f = (0.80, 0.28, 4.02)
    mesh = _MeshBuilder()
    for z in (0.35, 3.75):  # tyres and the dark below the car
        for x in (-0.70, 0.70):
            mesh.add([(x - 0.11, 0, z), (x + 0.11, 0, z), (x + 0.11, 0.4, z), (x - 0.11, 0.4, z)][
                :: 1 if z < 1 else -1], TYRE, 1)  # fmt: skip
    mesh.side(0.85, [(0.03, 0.3), (0, 0.64), (0.12, 0.98), (2.95, 1.0), (3.92, 0.8),
                     (4.05, 0.62), (4.02, 0.28)], None, 0.70)  # fmt: skip
    mesh.side(0.855, [(0.03, 0.3), (0, 0.58), (4.05, 0.56), (4.02, 0.28)], None, 0.52)
    mesh.side(0.857, [(0.05, 0.86), (0.12, 0.98), (2.95, 1.0), (3.4, 0.9)], None, 0.95)
    for z in (0.78, 3.22):
        for radius, color in ((0.37, (14, 14, 15)), (0.31, TYRE), (0.2, (126, 128, 130)),
                              (0.08, (60, 60, 62))):  # fmt: skip
            ring = [(z - radius * math.cos(t), 0.31 + radius * math.sin(t))
                    for t in np.linspace(0, math.tau, 16, endpoint=False)]  # fmt: skip
            mesh.side(0.865, ring, color, 1)
    mesh.side(0.845, [(0.12, 0.98), (rear, roof - 0.03), (front, roof), (2.95, 1.0)], None, 0.8,
              top=0.66)  # fmt: skip
    for start, end in ((0.36, 1.35), (1.43, 2.72)):
        high_start = max(start + 0.22, rear + 0.08)
        high_end = min(end - 0.02 if end < 2 else front + 0.04, front + 0.04)
        pane = [(start, 1.03), (high_start, roof - 0.11), (high_end, roof - 0.09), (end, 1.03)]
        mesh.side(0.85, pane, GLASS if tall <= 0 or start > 1 else None, 1, top=0.69)
    _add_ends(mesh, (low_r, bump_r, belt_r, roof_r), (roof_f, belt_f, nose, bump_f, low_f))
    return mesh.build(4.05)


def _add_ends(
    mesh: _MeshBuilder, rear: tuple[Point, ...],
    front: tuple[Point, ...],
) -> None:  # fmt: skip
    """Adds what faces back, up and ahead: bumpers, lamps, plates, glass, roof."""
    low, bumper, belt, roof = rear
    mesh.strip((low, bumper), None, 0.62)
    mesh.strip((low, bumper), (34, 34, 36), 1, along=(0, 0.4))
    mesh.strip((bumper, belt), None, 0.84)
    mesh.strip((bumper, belt), (176, 150, 40), 1, (-0.3, 0.3), (0.12, 0.46))
    for side in ((-0.99, -0.72), (0.72, 0.99)):
        mesh.strip((bumper, belt), (150, 22, 20), 1, side, (0.3, 1))
        mesh.strip((bumper, belt), (206, 120, 100), 1, side, (0.3, 0.45))
    mesh.strip((belt, roof), None, 0.92)
    mesh.strip((belt, roof), GLASS, 1, (-0.88, 0.88), (0.1, 0.86))
    mesh.strip((belt, roof), SHEEN, 0.75, (-0.86, 0.86), (0.5, 0.84))
    roof_f, belt_f, nose, bumper_f, low_f = front
    mesh.strip((roof, roof_f), None, 1.3)
    mesh.strip((roof_f, belt_f), None, 1.0)
    mesh.strip((roof_f, belt_f), GLASS, 1.1, (-0.9, 0.9), (0.06, 0.97))
    mesh.strip((roof_f, belt_f), SHEEN, 0.9, (-0.88, 0.88), (0.08, 0.5))
    mesh.strip((belt_f, nose), None, 1.25)
    mesh.strip((nose, bumper_f), None, 0.9)
    mesh.strip((nose, bumper_f), (26, 27, 29), 1, (-0.5, 0.5), (0.1, 0.95))
    for side in ((-0.98, -0.6), (0.6, 0.98)):
        mesh.strip((nose, bumper_f), (214, 216, 214), 1, side, (0.05, 0.95))
    mesh.strip((bumper_f, low_f), None, 0.66)
    mesh.strip((bumper_f, low_f), (28, 28, 30), 1, (-0.7, 0.7), (0.55, 1))
    mesh.strip((bumper_f, low_f), (200, 200, 194), 1, (-0.3, 0.3), (0.15, 0.48))


class Car(NamedTuple):
    """A car to draw: rear end (or front, if oncoming) at `depth`."""

    x: float
    depth: float
    oncoming: bool
    paint: Color
    tall: float


def draw_car(canvas: Canvas, view: View, car: Car) -> None:
    """Draws a car, the faces that the camera sees, in the mesh's order."""
    mesh = _car_mesh(car.tall)
    points = mesh.points.copy()
    if car.oncoming:
        points[:, 0] *= -1
        points[:, 2] = mesh.length - points[:, 2]
    points += to_floats([car.x, 0, car.depth])
    pixels = view.project(points)
    first, second, third = (pixels[mesh.spans[:, 0] + corner] for corner in range(3))
    ahead, aside = second - first, third - first
    facing = ahead[:, 0] * aside[:, 1] - ahead[:, 1] * aside[:, 0] < 0
    fixed = np.round(pixels * 16).astype(np.int32)
    haze = haze_at(car.depth)
    for face in np.flatnonzero(facing):
        start, end = mesh.spans[face]
        base = mesh.colors[face] or car.paint
        lit = [min(255, part * mesh.gains[face]) for part in base]
        color = [a + haze * (b - a) for a, b in zip(lit, HAZE, strict=True)]
        cv2.fillConvexPoly(canvas.image, fixed[start:end], color, cv2.LINE_AA, 4)
        cv2.fillConvexPoly(canvas.labels, fixed[start:end], CAR, cv2.LINE_8, 4)
