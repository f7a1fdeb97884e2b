"""Resizes maps: ids, masks and labels, which must not be mixed, and scores and pictures."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Kind = TypeVar('Kind', bound=np.generic)
Value = TypeVar('Value', np.uint8, np.float32)


def resize_ids(values: NDArray[Kind], size: tuple[int, int]) -> NDArray[Kind]:
    """Takes each pixel from the one whose centre is nearest; the array itself where it fits.

    An image that is resized by means or linearly stays under its labels: OpenCV's INTER_NEAREST,
    which aligns corners, moves them by a quarter to half a pixel. Where two centres are equally
    near, as everywhere at half the size, the lower and the upper one are taken in turns: one of
    them always would be a quarter of a pixel again.

    Args:
        values: (H, W) or (H, W, C) of any type.
        size: (height, width) of the result.
    """
    (height, width), (rows, columns) = values.shape[:2], size
    if (height, width) == (rows, columns):
        return values
    # Rows are copied as a whole and cost little, so columns are taken from the fewer of them. The
    # mode is that without a check of the indices, which would double the time.
    axes = [(0, nearest_places(height, rows)), (1, nearest_places(width, columns))]
    for axis, places in axes if rows < height else reversed(axes):
        values = _columns(values, places) if axis else values.take(places, 0, mode='clip')
    return values


@lru_cache(maxsize=256)
def nearest_places(side: int, wanted: int) -> NDArray[np.intp]:
    """Gives which of `side` pixels each of `wanted` takes, in rising order.

    >>> nearest_places(4, 6).tolist(), nearest_places(6, 4).tolist(), nearest_places(8, 4).tolist()
    ([0, 1, 1, 2, 2, 3], [0, 2, 3, 5], [0, 3, 4, 7])
    """
    place = np.arange(wanted)
    index, rest = np.divmod((2 * place + 1) * side, 2 * wanted)
    index[(rest == 0) & (place % 2 == 0)] -= 1
    index.flags.writeable = False
    return index


def resize_linear(values: NDArray[Value], size: tuple[int, int]) -> NDArray[Value]:
    """Mixes neighbours linearly; the array itself where it fits.

    Args:
        values: (H, W) or (H, W, C).
        size: (height, width) of the result.
    """
    if values.shape[:2] == size:
        return values
    resized = cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR)
    return resized.astype(values.dtype, copy=False)


def _columns(values: NDArray[Kind], places: NDArray[np.intp]) -> NDArray[Kind]:
    if values.ndim != 2 or values.dtype != np.uint8:
        return values.take(places, 1, mode='clip')
    # As rows of the picture on its side: copied as a whole too, which takes a sixth of the time.
    taken = cv2.transpose(values.view(np.uint8)).take(places, 0, mode='clip')
    return cv2.transpose(taken).view(values.dtype)
