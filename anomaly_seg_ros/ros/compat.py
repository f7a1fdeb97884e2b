"""The names that differ between the supported versions of rclpy."""

from __future__ import annotations

try:
    from rclpy.clock_type import ClockType
except ImportError:  # Humble
    from rclpy.clock import ClockType  # type: ignore[attr-defined]
try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import (
        SubscriptionEventCallbacks,
    )

__all__ = ['ClockType', 'SubscriptionEventCallbacks']
