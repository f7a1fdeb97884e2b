"""What the node says of itself: whether it sees images and keeps up, and if not, why probably."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from statistics import median
from typing import Any

from anomaly_seg_ros.prediction import Engine
from anomaly_seg_ros.whole_frame.health import DARK, FROZEN, OUT_OF_DOMAIN

from .statistics import FrameStatistics, RECENT_S

NOT_CONFIGURED = 'not configured'
"""Message of the engine's status before configure; after one that failed the cause follows."""

INACTIVE = 'not active, so that nothing is made: the node waits for activate'
"""Message of the inference between configure and activate, and after deactivate."""
IDLE = 'idle: nobody listens to an output'
"""Message of the inference while frames are left alone."""
PAUSED = 'paused by ~/enable'
"""Message of the inference while somebody has paused it."""

LASTING_S = 10.0
"""What lasts longer than this without an image, or without a result, is an error."""

MUCH_ANOMALOUS, MOST_ANOMALOUS = 0.25, 0.5
"""Share of the pixels which ought to lie below the threshold, of those anomalous beyond what is
expected: above the first the scene may be another one, above the second no mask means anything."""
FULL = 0.95
"""Share of a GPU's memory; beyond it the next program that needs some takes a node down."""
JUDGED_S = 3.0
"""Seconds that recent frames must span before they are judged by that."""


UNFIT = {
    DARK: 'the picture is black; is the lens covered, or the sensor dead?',
    FROZEN: 'the same picture comes again and again; restart the camera or its driver',
    OUT_OF_DOMAIN: 'the picture is unlike those that the network knows: dirt, fog, glare, noise, '
    'or another world; for a camera that is always so: anomaly_seg adapt',
}
"""What is said of an unfit camera, by its reason; masks go out all the same."""

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
    """What is said of one task; a value that is not known, or not any more, is None."""

    task: str
    level: Level
    message: str
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkState:
    """Whether frames ought to be processed.

    Attributes:
        active: Whether the camera is read.
        idle: Whether nobody listens, so that frames are left alone.
        waiting_s: Seconds since the last frame that was processed, or since there is reason to.
        paused: Whether somebody has asked for a pause.
    """

    active: bool
    idle: bool = False
    waiting_s: float = 0.0
    paused: bool = False


Problem = tuple[Level, str]


def inference_status(frames: FrameStatistics, state: WorkState) -> Status:
    """Gives the stage times of the last seconds, with the key names of Autoware's detectors."""
    times = frames.percentiles_ms()
    values: dict[str, object] = {
        'frames_processed': frames.count('processed'),
        'processed_rate_hz': frames.rate_hz('processed'),
    }
    for stage in ('preprocess', 'inference', 'postprocess', 'publish'):
        values[f'{stage}_time_ms'] = times[stage][0] if stage in times else None
    values['processing_time_ms'] = times['processing'][0] if 'processing' in times else None
    values['processing_time_p95_ms'] = times['processing'][1] if 'processing' in times else None
    level, message = _work_done(frames, state)
    return Status('inference', level, message, values)


def _work_done(frames: FrameStatistics, state: WorkState) -> Problem:
    if not state.active:
        return Level.WARN, INACTIVE
    if state.paused:
        return Level.WARN, PAUSED
    if state.idle:
        return Level.OK, IDLE
    if state.waiting_s > RECENT_S:
        arrived = frames.since_s('received')
        if arrived is None or arrived > RECENT_S:
            why = 'no image arrives'
        elif frames.recent_problem():
            why = 'no image that arrives can be used'
        else:
            why = 'images arrive, but the engine has finished none; it hangs, or is far too slow'
        level = Level.ERROR if state.waiting_s > LASTING_S else Level.WARN
        return level, f'no frame processed for {state.waiting_s:.0f} s: {why}'
    return Level.OK, 'processing' if frames.count('processed') else 'no frame processed yet'


def anomaly_status(frames: FrameStatistics, threshold: float) -> Status:
    """Gives the anomalous share of the newest frame of the last seconds, and counts alarms."""
    recent = frames.recent_done()
    return Status(
        'anomaly',
        Level.OK,
        'measured' if recent else 'no frame processed in the last seconds',
        {
            'anomalous_share': recent[-1].anomalous_share if recent else None,
            'threshold': threshold,
            'alarms': frames.count('alarms'),
        },
    )


def health_status(frames: FrameStatistics) -> Status:
    """Says whether the camera is fit: neither dark nor frozen nor out of domain."""
    recent = frames.recent_done()
    health = recent[-1].health if recent else None
    values: dict[str, object] = {
        'fit': None if health is None else health.fit,
        'reason': None if health is None else health.reason,
        'fault_of_last_frame': None if health is None else health.fault,
        'frame_score': recent[-1].judged if recent else None,
    }
    if health is None:
        return Status('camera health', Level.OK, 'no frame processed in the last seconds', values)
    if health.fit:
        return Status('camera health', Level.OK, 'fit', values)
    return Status('camera health', Level.ERROR, f'{health.reason}: {UNFIT[health.reason]}', values)


def output_status(frames: FrameStatistics, threshold: float) -> Status:
    """Says whether what the node publishes means anything.

    At a threshold t the share 1 - t of normal pixels is anomalous by definition. When for seconds
    it is much more, it is the picture that is strange and not a thing in it.
    """
    recent = frames.recent_done()
    if not recent or recent[-1].when - recent[0].when < JUDGED_S:
        return Status('output', Level.OK, 'not judged yet', {'trusted': None})
    share = median(done.anomalous_share for done in recent)
    values = {
        'anomalous_share_median': share,
        'trusted': share <= _limit(threshold, MOST_ANOMALOUS),
    }
    said = f'{share * 100:.0f} % of the picture were anomalous in the last {RECENT_S:.0f} s'
    why = 'the lens is dirty or covered, the exposure fails, or the network never saw such a scene'
    if not values['trusted']:
        said = f'the output cannot be trusted: {said}; {why}'
        return Status('output', Level.ERROR, said, values)
    if share > _limit(threshold, MUCH_ANOMALOUS):
        return Status('output', Level.WARN, f'{said}; perhaps {why}', values)
    return Status('output', Level.OK, 'plausible', values)


def _limit(threshold: float, beyond: float) -> float:
    """Gives the anomalous share above which `beyond` of the expectedly normal pixels are.

    >>> _limit(0.9, 0.5)
    0.55
    """
    return 1 - threshold + beyond * threshold


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


def gpu_status(facts: Mapping[str, Any]) -> Status:
    """Says what GPU the engine runs on and how full it is.

    Args:
        facts: As `gpu_facts` gives them; empty: none is used.
    """
    if not facts:
        return Status('gpu', Level.OK, 'none is used')
    used, total = facts['memory_used_mb'], facts['memory_total_mb']
    if total is None:
        return Status('gpu', Level.OK, facts['name'], facts)
    text = f'{facts["name"]}, {used} of {total} MB used'
    if used > FULL * total:
        return Status('gpu', Level.WARN, f'{text}: nearly full; who else uses it?', facts)
    return Status('gpu', Level.OK, text, facts)
