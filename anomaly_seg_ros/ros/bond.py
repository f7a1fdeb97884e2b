"""The heartbeat by which Nav2's lifecycle manager knows that an active node lives."""

from __future__ import annotations

from typing import Any
import uuid

from rclpy.clock import Clock
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile

from .conversions import message_type

TOPIC = 'bond'
PERIOD_S = 0.1
"""Seconds between two beats, as Nav2's own nodes have it."""
TIMEOUT_S = 4.0
"""Seconds without one after which the other side takes us for dead."""


class Bond:
    """Our side of a bond as `bond_core` defines it, where its message package is installed.

    It says that we live from `start` to `stop`, and then that we end. What the manager says of
    itself is not listened to: a node that lost its manager goes on working.

    Args:
        node: That is managed; its name is that of the bond.
        clock: A steady one.
    """

    def __init__(self, node: LifecycleNode, clock: Clock):
        self._node, self._clock = node, clock
        self._instance = str(uuid.uuid4())
        self._publisher: Any = None
        self._timer: Any = None
        try:
            self._type = message_type('bond/msg/Status')
        except ImportError:
            self._type = None

    def start(self) -> None:
        """Begins to beat."""
        if self._type is None:
            return
        self._publisher = self._node.create_publisher(self._type, TOPIC, QoSProfile(depth=5))
        self._timer = self._node.create_timer(PERIOD_S, self._beat, clock=self._clock)
        self._beat()

    def stop(self) -> None:
        """Says that it ends; may be called again."""
        if self._publisher is None:
            return
        self._node.destroy_timer(self._timer)
        self._say(False)
        self._node.destroy_publisher(self._publisher)
        self._publisher = self._timer = None

    def _beat(self) -> None:
        self._say(True)

    def _say(self, alive: bool) -> None:
        status = self._type(id=self._node.get_name(), instance_id=self._instance, active=alive)
        status.header.stamp = self._node.get_clock().now().to_msg()
        status.heartbeat_period, status.heartbeat_timeout = PERIOD_S, TIMEOUT_S
        self._publisher.publish(status)
