"""The services that answer at once: for all cameras together, and of several for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TYPE_CHECKING

from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from anomaly_seg_ros.node import topics

if TYPE_CHECKING:
    from .camera import Camera

Outcome = tuple[bool, str]
"""Whether it was done, and what is said of it."""


def answered(node: Node, topic: str, response: Any, outcomes: Mapping[str, Outcome]) -> Any:
    """Fills the response of a service, with `success` and `message`, logs it and gives it.

    Args:
        node: Whose service it is.
        topic: Name of the service.
        response: Of any such type.
        outcomes: Of each camera; '' is the only one.
    """
    response.success = all(done for done, _ in outcomes.values())
    response.message = '; '.join(
        f'{camera}: {said}' if camera else said for camera, (_, said) in outcomes.items()
    )
    text = f'{topic.rpartition("/")[2]}: {response.message}'
    # One line of the source each: rclpy asks that a place keeps its level.
    if response.success:
        node.get_logger().info(text)
    else:
        node.get_logger().error(text)
    return response


class Services:
    """Offers `~/enable`, `~/reset_statistics` and `~/snapshot` as long as the node lives.

    Args:
        node: Where they are offered.
        names: Of the cameras; '' is the only one.
        cameras: Gives those that there are, none while the node is not configured.

    Attributes:
        paused: Names of the cameras whose images are left alone.
    """

    def __init__(
        self, node: LifecycleNode, names: Sequence[str], cameras: Callable[[], Iterable[Camera]]
    ):
        self.paused: set[str] = set()
        self._node = node
        self._cameras = cameras
        for camera, chosen in (('', names), *((name, [name]) for name in names if name)):
            self._offer(SetBool, topics.of_camera(topics.ENABLE, camera), chosen, self._enable)
            for topic, act in (
                (topics.RESET_STATISTICS, self._reset_statistics),
                (topics.SNAPSHOT, self._snapshot),
            ):
                self._offer(Trigger, topics.of_camera(topic, camera), chosen, act)

    def _offer(
        self,
        kind: Any,
        topic: str,
        chosen: Sequence[str],
        act: Callable[[str, Any], Outcome],
    ) -> None:
        def answer(request: Any, response: Any) -> Any:
            outcomes = {name: act(name, request) for name in chosen}
            return answered(self._node, topic, response, outcomes)

        self._node.create_service(kind, topic, answer)

    def _enable(self, name: str, request: Any) -> Outcome:
        if request.data:
            self.paused.discard(name)
        else:
            self.paused.add(name)
        for camera in self._named(name):
            camera.pause(not request.data)
        return True, 'images are processed' if request.data else 'paused until it is enabled again'

    def _reset_statistics(self, name: str, _: Any) -> Outcome:
        for camera in self._named(name):
            camera.statistics.reset()
        return True, 'counters are zero'

    def _snapshot(self, name: str, _: Any) -> Outcome:
        try:
            written = [str(camera.snapshot()) for camera in self._named(name)]
        except ValueError as error:
            return False, str(error)
        if not written:
            return False, 'the node is not configured, so it has seen no image'
        return True, f'written to {written[0]!r}'

    def _named(self, name: str) -> list[Camera]:
        return [camera for camera in self._cameras() if camera.name == name]
