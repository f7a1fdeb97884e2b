"""Image messages to RGB arrays, for messages from rclpy and from bag files alike; needs no ROS."""

from __future__ import annotations

from array import array
from typing import Protocol, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.frames.camera_frame import CameraFrame
from anomaly_seg_ros.frames.image_bytes import decode

# Encoding to (bytes per pixel, OpenCV code to RGB). ROS names a Bayer pattern by its first two
# rows, OpenCV by the second row's second and third pixel: RGGB is 'BG' there.
_EIGHT_BIT: dict[str, tuple[int, int | None]] = {
    'rgb8': (3, None),
    'bgr8': (3, cv2.COLOR_BGR2RGB),
    '8UC3': (3, cv2.COLOR_BGR2RGB),
    'rgba8': (4, cv2.COLOR_RGBA2RGB),
    'bgra8': (4, cv2.COLOR_BGRA2RGB),
    'mono8': (1, cv2.COLOR_GRAY2RGB),
    '8UC1': (1, cv2.COLOR_GRAY2RGB),
    'uyvy': (2, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422': (2, cv2.COLOR_YUV2RGB_UYVY),
    'yuyv': (2, cv2.COLOR_YUV2RGB_YUY2),
    'yuv422_yuy2': (2, cv2.COLOR_YUV2RGB_YUY2),
    'bayer_rggb8': (1, cv2.COLOR_BayerBG2RGB),
    'bayer_bggr8': (1, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg8': (1, cv2.COLOR_BayerGR2RGB),
    'bayer_grbg8': (1, cv2.COLOR_BayerGB2RGB),
}
_SIXTEEN_BIT = ('mono16', '16UC1')
ENCODINGS = (*_EIGHT_BIT, *_SIXTEEN_BIT)
"""Encodings that `to_rgb` takes."""

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


def to_rgb(message: ImageMessage) -> NDArray[np.uint8]:
    """Gives the image of a message as (H, W, 3) RGB uint8.

    An unpadded 'rgb8' image is a view of the message, everything else is new.

    Raises:
        ValueError: As `to_frame`.
    """
    return to_frame(message).rgb


def to_frame(message: ImageMessage) -> CameraFrame:
    """Gives the image of a message as a view of its bytes, with its way to RGB.

    Rows may be padded (`step`); 16-bit images keep their upper eight bits.

    Raises:
        ValueError: An encoding that is not in `ENCODINGS`, a side of zero, an odd width of a
            4:2:2 image, or too little data.
    """
    encoding = message.encoding
    if encoding in _SIXTEEN_BIT:
        order = '>' if message.is_bigendian else '<'
        grey = (_pixels(message, 2).view(f'{order}u2')[..., 0] >> 8).astype(np.uint8)
        return CameraFrame(grey, cv2.COLOR_GRAY2RGB)
    if encoding not in _EIGHT_BIT:
        raise ValueError(f'unknown encoding {encoding!r}; choose one of: {", ".join(ENCODINGS)}')
    channels, code = _EIGHT_BIT[encoding]
    pixels = _pixels(message, channels)
    if channels == 2 and message.width % 2:
        raise ValueError(f'width is {message.width}; {encoding!r} stores pixels in pairs')
    return CameraFrame(pixels if channels > 1 else pixels[..., 0], code)


def _pixels(message: ImageMessage, pixel_bytes: int) -> NDArray[np.uint8]:
    """Gives (H, W, pixel_bytes) of the message's data, without copying."""
    height, width, step = message.height, message.width, message.step
    if not height or not width:
        raise ValueError(f'the image has no pixels: {height} rows, {width} columns')
    row_bytes = width * pixel_bytes
    if step < row_bytes:
        raise ValueError(
            f'step is {step}; {width} pixels of {message.encoding!r} need {row_bytes} bytes a row'
        )
    data = np.frombuffer(message.data, np.uint8)
    # The padding behind the last row may be missing.
    needed = step * (height - 1) + row_bytes
    if data.size < needed:
        raise ValueError(
            f'data holds {data.size} bytes; {height} rows of step {step} need {needed}'
        )
    rows = np.lib.stride_tricks.as_strided(data, (height, row_bytes), (step, 1))
    return rows.reshape(height, width, pixel_bytes)


def compressed_to_rgb(message: CompressedImageMessage) -> NDArray[np.uint8]:
    """Gives the image of a compressed message as (H, W, 3) RGB uint8.

    What the data hold counts, not what `format` says: many cameras leave that empty.

    Raises:
        ValueError: Depth, or no whole image of a bounded size, see `decode`.
    """
    if 'compressedDepth' in message.format:
        raise ValueError(f'format {message.format!r} is a depth image, not a camera image')
    data = np.frombuffer(message.data, np.uint8)
    try:
        image = decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except ValueError as error:
        raise ValueError(
            f'cannot decode {data.size} bytes of format {message.format!r} as an image; {error}'
        ) from None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
