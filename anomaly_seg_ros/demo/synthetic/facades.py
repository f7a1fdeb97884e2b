"""Facades: houses, shops, gardens."""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import NamedTuple

import cv2
import numpy as np

from .haze import HAZE
from .measures import (
    BUILDING,
    EMPTY,
    PERIOD_M,
    TREE,
    WALL_TOP_M,
)
from .texture import (
    Bytes,
    Color,
    grain,
    mix,
    noise,
    Surface,
    to_bytes,
)


class House(NamedTuple):
    """A plot of the street; `storeys` is 0 for a garden."""

    start: float
    end: float
    height: float
    storeys: int
    color: Color
    shop: bool


WALLS: tuple[Color, ...] = (
    (128, 84, 66), (140, 100, 78), (150, 132, 104), (104, 66, 54), (168, 160, 142),
    (120, 112, 100), (186, 182, 172), (136, 118, 92),
)  # fmt: skip
FASCIAS: tuple[Color, ...] = (
    (30, 58, 44), (96, 24, 28), (26, 34, 62), (34, 34, 36), (40, 72, 84), (150, 146, 138),
)  # fmt: skip
STOREY_M = 2.9


def plan_houses(rng: np.random.Generator) -> list[House]:
    """Gives the plots of one period of the street, in order."""
    houses: list[House] = []
    start = 0.0
    while start < PERIOD_M:
        end = start + rng.uniform(6.5, 11.5)
        if end > PERIOD_M - 6:
            end = PERIOD_M
        garden = len(houses) % 4 == 2 and end < PERIOD_M
        storeys = 0 if garden else int(rng.choice([2, 3, 3, 4]))
        height = 1.7 if garden else storeys * STOREY_M + rng.uniform(0.3, 1.0)
        color = WALLS[int(rng.integers(len(WALLS)))]
        houses.append(House(start, end, height, storeys, color, bool(rng.random() < 0.5)))
        start = end
    return houses


class _Elevation:
    """A facade's drawing board, in m: along the street and above the ground."""

    def __init__(self, density: float) -> None:
        self.density = density
        shape = (round(WALL_TOP_M * density), round(PERIOD_M * density))
        self.color = np.full((*shape, 3), HAZE, np.uint8)
        self.labels = np.full(shape, EMPTY, np.uint8)

    def pixel(self, along: float, above: float) -> tuple[int, int]:
        return round(along * self.density), round((WALL_TOP_M - above) * self.density)

    def box(self, along: tuple[float, float], above: tuple[float, float], color: Color) -> None:
        low, high = self.pixel(along[0], above[1]), self.pixel(along[1], above[0])
        cv2.rectangle(self.color, low, (high[0] - 1, high[1] - 1), color, -1)

    def mark(self, along: tuple[float, float], above: tuple[float, float], label: int) -> None:
        low, high = self.pixel(along[0], above[1]), self.pixel(along[1], above[0])
        cv2.rectangle(self.labels, low, (high[0] - 1, high[1] - 1), label, -1)

    def area(self, along: tuple[float, float], above: tuple[float, float]) -> Bytes:
        low, high = self.pixel(along[0], above[1]), self.pixel(along[1], above[0])
        part: Bytes = self.color[low[1] : high[1], low[0] : high[0]]
        return part

    def surface(self) -> Surface:
        """Gives it with rows along the street and columns from the ground up."""
        return Surface(
            np.ascontiguousarray(self.color[::-1].transpose(1, 0, 2)),
            np.ascontiguousarray(self.labels[::-1].T),
        )


def paint_facades(rng: np.random.Generator, houses: Sequence[House], density: float) -> Surface:
    """Paints one side of the street; `density` is in texels per m."""
    board = _Elevation(density)
    for house in houses:
        # Nothing shows up there, but edges mix with it where the texture is interpolated.
        board.box((house.start, house.end), (0, WALL_TOP_M), (96, 96, 98))
        if house.storeys:
            _paint_house(rng, board, house)
        else:
            _paint_garden(rng, board, house)
    shape = board.labels.shape
    shade = 1 + 0.05 * noise(rng, shape, (8, 60), 3) + grain(rng, shape, 0.035)
    foot = np.clip((np.arange(shape[0])[::-1] / density + 1.2) / 2.6, 0.55, 1.0)
    shade *= foot.astype(np.float32)[:, None]
    board.color[:] = to_bytes(board.color * shade[..., None])
    return board.surface()


