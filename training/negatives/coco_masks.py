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

_FAR = 2.0**31
_FAR_CV = 2**15
_LONGEST = 7 * 5
"""Bits of a packed number."""
_CROSSINGS = 1 << 20
"""Of edges and rows, at a time."""


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
    if isinstance(counts, str):
        counts = unpack_runs(counts)
    if not isinstance(counts, list) or any(type(c) is not int or c < 0 for c in counts):
        raise ValueError('run lengths that are not all whole numbers from 0 on')
    return decode_runs(counts, size)


def checked_corners(points: Any) -> NDArray[np.float64]:
    """Gives (n, 2) corners of points (x, y), or of their numbers in a row.

    Raises:
        ValueError: They are no pairs of finite numbers.
    """
    try:
        corners = np.asarray(points, np.float64).reshape(-1, 2)
    except TypeError as error:
        raise ValueError(f'corners that are no numbers: {error}') from None
    if not np.isfinite(corners).all():
        x, y = corners[~np.isfinite(corners).all(1)][0].tolist()
        raise ValueError(f"a corner at '{x}, {y}'; draw it anew, or take the shape out")
    return corners


def fill_polygon(mask: NDArray[np.uint8], points: Any, value: int) -> None:
    """Fills the pixels whose centre lies in a polygon of (x, y), where pixel 0 ends at 1.

    What it encloses twice is outside, as in COCO's mask API; one that holds no centre fills
    nothing.

    Raises:
        ValueError: As `checked_corners`.
    """
    # Beyond this, sums of floats would no longer be exact to a small part of a pixel.
    corners = checked_corners(points).clip(-_FAR, _FAR)
    ends = np.roll(corners, -1, 0)
    # An edge crosses the middles of the rows from `first` on and before `last`.
    first, last = _from_centre(np.sort(np.stack([corners[:, 1], ends[:, 1]]), 0), mask.shape[0])
    crossing = np.flatnonzero(last > first)
    if not crossing.size:
        return
    corners, ends, first, last = corners[crossing], ends[crossing], first[crossing], last[crossing]
    slopes = (ends[:, 0] - corners[:, 0]) / (ends[:, 1] - corners[:, 1])
    counts = last - first
    top, bottom = int(first.min()), int(last.max())
    across = _from_centre(np.stack([corners[:, 0], ends[:, 0]]), mask.shape[1])
    left, right = int(across.min()), int(across.max())
    turns = np.zeros((bottom - top, right - left + 1), np.uint8)
    batches = np.flatnonzero(np.diff(np.cumsum(counts) // _CROSSINGS)) + 1
    for batch in np.split(np.arange(len(counts)), batches):
        edges = np.repeat(batch, counts[batch])
        starts = np.cumsum(counts[batch]) - counts[batch]
        rows = first[edges] + np.arange(edges.size) - np.repeat(starts, counts[batch])
        x = corners[edges, 0] + (rows + 0.5 - corners[edges, 1]) * slopes[edges]
        columns = _from_centre(x, mask.shape[1]).clip(left, right)
        np.bitwise_xor.at(turns, (rows - top, columns - left), 1)
    inside = np.bitwise_xor.accumulate(turns, 1)[:, :-1].astype(np.bool_)
    mask[top:bottom, left:right][inside] = value


def _from_centre(at: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """Gives the first pixel, of `size`, whose centre is not before a place."""
    return np.ceil(at - 0.5).clip(0, size).astype(np.int64)


def fill_with_border(mask: NDArray[np.uint8], points: Any, value: int) -> None:
    """Fills a polygon of (x, y) whose corners are centres of pixels, its border included.

    Raises:
        ValueError: As `checked_corners`.
    """
    # A polygon may leave the photo, but not what OpenCV's integers hold.
    rounded = np.round(checked_corners(points)).clip(-_FAR_CV, _FAR_CV).astype(np.int32)
    cv2.fillPoly(mask, [rounded], (value,))


def decode_polygons(
    polygons: Sequence[Sequence[float]], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Gives the (H, W) union of polygons; of those that hold no pixel's centre, their borders."""
    mask = np.zeros(size, np.uint8)
    for fill in (fill_polygon, fill_with_border):
        for polygon in polygons:
            # One call each: of two polygons in one call, the overlap would be a hole.
            fill(mask, polygon, 1)
        if mask.any():
            break
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

    Raises:
        ValueError: A number has more groups than 32 bits need.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - ord('0')
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            if shift == _LONGEST:
                raise ValueError('packed run lengths hold a number of more than 7 characters')
            continue
        if code & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return counts
