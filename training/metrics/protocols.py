"""The three ways to count pixels that `--protocol` names."""

from __future__ import annotations

from collections.abc import Callable

from anomaly_seg_ros.registry import check_name

from .pixel import PixelMetrics
from .smiyc import SmiycCurve

PROTOCOLS: dict[str, Callable[[], PixelMetrics | SmiycCurve]] = {
    'exact': PixelMetrics,
    'smiyc': SmiycCurve,
    'course': lambda: PixelMetrics(skip_empty=True, fpr95='interp'),
}
"""`course` also resizes images and labels to the network size, which is the caller's part."""


def build_pixel_metrics(protocol: str) -> PixelMetrics | SmiycCurve:
    """Gives empty pixel metrics that follow a protocol.

    Raises:
        ValueError: Unknown protocol.

    >>> build_pixel_metrics('course').skip_empty
    True
    """
    check_name('protocol', PROTOCOLS, protocol)
    return PROTOCOLS[protocol]()