def _paint_house(rng: np.random.Generator, board: _Elevation, house: House) -> None:
    span = (house.start, house.end)
    top = house.height
    wall = house.color
    board.mark(span, (0, top), BUILDING)
    board.box(span, (0, top), wall)
    _paint_courses(rng, board, house)
    _paint_roof(rng, board, house)
    board.box(span, (top - 0.28, top), mix(wall, 1.12))  # cornice and its shadow
    board.box(span, (top - 0.42, top - 0.28), mix(wall, 0.55))
    count = max(2, round((house.end - house.start) / 2.6))
    pitch = (house.end - house.start) / count
    for storey in range(1 if house.shop else 0, house.storeys):
        base = storey * STOREY_M + (1.0 if storey else 0.9)
        for column in range(count):
            middle = house.start + (column + 0.5) * pitch
            if storey == 0 and column == count // 2:
                _paint_door(rng, board, middle)
            else:
                _paint_window(rng, board, middle, base, 1.7 - 0.2 * (storey > 1))
    if house.shop:
        _paint_shop(rng, board, house)
    for edge in (house.start, house.end - 0.12):  # party walls and down-pipes
        board.box((edge, edge + 0.12), (0, top), mix(wall, 0.5))


def _paint_courses(rng: np.random.Generator, board: _Elevation, house: House) -> None:
    """Gives brick and stone their courses; painted walls stay plain."""
    part = board.area((house.start, house.end), (0, house.height))
    shape = part.shape[:2]
    plain = min(house.color) > 135
    blocks = rng.normal(0, 3.0 if plain else 11.0, (shape[0] // 3 + 1, shape[1] // 8 + 1))
    values = (
        part
        + cv2.resize(blocks.astype(np.float32), shape[::-1], interpolation=cv2.INTER_NEAREST)[
            ..., None
        ]
    )
    if not plain:
        values[::4] *= 0.88
    part[:] = to_bytes(values)


def _paint_roof(rng: np.random.Generator, board: _Elevation, house: House) -> None:
    span, top = (house.start, house.end), house.height
    slate = mix((74, 74, 80), rng.uniform(0.8, 1.15))
    ridge = min(top + rng.uniform(0.5, 1.3), WALL_TOP_M - 1.2)
    board.mark(span, (top, ridge), BUILDING)
    board.box(span, (top, ridge), slate)
    for above in np.arange(top + 0.2, ridge, 0.22):
        board.box(span, (above, above + 0.05), mix(slate, 0.8))
    for along in (house.start + 0.5, house.end - 1.6):
        stack, height = (along, along + 1.1), min(ridge + 1.0, WALL_TOP_M - 0.1)
        board.mark(stack, (ridge, height), BUILDING)
        board.box(stack, (top + 0.3, height), mix(house.color, 0.72))
        board.box(stack, (height - 0.2, height), mix(house.color, 0.5))


def _paint_window(
    rng: np.random.Generator, board: _Elevation, middle: float, base: float, height: float
) -> None:
    """Paints a sash window in its reveal, with a sill, a lintel and a dim room."""
    half = 0.55
    board.box((middle - 0.75, middle + 0.75), (base + height, base + height + 0.25),
              (168, 162, 148))  # fmt: skip
    board.box((middle - 0.72, middle + 0.72), (base - 0.14, base), (178, 174, 164))
    board.box((middle - 0.72, middle + 0.72), (base - 0.24, base - 0.14), (62, 52, 46))
    board.box((middle - half - 0.06, middle + half + 0.06), (base, base + height), (44, 40, 38))
    board.box((middle - half, middle + half), (base, base + height - 0.08), (206, 205, 200))
    dim = rng.uniform(0.6, 1.3)
    for row in range(2):
        for column in range(2):
            left = middle - half + 0.08 + column * (half - 0.04)
            low = base + 0.08 + row * (height / 2 - 0.04)
            pane, rise = (left, left + half - 0.12), height / 2 - 0.12
            board.box(pane, (low, low + rise), mix((38, 43, 50), dim))
            if row or rng.random() < 0.4:
                board.box(pane, (low + rise * 0.45, low + rise), mix((66, 74, 84), dim))
    if rng.random() < 0.5:
        board.box((middle - half + 0.08, middle - 0.3), (base + 0.1, base + height - 0.16),
                  (150, 144, 134))  # fmt: skip


def _paint_door(rng: np.random.Generator, board: _Elevation, middle: float) -> None:
    color = FASCIAS[int(rng.integers(len(FASCIAS)))]
    board.box((middle - 0.75, middle + 0.75), (0, 2.55), (182, 178, 168))
    board.box((middle - 0.55, middle + 0.55), (0, 2.4), (40, 38, 36))
    board.box((middle - 0.48, middle + 0.48), (0.1, 2.0), color)
    board.box((middle - 0.48, middle + 0.48), (2.08, 2.35), (70, 78, 86))
    for low in (0.3, 1.15):
        board.box((middle - 0.34, middle - 0.06), (low, low + 0.65), mix(color, 0.7))
        board.box((middle + 0.06, middle + 0.34), (low, low + 0.65), mix(color, 0.7))
    board.box((middle - 0.9, middle + 0.9), (0, 0.14), (132, 130, 124))


def _paint_shop(rng: np.random.Generator, board: _Elevation, house: House) -> None:
    """Paints a shop front: fascia with letters, panes, a lit depth, a door."""
    color = FASCIAS[int(rng.integers(len(FASCIAS)))]
    left, right = house.start + 0.25, house.end - 0.25
    board.box((left, right), (0, 3.2), mix(color, 0.8))
    board.box((left, right), (2.55, 3.2), color)
    board.box((left, right), (2.47, 2.55), (24, 23, 22))
    letter = left + 0.9
    while letter < right - 1.2:
        width = rng.uniform(0.12, 0.34)
        board.box((letter, letter + width), (2.72, rng.choice([2.95, 3.03])), (196, 188, 160))
        letter += width + rng.choice([0.09, 0.09, 0.09, 0.4])
    count = max(2, round((right - left) / 2.1))
    pitch = (right - left) / count
    for index in range(count):
        pane = (left + index * pitch + 0.1, left + (index + 1) * pitch - 0.1)
        low = 0.1 if index == count // 2 else 0.6
        board.box(pane, (low, 2.4), mix((46, 50, 55), rng.uniform(0.7, 1.2)))
        board.box(pane, (1.75, 2.4), mix((74, 80, 86), rng.uniform(0.8, 1.1)))
        for _ in range(5):
            along, above = rng.uniform(pane[0], pane[1] - 0.4), rng.uniform(low, 1.5)
            board.box((along, along + rng.uniform(0.15, 0.4)), (above, above + 0.3),
                      mix((90, 84, 74), rng.uniform(0.4, 1.3)))  # fmt: skip


def _paint_garden(rng: np.random.Generator, board: _Elevation, house: House) -> None:
    """Paints a low brick wall with a hedge behind it, ragged at the top."""
    span = (house.start, house.end)
    board.box(span, (0, 3.2), (52, 60, 44))
    part = board.area(span, (0, 3.2))
    part[:] = to_bytes(part * (1 + 0.4 * noise(rng, part.shape[:2], (26, 60), 3))[..., None])
    for along in np.arange(span[0], span[1], 0.12):
        edge = (float(along), min(float(along) + 0.12, span[1]))
        board.mark(edge, (0, 2.2 + 0.35 * math.sin(along * 2.1) + rng.uniform(-0.1, 0.25)), TREE)
    board.mark(span, (0, 1.1), BUILDING)
    board.box(span, (0, 1.1), (126, 88, 70))
    _paint_courses(rng, board, house._replace(height=1.1, color=(126, 88, 70)))
    board.box(span, (1.0, 1.1), (150, 142, 128))
