"""What Python's logging gets goes to the node's logger: to its console, its file and /rosout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import logging

from rclpy.impl.rcutils_logger import RcutilsLogger

OURS = 'anomaly_seg_ros'


class _Bridge(logging.Handler):
    def __init__(self, node_log: RcutilsLogger):
        super().__init__()
        self._node_log = node_log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            if not record.name.startswith(OURS):
                text = f'{record.name}: {text}'
            # One call each: rclpy refuses another level from a line that it has seen.
            if record.levelno >= logging.ERROR:
                self._node_log.error(text)
            elif record.levelno >= logging.WARNING:
                self._node_log.warning(text)
            else:
                self._node_log.info(text)
        except Exception:  # noqa: BLE001 - as the standard handlers: a line lost must end nothing
            self.handleError(record)


@contextmanager
def logging_through(node_log: RcutilsLogger) -> Iterator[None]:
    """Sends warnings of all libraries, and what our own rooms say, through a node's logger."""
    root, ours = logging.getLogger(), logging.getLogger(OURS)
    before, bridge = ours.level, _Bridge(node_log)
    root.addHandler(bridge)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.setLevel(before)
        root.removeHandler(bridge)
