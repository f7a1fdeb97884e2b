"""The names that differ between the supported versions of rclpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node

try:
    from rclpy.clock_type import ClockType
except ImportError:  # Humble
    from rclpy.clock import ClockType  # type: ignore[attr-defined]
try:
    from rclpy.event_handler import (
        PublisherEventCallbacks,
        SubscriptionEventCallbacks,
        UnsupportedEventTypeError,
    )
except ImportError:  # Humble
    from rclpy.qos_event import (
        PublisherEventCallbacks,
        SubscriptionEventCallbacks,
        UnsupportedEventTypeError,
    )
try:
    # It wakes for what has come and builds no wait set: 1.5 ms less for a frame of 1080x1920.
    from rclpy.experimental.events_executor import EventsExecutor as NodeExecutor
except ImportError:  # before Kilted
    from rclpy.executors import SingleThreadedExecutor as NodeExecutor

__all__ = [
    'ClockType',
    'NodeExecutor',
    'PublisherEventCallbacks',
    'SubscriptionEventCallbacks',
    'UnsupportedEventTypeError',
    'lifecycle_state',
    'publisher_events',
    'start_up_values',
]


def start_up_values(node: Node) -> Mapping[str, Any]:
    """Gives the parameters that the node was started with, declared or not."""
    values: Mapping[str, Any] = node._parameter_overrides
    return values


def lifecycle_state(node: LifecycleNode) -> str:
    """Gives the state of a node, as 'unconfigured'; no version has a public name for it."""
    label: str = node._state_machine.current_state[1]
    return label


def publisher_events(on_match: Callable[[Any], None]) -> PublisherEventCallbacks:
    """Gives the callbacks of a publisher that hears of its subscribers.

    Args:
        on_match: Called with `current_count_change`; never on Humble, which has no such event.
    """
    try:
        return PublisherEventCallbacks(matched=on_match)
    except TypeError:
        return PublisherEventCallbacks()
