"""Hands a camera's calibration on, at the size and with the header of what is published."""

from __future__ import annotations

from collections.abc import Callable
import time
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from anomaly_seg_ros.node import topics
from anomaly_seg_ros.ros import qos

from .camera_input import SELDOM_S

CROPPED = 0.02
"""Relative difference between the shapes of a calibration and of an image: more is no rounding."""


class CameraInfoRelay:
    """Keeps the newest `CameraInfo` and publishes it with each frame, where one came.

    Not synchronised with the images: the calibration of a camera seldom changes, and a frame is
    not to wait for it.

    Args:
        node: Where it belongs.
        camera: Name of one of several cameras; '' is the only one.
    """

    def __init__(self, node: LifecycleNode, camera: str):
        self._node = node
        self._input = topics.of_camera(topics.CAMERA_INFO, camera)
        self._image = topics.of_camera(topics.IMAGE, camera)
        self._newest: CameraInfo | None = None
        self._said, self._said_at = '', -SELDOM_S
        self._subscription: Any = None
        self._publisher: Any = None

    def advertise(self, make_publisher: Callable[[str, type], Any]) -> None:
        """Makes the publisher, by what makes those of a camera."""
        self._publisher = make_publisher(topics.CAMERA_INFO_OUT, CameraInfo)

    def subscribe(self) -> None:
        """Listens to the camera from now on."""
        self._subscription = self._node.create_subscription(
            CameraInfo, self._input, self._receive, qos.camera_info_input()
        )

    def unsubscribe(self) -> None:
        """Listens no longer; may be called again."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def close(self) -> None:
        """Destroys what there is."""
        self.unsubscribe()
        if self._publisher is not None:
            self._node.destroy_lifecycle_publisher(self._publisher)
            self._publisher = None

    def wanted(self) -> bool:
        """Whether somebody listens."""
        return self._publisher is not None and self._publisher.get_subscription_count() > 0

    def publish(self, header: Header, size: tuple[int, int], image_size: tuple[int, int]) -> None:
        """Publishes the calibration of a frame, where there is one and somebody listens.

        Args:
            header: Of the camera image.
            size: (height, width) of what is published of it.
            image_size: (height, width) of the image itself.
        """
        if not self.wanted():
            return
        newest = self._newest
        if newest is None:
            if not self._said:
                self._warn(self._why_missing())
            return
        if problem := misfit(newest, image_size):
            self._warn(f'{self._node.resolve_topic_name(self._input)}: {problem}')
        self._publisher.publish(rescaled(newest, header, size))

    def _warn(self, problem: str) -> None:
        """Says it once, until there is another one; seldom, of those that come and go."""
        now = time.monotonic()
        if problem and problem != self._said and now - self._said_at > SELDOM_S:
            self._node.get_logger().warning(problem)
            self._said, self._said_at = problem, now

    def _why_missing(self) -> str:
        """Gives why no calibration has come that somebody listens to; '' where it may yet."""
        topic = self._node.resolve_topic_name(self._input)
        if self._node.count_publishers(topic):
            return ''
        beside = topics.beside(self._node.resolve_topic_name(self._image))
        hint = f'remap {self._input} to that of the camera'
        if beside != topic and self._node.count_publishers(beside):
            hint = f'remap {self._input} to {beside}'
        return f'nobody publishes {topic}, so that ~/camera_info stays empty; {hint}'

    def _receive(self, message: CameraInfo) -> None:
        self._newest = message


def misfit(info: CameraInfo, size: tuple[int, int]) -> str:
    """Gives why a calibration is not that of images of (height, width); '' where it may be."""
    width = (info.roi.width or info.width) / (info.binning_x or 1)
    height = (info.roi.height or info.height) / (info.binning_y or 1)
    if not (width and height) or abs(width / height * size[0] / size[1] - 1) <= CROPPED:
        return ''
    return (
        f'the calibration is of {height:.0f}x{width:.0f}, and the images are '
        f'{size[0]}x{size[1]}, another shape; where the driver crops it must say so in roi'
    )


def rescaled(info: CameraInfo, header: Header, size: tuple[int, int]) -> CameraInfo:
    """Gives the calibration of an image that is published at another size.

    The matrices of a `CameraInfo` are those of the whole sensor; `roi` and `binning` say what the
    image shows of it. The result says the same of an image that is whole. Distortion and rotation
    do not depend on the size.

    Args:
        info: Of the camera's image.
        header: Of the result.
        size: (height, width) of the result.
    """
    height, width = size
    # All zero stands for the whole sensor, and a sensor of no size for that of the image.
    across = width / (info.roi.width or info.width or width)
    down = height / (info.roi.height or info.height or height)
    result = CameraInfo(header=header, height=height, width=width, d=info.d, r=info.r)
    result.distortion_model = info.distortion_model
    for name, columns in (('k', 3), ('p', 4)):
        matrix = np.array(getattr(info, name)).reshape(3, columns)
        matrix[:2, 2] -= matrix[2, 2] * np.array([info.roi.x_offset, info.roi.y_offset])
        matrix[0] *= across
        matrix[1] *= down
        setattr(result, name, matrix.ravel())
    return result
