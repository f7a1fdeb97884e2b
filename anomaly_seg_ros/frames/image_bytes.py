"""Decodes the bytes of an image file, whole ones of a bounded size only."""

from __future__ import annotations

from collections.abc import Iterator
import re
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Order = Literal['little', 'big']
"""Of the bytes of a number."""

MOST_PIXELS = 1 << 27
"""What an image may have, 16384x8192: a PNG of some kilobytes can claim gigabytes."""

MOST_PACKED = 1032
"""Bytes that deflate makes one of at most, and pixels that a byte of a JPEG may hold: each block
of 64 takes a bit at least."""

_PNG_START = b'\x89PNG\r\n\x1a\n'
_JPEG_START, _JPEG_END = b'\xff\xd8', b'\xff\xd9'
_JPEG_SCAN = 0xDA
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Marks of the segments that hold the size; the three others are tables."""
_JPEG_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Colour type to values of a pixel."""
_MOST_SCANS = 100
"""Of a JPEG; a progressive one has about ten, and each is as much work as the whole picture."""
_TIFF_SIZES = {1: 1, 3: 2, 4: 4, 6: 1, 8: 2, 9: 4, 16: 8, 17: 8}
"""Type of a whole number to its bytes."""
_JPEG_MARK = re.compile(rb'\xff([\x02-\xcf\xda-\xfe])', re.DOTALL)
"""Marks that a segment follows."""
_JPEG_MARK_OR_END = re.compile(rb'\xff([\x02-\xcf\xd9-\xfe])', re.DOTALL)

_FORMATS = {
    'jpeg': re.compile(rb'\xff\xd8\xff'),
    'png': re.compile(re.escape(_PNG_START)),
    'webp': re.compile(rb'RIFF....WEBP', re.DOTALL),
    'tiff': re.compile(rb'II[*+]\0|MM\0[*+]'),
    'bmp': re.compile(rb'BM'),
}
"""File format to how its files begin."""

_HEIC = re.compile(rb'....ftyp(hei|hev|mif1|msf1|avif|avis)', re.DOTALL)
_VIDEO = re.compile(
    rb'....(ftyp|moov|mdat|wide)|\x1a\x45\xdf\xa3|RIFF....AVI |\0\0\1\xba|'
    rb'(....)?G(?!IF8).{187}(....)?G',
    re.DOTALL,
)
"""MP4 and MOV, MKV and WebM, AVI, and MPEG's two streams, packets of 188 bytes in the one."""
VIDEO_HEAD = 256
"""Bytes that tell a video."""
FRAMES_BY_HAND = 'take its frames out, as by ffmpeg -i VIDEO FRAMES/%05d.png'


def decode(data: NDArray[np.uint8], flags: int) -> NDArray[Any]:
    """Gives what OpenCV decodes, in its order of channels.

    Args:
        data: (n,) bytes of a file.
        flags: Of `cv2.imdecode`.

    Raises:
        ValueError: No image, a JPEG that is cut short (OpenCV would fill the rest with grey),
            more than `MOST_PIXELS`, a PNG or JPEG whose sizes do not fit its length, for which
            OpenCV would take gigabytes, or a JPEG of so many scans that it would take minutes;
            the text is the second half of a sentence.
    """
    content = data.tobytes()
    size = claimed_size(content)
    if size is not None and size[0] * size[1] > MOST_PIXELS:
        raise ValueError(
            f'it is {size[1]}x{size[0]}, more than {MOST_PIXELS >> 20} million pixels'
        )
    if size is not None and not _can_hold(content, size):
        raise ValueError(f'{len(content)} bytes cannot hold {size[1]}x{size[0]}; is it truncated?')
    if content.startswith(_JPEG_START) and is_cut(content):
        raise ValueError(f'the JPEG of {len(content)} bytes is cut short: it has no end mark')
    if content.startswith(_JPEG_START) and _has_too_many_scans(content):
        raise ValueError(f'the JPEG has more than {_MOST_SCANS} scans; save it again')
    if content.startswith(_PNG_START) and _chunk_is_cut(content):
        raise ValueError(f'a chunk ends behind its {len(content)} bytes; is it truncated?')
    image = None
    try:
        image = cv2.imdecode(data, flags) if data.size else None
    except cv2.error as error:
        raise ValueError(f'OpenCV refuses it: {" ".join(str(error).split())}') from None
    if image is None:
        raise ValueError(_other_kind(content) or 'is it truncated?')
    return image


def _other_kind(content: bytes) -> str:
    """Says of what people take for an image what it is, and the way out; '' of others."""
    if _HEIC.match(content):
        return 'it is a HEIC or AVIF picture; save it as JPEG'
    if is_video(content):
        return (
            'it is a video: anomaly_seg demo --source shows it, make_bag makes a bag of it; or '
            f'{FRAMES_BY_HAND}'
        )
    return ''


def is_video(content: bytes) -> bool:
    """Whether bytes begin as those of a video file do."""
    return _VIDEO.match(content) is not None and not _HEIC.match(content)


def content_format(content: bytes) -> str:
    """Gives 'jpeg', 'png', 'webp', 'tiff' or 'bmp' by how the content begins; '' for others."""
    return next((name for name, start in _FORMATS.items() if start.match(content)), '')


