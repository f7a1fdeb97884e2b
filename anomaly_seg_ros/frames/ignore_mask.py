"""Where a camera sees itself: a picture of the pixels that shall not count."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .images import read_pixels
from .nearest import resize_ids

DISTORTED = 0.05
"""Relative difference between the shapes of mask and image: more is the mask of another camera."""

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
    file, pixels = _picture(path, camera)
    ignored = resize_ids(np.asarray(pixels != 0), size)
    if ignored.all():
        raise ValueError(f'ignore_mask {str(file)!r} is black nowhere, so nothing would be left')
    return ignored


class Drawn(NamedTuple):
    """What is known of a mask that is in use.

    Attributes:
        file: Where it came from.
        shape: (height, width) of the picture.
        share: Of its pixels that are ignored, 0..1.
    """

    file: Path
    shape: tuple[int, int]
    share: float

    def said(self, size: tuple[int, int]) -> tuple[str, bool]:
        """Gives what it does to images of (height, width), and whether that is as it should be."""
        (height, width), share = self.shape, self.share * 100
        said = f'ignore_mask {str(self.file)!r} leaves out {share:.0f} % of the picture'
        if not share:
            return f'{said}: it is black all over; white is what is left out', False
        if abs(width / height * size[0] / size[1] - 1) > DISTORTED:
            shape = f'{height}x{width}, and the images {size[0]}x{size[1]}'
            return f'{said}, stretched: it is {shape}; draw it on an image of this camera', False
        return said, True


def drawn(path: str, camera: str) -> Drawn | None:
    """Gives what is known of a mask; arguments and errors as of `read_ignored`."""
    if not path:
        return None
    file, pixels = _picture(path, camera)
    height, width = pixels.shape
    return Drawn(file, (height, width), float((pixels != 0).mean()))


def _picture(path: str, camera: str) -> tuple[Path, NDArray[np.uint8]]:
    file = Path(path.replace(CAMERA, camera)).expanduser()
    return file, read_pixels(file, cv2.IMREAD_GRAYSCALE)
