"""Label files: the ids as they are stored, and what each id means."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
import re
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.frames.image_bytes import content_format
from anomaly_seg_ros.frames.images import decode_upright, read_bytes

LABEL_SUFFIXES = ('.png', '.tif', '.tiff', '.bmp', '.npy')
"""Files that hold numbers without loss."""

AS_IS = {0: 0, 1: 1, IGNORE: IGNORE}
"""Label files that hold 0 inlier, 1 anomaly, 255 ignore already."""

BY_LABEL_MAP = '; say what it means, as --label-map {}=1'
"""The way out of an unknown id where `--label-map` is taken."""

NO_ID = '; store it as an id of 0 to 65535'
"""The way out of a number that is no id at all."""

MEANINGS = {0: 'normal', 1: 'anomaly', IGNORE: 'ignored'}
"""What anomaly labels say of a pixel."""

LABEL_MAP_HELP = (
    'what an id of the label files means: 0 normal, 1 anomaly, 255 ignored; as 255=1 for masks of '
    '0 and 255 (of dataset folder, or of --labels where it is taken)'
)

MOST_IDS = 1 << 16
_TIFF_BITS = 258

Ids: TypeAlias = NDArray[Any]
"""(H, W) whole numbers, as they are stored."""


def read_ids(path: Path) -> Ids:
    """Reads the ids of a label image as they are stored, with 8 or 16 bits.

    Where the file has a palette, or 1, 2 or 4 bits a pixel, its numbers are the ids, not the
    colours that they stand for. Of three equal channels the first is taken.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no whole image of 8 or 16 bits, its colours differ, or its format
            does not keep numbers.
    """
    from PIL import Image

    data = read_bytes(path)
    if _loses(data):
        raise ValueError(
            f'{str(path)!r} is of a format that does not keep the ids in it '
            f'({content_format(data)}); export the labels as PNG'
        )
    # First, because it checks what the file claims.
    ids = decode_upright(path, data, cv2.IMREAD_UNCHANGED)
    try:
        stored = _numbers(data)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f'cannot read {str(path)!r} as a label image; {error}') from None
    if stored is not None:
        return stored
    if ids.dtype not in (np.uint8, np.uint16):
        raise ValueError(f'{str(path)!r} holds {ids.dtype}, not label ids of 8 or 16 bits')
    if ids.ndim == 2:
        return ids
    if (ids[..., 1:3] != ids[..., :1]).any():
        raise ValueError(f'{str(path)!r} is a colour picture, not label ids')
    return np.ascontiguousarray(ids[..., 0])


def _loses(data: bytes) -> bool:
    """Whether an image file is of a format that changes values: JPEG, or a lossy WebP."""
    kind = content_format(data)
    return kind == 'jpeg' or (kind == 'webp' and data[12:16] != b'VP8L' and b'VP8 ' in data)


def _numbers(data: bytes) -> NDArray[np.uint8] | None:
    """Gives the numbers of a file that has a palette or few bits; None for any other.

    OpenCV gives colours for both, and PIL for greys of 2 or 4 bits.
    """
    from PIL import Image, ImageOps

    kind = content_format(data)
    if kind not in ('png', 'tiff', 'bmp'):
        return None
    with Image.open(BytesIO(data)) as picture:
        bits = 8
        if kind == 'png':
            bits = data[24]
        elif kind == 'tiff':
            bits = int(np.max(picture.getexif().get(_TIFF_BITS, 1)))
        if picture.mode not in ('1', 'P') and bits >= 8:
            return None
        numbers = np.asarray(ImageOps.exif_transpose(picture), np.uint8)
        return numbers // (255 // ((1 << bits) - 1)) if picture.mode == 'L' else numbers


def ids_in(ids: Ids) -> frozenset[int]:
    """Gives the ids that occur."""
    if ids.dtype in (np.uint8, np.uint16):
        return frozenset(np.flatnonzero(np.bincount(ids.ravel())).tolist())
    return frozenset(np.unique(ids).tolist())


class LabelTable:
    """What stored ids mean.

    Args:
        meanings: Id to what it means; other ids are errors.
        owner: Whose labels these are, for error texts.
        way_out: How the user can say what an id means, for error texts; `{}` is the id.
    """

    def __init__(self, meanings: Mapping[int, int], owner: str, way_out: str = ''):
        self._known = frozenset(meanings)
        self._owner, self._way_out = owner, way_out
        self._table = np.zeros(MOST_IDS, np.uint8)
        for stored, meant in meanings.items():
            self._table[stored] = meant

    def meaning(self, ids: Ids, found: frozenset[int], path: Path) -> NDArray[np.uint8]:
        """Gives what each pixel means.

        Args:
            ids: (H, W) as stored.
            found: `ids_in` of these.
            path: Their file, for the error text.

        Raises:
            ValueError: An id is not known.
        """
        if strange := sorted(found - self._known):
            known = ', '.join(map(str, sorted(self._known)[:40]))
            raise ValueError(
                f'{str(path)!r} holds label {strange[0]}; {self._owner} has {known}'
                + (self._way_out if 0 <= strange[0] < MOST_IDS else NO_ID).replace(
                    '{}', str(strange[0])
                )
            )
        meaning: NDArray[np.uint8] = self._table[ids]
        return meaning


def parse_label_map(text: str | None) -> dict[int, int]:
    """Gives what the ids of anomaly labels mean: `AS_IS`, and what a text changes of it.

    Raises:
        ValueError: The text is no list of ID=MEANING.

    >>> parse_label_map('255=1,7=255')
    {0: 0, 1: 1, 255: 1, 7: 255}
    """
    meanings = dict(AS_IS)
    for part in () if text is None else text.split(','):
        match = re.fullmatch(r'\s*(\d{1,5})\s*=\s*(\d{1,3})\s*', part)
        if match is None or int(match[1]) >= MOST_IDS or int(match[2]) not in MEANINGS:
            words = ', '.join(f'{value} ({word})' for value, word in MEANINGS.items())
            raise ValueError(
                f'label map {text!r} must be ID=MEANING, as 255=1 or 2=1,7=255: an id of the '
                f'label files, and one of {words}'
            )
        meanings[int(match[1])] = int(match[2])
    return meanings
