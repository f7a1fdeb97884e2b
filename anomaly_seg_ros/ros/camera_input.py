"""The subscription to a camera: made for somebody who listens, and as reliable as the camera."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
import time
from typing import Any, TypeAlias

from rclpy.clock import ROSClock
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import CompressedImage, Image

from anomaly_seg_ros.frames.camera_frame import CameraFrame
from anomaly_seg_ros.frames.image_message import compressed_to_frame, to_frame
from anomaly_seg_ros.frames.significant_bits import SignificantBits
from anomaly_seg_ros.node import topics
from anomaly_seg_ros.node.config import NodeConfig
from anomaly_seg_ros.node.input_watch import InputState
from anomaly_seg_ros.node.message_types import COMPRESSED_IMAGE, IMAGE
from anomaly_seg_ros.node.statistics import FrameStatistics
from anomaly_seg_ros.ros import qos

from .compat import SubscriptionEventCallbacks, UnsupportedEventTypeError

ImageInput: TypeAlias = Image | CompressedImage

THROTTLE_S = 5.0
"""Seconds between two log lines of the same kind."""
SELDOM_S = 60.0
"""Seconds between two that say how a camera is, where that comes and goes."""
REMEMBERED = 100
"""Images that may still come by the other one of two subscriptions, at most."""


def frame_of(message: ImageInput, bits: SignificantBits) -> CameraFrame:
    """Gives the image of a message of either kind.

    Args:
        message: What came.
        bits: What is known of the camera's 16-bit images.

    Raises:
        ValueError: It is no image that can be read.
    """
    if isinstance(message, Image):
        return to_frame(message, bits)
    return compressed_to_frame(message, bits)


def stamp_s(message: ImageInput) -> float:
    """Gives the stamp of a message as one number."""
    stamp = message.header.stamp
    seconds: float = stamp.sec + stamp.nanosec * 1e-9
    return seconds


class CameraInput:
    """Belongs to one camera; all calls come from the executor's thread.

    Args:
        node: Where it belongs.
        camera: Name of one of several cameras; '' is the only one.
        config: The parameters at configure.
        statistics: Where lost images are counted.
        receive: Takes each image.
        is_wanted: Whether anything is to be made of images now.

    Attributes:
        topic: Fully resolved name; of compressed images that of image_transport, or that which
            `image` is remapped to where this carries them itself.
        names: Those that it may be.
        subscription: None while nothing is wanted, or while the node is not active.
        active: Whether the node is.
    """

    def __init__(
        self,
        node: Node,
        camera: str,
        config: NodeConfig,
        statistics: FrameStatistics,
        receive: Callable[[ImageInput], None],
        is_wanted: Callable[[], bool],
    ):
        self._node, self._statistics = node, statistics
        self._receive, self._is_wanted = receive, is_wanted
        self._asked = config.input_reliability
        compressed = config.input_transport == 'compressed'
        self._type: type[ImageInput] = CompressedImage if compressed else Image
        self._name = topics.of_camera(topics.IMAGE, camera)

        def names(camera: str) -> tuple[str, ...]:
            # Resolved first, so that a remap of the image reaches its compressed topic too.
            topic = node.resolve_topic_name(topics.of_camera(topics.IMAGE, camera))
            first = topics.compressed(topic) if compressed else topic
            return tuple(dict.fromkeys((first, topic)))

        self.names = names(camera)
        self.topic = self.names[0]
        self._read = {name for other in config.cameras for name in names(other)}
        self._kind = f'sensor_msgs/msg/{self._type.__name__}'
        self.subscription: Any = None
        self.active = False
        self._reads_since = 0.0
        # Of another reliability: it is read on until the first image comes by the one after it.
        self._former: Any = None
        self._turn = 0
        self._came_by: dict[tuple[int, int], int] = {}

    def start(self) -> None:
        """Reads the camera from now on, whenever something is wanted.

        Raises:
            ValueError: A user has set its quality of service to what there is not.
        """
        self.active, self._reads_since = True, time.monotonic()
        self.topic = self._where_images_are()
        for name in self.names:
            qos.check_overrides(self._node, name, 'subscription', qos.image_input_overrides())
        self._subscribe()  # in any case once: what was said of its quality of service is tried out
        self.review()

    def stop(self) -> None:
        """Reads the camera no longer; may be called again."""
        self.active = False
        self._unsubscribe()

    def review(self) -> None:
        """Subscribes where something is wanted and nothing else; anew for another reliability."""
        if not self.active:
            return
        if (topic := self._where_images_are()) != self.topic:
            self._unsubscribe()
            self.topic = topic
        if not self._is_wanted():
            self._unsubscribe()
        elif self.subscription is None:
            self._reads_since = time.monotonic()
            self._subscribe()
        elif self._wants_another_reliability():
            self._let_go()
            self._came_by.clear()
            self._former = self.subscription
            self._subscribe()

    def _where_images_are(self) -> str:
        """Gives the topic that somebody publishes them on now; where nobody does, as before."""
        found = (name for name in self.names if self._carries(name, self._kind))
        return next(found, self.topic)

    def _carries(self, topic: str, kind: str) -> bool:
        return bool(qos.offered(self._node, topic, kind))

    def _wants_another_reliability(self) -> bool:
        has: ReliabilityPolicy = self.subscription.qos_profile.reliability
        return bool(self._node.count_publishers(self.topic)) and self._fitting_reliability() != has

    def _subscribe(self) -> None:
        self._turn += 1
        try:
            self.subscription = self._make_subscription(message_lost=self._on_message_lost)
        except UnsupportedEventTypeError:  # not every middleware counts what is lost
            self.subscription = self._make_subscription()

    def _make_subscription(self, **events: Any) -> Any:
        return self._node.create_subscription(
            self._type,
            self.topic,
            partial(self._hear, self._turn),
            qos.image_input(self._fitting_reliability()),
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=self._on_incompatible_qos, **events
            ),
            qos_overriding_options=qos.image_input_overrides(),
        )

    def _hear(self, turn: int, message: ImageInput) -> None:
        """Takes each image once, though two subscriptions may bring it, in either order."""
        changing = self._former is not None
        if turn == self._turn:
            self._let_go()
        key = message.header.stamp.sec, message.header.stamp.nanosec
        if self._came_by.get(key, turn) != turn:
            del self._came_by[key]
            return
        # Of images without a stamp none is known to be another's. One may still come by the
        # former behind the first of the next.
        if (changing or turn != self._turn) and any(key):
            self._came_by[key] = turn
            if len(self._came_by) > REMEMBERED:
                del self._came_by[next(iter(self._came_by))]
        self._receive(message)

    def _let_go(self) -> None:
        """Ends the subscription before the present one."""
        if self._former is not None:
            self._node.destroy_subscription(self._former)
            self._former = None

    def _unsubscribe(self) -> None:
        self._let_go()
        if self.subscription is not None:
            self._node.destroy_subscription(self.subscription)
            self.subscription = None

    def _fitting_reliability(self) -> ReliabilityPolicy:
        return qos.choose_reliability(self._node, self.topic, self._kind, self._asked)

    def _on_message_lost(self, event: Any) -> None:
        self._statistics.lost(event.total_count_change)

    def _on_incompatible_qos(self, _: Any) -> None:
        if self._asked == 'auto':
            return  # follows within a second by itself
        self._node.get_logger().warning(
            f'a publisher of {self.topic} offers incompatible QoS; set input_reliability to '
            'best_effort or auto',
            throttle_duration_sec=THROTTLE_S,
        )

    # --- what is known of it -------------------------------------------------------------------

    def state(self) -> InputState:
        """Gives what the transport knows of the camera."""
        profile = (
            qos.image_input(self._fitting_reliability())
            if self.subscription is None
            else self.subscription.qos_profile
        )
        kinds = [info.topic_type for info in self._node.get_publishers_info_by_topic(self.topic)]
        others = tuple(kind for kind in kinds if kind != self._kind)
        clock = self._node.get_clock()
        return InputState(
            topic=self.topic,
            kind=self._kind,
            reliability=profile.reliability.name.lower(),
            publishers=len(kinds),
            incompatible=qos.incompatible(self._node, self.topic, self._kind, profile),
            waiting_s=self.since_s('received'),
            came=self._came(),
            other_kinds=others,
            idle=self.subscription is None,
            elsewhere=self._elsewhere() if len(others) == len(kinds) else (),
            other_transport=self._other_transport(),
            middleware=get_rmw_implementation_identifier(),
            clock_stands=isinstance(clock, ROSClock)
            and clock.ros_time_is_active
            and not clock.now().nanoseconds,
            remapped=self._name,
        )

    def _other_transport(self) -> str:
        compressed, topic = topics.compressed(self.topic), topics.uncompressed(self.topic)
        if self._type is CompressedImage:
            return 'raw' if self._carries(topic, IMAGE) else ''
        found = any(self._carries(name, COMPRESSED_IMAGE) for name in (compressed, topic))
        return 'compressed' if found else ''

    def _elsewhere(self) -> tuple[str, ...]:
        """Gives the topics that carry images and are neither made nor read by this node."""
        own = f'{self._node.get_fully_qualified_name()}/'
        return tuple(
            name
            for name, kinds in sorted(self._node.get_topic_names_and_types())
            if self._kind in kinds
            and name not in self._read
            and not name.startswith(own)
            and self._node.count_publishers(name)
        )

    def _came(self) -> bool:
        since = self._statistics.since_s('received')
        return since is not None and since < time.monotonic() - self._reads_since

    def since_s(self, what: str) -> float:
        """Gives the seconds since the last frame of a kind, or since it has been read."""
        reads = time.monotonic() - self._reads_since
        since = self._statistics.since_s(what)
        return reads if since is None else min(since, reads)
