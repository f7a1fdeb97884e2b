"""A look at a camera topic as the node itself would have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import time
from typing import NamedTuple

import rclpy
from rclpy.node import Node
from rclpy.utilities import get_rmw_implementation_identifier

from anomaly_seg_ros.frames.significant_bits import SignificantBits
from anomaly_seg_ros.node.config import NodeConfig
from anomaly_seg_ros.node.input_watch import input_status
from anomaly_seg_ros.node.message_types import COMPRESSED_IMAGE
from anomaly_seg_ros.node.stamp_watch import StampWatch
from anomaly_seg_ros.node.statistics import FrameStatistics
from anomaly_seg_ros.node.topics import IMAGE
from anomaly_seg_ros.node.watchdog import Status
from anomaly_seg_ros.ros import qos

from .camera_input import CameraInput, frame_of, ImageInput, stamp_s
from .compat import make_executor
from .joining import join_ros, plain_errors

DISCOVERY_S = 10.0
"""At most, until a publisher is known: DDS repeats who is there every 3 s."""
NO_LIMIT_S = 0.0
"""No image is too old, unless a user sets `max_age_s`."""


class TopicReport(NamedTuple):
    """What was found on a topic.

    Attributes:
        publishers: One line each: node, type, QoS.
        status: What the node's diagnostics would say of its input.
        size: (height, width) of the last image that could be read; None where none could.
        compressed: Whether the topic carries compressed images.
        middleware: As 'rmw_fastrtps_cpp'.
    """

    publishers: list[str]
    status: Status
    size: tuple[int, int] | None
    compressed: bool
    middleware: str


@contextmanager
def _looking(topic: str) -> Iterator[Node]:
    join_ros([])
    try:
        with plain_errors():
            node = Node('anomaly_seg_doctor', cli_args=['--ros-args', '-r', f'{IMAGE}:={topic}'])
        try:
            yield node
        finally:
            node.destroy_node()
    finally:
        rclpy.try_shutdown()


def probe(topic: str, seconds: float) -> TopicReport:
    """Reads a camera topic for a while.

    Raises:
        ValueError: ROS does not start, or the name is none.
    """
    with _looking(topic) as node:
        executor = make_executor()
        executor.add_node(node)

        def spin(until: float, at_least: bool = True) -> None:
            while time.monotonic() < until:
                executor.spin_once(timeout_sec=0.1)
                if not at_least and node.count_publishers(node.resolve_topic_name(IMAGE)):
                    return

        spin(time.monotonic() + DISCOVERY_S, at_least=False)
        frames, bits, stamps = FrameStatistics(), SignificantBits(), StampWatch()

        def receive(message: ImageInput) -> None:
            frames.arrived()
            now_s = node.get_clock().now().nanoseconds * 1e-9
            if problem := stamps.look(stamp_s(message), now_s, NO_LIMIT_S).problem:
                frames.strange(problem)
            _judge(message, frames, bits)

        compressed = bool(qos.offered(node, node.resolve_topic_name(IMAGE), COMPRESSED_IMAGE))
        config = NodeConfig(input_transport='compressed' if compressed else 'raw')
        camera = CameraInput(node, '', config, frames, receive, lambda: True)
        camera.start()
        spin(time.monotonic() + seconds)
        report = TopicReport(
            [
                f'{info.node_namespace.rstrip("/")}/{info.node_name}: {info.topic_type}, '
                f'{info.qos_profile.reliability.name.lower()}, '
                f'{info.qos_profile.durability.name.lower()}'
                for info in node.get_publishers_info_by_topic(camera.topic)
            ],
            input_status(camera.state(), frames),
            frames.size if frames.size[0] else None,
            compressed,
            get_rmw_implementation_identifier(),
        )
        camera.stop()
        executor.shutdown()
        return report


def _judge(message: ImageInput, frames: FrameStatistics, bits: SignificantBits) -> None:
    """Notes what the node would say of an image, where it cannot be read too."""
    try:
        frame = frame_of(message, bits)
    except ValueError as error:
        frames.dropped('failed', f'image dropped: {error}')
    else:
        frames.encoding, frames.size = frame.encoding, frame.size
