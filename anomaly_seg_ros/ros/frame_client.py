"""The other side of the node: sends camera frames over DDS and collects what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
import json
import os
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from numpy.typing import NDArray
import rclpy
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String

from anomaly_seg_ros.node import topics
from anomaly_seg_ros.node.outputs import image_outputs, usual_outputs
from anomaly_seg_ros.node.start_checks import check_start
from anomaly_seg_ros.ros import qos

from .compat import make_executor
from .conversions import CompressedWriter, ImageWriter, Writer
from .joining import join_ros

FRAME_ID = 'camera'

KEPT = 4
"""Frames of which pictures are kept that wait for others of theirs; one of 1080x1920 has 12 MB."""


@dataclass
class Answer:
    """What came back for one frame; its pictures are handed on, not kept.

    Attributes:
        wanted: How many outputs make it complete.
        topics: Of the outputs that have come.
        latency_ms: From just before the frame was published to the semantic mask's arrival.
    """

    wanted: int
    topics: set[str] = field(default_factory=set)
    latency_ms: float | None = None

    @property
    def complete(self) -> bool:
        """Whether every output has come."""
        return len(self.topics) == self.wanted


def pixels(message: Image) -> NDArray[np.uint8]:
    """Gives a view of one of the node's 8-bit outputs: (H, W), or (H, W, 3) BGR for 'bgr8'."""
    data = np.frombuffer(message.data, np.uint8)
    if message.encoding == 'bgr8':
        return data.reshape(message.height, message.width, 3)
    return data.reshape(message.height, message.width)


OnComplete = Callable[[int, Mapping[str, Image]], None]
"""Called with (frame number, topic to message) once all outputs of a frame are there."""


@contextmanager
def connected_client(
    namespace: str, on_complete: OnComplete | None = None, **options: Any
) -> Iterator[FrameClient]:
    """Joins ROS with a `FrameClient`, which takes `options`, and leaves it at the end.

    Raises:
        ValueError: ROS does not start here.
    """
    check_start([], os.environ)
    join_ros([])
    try:
        client = FrameClient(namespace, on_complete, **options)
        try:
            yield client
        finally:
            client.close()
    finally:
        rclpy.try_shutdown()


