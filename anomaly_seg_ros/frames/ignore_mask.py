"""Where a camera sees itself: a picture of the pixels that shall not count."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .images import read_pixels
from .resizing import resize_ids

DISTORTED = 0.05
"""Relative difference between the shapes of mask and image: more is the mask of another camera."""

CAMERA = '{camera}'
"""Stands for the camera's name in the path, where there are several."""


class IgnoreMask(NamedTuple):
    """A picture of what shall not count.

    Attributes:
        file: Where it came from.
        pixels: (H, W) true where ignored, at the picture's own size.
    """

    file: Path
    pixels: NDArray[np.bool_]

    def at(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Gives which pixels are ignored at another size.

        Args:
            size: (height, width) of the result.

        Raises:
            ValueError: Nothing is left of the camera's image.
        """
        ignored = resize_ids(self.pixels, size)
        if ignored.all():
            raise ValueError(
                f'ignore_mask {str(self.file)!r} is black nowhere, so nothing would be left'
            )
        return ignored

    def said(self, size: tuple[int, int]) -> tuple[str, bool]:
        """Gives what it does to images of (height, width), and whether that is as it should be."""
        (height, width), share = self.pixels.shape, self.pixels.mean() * 100
        said = f'ignore_mask {str(self.file)!r} leaves out {share:.0f} % of the picture'
        if not share:
            return f'{said}: it is black all over; white is what is left out', False
        if abs(width / height * size[0] / size[1] - 1) > DISTORTED:
            shape = f'{height}x{width}, and the images {size[0]}x{size[1]}'
            return f'{said}, stretched: it is {shape}; draw it on an image of this camera', False
        return said, True


def read_mask(path: str, camera: str) -> IgnoreMask | None:
    """Reads an ignore mask.

    Args:
        path: An image of the shape of the camera's, of any size: not black where ignored; '' for
            none.
        camera: Takes the place of `CAMERA` in it.

    Returns:
        None where no path is given.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no image.
    """
    if not path:
        return None
    file = Path(path.replace(CAMERA, camera)).expanduser()
    return IgnoreMask(file, np.asarray(read_pixels(file, cv2.IMREAD_GRAYSCALE) != 0))


def read_ignored(path: str, camera: str, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Gives what `IgnoreMask.at` gives of a mask; arguments and errors as of the two."""
    mask = read_mask(path, camera)
    return None if mask is None else mask.at(size)
