"""Which pixels of a photo are pasted: a rectangle, a smooth blob, or some of its regions."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

SMALLEST_SIDE = 16
SIDE_STEP = 8
BLOB_WAVES = 4
BLOB_POINTS = 72
REGIONS_PER_PATCH = 2


def rectangle(size: tuple[int, int], rng: np.random.Generator) -> Mask:
    """Gives a mask of `size` (height, width) with a random rectangle.

    Its sides are drawn from 16, 24, 32, ... below the side of `size`; a side of 16 or less is
    taken whole.

    Source: Grcic et al., "DenseHybrid", 2022, in the authors' code.
    """
    height, width = (_draw_side(side, rng) for side in size)
    top = int(rng.integers(size[0] - height + 1))
    left = int(rng.integers(size[1] - width + 1))
    mask = np.zeros(size, np.bool_)
    mask[top : top + height, left : left + width] = True
    return mask


def blob(size: tuple[int, int], rng: np.random.Generator) -> Mask:
    """Gives a mask of `size` (height, width) with a smooth closed shape around a random place.

    An ellipse in a random rectangle whose radius waves by up to a third. It keeps a network from
    learning that outliers have straight borders along the axes.
    """
    box = rectangle(size, rng)
    rows, columns = box.any(axis=1).nonzero()[0], box.any(axis=0).nonzero()[0]
    angles = np.linspace(0, 2 * np.pi, BLOB_POINTS, endpoint=False)
    waves = np.arange(1, BLOB_WAVES + 1)
    heights = rng.uniform(0, 1, BLOB_WAVES) / waves
    heights *= rng.uniform(0, 1 / 3) / heights.sum()
    phases = rng.uniform(0, 2 * np.pi, BLOB_WAVES)
    radius = 1 + (heights[:, None] * np.cos(waves[:, None] * angles + phases[:, None])).sum(0)
    radius /= radius.max()
    x = (columns[0] + columns[-1]) / 2 + radius * np.cos(angles) * (columns.size - 1) / 2
    y = (rows[0] + rows[-1]) / 2 + radius * np.sin(angles) * (rows.size - 1) / 2
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [np.stack([x, y], axis=1).round().astype(np.int32)], (1,))
    return mask > 0


def union_of_regions(regions: NDArray[np.uint8], rng: np.random.Generator) -> Mask | None:
    """Gives the pixels of two region ids, drawn with replacement from those that are there.

    DenseHybrid's code draws 0 as well, and pastes what bears it.

    Args:
        regions: (H, W) ids, 0 = background.
        rng: Source of the choice.

    Returns:
        (H, W) mask, or None where all is background.
    """
    ids = np.unique(regions)
    ids = ids[ids > 0]
    if not ids.size:
        return None
    return np.isin(regions, rng.choice(ids, REGIONS_PER_PATCH))


def _draw_side(limit: int, rng: np.random.Generator) -> int:
    sides = np.arange(SMALLEST_SIDE, limit, SIDE_STEP)
    return int(rng.choice(sides)) if sides.size else limit
