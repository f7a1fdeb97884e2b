"""What goes out for one camera: the outputs of each frame, and what explains them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import time
from typing import Any, NamedTuple

from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Header

from anomaly_seg_ros.frames.result import Result
from anomaly_seg_ros.node import topics
from anomaly_seg_ros.node.config import NodeConfig
from anomaly_seg_ros.node.outputs import LATCHED, Output, OUTPUTS
from anomaly_seg_ros.ros import qos

from .camera_info import CameraInfoRelay
from .compat import (
    publisher_events,
    PublisherEventCallbacks,
    UnsupportedEventTypeError,
)
from .conversions import message_type, message_writer, Writer


class Advertised(NamedTuple):
    """An output with its publisher and the message that is filled for each frame."""

    output: Output
    publisher: Any
    writer: Writer


class Publications:
    """The publishers of one camera, from configure to cleanup.

    They are made and destroyed by the executor's thread; frames are published by the worker's.

    Args:
        node: Where they belong.
        camera: Name of one of several cameras; '' is the only one.
        config: The parameters at configure.
        on_listener: Called with the event of a subscriber that comes or goes, where the middleware
            tells.
    """

    def __init__(
        self,
        node: LifecycleNode,
        camera: str,
        config: NodeConfig,
        on_listener: Callable[[Any], None],
    ):
        self.outputs: dict[str, Advertised] = {}
        self.camera_info = CameraInfoRelay(node, camera)
        self._node = node
        self._camera = camera
        self._config = config
        self._on_listener = on_listener
        self._latched: dict[str, tuple[Any, Writer]] = {}

    def make(self) -> None:
        """Makes the publishers; those whose message package is not installed are left out.

        Raises:
            ValueError: A user has set their quality of service to what there is not.
        """
        for topic, output in OUTPUTS.items():
            kind = self._installed(topic, output.kind)
            if kind is not None:
                publisher = self._lifecycle_publisher(topic, kind)
                writer = message_writer(output.kind, output.encoding(self._config))
                self.outputs[topic] = Advertised(output, publisher, writer)
        for topic, name in LATCHED.items():
            kind = self._installed(topic, name)
            if kind is not None:
                # A plain publisher: what a lifecycle publisher gets while inactive never reaches
                # late joiners.
                plain = self._node.create_publisher(
                    kind, topics.of_camera(topic, self._camera), qos.latched()
                )
                self._latched[topic] = plain, message_writer(name, '')
        self.camera_info.advertise(self._lifecycle_publisher)

    def _lifecycle_publisher(self, topic: str, kind: type) -> Any:
        name, overrides = topics.of_camera(topic, self._camera), qos.output_overrides()
        resolved = self._node.resolve_topic_name(name)
        qos.check_overrides(self._node, resolved, 'publisher', overrides)

        def make(events: PublisherEventCallbacks) -> Any:
            return self._node.create_lifecycle_publisher(
                kind,
                name,
                qos.output(),
                event_callbacks=events,
                qos_overriding_options=overrides,
            )

        try:
            return make(publisher_events(self._on_listener))
        except UnsupportedEventTypeError:  # not every middleware tells who comes: see `review`
            return make(PublisherEventCallbacks())

    def _installed(self, topic: str, kind: str) -> Any:
        try:
            return message_type(kind)
        except ImportError as error:
            name = topics.of_camera(topic, self._camera)
            self._node.get_logger().info(f'{name} is not published: {error}')
            return None

    def close(self) -> None:
        """Destroys them; nothing may be in work any more."""
        self.camera_info.close()
        for advertised in self.outputs.values():
            self._node.destroy_lifecycle_publisher(advertised.publisher)
        self.outputs.clear()
        for publisher, _ in self._latched.values():
            self._node.destroy_publisher(publisher)
        self._latched.clear()

    def wanted(self) -> bool:
        """Whether somebody listens to anything that is made of images."""
        return self.camera_info.wanted() or any(
            advertised.publisher.get_subscription_count() for advertised in self.outputs.values()
        )

    def explain(self, contents: Mapping[str, Any]) -> None:
        """Publishes what the other topics mean.

        Args:
            contents: Topic to its content, of all of `LATCHED`.
        """
        for topic, (publisher, writer) in self._latched.items():
            publisher.publish(writer.fill(contents[topic], Header()))

    def publish(
        self, result: Result, header: Header, image_size: tuple[int, int], config: NodeConfig
    ) -> float:
        """Makes and publishes what somebody listens to; gives what publishing took.

        Args:
            result: At the size to publish.
            header: Of the camera image.
            image_size: (height, width) of that.
            config: The parameters that hold now.

        Returns:
            Milliseconds, without those of making it.
        """
        published_ms = 0.0
        for output, publisher, writer in self.outputs.values():
            if publisher.get_subscription_count() == 0:
                continue
            filled = writer.fill(output.content(result, config), header)
            made = time.perf_counter()
            publisher.publish(filled)
            published_ms += (time.perf_counter() - made) * 1e3
        self.camera_info.publish(header, result.size, image_size)
        return published_ms