def claimed_size(content: bytes) -> tuple[int, int] | None:
    """Gives the (height, width) of a PNG, JPEG, WebP, TIFF or BMP as its head says, else None.

    For other formats OpenCV's own limit of 2**30 pixels holds.
    """
    if content.startswith(_PNG_START):
        return number(content, 20, 4, 'big'), number(content, 16, 4, 'big')
    if content.startswith(_JPEG_START):
        at = next((at for kind, at in jpeg_segments(content) if kind in _JPEG_SIZES), None)
        if at is None:
            return None
        return number(content, at + 3, 2, 'big'), number(content, at + 5, 2, 'big')
    if content.startswith(b'RIFF') and content[8:12] == b'WEBP':
        return _webp_size(content)
    if _FORMATS['tiff'].match(content):
        return _tiff_size(content)
    if content.startswith(b'BM'):
        sides = (int.from_bytes(content[at : at + 4], 'little', signed=True) for at in (22, 18))
        height, width = map(abs, sides)
        return height, width
    return None


def _can_hold(content: bytes, size: tuple[int, int]) -> bool:
    """Tells whether a PNG or JPEG has enough bytes for its size; true of other formats."""
    unpacked = size[0] * size[1]
    if content.startswith(_PNG_START):
        bits = number(content, 24, 1) * _PNG_CHANNELS.get(number(content, 25, 1), 1)
        unpacked = unpacked * bits // 8
    elif not content.startswith(_JPEG_START):
        return True
    return unpacked <= MOST_PACKED * len(content)


def _chunk_is_cut(png: bytes) -> bool:
    """Tells whether a chunk of a PNG claims to be longer than what is left of the file."""
    at = len(_PNG_START)
    while at + 8 <= len(png) and png[at + 4 : at + 8] != b'IEND':
        at += 8 + number(png, at, 4, 'big')
        if at > len(png):
            return True
        at += 4
    return False


def is_cut(jpeg: bytes) -> bool:
    """Tells whether a JPEG lacks its end mark; what follows that does not matter.

    Inside of a scan no byte 0xFF is followed by that of the end mark.
    """
    scan = next((at for kind, at in jpeg_segments(jpeg) if kind == _JPEG_SCAN), None)
    return scan is None or jpeg.find(_JPEG_END, scan) < 0


def jpeg_segments(jpeg: bytes) -> Iterator[tuple[int, int]]:
    """Gives the mark of each segment up to the first scan, and where the segment starts.

    What a segment holds is skipped, a thumbnail with marks of its own for instance.
    """
    kind, at = 0, len(_JPEG_START)
    while kind != _JPEG_SCAN and (mark := _JPEG_MARK.search(jpeg, at)) is not None:
        kind, at = mark[1][0], mark.end()
        yield kind, at
        at += number(jpeg, at, 2, 'big')


def _has_too_many_scans(jpeg: bytes) -> bool:
    """Tells whether a JPEG has more than `_MOST_SCANS` up to its end mark."""
    segments = dict(jpeg_segments(jpeg))
    frame = next((kind for kind in segments if kind in _JPEG_SIZES), None)
    if frame is None or _JPEG_SCAN not in segments:
        return False
    parts = number(jpeg, segments[frame] + 7, 1), number(jpeg, segments[_JPEG_SCAN] + 2, 1)
    if frame not in _JPEG_PROGRESSIVE and parts[0] == parts[1]:
        return False  # of such a camera's JPEG no second scan is read: the look at it all is saved
    scans, at = 0, len(_JPEG_START)
    while (mark := _JPEG_MARK_OR_END.search(jpeg, at)) is not None and mark[0] != _JPEG_END:
        scans += mark[1][0] == _JPEG_SCAN
        if scans > _MOST_SCANS:
            return True
        at = mark.end() + number(jpeg, mark.end(), 2, 'big')
    return False


def _webp_size(content: bytes) -> tuple[int, int] | None:
    kind = content[12:16]
    if kind == b'VP8X':
        return number(content, 27, 3) + 1, number(content, 24, 3) + 1
    if kind == b'VP8 ':
        return number(content, 28, 2) & 0x3FFF, number(content, 26, 2) & 0x3FFF
    if kind == b'VP8L':
        bits = number(content, 21, 4)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    return None


def _tiff_size(content: bytes) -> tuple[int, int] | None:
    """Gives what the first directory of a TIFF or BigTIFF says."""
    order: Order = 'little' if content.startswith(b'II') else 'big'
    is_big = number(content, 2, 2, order) == 43
    wide, count = (8, 8) if is_big else (4, 2)
    start = number(content, wide, wide, order)
    entries = min(number(content, start, count, order), len(content) // 12)
    sides = dict.fromkeys((257, 256), 0)
    for at in range(start + count, start + count + entries * (4 + 2 * wide), 4 + 2 * wide):
        tag, kind = number(content, at, 2, order), number(content, at + 2, 2, order)
        if tag in sides and kind in _TIFF_SIZES:
            size, place = _TIFF_SIZES[kind], at + 4 + wide
            if size > wide:
                place = number(content, place, wide, order)
            sides[tag] = max(sides[tag], number(content, place, size, order))
    height, width = sides.values()
    return (height, width) if height and width else None


def number(content: bytes, at: int, size: int, order: Order = 'little') -> int:
    """Gives the whole number that `size` bytes hold; bytes beyond the end are left out."""
    return int.from_bytes(content[at : at + size], order)
