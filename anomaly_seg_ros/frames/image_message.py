"""Image messages to frames, for messages from rclpy and from bag files alike; needs no ROS."""

from __future__ import annotations

from array import array
import re
from typing import NamedTuple, Protocol, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from .camera_frame import CameraFrame
from .image_bytes import content_format, decode
from .significant_bits import SignificantBits


class _Encoding(NamedTuple):
    """How the pixels of an encoding lie.

    Attributes:
        channels: Values of a pixel; of a 4:2:0 image those of a pixel of its grey plane.
        code: OpenCV's conversion to RGB; None where it is RGB already.
        wide: Whether a value has sixteen bits instead of eight.
        even: Whether the width ('columns') or both sides ('both') must be even.
        mosaic: Whether a pixel sees one colour and the others are taken from its neighbours.
    """

    channels: int
    code: int | None
    wide: bool = False
    even: str = ''
    mosaic: bool = False


# ROS names a Bayer pattern by its first two rows, OpenCV by the second row's second and third
# pixel: RGGB is 'BG' there.
_BAYER = {
    'rggb': cv2.COLOR_BayerBG2RGB,
    'bggr': cv2.COLOR_BayerRG2RGB,
    'gbrg': cv2.COLOR_BayerGR2RGB,
    'grbg': cv2.COLOR_BayerGB2RGB,
}
_ENCODINGS = {
    'rgb8': _Encoding(3, None),
    'bgr8': _Encoding(3, cv2.COLOR_BGR2RGB),
    '8UC3': _Encoding(3, cv2.COLOR_BGR2RGB),
    'rgba8': _Encoding(4, cv2.COLOR_RGBA2RGB),
    'bgra8': _Encoding(4, cv2.COLOR_BGRA2RGB),
    'mono8': _Encoding(1, cv2.COLOR_GRAY2RGB),
    '8UC1': _Encoding(1, cv2.COLOR_GRAY2RGB),
    'uyvy': _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, even='columns'),
    'yuv422': _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, even='columns'),
    'yuyv': _Encoding(2, cv2.COLOR_YUV2RGB_YUY2, even='columns'),
    'yuv422_yuy2': _Encoding(2, cv2.COLOR_YUV2RGB_YUY2, even='columns'),
    'nv12': _Encoding(1, cv2.COLOR_YUV2RGB_NV12, even='both'),
    'nv21': _Encoding(1, cv2.COLOR_YUV2RGB_NV21, even='both'),
    **{f'bayer_{name}8': _Encoding(1, code, mosaic=True) for name, code in _BAYER.items()},
    'rgb16': _Encoding(3, None, wide=True),
    'bgr16': _Encoding(3, cv2.COLOR_BGR2RGB, wide=True),
    'mono16': _Encoding(1, cv2.COLOR_GRAY2RGB, wide=True),
    '16UC1': _Encoding(1, cv2.COLOR_GRAY2RGB, wide=True),
    **{
        f'bayer_{name}16': _Encoding(1, code, wide=True, mosaic=True)
        for name, code in _BAYER.items()
    },
}
ENCODINGS = tuple(_ENCODINGS)
"""Encodings that `to_frame` takes."""

LEAST_MOSAIC_SIDE = 3
"""Pixels that a Bayer image has at least on a side; fewer have no neighbours of all colours."""

SHOWN = 60
"""Characters that are shown of a text in a message."""

_CODEC = re.compile(r'\b(jpe?g|png|tiff?|webp|bmp)\b', re.IGNORECASE)

Bytes: TypeAlias = 'array[int] | NDArray[np.uint8]'


class ImageMessage(Protocol):
    """What is read of a `sensor_msgs/Image`."""

    encoding: str
    height: int
    width: int
    step: int
    is_bigendian: int
    data: Bytes


class CompressedImageMessage(Protocol):
    """What is read of a `sensor_msgs/CompressedImage`."""

    format: str
    data: Bytes


def to_frame(message: ImageMessage, bits: SignificantBits | None = None) -> CameraFrame:
    """Gives the image of a message as a view of its bytes, with its way to RGB.

    Rows may be padded (`step`). The RGB of an unpadded 'rgb8' image is a view of the message too,
    everything else is new.

    Args:
        message: As `sensor_msgs` defines it.
        bits: What is known of the source's 16-bit images; None looks at this one alone.

    Raises:
        ValueError: An encoding that is not in `ENCODINGS`, a side of zero, an odd one where two
            pixels share their colour, a Bayer image of under 3 pixels a side, or too little data.
    """
    name = message.encoding
    if name not in _ENCODINGS:
        raise ValueError(f'unknown encoding {_short(name)}; choose one of: {", ".join(ENCODINGS)}')
    encoding = _ENCODINGS[name]
    size = (message.height, message.width)
    _check_size(name, encoding, size)
    # Of a 4:2:0 image the colours lie below, at half the height.
    rows = size[0] * 3 // 2 if encoding.even == 'both' else size[0]
    pixels = _pixels(message, rows, encoding.channels * (2 if encoding.wide else 1))
    if encoding.wide:
        wide = pixels.view('>u2' if message.is_bigendian else '<u2')
        pixels, name = _narrowed(wide, bits, name)
    return CameraFrame(
        pixels if encoding.channels > 1 else pixels[..., 0], encoding.code, size, name
    )


