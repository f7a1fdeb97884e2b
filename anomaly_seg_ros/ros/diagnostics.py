"""What the node says of itself as the message of `/diagnostics`."""

from __future__ import annotations

from collections.abc import Iterable

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from anomaly_seg_ros.node.watchdog import cut, Status


def array(node: str, device: str, stamp: Time, statuses: Iterable[Status]) -> DiagnosticArray:
    """Gives the message of one second.

    Args:
        node: Its full name, without the first slash.
        device: What the engine runs on; '' while there is none.
        stamp: Of the message.
        statuses: One of each task.
    """
    result = DiagnosticArray(
        status=[
            DiagnosticStatus(
                name=f'{node}: {status.task}',
                level=bytes([status.level]),
                message=cut(status.message),
                hardware_id=device,
                values=[KeyValue(key=key, value=_text(v)) for key, v in status.values.items()],
            )
            for status in statuses
        ]
    )
    result.header.stamp = stamp
    return result


def _text(value: object) -> str:
    if value is None:
        return 'n/a'
    return f'{value:.3f}' if isinstance(value, float) else cut(str(value))
