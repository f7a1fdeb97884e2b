"""Where a camera sees itself: a picture of the pixels that shall not count."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .images import read_pixels
from .nearest import resize_ids

CAMERA = '{camera}'
"""Stands for the camera's name in the path, where there are several."""


def read_ignored(path: str, camera: str, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Reads which pixels are ignored.

    Args:
        path: An image of the shape of the camera's, of any size: not black where ignored; '' for
            none.
        camera: Takes the place of `CAMERA` in it.
        size: (height, width) of the result.

    Returns:
        (height, width) true where ignored; None where no path is given.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no image, or nothing is left of the camera's.
    """
    if not path:
        return None
    file = Path(path.replace(CAMERA, camera)).expanduser()
    pixels = read_pixels(file, cv2.IMREAD_GRAYSCALE)
    ignored = resize_ids(np.asarray(pixels != 0), size)
    if ignored.all():
        raise ValueError(f'ignore_mask {str(file)!r} is black nowhere, so nothing would be left')
    return ignored
