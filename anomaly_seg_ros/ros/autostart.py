"""The node's own way to active: configure, activate, and again after a pause where that fails."""

from __future__ import annotations

import time

from rclpy.clock import Clock
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.timer import Timer

from anomaly_seg_ros.process.stop_signals import stop_is_asked

from .compat import lifecycle_state

FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 60.0


class Autostart:
    """Brings a node to active by itself, unless somebody else takes that over.

    Args:
        node: What it starts, once an executor runs it.
        clock: A steady one, which no clock of ROS stops.
        tries_again: Whether it goes on after a failure, after pauses that double.

    Attributes:
        gave_up: It failed and does not try again.
    """

    def __init__(self, node: LifecycleNode, clock: Clock, tries_again: bool):
        self._node, self._clock, self._tries_again = node, clock, tries_again
        self.gave_up = False
        self._state = lifecycle_state(node)
        self._pause_s = FIRST_PAUSE_S
        self._due_s: float | None = None
        self._timer: Timer | None = node.create_timer(0.0, self._try, clock=clock)

    def next_try_s(self) -> float | None:
        """Gives the seconds until the next try; None where there is none to come."""
        return None if self._due_s is None else max(0.0, self._due_s - time.monotonic())

    def _try(self) -> None:
        if self._timer is None:
            return  # an executor may have had this timer's next call in its queue already
        self._node.destroy_timer(self._timer)
        self._timer, self._due_s = None, None
        if lifecycle_state(self._node) != self._state:
            return  # somebody else drives the node by now
        if not self._start():
            self._after_failure()

    def _start(self) -> bool:
        success = TransitionCallbackReturn.SUCCESS
        if self._state == 'unconfigured' and self._node.trigger_configure() != success:
            return False
        return self._node.trigger_activate() == success

    def _after_failure(self) -> None:
        if stop_is_asked() or not self._node.context.ok():
            return
        log = self._node.get_logger()
        if not self._tries_again:
            log.error('it could not start by itself; it ends, because exit_on_failure is set')
            self.gave_up = True
            return
        log.warning(f'it could not start by itself; next try in {self._pause_s:.0f} s')
        self._state = lifecycle_state(self._node)
        self._due_s = time.monotonic() + self._pause_s
        self._timer = self._node.create_timer(self._pause_s, self._try, clock=self._clock)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
