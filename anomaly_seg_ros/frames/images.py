"""Reads and writes image files; the only place where OpenCV's BGR order meets a file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.frames.image_bytes import decode

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp', '.ppm', '.tif', '.tiff')


def read_image(path: Path) -> NDArray[np.uint8]:
    """Reads an image file as (H, W, 3) RGB uint8.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no whole image of a bounded size, see `decode`.
    """
    if not path.is_file():
        raise FileNotFoundError(f'no image file {str(path)!r}')
    # Not imread: that reports a broken file on stderr from C++ and follows EXIF rotation.
    data = np.fromfile(path, np.uint8)
    try:
        image = decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except ValueError as error:
        raise ValueError(f'cannot decode {str(path)!r} as an image; {error}') from None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes (H, W, 3) RGB or (H, W) grey; the suffix names the format.

    Raises:
        OSError: The file cannot be written.
    """
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR).astype(np.uint8, copy=False)
    if not cv2.imwrite(str(path), image):
        raise OSError(f'cannot write {str(path)!r}')


def find_images(paths: list[Path]) -> list[Path]:
    """Lists the image files among `paths` and, sorted by name, in those that are folders.

    Raises:
        FileNotFoundError: A path does not exist, or nothing was found.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        elif path.is_file():
            found.append(path)
        else:
            raise FileNotFoundError(f'no file or folder {str(path)!r}')
    if not found:
        raise FileNotFoundError(f'no images in {", ".join(repr(str(p)) for p in paths)}')
    return found
