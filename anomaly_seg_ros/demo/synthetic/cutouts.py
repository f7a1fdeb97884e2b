"""What belongs along a street: people, trees, gable walls, signs, lamps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
import math

import cv2
import numpy as np

from .facades import House
from .haze import HAZE, haze_at
from .measures import BUILDING, PEDESTRIAN, POLE, SIGN, TREE
from .sculpture import Part, sculpt
from .sprite import make_sprite, paste, Sprite
from .texture import (
    Color,
    grain,
    mix,
    noise,
    to_bytes,
    to_floats,
)
from .view import Canvas, Point, View


@cache
def person(coat: Color, legs: Color, phase: int) -> Sprite:
    """Gives a pedestrian; `phase` 0 has the legs together, 1 striding."""
    stride = 0.13 if phase else 0.03
    skin = (176, 134, 112)
    parts = [
        Part((0, 1.12, 0), (0.21, 0.34, 0.14), coat, 3),
        Part((0, 1.62, 0), (0.1, 0.125, 0.11), skin),
        Part((0, 1.68, -0.02), (0.11, 0.1, 0.12), (44, 34, 28)),
    ]
    for side in (-1, 1):
        parts += [
            Part((side * 0.26, 1.08, 0), (0.065, 0.34, 0.08), mix(coat, 0.85), 3, side * 0.1),
            Part((side * stride, 0.44, 0.0), (0.09, 0.45, 0.1), legs, 3, side * stride * 0.8),
            Part((side * stride * 1.5, 0.05, 0.1), (0.08, 0.05, 0.12), (24, 22, 22), 3),
        ]
    return sculpt(parts, (0.76, 1.8), PEDESTRIAN)


@cache
def tree(kind: int) -> Sprite:
    """Gives a tree: bare twigs in winter, or an evergreen for every third kind."""
    rng = np.random.default_rng(40 + kind)
    shape = (448, 448)
    alpha = np.zeros(shape, np.uint8)

    def grow(x: float, y: float, angle: float, length: float, width: float) -> None:
        to_x, to_y = x + length * math.cos(angle), y - length * math.sin(angle)
        ends = [(round(x * 8), round(y * 8)), (round(to_x * 8), round(to_y * 8))]
        strength = 255 if width > 1 else 185
        cv2.line(alpha, ends[0], ends[1], strength, max(1, round(width)), cv2.LINE_AA, 3)
        if length < 9:
            return
        for spread in rng.normal(0, 0.42, 3 if length > 14 else 2):
            grow(to_x, to_y, angle * 0.86 + 0.14 * math.pi / 2 + float(spread),
                 length * float(rng.uniform(0.6, 0.82)), width * 0.6)  # fmt: skip

    grow(224, 447, math.pi / 2, 94, 11)
    radius = 23 if kind % 3 else 9
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (radius, radius))
    cover = to_bytes(cv2.morphologyEx(alpha, cv2.MORPH_CLOSE, kernel))
    tone = np.full((*shape, 3), (56, 49, 43), np.float32)
    if kind % 3 == 0:
        leaves = noise(rng, shape, (40, 34), 3)
        crown = cv2.GaussianBlur(cv2.dilate(alpha, kernel), (0, 0), 7)
        crown[330:] = 0
        thick = (crown > 120 + 60 * leaves) & (crown > 40)
        alpha[thick], cover[thick] = 255, 255
        light = 1 + 0.5 * noise(rng, shape, (30, 26), 3) - 0.5 * (np.arange(448) / 448)[:, None]
        tone[thick] = (to_floats([70, 80, 54]) * light[..., None])[thick]
    tone += grain(rng, shape, 9)[..., None]
    rgba = np.dstack([np.clip(tone, 12, 255) * (alpha[..., None] / 255), alpha])
    return make_sprite(to_bytes(rgba), cover, (8.7, 8.7), TREE)


@cache
def _sign(kind: int) -> Sprite:
    """Gives a round sign: a speed limit, or the blue arrow of a traffic island."""
    board = np.zeros((128, 128, 4), np.uint8)
    middle = (64, 64)
    if kind:
        cv2.circle(board, middle, 62, (206, 206, 204, 255), -1, cv2.LINE_AA)
        cv2.circle(board, middle, 57, (30, 70, 150, 255), -1, cv2.LINE_AA)
        cv2.arrowedLine(board, (88, 36), (42, 86), (226, 226, 224, 255), 13, cv2.LINE_AA, 0, 0.5)
    else:
        cv2.circle(board, middle, 62, (176, 30, 34, 255), -1, cv2.LINE_AA)
        cv2.circle(board, middle, 46, (224, 224, 220, 255), -1, cv2.LINE_AA)
        cv2.putText(board, '30', (29, 80), cv2.FONT_HERSHEY_DUPLEX, 1.6, (20, 20, 22, 255), 4)
    return make_sprite(board, np.ascontiguousarray(board[..., 3]), (0.8, 0.8), SIGN)


def gable(house: House, rng: np.random.Generator) -> Sprite:
    """Gives the end wall of a house, seen above its lower neighbour."""
    depth, ridge = 8.5, house.height + 2.4
    shape = (192, round(192 * depth / ridge))
    eaves = round(shape[0] * (1 - house.height / ridge))
    outline = np.array(
        [(0, eaves), (shape[1] // 2, 0), (shape[1] - 1, eaves), (shape[1] - 1, shape[0]),
         (0, shape[0])], np.int32,
    )  # fmt: skip
    alpha = np.zeros(shape, np.uint8)
    cv2.fillPoly(alpha, [outline], 255, cv2.LINE_AA)
    light = 0.82 + 0.06 * noise(rng, shape, (12, 8), 3) + grain(rng, shape, 0.05)
    tone = to_floats(house.color) * light[..., None] * (alpha[..., None] / 255)
    return make_sprite(to_bytes(np.dstack([tone, alpha])), alpha, (depth, ridge), BUILDING)


def _draw_bar(
    canvas: Canvas, view: View, ends: Sequence[Point], width: float,
    color: Color,
) -> None:  # fmt: skip
    """Draws a post or an arm, `width` m thick."""
    pixels = view.project(to_floats(ends))
    depth = ends[0][2]
    haze = haze_at(depth)
    tone = [a + haze * (b - a) for a, b in zip(color, HAZE, strict=True)]
    half = max(0.5, width * view.focal / depth / 2)
    way = pixels[1] - pixels[0]
    aside = to_floats([-way[1], way[0]]) / max(1e-3, float(np.hypot(*way))) * half
    start, end = pixels
    corners = np.stack([start - aside, start + aside, end + aside, end - aside])
    fixed = np.round(corners * 16).astype(np.int32)
    cv2.fillConvexPoly(canvas.image, fixed, tone, cv2.LINE_AA, 4)
    cv2.fillConvexPoly(canvas.labels, fixed, POLE, cv2.LINE_8, 4)


def draw_lamp(canvas: Canvas, view: View, x: float, depth: float) -> None:
    """Draws a street lamp whose arm reaches over the road."""
    reach = 1.4 if x < 0 else -1.4
    grey: Color = (84, 88, 88)
    _draw_bar(canvas, view, [(x, 0, depth), (x, 1.2, depth)], 0.2, grey)
    _draw_bar(canvas, view, [(x, 1.2, depth), (x, 6.2, depth)], 0.13, grey)
    _draw_bar(canvas, view, [(x, 6.15, depth), (x + reach, 6.5, depth)], 0.09, grey)
    _draw_bar(canvas, view, [(x + 0.8 * reach, 6.42, depth), (x + 1.3 * reach, 6.5, depth)], 0.2,
              (120, 122, 120))  # fmt: skip


def draw_sign(canvas: Canvas, view: View, kind: bool, x: float, depth: float) -> None:
    """Draws a sign on its post."""
    _draw_bar(canvas, view, [(x, 0, depth), (x, 2.4, depth)], 0.08, (96, 98, 98))
    paste(canvas, view, _sign(int(kind)), (x, 2.0, depth - 0.05))
