"""Joining ROS, with what it refuses in words that help."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import warnings

import rclpy
from rclpy.impl.logging_severity import LoggingSeverity
from rclpy.logging import set_logger_level
from rclpy.signals import SignalHandlerOptions

from anomaly_seg_ros.node.start_checks import explained


@contextmanager
def plain_errors() -> Iterator[None]:
    """Makes `ValueError` of what ROS itself raises in the block."""
    try:
        with warnings.catch_warnings():
            # What rclpy undoes of a node that was refused is no news.
            warnings.filterwarnings('ignore', 'Failed to fini', RuntimeWarning)
            yield
    except Exception as error:
        if not type(error).__module__.startswith('rclpy'):
            raise
        raise ValueError(explained(type(error).__name__, str(error))) from None


def join_ros(arguments: Sequence[str]) -> None:
    """Calls `rclpy.init`, and leaves signals to `StopSignals`.

    With rclpy's own handlers ROS is down before the node has said that it ends.

    Raises:
        ValueError: ROS does not start; one line that names the value and the way out.
    """
    set_logger_level('rcl', LoggingSeverity.FATAL)  # it would say the half of what we say
    with plain_errors():
        rclpy.init(args=list(arguments), signal_handler_options=SignalHandlerOptions.NO)
    set_logger_level('rcl', LoggingSeverity.UNSET)
