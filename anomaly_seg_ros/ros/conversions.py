"""Arrays to `sensor_msgs/Image`, without cv_bridge; the way back is `image_message`."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

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
