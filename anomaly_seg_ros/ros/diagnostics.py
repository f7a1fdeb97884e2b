"""What the node says of itself on `/diagnostics`, from plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from anomaly_seg_ros.node.statistics import FrameStatistics
from anomaly_seg_ros.prediction import Engine

NOT_CONFIGURED = 'not configured'
"""Message of the engine's status before configure, and after one that failed."""

INPUT_TIMEOUT_S = 2.0
"""Silence of a matched publisher after which the input is reported."""


@dataclass(frozen=True)
class InputState:
    """What the transport knows of the camera topic.

    Attributes:
        topic: Fully resolved name.
        reliability: Of our subscription: 'reliable' or 'best_effort'.
        publishers: Publishers of the topic.
        incompatible: How often this subscription met a publisher with other QoS.
        waiting_s: Seconds since the last frame, or since activation.
    """

    topic: str
    reliability: str
    publishers: int
    incompatible: int
    waiting_s: float


def status(
    node: str, task: str, level: bytes, message: str, values: Mapping[str, object]
) -> DiagnosticStatus:
    """Gives one status; numbers that are not known yet read 'n/a'."""
    return DiagnosticStatus(
        name=f'{node}: {task}',
        level=level,
        message=message,
        hardware_id='cpu',
        values=[KeyValue(key=key, value=_text(value)) for key, value in values.items()],
    )


def _text(value: object) -> str:
    if value is None:
        return 'n/a'
    return f'{value:.3f}' if isinstance(value, float) else str(value)


def input_status(node: str, state: InputState, frames: FrameStatistics) -> DiagnosticStatus:
    """Says whether images come in, and if not, why probably."""
    level, message = DiagnosticStatus.OK, 'images arrive'
    if problem := frames.recent_problem():
        level, message = DiagnosticStatus.WARN, problem
    if state.waiting_s > INPUT_TIMEOUT_S:
        level, message = DiagnosticStatus.WARN, _why_silent(state)
    height, width = frames.size
    return status(
        node,
        'input',
        level,
        message,
        {
            'topic': state.topic,
            'publishers': state.publishers,
            'reliability': state.reliability,
            'incompatible_qos': state.incompatible,
            'rate_hz': frames.rate_hz(),
            'encoding': frames.encoding or None,
            'size': f'{height}x{width}' if height else None,
            'frames_received': frames.count('received'),
            'frames_skipped': frames.count('skipped'),
            'frames_too_old': frames.count('too_old'),
            'frames_failed': frames.count('failed'),
        },
    )


def _why_silent(state: InputState) -> str:
    if not state.publishers:
        return f'nobody publishes {state.topic}; remap image to the camera topic'
    if state.incompatible:
        return (
            f'no image for {state.waiting_s:.0f} s: the publisher of {state.topic} offers other '
            f'QoS; set input_reliability to best_effort or auto'
        )
    return (
        f'no image for {state.waiting_s:.0f} s although {state.topic} has a publisher; it is '
        'paused, or its frames are above its shared-memory segment: start the camera with '
        'config/fastdds_shm.xml'
    )


def inference_status(node: str, frames: FrameStatistics) -> DiagnosticStatus:
    """Gives the stage times, with the key names that Autoware's detectors share."""
    times = frames.percentiles_ms()
    values: dict[str, object] = {'frames_processed': frames.count('processed')}
    for stage in ('preprocess', 'inference', 'postprocess', 'publish'):
        values[f'{stage}_time_ms'] = times[stage][0] if stage in times else None
    values['processing_time_ms'] = times['processing'][0] if 'processing' in times else None
    values['processing_time_p95_ms'] = times['processing'][1] if 'processing' in times else None
    message = 'processing' if frames.count('processed') else 'no frame processed yet'
    return status(node, 'inference', DiagnosticStatus.OK, message, values)


def engine_status(node: str, engine: Engine | None, checkpoint: str) -> DiagnosticStatus:
    """Says what runs the network."""
    if engine is None:
        return status(node, 'engine', DiagnosticStatus.WARN, NOT_CONFIGURED, {})
    height, width = engine.input_size
    return status(
        node,
        'engine',
        DiagnosticStatus.OK,
        f'{engine.name} in {engine.precision}',
        {
            'engine': engine.name,
            'precision': engine.precision,
            'score': engine.score_name,
            'input_size': f'{height}x{width}',
            'description': engine.description,
            'checkpoint': checkpoint,
        },
    )


def anomaly_status(
    node: str, frames: FrameStatistics, threshold: float | None
) -> DiagnosticStatus:
    """Gives the share of pixels that are anomalous in the newest frame."""
    return status(
        node,
        'anomaly',
        DiagnosticStatus.OK,
        'measured' if frames.anomalous_share is not None else 'no frame processed yet',
        {'anomalous_share': frames.anomalous_share, 'threshold': threshold},
    )


def array(stamp: object, statuses: list[DiagnosticStatus]) -> DiagnosticArray:
    """Gives the message of one second."""
    result = DiagnosticArray(status=statuses)
    result.header.stamp = stamp
    return result
