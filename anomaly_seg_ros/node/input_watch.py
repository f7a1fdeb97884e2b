"""What is said of a camera's input: whether images come and are taken, and if not, why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from anomaly_seg_ros.node import topics

from .statistics import FrameStatistics, RECENT_S, UNPROCESSED, UNUSABLE
from .watchdog import IDLE, LASTING_S, Level, PAUSED, Problem, Status

INPUT_TIMEOUT_S = 2.0
"""Silence of a camera after which the input is reported."""

MOST = 0.5
"""Share above which it is said that images are skipped, and that lost or bad ones are an error."""
MUCH_LOST = 0.2
"""Share of lost images above which it is said."""

PROFILE = 'config/fastdds_shm.xml'
NAMED = 5
"""Topics that are named at most."""


@dataclass(frozen=True)
class InputState:
    """What the transport knows of the camera topic.

    Attributes:
        topic: Fully resolved name.
        kind: The message type that is read.
        reliability: Of our subscription: 'reliable' or 'best_effort'.
        publishers: Publishers of the topic, of any type.
        came: Whether an image has come since the topic is read.
        other_kinds: Types that some of them publish and this node does not read there.
        incompatible: Publishers whose QoS keeps their images from this subscription now.
        waiting_s: Seconds since the last frame, or since the topic is read.
        idle: Whether it is not read, because nobody listens to an output.
        paused: Whether `~/enable` has paused the camera.
        elsewhere: Topics with images that this node does not read, where this one has no publisher
            of them.
        other_transport: What `input_transport` would have to be for a publisher there is; or ''.
        middleware: As 'rmw_fastrtps_cpp'.
        clock_stands: Whether `use_sim_time` is set and no time has come.
        remapped: The relative name to remap, as 'image' or 'front/image'.
    """

    topic: str
    kind: str
    reliability: str
    publishers: int
    incompatible: int
    waiting_s: float
    came: bool = True
    other_kinds: tuple[str, ...] = ()
    idle: bool = False
    paused: bool = False
    elsewhere: tuple[str, ...] = ()
    other_transport: str = ''
    middleware: str = 'rmw_fastrtps_cpp'
    clock_stands: bool = False
    remapped: str = topics.IMAGE


def input_status(state: InputState, frames: FrameStatistics) -> Status:
    """Says whether images come in and are taken, and if not, why probably."""
    fine = 'images arrive' if state.came else 'waits for the first image'
    fine = IDLE if state.idle else fine
    fine = PAUSED if state.paused else fine
    # The worst; of equals the first.
    level, message = max(
        [*_input_problems(state, frames), (Level.OK, fine)], key=lambda found: found[0]
    )
    height, width = frames.size
    counted = ('received', 'lost', *UNPROCESSED)
    return Status(
        'input',
        level,
        message,
        {
            'topic': state.topic,
            'publishers': state.publishers,
            'reliability': state.reliability,
            'incompatible_qos': state.incompatible,
            'rate_hz': frames.rate_hz(),
            'lost_share': frames.share('lost'),
            'skipped_share': frames.share('skipped'),
            'encoding': frames.encoding or None,
            'size': f'{height}x{width}' if height else None,
            'age_s': frames.recent_age_s(),
            'stamps_back': frames.count('stamps_back'),
            **{f'frames_{what}': frames.count(what) for what in counted},
        },
    )


def _input_problems(state: InputState, frames: FrameStatistics) -> Iterator[Problem]:
    """Gives what is wrong with the input, what keeps most images away first."""
    if state.idle:
        if state.waiting_s > INPUT_TIMEOUT_S and (why := _why_unreadable(state)):
            yield Level.WARN, why
        return
    lost = frames.share('lost')
    if lost is not None and lost > MUCH_LOST:
        yield Level.ERROR if lost > MOST else Level.WARN, _why_lost(lost, state)
    elif state.waiting_s > INPUT_TIMEOUT_S:
        level = Level.ERROR if state.waiting_s > LASTING_S else Level.WARN
        yield level, _why_silent(state)
    if problem := frames.recent_problem():
        unusable = frames.share(*UNUSABLE) or 0.0
        level = Level.ERROR if unusable > MOST else Level.WARN
        yield level, f'{problem} ({_of_images(unusable)})' if unusable else problem
    if oddity := frames.recent_oddity():
        yield Level.WARN, oddity
    if state.clock_stands:
        yield (
            Level.WARN,
            'use_sim_time is set and nobody publishes /clock: play the bag with --clock, or set '
            'use_sim_time to false',
        )
    skipped = frames.share('skipped')
    if skipped is not None and skipped > MOST:
        yield (
            Level.WARN,
            f'{_of_images(skipped)} were skipped: they come faster than they are processed; '
            'lower the rate of the camera, or take a faster engine',
        )


def _of_images(share: float) -> str:
    return f'{share * 100:.0f} % of the images of the last {RECENT_S:.0f} s'


def _why_lost(share: float, state: InputState) -> str:
    if state.reliability == 'reliable':
        why = 'the camera replaces them before they are delivered; lower its rate or size'
    elif 'fastrtps' in state.middleware:
        why = (
            'they are above the shared-memory segment of the camera, or more than the network '
            f'carries: start the camera with {PROFILE}, or let it publish reliably'
        )
    else:
        why = (
            f'they are more than {state.middleware} or the network carries: let the camera '
            'publish reliably, or send less'
        )
    return f'{_of_images(share)} were lost on the way: {why}'


def _why_unreadable(state: InputState) -> str:
    """Gives why no image can come over this topic; '' where one can."""
    if not state.publishers and state.came:
        return f'the publisher of {state.topic} has gone; start the camera driver again'
    if not state.publishers:
        unseen = not (state.elsewhere or state.other_transport)
        hint = ', or start the camera with the ROS_DOMAIN_ID of this node' if unseen else ''
        return f'nobody publishes {state.topic}; {_other_topic(state)}{hint}'
    if state.other_kinds and len(state.other_kinds) == state.publishers:
        return _why_other_kind(state)
    if state.incompatible and state.incompatible == state.publishers:
        return (
            f'the publisher of {state.topic} offers other QoS; set input_reliability to '
            'best_effort or auto'
        )
    return ''


def _other_topic(state: InputState) -> str:
    if state.other_transport:
        return f'set input_transport to {state.other_transport}'
    if not state.elsewhere:
        return f'remap {state.remapped} to the camera topic'
    named = ', '.join(state.elsewhere[:NAMED])
    more = len(state.elsewhere) - NAMED
    named += f' and {more} more' if more > 0 else ''
    return f'remap {state.remapped} to one that has images: {named}'


def _why_other_kind(state: InputState) -> str:
    kinds = ', '.join(sorted(set(state.other_kinds)))
    return f'{state.topic} carries {kinds}, and {state.kind} is read; {_other_topic(state)}'


def _why_silent(state: InputState) -> str:
    if why := _why_unreadable(state):
        return why if not state.publishers else f'no image for {state.waiting_s:.0f} s: {why}'
    asleep = f'no image for {state.waiting_s:.0f} s although {state.topic} has a publisher; it is '
    if state.reliability == 'reliable':
        return f'{asleep}paused, or hangs'
    if 'fastrtps' in state.middleware:
        return (
            f'{asleep}paused, or its frames are above its shared-memory segment: start the camera '
            f'with {PROFILE}'
        )
    return f'{asleep}paused, or its frames are more than {state.middleware} carries unreliably'
