"""COCO's three forms of an object's outline, as masks: polygons, run lengths, packed run lengths.

Source: the COCO data format, https://cocodataset.org/#format-data, and the run-length packing of
its mask API.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_FAR = 2**15


def decode_segmentation(segmentation: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Gives the (H, W) mask, 1 on the object.

    Args:
        segmentation: A list of polygons [x0, y0, x1, y1, ...] in pixels, or a mapping with the
            run lengths `counts` (numbers, or packed as text).
        size: (height, width) of the photo.

    Raises:
        ValueError: It has another form, or the runs do not fill the photo.
    """
    if isinstance(segmentation, list):
        return decode_polygons(segmentation, size)
    if not isinstance(segmentation, dict) or 'counts' not in segmentation:
        raise ValueError(f'{type(segmentation).__name__} is neither polygons nor run lengths')
    counts = segmentation['counts']
    return decode_runs(unpack_runs(counts) if isinstance(counts, str) else counts, size)


def fill_polygon(mask: NDArray[np.uint8], points: Any, value: int) -> None:
    """Fills a polygon of (x, y) pixels with a value, its border included."""
    corners = np.asarray(points, np.float64).reshape(-1, 2)
    # A polygon may leave the photo, but not what OpenCV's integers hold.
    rounded = np.round(corners).clip(-_FAR, _FAR).astype(np.int32)
    cv2.fillPoly(mask, [rounded], (value,))


def decode_polygons(
    polygons: Sequence[Sequence[float]], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Gives the (H, W) union of polygons, borders included."""
    mask = np.zeros(size, np.uint8)
    for polygon in polygons:
        # One call each: of two polygons in one call, the overlap would be a hole.
        fill_polygon(mask, polygon, 1)
    return mask


def decode_runs(counts: Sequence[int], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Gives the (H, W) mask of run lengths: of zeros first, then ones, down the columns.

    Raises:
        ValueError: The runs do not add up to the photo.
    """
    if sum(counts) != size[0] * size[1]:
        raise ValueError(f'run lengths add up to {sum(counts)}, the photo has {size} pixels')
    values = np.arange(len(counts), dtype=np.uint8) % 2
    mask: NDArray[np.uint8] = np.repeat(values, counts).reshape(size[1], size[0]).T.copy()
    return mask


def run_lengths(mask: NDArray[np.uint8]) -> list[int]:
    """Gives COCO's run lengths of a (H, W) mask: of zeros first, then ones, down the columns."""
    flat = mask.T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths


def unpack_runs(text: str) -> list[int]:
    """Gives the run lengths behind COCO's packed text.

    Each number is cut into groups of five bits, lowest first, written as a character from '0' on;
    bit 5 says that more follow, bit 4 of the last group is the sign. From the fourth number on it
    is the difference to the number two before.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - ord('0')
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return counts
