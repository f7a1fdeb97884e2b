"""Which way up a picture is: what its file says by Exif, and the turn that this asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .image_bytes import content_format, jpeg_segments, number, Order

UPRIGHT = 1
_TAG = 0x0112
_SHORT, _LONG = 3, 4
_APP1 = 0xE1
_EXIF = b'Exif\0\0'

Pixel = TypeVar('Pixel', bound=np.generic)


def orientation(content: bytes) -> int:
    """Gives how a JPEG, PNG or WebP file wants to be turned, 1 to 8 as Exif numbers it.

    Of a TIFF file OpenCV turns the picture by itself; what says nothing is upright, 1.
    """
    find = {'jpeg': _of_jpeg, 'png': _of_png, 'webp': _of_webp}.get(content_format(content))
    block = next(find(content), b'') if find is not None else b''
    value = _first_entry(block)
    return value if 1 <= value <= 8 else UPRIGHT


def turned(image: NDArray[Pixel], way: int) -> NDArray[Pixel]:
    """Gives an image as a viewer shows it.

    Args:
        image: (H, W) or (H, W, C).
        way: As its file says, 1 to 8.
    """
    if way == UPRIGHT:
        return image
    # From 5 on rows and columns are swapped, before the rest.
    if way >= 5:
        image = image.swapaxes(0, 1)
    rows = slice(None, None, -1 if way in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if way in (2, 3, 6, 7) else 1)
    return np.ascontiguousarray(image[rows, columns])


def _of_jpeg(content: bytes) -> Iterator[bytes]:
    for kind, at in jpeg_segments(content):
        segment = content[at + 2 : at + number(content, at, 2, 'big')]
        if kind == _APP1 and segment.startswith(_EXIF):
            yield segment.removeprefix(_EXIF)


def _of_png(content: bytes) -> Iterator[bytes]:
    at = 8
    while at + 8 <= len(content):
        size = number(content, at, 4, 'big')
        if content[at + 4 : at + 8] == b'eXIf':
            yield content[at + 8 : at + 8 + size]
        at += size + 12


def _of_webp(content: bytes) -> Iterator[bytes]:
    at = 12
    while at + 8 <= len(content):
        size = number(content, at + 4, 4, 'little')
        if content[at : at + 4] == b'EXIF':
            yield content[at + 8 : at + 8 + size].removeprefix(_EXIF)
        at += 8 + size + size % 2


def _first_entry(block: bytes) -> int:
    """Gives the orientation in the first directory of an Exif block; 0 if it is not there."""
    order: Order = 'little' if block.startswith(b'II') else 'big'
    start = number(block, 4, 4, order)
    for entry in range(number(block, start, 2, order)):
        at = start + 2 + 12 * entry
        if at + 12 > len(block):
            break
        if number(block, at, 2, order) == _TAG:
            width = {_SHORT: 2, _LONG: 4}.get(number(block, at + 2, 2, order), 0)
            return number(block, at + 8, width, order)
    return 0
