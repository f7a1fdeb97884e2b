"""What the node says of itself: whether it sees images and keeps up, and if not, why probably."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from anomaly_seg_ros.node.statistics import FrameStatistics, RECENT_S, UNPROCESSED
from anomaly_seg_ros.prediction import Engine

NOT_CONFIGURED = 'not configured'
"""Message of the engine's status before configure; after one that failed the cause follows."""

INPUT_TIMEOUT_S = 2.0
"""Silence of a matched publisher after which the input is reported."""

MOST_SKIPPED = 0.5
"""Share of skipped frames above which the node says that it cannot keep up."""


LONGEST_TEXT = 500
"""Characters of a line in log or diagnostics: what comes from outside may be of any length."""


def cut(text: str) -> str:
    """Gives a text, or the beginning of one that is too long for a line."""
    if len(text) <= LONGEST_TEXT:
        return text
    return f'{text[:LONGEST_TEXT]}... ({len(text)} characters)'


class Level(IntEnum):
    """How bad it is, as `DiagnosticStatus` counts it."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclass(frozen=True)
class Status:
    """What is said of one task; a value that is not known yet is None."""

    task: str
    level: Level
    message: str
    values: Mapping[str, object] = field(default_factory=dict)


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


def input_status(state: InputState, frames: FrameStatistics) -> Status:
    """Says whether images come in and are taken, and if not, why probably."""
    problem = _input_problem(state, frames)
    height, width = frames.size
    return Status(
        'input',
        Level.WARN if problem else Level.OK,
        problem or 'images arrive',
        {
            'topic': state.topic,
            'publishers': state.publishers,
            'reliability': state.reliability,
            'incompatible_qos': state.incompatible,
            'rate_hz': frames.rate_hz(),
            'encoding': frames.encoding or None,
            'size': f'{height}x{width}' if height else None,
            **{f'frames_{what}': frames.count(what) for what in ('received', *UNPROCESSED)},
        },
    )


def _input_problem(state: InputState, frames: FrameStatistics) -> str:
    """Gives what is wrong with the input, the worst first; '' where nothing is."""
    if state.waiting_s > INPUT_TIMEOUT_S:
        return _why_silent(state)
    if problem := frames.recent_problem():
        return problem
    share = frames.skipped_share()
    if share is None or share <= MOST_SKIPPED:
        return ''
    return (
        f'{share * 100:.0f} % of the images of the last {RECENT_S:.0f} s were skipped: they come '
        'faster than they are processed; lower the rate of the camera, or take a faster engine'
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


def inference_status(frames: FrameStatistics) -> Status:
    """Gives the stage times, with the key names that Autoware's detectors share."""
    times = frames.percentiles_ms()
    values: dict[str, object] = {'frames_processed': frames.count('processed')}
    for stage in ('preprocess', 'inference', 'postprocess', 'publish'):
        values[f'{stage}_time_ms'] = times[stage][0] if stage in times else None
    values['processing_time_ms'] = times['processing'][0] if 'processing' in times else None
    values['processing_time_p95_ms'] = times['processing'][1] if 'processing' in times else None
    message = 'processing' if frames.count('processed') else 'no frame processed yet'
    return Status('inference', Level.OK, message, values)


def anomaly_status(frames: FrameStatistics, threshold: float) -> Status:
    """Gives the share of pixels that are anomalous in the newest frame."""
    known = frames.anomalous_share is not None
    return Status(
        'anomaly',
        Level.OK,
        'measured' if known else 'no frame processed yet',
        {'anomalous_share': frames.anomalous_share, 'threshold': threshold},
    )


@dataclass(frozen=True)
class StartState:
    """How far the node has come on its way to active.

    Attributes:
        problem: Why it could not be configured or activated; '' where it could.
        next_try_s: Seconds until it tries again; None: it does not.
        building: What is said of an engine that is being built now.
        build_s: How long that takes or took; None: nothing was built.
    """

    problem: str = ''
    next_try_s: float | None = None
    building: str = ''
    build_s: float | None = None


def engine_status(engine: Engine | None, checkpoint: str, start: StartState) -> Status:
    """Says what runs the network, or why nothing does.

    Args:
        engine: None while there is none.
        checkpoint: As the parameter gives it.
        start: How far it has come.
    """
    values: dict[str, object] = {'checkpoint': checkpoint, 'build_s': start.build_s}
    if start.problem:
        what = NOT_CONFIGURED if engine is None else 'not active'
        again = '' if start.next_try_s is None else f'; next try in {start.next_try_s:.0f} s'
        return Status('engine', Level.ERROR, f'{what}: {start.problem}{again}', values)
    if engine is None and start.building:
        text = f'{start.building}; {start.build_s or 0:.0f} s so far'
        return Status('engine', Level.WARN, text, values)
    if engine is None:
        return Status('engine', Level.WARN, NOT_CONFIGURED, values)
    height, width = engine.input_size
    return Status(
        'engine',
        Level.OK,
        f'{engine.name} in {engine.precision}',
        {
            'engine': engine.name,
            'precision': engine.precision,
            'score': engine.score_name,
            'input_size': f'{height}x{width}',
            'description': engine.description,
            'reason': engine.reason,
            **values,
        },
    )