class FrameClient:
    """The cameras and a viewer of one `anomaly_seg` node.

    Args:
        namespace: In which the node runs.
        on_complete: What to do with a frame's outputs; without it no picture is kept at all.
        outputs: Pictures to listen to, None for the usual ones; the node makes no others.
        cameras: Names, as the node's parameter has them.
        compressed: Whether frames are sent as files, JPEG or PNG.
    """

    def __init__(
        self,
        namespace: str,
        on_complete: OnComplete | None = None,
        outputs: Sequence[str] | None = None,
        cameras: Sequence[str] = ('',),
        compressed: bool = False,
    ):
        self.node = Node('anomaly_seg_demo', namespace=namespace)
        self.answers: dict[int, Answer] = {}
        self.publish_ms: dict[int, float] = {}
        self.label_info: dict[str, Any] | None = None
        self.diagnostics: dict[str, str] = {}
        self._on_complete = on_complete
        self._outputs = image_outputs(usual_outputs()) if outputs is None else outputs
        self._sent: dict[tuple[int, int], tuple[int, float]] = {}
        self._waiting: dict[int, dict[str, Image]] = {}
        self._writer: Writer = CompressedWriter('jpeg') if compressed else ImageWriter('bgr8')
        self._executor = make_executor()
        self._executor.add_node(self.node)
        self._image_topics = [
            topics.compressed(topic) if compressed else topic
            for topic in (topics.of_camera(topics.IMAGE, camera) for camera in cameras)
        ]
        profile = QoSProfile(
            history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE
        )
        kind = CompressedImage if compressed else Image
        self._senders = [
            self.node.create_publisher(kind, topic, profile) for topic in self._image_topics
        ]
        self._heard = [
            (self._absolute(topics.of_camera(topic, camera)), topic)
            for camera in cameras
            for topic in self._outputs
        ]
        self._readers = [
            self.node.create_subscription(Image, name, self._receiver(topic), qos.output())
            for name, topic in self._heard
        ]
        label_info = self._absolute(topics.of_camera(topics.LABEL_INFO_JSON, cameras[0]))
        self.node.create_subscription(String, label_info, self._receive_label_info, qos.latched())
        self.node.create_subscription(
            DiagnosticArray, topics.DIAGNOSTICS, self._receive_diagnostics, qos.output()
        )

    def _absolute(self, topic: str) -> str:
        return topics.resolve(topic, self.node.get_namespace())

    def _receiver(self, topic: str) -> Callable[[Image], None]:
        def receive(message: Image) -> None:
            stamp = message.header.stamp
            sent = self._sent.get((stamp.sec, stamp.nanosec))
            if sent is None:
                return
            number, began = sent
            answer = self.answers.setdefault(number, Answer(len(self._outputs)))
            answer.topics.add(topic)
            if topic == topics.SEMANTIC_MASK:
                answer.latency_ms = (time.perf_counter() - began) * 1e3
            if self._on_complete is not None:
                self._keep(number, topic, message, self._on_complete)

        return receive

    def _keep(self, number: int, topic: str, message: Image, on_complete: OnComplete) -> None:
        """Keeps a picture until all of its frame are there, of the last few frames."""
        images = self._waiting.setdefault(number, {})
        images[topic] = message
        if len(images) == len(self._outputs):
            del self._waiting[number]
            on_complete(number, images)
        elif len(self._waiting) > KEPT:
            del self._waiting[min(self._waiting)]

    def _receive_label_info(self, message: String) -> None:
        self.label_info = json.loads(message.data)

    def _receive_diagnostics(self, message: DiagnosticArray) -> None:
        node_name = self._absolute('~').lstrip('/')
        for status in message.status:
            if status.name.startswith(f'{node_name}: '):
                self.diagnostics.update({item.key: item.value for item in status.values})

    def send(self, number: int, image: NDArray[np.uint8] | bytes, camera: int = 0) -> None:
        """Publishes a frame of a camera, stamped with the time now.

        Args:
            number: Of the frame, over all cameras.
            image: (H, W, 3) RGB, or the bytes of a file where frames are compressed.
            camera: Its place among the cameras.
        """
        header = Header(frame_id=FRAME_ID, stamp=self.node.get_clock().now().to_msg())
        message = self._writer.fill(image, header)
        began = time.perf_counter()
        self._sent[header.stamp.sec, header.stamp.nanosec] = (number, began)
        self._senders[camera].publish(message)
        self.publish_ms[number] = (time.perf_counter() - began) * 1e3

    def spin_until(self, done: Callable[[], bool], deadline_s: float) -> bool:
        """Handles what comes in until `done()` or the deadline; tells which."""
        end = time.monotonic() + deadline_s
        while not done():
            left = end - time.monotonic()
            if left <= 0 or not rclpy.ok():
                return False
            self._executor.spin_once(timeout_sec=min(left, 0.05))
        return True

    def node_is_ready(self) -> bool:
        """Whether the node reads our frames reliably and publishes what we listen to."""
        reliable = [
            any(
                reader.qos_profile.reliability == ReliabilityPolicy.RELIABLE
                for reader in self.node.get_subscriptions_info_by_topic(
                    self.node.resolve_topic_name(topic)
                )
            )
            for topic in self._image_topics
        ]
        return all(reliable) and all(self.node.count_publishers(name) for name, _ in self._heard)

    def deafen(self) -> None:
        """Listens to no picture any more."""
        while self._readers:
            self.node.destroy_subscription(self._readers.pop())

    def complete(self) -> int:
        """Gives the number of frames of which every output has come."""
        return sum(answer.complete for answer in self.answers.values())

    def has_answered(self, number: int) -> bool:
        """Whether every output of a frame has come; true for a frame before the first."""
        return number < 0 or (number in self.answers and self.answers[number].complete)

    def close(self) -> None:
        """Leaves the graph."""
        self._executor.shutdown()
        self.node.destroy_node()
