"""What is known of a frame to messages, without cv_bridge; the way back is `image_message`."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
import importlib
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String

from anomaly_seg_ros.frames.result import Listed
from anomaly_seg_ros.node.message_types import COMPRESSED_IMAGE, DETECTIONS, IMAGE, TEXT
from anomaly_seg_ros.node.outputs import stamped_text
from anomaly_seg_ros.node.regions import detections, detections_fields

_OUTPUT_TYPES = {
    'mono8': (np.uint8, 1),
    '32FC1': (np.float32, 1),
    'bgr8': (np.uint8, 3),
}


class ImageWriter:
    """Fills one reused `Image` message; the buffer is made anew only when the size changes.

    `publish` serialises before it returns, so the same message can be filled for every frame.

    Args:
        encoding: 'mono8', '32FC1', or 'bgr8' (filled from RGB).
    """

    def __init__(self, encoding: str):
        self._type, self._channels = _OUTPUT_TYPES[encoding]
        self._message = Image(encoding=encoding)
        self._view: NDArray[np.uint8 | np.float32] = np.empty((0, 0), self._type)

    def fill(self, image: NDArray[np.uint8 | np.float32], header: Header) -> Image:
        """Gives the message with this image and exactly this header.

        Args:
            image: (H, W), or (H, W, 3) RGB for 'bgr8'.
            header: Of the camera image.
        """
        if image.shape != self._view.shape:
            self._resize(image.shape)
        if self._channels == 3:
            cv2.cvtColor(image, cv2.COLOR_RGB2BGR, dst=self._view)
        else:
            np.copyto(self._view, image, casting='no')
        self._message.header = header
        return self._message

    def _resize(self, shape: tuple[int, ...]) -> None:
        item = np.dtype(self._type).itemsize
        data = array('B', bytes(int(np.prod(shape)) * item))
        message = self._message
        message.height, message.width = shape[:2]
        message.step = shape[1] * self._channels * item
        # An array.array is the one type that rclpy takes over without a copy or a check.
        message.data = data
        self._view = np.frombuffer(message.data, self._type).reshape(shape)


class CompressedWriter:
    """Fills one reused `CompressedImage` message.

    Args:
        encoding: Its field `format`.
    """

    def __init__(self, encoding: str):
        self._message = CompressedImage(format=encoding)

    def fill(self, file: bytes, header: Header) -> CompressedImage:
        """Gives the message with the bytes of an image file and exactly this header."""
        self._message.data = array('B', file)
        self._message.header = header
        return self._message


class TextWriter:
    """Fills one reused `String` message."""

    def __init__(self) -> None:
        self._message = String()

    def fill(self, content: Any, header: Header) -> String:
        """Gives the message of a text, or of a mapping as JSON with stamp and frame."""
        stamp = header.stamp
        self._message.data = stamped_text(content, stamp.sec, stamp.nanosec, header.frame_id)
        return self._message


class FieldsWriter:
    """Makes messages of any type.

    Args:
        kind: The type, as 'vision_msgs/msg/Detection2DArray'.

    Raises:
        ImportError: Its package is not installed.
    """

    def __init__(self, kind: str):
        self._type = message_type(kind)

    def fill(self, content: Any, header: Header) -> Any:
        """Gives a message of its fields by name, or of the one that is called `data`."""
        fields = content if isinstance(content, Mapping) else {'data': content}
        return _filled(self._type(), fields, header)


class DetectionsWriter:
    """Fills one reused `Detection2DArray`: to make a hundred detections anew takes 3 ms.

    Raises:
        ImportError: Its package is not installed.
    """

    def __init__(self) -> None:
        self._message = message_type(DETECTIONS)()
        self._kept: list[Any] = []

    def fill(self, content: Listed, header: Header) -> Any:
        """Gives the message of the regions; each detection has this header too."""
        kept = len(self._kept)
        if len(content.ids) > kept:
            new = {'detections': detections_fields(content)['detections'][kept:]}
            self._kept += _filled(message_type(DETECTIONS)(), new, header).detections
        for each, found in zip(self._kept, detections(content), strict=False):
            each.header, each.id = header, found.id
            each.results[0].hypothesis.score = found.score
            position = each.bbox.center.position
            position.x, position.y = found.x, found.y
            each.bbox.size_x, each.bbox.size_y = found.size_x, found.size_y
        self._message.header = header
        self._message.detections = self._kept[: len(content.ids)]
        return self._message


def _filled(message: Any, fields: Mapping[str, Any], header: Header) -> Any:
    """Fills a message and those inside of it; each that has a header gets this one."""
    types = message.get_fields_and_field_types()
    if 'header' in types:
        message.header = header
    for name, value in fields.items():
        if isinstance(value, Mapping):
            _filled(getattr(message, name), value, header)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            package, _, kind = types[name].removeprefix('sequence<').rstrip('>').partition('/')
            inner = message_type(f'{package}/msg/{kind}')
            setattr(message, name, [_filled(inner(), each, header) for each in value])
        else:
            setattr(message, name, value)
    return message


class Writer(Protocol):
    """Makes the messages of one topic."""

    def fill(self, content: Any, header: Header) -> Any:
        """Gives the message of what an `Output` gives of a frame, with the camera's header."""
        ...


def message_type(kind: str) -> Any:
    """Gives the class of a message type.

    Raises:
        ImportError: Its package is not installed.

    >>> message_type('std_msgs/msg/String').__name__
    'String'
    """
    module, _, name = kind.rpartition('/')
    return getattr(importlib.import_module(module.replace('/', '.')), name)


def message_writer(kind: str, encoding: str) -> Writer:
    """Gives what fills the messages of an output; see `Output` for both."""
    if kind == IMAGE:
        return ImageWriter(encoding)
    if kind == COMPRESSED_IMAGE:
        return CompressedWriter(encoding)
    if kind == DETECTIONS:
        return DetectionsWriter()
    return TextWriter() if kind == TEXT else FieldsWriter(kind)
