"""Painted surfaces, and the noise and colours to paint them with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Color = tuple[int, int, int]


class Surface(NamedTuple):
    """A painted plane: rows go along the street, columns across it or up."""

    color: Bytes
    labels: Bytes


def noise(
    rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int], turns: int = 1
) -> Floats:
    """Gives smooth noise of about -1..1 that repeats along the first axis."""
    total = np.zeros(shape, np.float32)
    for turn in range(turns):
        rows, columns = cells[0] * 2**turn, cells[1] * 2**turn
        grid = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
        grid = np.concatenate([grid[-2:], grid, grid[:2]])
        margin = round(2 * shape[0] / rows)
        tall = cv2.resize(grid, (shape[1], shape[0] + 2 * margin), interpolation=cv2.INTER_CUBIC)
        total += tall[margin : margin + shape[0]] * 0.7**turn
    return total


def grain(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> Floats:
    """Gives independent noise per pixel, from a tile: large textures need no more."""
    tile = rng.normal(0, sigma, (256, 256)).astype(np.float32)
    repeats = (-(-shape[0] // 256), -(-shape[1] // 256))
    return np.tile(tile, repeats)[: shape[0], : shape[1]]


def to_floats(values: ArrayLike) -> Floats:
    """Gives an array or numbers as float32."""
    return np.asarray(values, np.float32)


def to_bytes(values: ArrayLike) -> Bytes:
    """Gives an array clipped to 0..255 and cut to whole numbers."""
    clipped: Bytes = np.clip(np.asarray(values), 0, 255).astype(np.uint8)
    return clipped


def mix(color: Sequence[float], gain: float) -> Color:
    """Gives a colour brightened or darkened by `gain`."""
    red, green, blue = (int(min(255.0, max(0.0, part * gain))) for part in color)
    return red, green, blue