def _check_size(name: str, encoding: _Encoding, size: tuple[int, int]) -> None:
    height, width = size
    if not height or not width:
        raise ValueError(f'the image has no pixels: {height} rows, {width} columns')
    if encoding.even and width % 2:
        raise ValueError(f'width is {width}; {name!r} stores pixels in pairs')
    if encoding.even == 'both' and height % 2:
        raise ValueError(f'height is {height}; {name!r} stores rows in pairs')
    if encoding.mosaic and min(size) < LEAST_MOSAIC_SIDE:
        raise ValueError(
            f'a Bayer image of {width}x{height} has no colours; it needs {LEAST_MOSAIC_SIDE} '
            'pixels a side'
        )


def _narrowed(
    wide: NDArray[np.uint16], bits: SignificantBits | None, name: str
) -> tuple[NDArray[np.uint8], str]:
    """Gives 16-bit pixels in eight bits, and the encoding with its significant bits."""
    bits = bits or SignificantBits()
    pixels = bits.to_eight(wide)
    return pixels, f'{name}, {bits.bits} significant bits'


def _pixels(message: ImageMessage, rows: int, pixel_bytes: int) -> NDArray[np.uint8]:
    """Gives (rows, W, pixel_bytes) of the message's data, without copying."""
    width, step = message.width, message.step
    row_bytes = width * pixel_bytes
    if step < row_bytes:
        raise ValueError(
            f'step is {step}; {width} pixels of {message.encoding!r} need {row_bytes} bytes a row'
        )
    data = np.frombuffer(message.data, np.uint8)
    # The padding behind the last row may be missing.
    needed = step * (rows - 1) + row_bytes
    if data.size < needed:
        raise ValueError(f'data holds {data.size} bytes; {rows} rows of step {step} need {needed}')
    view = np.lib.stride_tricks.as_strided(data, (rows, row_bytes), (step, 1))
    return view.reshape(rows, width, pixel_bytes)


def compressed_to_frame(
    message: CompressedImageMessage, bits: SignificantBits | None = None
) -> CameraFrame:
    """Gives the image of a compressed message, with its way to RGB.

    The text `format` may be empty or strange, as that of many cameras; but what it says of the
    data must be true. It tells a Bayer image, which its JPEG or PNG holds as it came, from a grey
    one.

    Args:
        message: As `sensor_msgs` defines it.
        bits: What is known of the source's 16-bit images; None looks at this one alone.

    Raises:
        ValueError: Depth, no whole image of a bounded size (see `decode`), or another one than
            `format` says.
    """
    name, codec = _declared(message.format)
    encoding = _ENCODINGS.get(name)
    data = np.frombuffer(message.data, np.uint8)
    found = content_format(data[:16].tobytes())
    if codec and found and codec != found:
        raise ValueError(f'format is {_short(message.format)}, but the data are {found}')
    mosaic = encoding is not None and encoding.mosaic
    how = cv2.IMREAD_UNCHANGED if mosaic else cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    try:
        image = decode(data, how | cv2.IMREAD_IGNORE_ORIENTATION)
    except ValueError as error:
        raise ValueError(
            f'cannot decode {data.size} bytes of format {_short(message.format)} as an image; '
            f'{error}'
        ) from None
    wide = image.dtype != np.uint8
    if image.dtype not in (np.uint8, np.uint16) or (wide and encoding and not encoding.wide):
        raise ValueError(
            f'format is {_short(message.format)}, but the data are {image.dtype}; is it depth?'
        )
    if encoding is None:
        name = found
    if wide:
        image, name = _narrowed(image, bits, name)
    if image.ndim == 3:
        return CameraFrame(image[..., :3], cv2.COLOR_BGR2RGB, encoding=name)
    assert encoding is not None
    size = (image.shape[0], image.shape[1])
    _check_size(name, encoding, size)
    return CameraFrame(image, encoding.code, encoding=name)


def _declared(text: str) -> tuple[str, str]:
    """Gives the encoding before compression and the file format that a format text names.

    >>> _declared('rgb8; jpeg compressed bgr8'), _declared('JPG'), _declared('')
    (('rgb8', 'jpeg'), ('', 'jpeg'), ('', ''))
    """
    if 'compressedDepth' in text:
        raise ValueError(f'format {_short(text)} is a depth image, not a camera image')
    name, parted, _ = text.partition(';')
    codec = _CODEC.search(text)
    short = codec[0].lower() if codec else ''
    return name.strip() if parted else '', {'jpg': 'jpeg', 'tif': 'tiff'}.get(short, short)


def _short(text: str) -> str:
    """Gives a text of a message in quotes, a long one cut: it may be anything."""
    return repr(text) if len(text) <= SHOWN else f'{text[:SHOWN]!r}...'
