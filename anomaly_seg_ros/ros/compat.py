"""The names that differ between the supported versions of rclpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rclpy.executors import Executor, SingleThreadedExecutor
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
    from rclpy.experimental.events_executor import EventsExecutor
except ImportError:  # Humble, and Jazzy as it came out
    EventsExecutor = None  # type: ignore[assignment]

__all__ = [
    'ClockType',
    'PublisherEventCallbacks',
    'SubscriptionEventCallbacks',
    'UnsupportedEventTypeError',
    'lifecycle_state',
    'make_executor',
    'publisher_events',
    'start_up_values',
]


def make_executor(kind: str = 'auto') -> Executor:
    """Gives what runs the callbacks of a node.

    Args:
        kind: 'events' wakes for what has come and builds no wait set, which takes less of the
            processor (docs/speed.md); 'single' is in every version; 'auto' is events where it is.

    Raises:
        ValueError: This version has none of this kind.
    """
    if kind == 'events' and EventsExecutor is None:
        raise ValueError(
            "executor 'events' is not in this version of rclpy; set executor to auto or single"
        )
    if kind == 'single' or EventsExecutor is None:
        return SingleThreadedExecutor()
    return EventsExecutor()


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
