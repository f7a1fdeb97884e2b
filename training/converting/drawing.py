"""What the shapes of label tools have in common: sizes, corners and masks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.frames.images import decode_upright, read_bytes, turned_note

from .export import Image, Labels


def checked_size(height: Any, width: Any) -> tuple[int, int]:
    """Gives a frame's size.

    Raises:
        ValueError: It is none.
    """
    try:
        size = int(height), int(width)
    except (OverflowError, TypeError, ValueError):
        size = 0, 0
    if min(size) < 1 or size[0] * size[1] > 1 << 27:
        raise ValueError(f'a frame of {width}x{height} pixels')
    return size


def finite(name: str, value: Any) -> float:
    """Gives a number of a shape.

    Raises:
        ValueError: It is none, or not finite.
    """
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} '{value}' of a shape; draw it anew, or take it out")
    return number


def empty_labels(size: tuple[int, int]) -> Labels:
    """Gives labels of (height, width) that say nothing."""
    return np.full(size, IGNORE, np.uint8)


def labels_of(image: Image, height: Any, width: Any) -> Labels:
    """Gives labels that say nothing, of the size that an export states for an image.

    Raises:
        FileNotFoundError: There is no such image.
        ValueError: It is no size, or not that of the image.
    """
    stated = checked_size(height, width)
    check_size(image, stated)
    return empty_labels(stated)


def check_size(image: Image, stated: tuple[int, ...]) -> None:
    """Checks that labels have the size of their image.

    Args:
        image: The image.
        stated: (height, width) of the labels.

    Raises:
        FileNotFoundError: There is no such image.
        ValueError: They have not, or the image cannot be decoded.
    """
    real = image_size(image)
    if stated != real:
        name, note = '', ''
        if isinstance(image, Path):
            name, note = f' {str(image)!r}', turned_note(image)
        raise ValueError(
            f'the image{name} is {real[1]}x{real[0]}, its labels are for {stated[1]}x{stated[0]}'
            f'{note}; export them with the image that they were drawn on'
        )


def image_size(image: Image) -> tuple[int, int]:
    """Gives the (height, width) of an image.

    Raises:
        FileNotFoundError: There is no such image.
        ValueError: It cannot be decoded.
    """
    if isinstance(image, Path):
        path, data = image, read_bytes(image)
    else:
        path, data = Path('the image in it'), image[0]
    height, width = decode_upright(path, data, cv2.IMREAD_GRAYSCALE).shape
    return height, width


def ellipse_corners(
    centre: tuple[float, float], radii: tuple[float, float], degrees: float = 0.0
) -> NDArray[np.float64]:
    """Gives (n, 2) corners of an ellipse around (x, y), turned clockwise."""
    angle = np.linspace(0, 2 * np.pi, 181)
    x, y = radii[0] * np.cos(angle), radii[1] * np.sin(angle)
    turn = np.radians(degrees)
    return np.stack([
        centre[0] + x * np.cos(turn) - y * np.sin(turn),
        centre[1] + x * np.sin(turn) + y * np.cos(turn),
    ], 1)  # fmt: skip


def rectangle_corners(
    corner: tuple[float, float],
    size: tuple[float, float],
    degrees: float = 0.0,
    about: tuple[float, float] | None = None,
) -> NDArray[np.float64]:
    """Gives (4, 2) corners of a rectangle.

    Args:
        corner: (x, y) of its upper left corner.
        size: Width and height.
        degrees: By which it is turned clockwise.
        about: What it is turned about; None: its corner.
    """
    (x, y), (width, height) = corner, size
    corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
    pivot = np.asarray(corner if about is None else about)
    turn = np.radians(degrees)
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    turned: NDArray[np.float64] = (corners - pivot) @ matrix + pivot
    return turned


def paste_mask(labels: Labels, mask: NDArray[Any], corner: tuple[int, int], place: int) -> None:
    """Gives a class to the pixels of a mask whose upper left corner lies at (x, y)."""
    x, y = corner
    top, left = max(y, 0), max(x, 0)
    inside = mask[top - y :, left - x :]
    part = labels[top : top + inside.shape[0], left : left + inside.shape[1]]
    part[inside[: part.shape[0], : part.shape[1]] > 0] = place
