"""The service `~/calibrate`: who asks is answered when the frames have come, or are unfit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from anomaly_seg_ros.node import topics
from anomaly_seg_ros.node.live_calibration import LiveCalibration
from anomaly_seg_ros.prediction import Score

from .services import answered


class Calibrator:
    """The calibration of one camera while it is made.

    `take` is called by the worker's thread, the rest by the executor's.

    Args:
        finish: Fits and adopts what has come, and says what came of it.
    """

    def __init__(self, finish: Callable[[LiveCalibration], str]):
        self._finish = finish
        self._lock = threading.Lock()
        self._work: LiveCalibration | None = None
        self._answer: Any = None

    @property
    def at_work(self) -> bool:
        """Whether it waits for frames."""
        return self._work is not None

    def begin(self, frames: int, answer: Any) -> None:
        """Waits for the next frames, and sets the outcome in the future `answer`."""
        with self._lock:
            if self._work is not None:
                answer.set_result((False, f'it is at work already, {self._work.progress}'))
            else:
                self._work, self._answer = LiveCalibration(frames), answer

    def take(
        self, image: NDArray[np.uint8], score: Score, pooled: NDArray[np.float32] | None = None
    ) -> None:
        """Takes a frame if it is at work; arguments as of `LiveCalibration.take`."""
        with self._lock:
            if self._work is None:
                return
            try:
                if self._work.take(image, score, pooled):
                    self._end(True, self._finish(self._work))
            except Exception as error:  # noqa: BLE001 - who asked is to hear of it
                self._end(False, str(error))

    def review(self) -> None:
        """Gives up where no frames come; called once a second."""
        with self._lock:
            if self._work is not None and (why := self._work.overdue()):
                self._end(False, why)

    def cancel(self, why: str) -> None:
        """Gives up."""
        with self._lock:
            if self._work is not None:
                self._end(False, why)

    def _end(self, done: bool, message: str) -> None:
        answer, self._work, self._answer = self._answer, None, None
        answer.set_result((done, message))


def serve(node: Node, names: Sequence[str], start: Callable[[str, Any], None]) -> None:
    """Offers the service for all cameras, and of several for each.

    Args:
        node: Where it is offered.
        names: Of the cameras; '' is the only one.
        start: Starts the calibration of a camera, whose outcome goes into a future.
    """

    def offer(camera: str, chosen: Sequence[str]) -> None:
        topic = topics.of_camera(topics.CALIBRATE, camera)

        async def answer(_: Trigger.Request, response: Trigger.Response) -> Any:
            futures: dict[str, Any] = {name: Future(executor=node.executor) for name in chosen}
            for name, future in futures.items():
                start(name, future)
            outcomes = {name: await future for name, future in futures.items()}
            return answered(node, topic, response, outcomes)

        # A group of its own: in the node's one, images would wait until it is answered.
        node.create_service(
            Trigger,
            topic,
            answer,
            callback_group=ReentrantCallbackGroup(),
        )

    offer('', names)
    for name in filter(None, names):
        offer(name, [name])
