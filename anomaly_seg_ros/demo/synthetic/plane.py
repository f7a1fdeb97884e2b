"""Planes along the street, drawn from a texture that slides by."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .measures import EMPTY, PERIOD_M, STEP_M
from .texture import Floats, Surface
from .view import Canvas, FAR_M, NEAR_M


class _Level(NamedTuple):
    """One band of distance of a plane, with the texture that is sharp enough for it."""

    surface: Surface
    rows: int
    period: int
    step: int
    where: tuple[slice, slice]
    map_xy: NDArray[np.int16]
    map_fraction: NDArray[np.uint16]


class Plane:
    """A plane along the street, drawn from a texture that slides by whole texels.

    Looking it up is a fixed map per band of distance: moving on only starts to read the texture
    further down. So a frame costs one `remap` per pixel, and far bands read a blurred copy.
    """

    def __init__(
        self, surface: Surface, density: float, depth: Floats, offset: Floats, reach: float
    ) -> None:
        """Prepares the maps.

        Args:
            surface: Texture of one period.
            density: Its texels per m.
            depth: (H, W) distance ahead of the camera of each pixel on the plane, in m.
            offset: (H, W) way across the plane from the texture's first column, in m.
            reach: focal length in pixels times the camera's distance from the plane, in m.
        """
        self._levels: list[_Level] = []
        extent = surface.color.shape[1] / density
        near = NEAR_M
        for level in range(12):
            far = min(FAR_M, math.sqrt(2 ** (level + 1) / density * reach))
            inside = (depth >= near) & (depth < far) & (offset >= 0) & (offset < extent)
            if inside.any():
                scaled = _coarsen(surface, density, level)
                self._levels.append(_make_level(scaled, inside, depth, offset, extent))
            near = max(far, near)

    def draw(self, canvas: Canvas, index: int) -> None:
        """Draws the plane as frame `index` sees it."""
        for level in self._levels:
            start = index * level.step % level.period
            rows = slice(start, start + level.rows)
            labels = cv2.remap(
                level.surface.labels[rows], level.map_xy, np.empty(0), cv2.INTER_NEAREST,
                borderMode=cv2.BORDER_CONSTANT, borderValue=EMPTY,
            )  # fmt: skip
            color = cv2.remap(
                level.surface.color[rows], level.map_xy, level.map_fraction, cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )  # fmt: skip
            mask = (labels != EMPTY).astype(np.uint8)
            cv2.copyTo(color, mask, canvas.image[level.where])
            cv2.copyTo(labels, mask, canvas.labels[level.where])


def _coarsen(surface: Surface, density: float, level: int) -> Surface:
    """Halves the texture along the street once a level, across it every other.

    A frame's step has to stay a whole number of texels; beyond that the texture is only blurred.
    """
    halvings = min(level, int(math.log2(density * STEP_M)))
    rows, columns = surface.labels.shape
    across = 2 ** (halvings // 2)
    size = (columns // across, rows // 2**halvings)
    color = cv2.resize(surface.color, size, interpolation=cv2.INTER_AREA)
    if level > halvings:
        length = 2 ** (level - halvings)
        wrapped = np.concatenate([color[-length:], color, color[:length]])
        color = cv2.blur(wrapped, (1, length))[length:-length]
    labels = cv2.resize(surface.labels, size, interpolation=cv2.INTER_NEAREST)
    return Surface(color.astype(np.uint8), labels.astype(np.uint8))


def _make_level(
    surface: Surface, inside: NDArray[np.bool_], depth: Floats, offset: Floats, extent: float
) -> _Level:
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    where = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    period, width = surface.labels.shape
    far = int(depth[inside].max() / PERIOD_M * period) + 2
    repeats = -(-(period + far) // period)
    tiled = Surface(np.tile(surface.color, (repeats, 1, 1)), np.tile(surface.labels, (repeats, 1)))
    outside = ~inside[where]
    map_x = (offset[where] * (width / extent)).astype(np.float32)
    map_y = (depth[where] * (period / PERIOD_M)).astype(np.float32)
    map_x[outside], map_y[outside] = -9, -9
    map_xy, fraction = cv2.convertMaps(map_x, map_y, cv2.CV_16SC2)
    return _Level(
        tiled, far, period, round(STEP_M * period / PERIOD_M), where,
        map_xy.astype(np.int16), fraction.astype(np.uint16),
    )  # fmt: skip
