"""What the node says of itself, in plain values: no ROS is needed to decide it."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from anomaly_seg_ros.node import statistics as frame_statistics
from anomaly_seg_ros.node.input_watch import (
    input_status,
    INPUT_TIMEOUT_S,
    InputState,
)
from anomaly_seg_ros.node.statistics import FrameStatistics
from anomaly_seg_ros.node.watchdog import (
    anomaly_status,
    cut,
    engine_status,
    gpu_status,
    IDLE,
    INACTIVE,
    inference_status,
    LASTING_S,
    Level,
    LONGEST_TEXT,
    NOT_CONFIGURED,
    output_status,
    StartState,
    WorkState,
)
from anomaly_seg_ros.process.gpu import gpu_facts


class FakeTime:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(frame_statistics, 'time', fake)
    return fake


def state(**changes: Any) -> InputState:
    values = {'topic': '/front/image', 'reliability': 'best_effort', 'publishers': 1}
    values['kind'] = 'sensor_msgs/msg/Image'
    return InputState(**{**values, 'incompatible': 0, 'waiting_s': 0.1, **changes})


def frames_at(clock: FakeTime, rate_hz: float, skips: str) -> FrameStatistics:
    """Arrivals at a rate; 's' in `skips` is one that a newer one replaces."""
    frames = FrameStatistics()
    for what in skips:
        clock.now += 1 / rate_hz
        frames.arrived()
        if what == 's':
            frames.dropped('skipped')
    return frames


OTHER = 'sensor_msgs/msg/CompressedImage'


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (
            {'publishers': 0, 'came': False},
            'nobody publishes /front/image; remap image to the camera topic, or start the camera '
            'with the ROS_DOMAIN_ID of this node',
        ),
        (
            {'publishers': 0, 'came': False, 'elsewhere': tuple('/abcdefg'[1:])},
            'nobody publishes /front/image; remap image to one that has images: '
            'a, b, c, d, e and 2 more',
        ),
        (
            {'other_kinds': (OTHER,), 'incompatible': 1},
            f'/front/image carries {OTHER}, and sensor_msgs/msg/Image is read; remap image',
        ),
        (
            {
                'publishers': 0,
                'came': False,
                'other_transport': 'compressed',
                'elsewhere': ('/x',),
            },
            'nobody publishes /front/image; set input_transport to compressed',
        ),
        ({'incompatible': 1}, 'the publisher of /front/image offers other QoS; set input_reli'),
        ({}, 'although /front/image has a publisher; .* config/fastdds_shm.xml'),
        ({'reliability': 'reliable'}, 'has a publisher; it is paused, or hangs$'),
        ({'middleware': 'rmw_zenoh_cpp'}, 'its frames are more than rmw_zenoh_cpp carries'),
        # One of several that is right takes the blame from the others.
        ({'publishers': 2, 'incompatible': 1}, 'although /front/image has a publisher'),
        ({'publishers': 2, 'other_kinds': (OTHER,)}, 'although /front/image has a publisher'),
    ],
)
def test_a_silent_camera_and_its_likely_cause(changes: dict[str, Any], words: str) -> None:
    late = state(waiting_s=INPUT_TIMEOUT_S + 0.1, **changes)
    status = input_status(late, FrameStatistics())
    assert status.level == Level.WARN

    assert re.search(words, status.message), status.message
    lasting = input_status(state(waiting_s=LASTING_S + 1, **changes), FrameStatistics())
    assert lasting.level == Level.ERROR
    in_time = input_status(state(**changes), FrameStatistics())
    fine = 'images arrive' if changes.get('came', True) else 'waits for the first image'
    assert (in_time.level, in_time.message) == (Level.OK, fine)


def test_no_image_arrives_before_the_first_one() -> None:
    status = input_status(state(came=False), FrameStatistics())
    assert (status.level, status.message) == (Level.OK, 'waits for the first image')
    assert input_status(state(came=False, idle=True), FrameStatistics()).message == IDLE
    late = input_status(state(came=False, waiting_s=INPUT_TIMEOUT_S + 0.1), FrameStatistics())
    assert late.message.startswith('no image for 2 s')


@pytest.mark.parametrize(
    ('skips', 'share'),
    [('-' * 30, None), ('-s' * 15, None), ('-ss' * 10, '67 %'), ('-sssss' * 5, '83 %')],
)
def test_more_than_half_skipped_is_said_with_the_share(
    clock: FakeTime, skips: str, share: str | None
) -> None:
    frames = frames_at(clock, 30.0, skips)
    status = input_status(state(), frames)
    assert status.level == (Level.OK if share is None else Level.WARN)
    if share is not None:
        assert status.message.startswith(f'{share} of the images of the last 5 s were skipped')
    clock.now += frame_statistics.RECENT_S + 1
    assert input_status(state(), frames).level == Level.OK


def test_a_few_images_are_no_share(clock: FakeTime) -> None:
    assert frames_at(clock, 30.0, 'ssss').share('skipped') is None
    assert frames_at(clock, 30.0, 'sssss').share('skipped') == 1.0


def test_only_the_last_seconds_count(clock: FakeTime) -> None:
    frames = frames_at(clock, 10.0, 's' * 100)
    assert frames.share('skipped') == 1.0
    for _ in range(100):
        clock.now += 0.1
        frames.arrived()
    assert frames.share('skipped') == 0.0
    assert frames.count('skipped') == 100


def test_the_share_holds_at_high_rates(clock: FakeTime) -> None:
    assert frames_at(clock, 120.0, '-sss' * 250).share('skipped') == pytest.approx(0.75, abs=0.01)


def test_silence_comes_before_a_problem_and_a_problem_before_skips(clock: FakeTime) -> None:
    frames = frames_at(clock, 30.0, 's' * 20)
    frames.dropped('failed', 'image dropped: unknown encoding')
    status = input_status(state(), frames)
    assert status.level == Level.WARN
    assert status.message == (
        'image dropped: unknown encoding (5 % of the images of the last 5 s)'
    )
    silent = input_status(state(waiting_s=9.0), frames)
    assert silent.message.startswith('no image for 9 s')


def test_the_share_of_unusable_images_is_said_of_them_alone(clock: FakeTime) -> None:
    frames = frames_at(clock, 30.0, '-' * 20)
    frames.strange('images carry no stamp (0); mend the camera driver')
    status = input_status(state(), frames)
    assert (status.level, status.message) == (
        Level.WARN,
        'images carry no stamp (0); mend the camera driver',
    )
    silent = inference_status(frames, WorkState(True, waiting_s=7.0))
    assert silent.message.endswith('it hangs, or is far too slow')
    for _ in range(15):
        frames.dropped('failed', 'image dropped: unknown encoding')
        frames.strange('images carry no stamp (0); mend the camera driver')
    status = input_status(state(), frames)
    assert (status.level, status.message) == (
        Level.ERROR,
        'image dropped: unknown encoding (75 % of the images of the last 5 s)',
    )


def test_every_count_is_shown(clock: FakeTime) -> None:
    frames = frames_at(clock, 10.0, '-s')
    for why in ('too_old', 'failed', 'failed', 'discarded'):
        frames.dropped(why)
    values = input_status(state(), frames).values
    shown = {key: value for key, value in values.items() if key.startswith('frames_')}
    assert shown == {
        'frames_received': 2,
        'frames_lost': 0,
        'frames_idle': 0,
        'frames_skipped': 1,
        'frames_too_old': 1,
        'frames_failed': 2,
        'frames_discarded': 1,
    }
    assert values['rate_hz'] == pytest.approx(10.0)
    assert (values['encoding'], values['size']) == (None, None)


@pytest.mark.parametrize(
    ('lost', 'level', 'words'),
    [
        (0, Level.OK, 'images arrive'),
        (2, Level.OK, 'images arrive'),
        (5, Level.WARN, '33 % of the images of the last 5 s were lost on the way: .*fastdds_shm'),
        (57, Level.ERROR, '85 % of the images of the last 5 s were lost on the way'),
    ],
)
def test_lost_images_are_said_with_their_share_and_forgotten(
    clock: FakeTime, lost: int, level: Level, words: str
) -> None:
    frames = frames_at(clock, 10.0, '-' * 10)
    frames.lost(lost)
    status = input_status(state(), frames)
    assert status.level == level
    assert re.match(words, status.message), status.message
    assert status.values['frames_lost'] == lost
    clock.now += frame_statistics.RECENT_S + 0.1
    assert input_status(state(), frames).level == Level.OK


def test_when_all_are_lost_that_is_the_cause_of_the_silence(clock: FakeTime) -> None:
    frames = FrameStatistics()
    frames.lost(30)
    status = input_status(state(waiting_s=9.0), frames)
    assert status.message.startswith('100 % of the images of the last 5 s were lost on the way')
    reliable = input_status(state(waiting_s=9.0, reliability='reliable'), frames)
    assert 'fastdds_shm' not in reliable.message


def test_only_what_is_sure_is_said_of_a_camera_that_is_not_read() -> None:
    idle = {'idle': True, 'waiting_s': LASTING_S + 1}
    status = input_status(state(**idle), FrameStatistics())
    assert (status.level, status.message) == (Level.OK, IDLE)
    status = input_status(state(**idle, publishers=0, came=False), FrameStatistics())
    assert (status.level, status.message[:17]) == (Level.WARN, 'nobody publishes ')


def test_a_camera_that_was_there_is_to_be_started_again() -> None:
    late = {'publishers': 0, 'waiting_s': INPUT_TIMEOUT_S + 1}
    status = input_status(state(**late, elsewhere=('/other',)), FrameStatistics())
    assert (status.level, status.message) == (
        Level.WARN,
        'the publisher of /front/image has gone; start the camera driver again',
    )
    status = input_status(state(**late, came=False), FrameStatistics())
    assert 'nobody publishes /front/image; remap image' in status.message


def test_a_clock_that_stands() -> None:
    status = input_status(state(clock_stands=True), FrameStatistics())
    assert status.level == Level.WARN
    assert 'use_sim_time is set and nobody publishes /clock' in status.message


def test_it_is_an_error_when_most_images_cannot_be_used(clock: FakeTime) -> None:
    frames = frames_at(clock, 10.0, '-' * 10)
    for _ in range(6):
        frames.dropped('failed', 'image dropped: unknown encoding')
    status = input_status(state(), frames)
    assert status.level == Level.ERROR
    assert '(60 % of the images' in status.message


def test_numbers_are_of_the_last_seconds_or_none(clock: FakeTime) -> None:
    frames = FrameStatistics()
    none = inference_status(frames, WorkState(True))
    assert (none.level, none.message) == (Level.OK, 'no frame processed yet')
    assert none.values['processing_time_p95_ms'] is None
    assert anomaly_status(frames, 0.9).values == {
        'anomalous_share': None,
        'threshold': 0.9,
        'alarms': 0,
    }
    for _ in range(3):
        clock.now += 0.1
        frames.arrived()
        frames.done({'processing': 12.0}, 0.01)
    good = inference_status(frames, WorkState(True))
    assert (good.level, good.message) == (Level.OK, 'processing')
    assert good.values['processing_time_ms'] == 12
    assert good.values['processed_rate_hz'] == pytest.approx(10)
    assert anomaly_status(frames, 0.9).values['anomalous_share'] == 0.01
    clock.now += frame_statistics.RECENT_S + 1
    old = inference_status(frames, WorkState(True, waiting_s=6.0))
    assert (old.level, old.message) == (
        Level.WARN,
        'no frame processed for 6 s: no image arrives',
    )
    assert old.values['frames_processed'] == 3
    assert {v for k, v in old.values.items() if k != 'frames_processed'} == {None}
    assert anomaly_status(frames, 0.9).values['anomalous_share'] is None
    assert output_status(frames, 0.9).values['trusted'] is None


@pytest.mark.parametrize(
    ('work', 'level', 'words'),
    [
        (WorkState(False, waiting_s=99.0), Level.WARN, INACTIVE),
        (WorkState(True, idle=True, waiting_s=99.0), Level.OK, IDLE),
        (WorkState(True, waiting_s=7.0), Level.WARN, 'no frame processed for 7 s: images arrive,'),
        (WorkState(True, waiting_s=11.0), Level.ERROR, 'no frame processed for 11 s: images arr'),
    ],
)
def test_why_nothing_is_processed(
    clock: FakeTime, work: WorkState, level: Level, words: str
) -> None:
    frames = frames_at(clock, 10.0, '-' * 10)
    status = inference_status(frames, work)
    assert (status.level, status.message[: len(words)]) == (level, words)


def test_images_that_cannot_be_used_are_why_nothing_is_processed(clock: FakeTime) -> None:
    frames = frames_at(clock, 10.0, '-')
    frames.dropped('failed', 'image dropped: unknown encoding')
    status = inference_status(frames, WorkState(True, waiting_s=7.0))
    assert status.message.endswith('no image that arrives can be used')


def anomalous(clock: FakeTime, *shares: float) -> FrameStatistics:
    frames = FrameStatistics()
    for share in shares:
        clock.now += 0.5
        frames.done({}, share)
    return frames


@pytest.mark.parametrize(
    ('shares', 'threshold', 'level', 'words'),
    [
        ([0.82] * 8, 0.99, Level.ERROR, 'the output cannot be trusted: 82 % of the picture were'),
        ([0.82] * 4, 0.99, Level.OK, 'not judged yet'),
        ([0.82] * 3 + [0.02] * 5, 0.99, Level.OK, 'plausible'),
        ([0.4] * 8, 0.99, Level.WARN, '40 % of the picture were anomalous in the last 5 s; perh'),
        ([0.02] * 8, 0.99, Level.OK, 'plausible'),
        # At such a threshold most pixels are anomalous in the best of pictures.
        ([0.72] * 8, 0.3, Level.OK, 'plausible'),
        ([0.95] * 8, 0.3, Level.ERROR, 'the output cannot be trusted: 95 %'),
        ([1.0] * 8, 0.0, Level.OK, 'plausible'),
    ],
)
def test_an_output_that_cannot_be_trusted(
    clock: FakeTime, shares: list[float], threshold: float, level: Level, words: str
) -> None:
    status = output_status(anomalous(clock, *shares), threshold)
    assert (status.level, status.message[: len(words)]) == (level, words)
    if len(shares) > 4:
        assert status.values['trusted'] == (level != Level.ERROR)


def test_the_engine(fake_engine: Any) -> None:
    status = engine_status(fake_engine, 'default', StartState())
    assert (status.level, status.message) == (Level.OK, 'fake in fp32')
    assert status.values['input_size'] == '24x32'
    assert engine_status(None, 'default', StartState()).message == NOT_CONFIGURED
    assert engine_status(None, 'default', StartState()).level == Level.WARN


def test_the_way_to_an_engine(fake_engine: Any) -> None:
    building = StartState(building='engine is being built', build_s=7.4)
    status = engine_status(None, 'default', building)
    assert (status.level, status.message) == (Level.WARN, 'engine is being built; 7 s so far')
    failed = StartState(problem='no such file', next_try_s=3.6)
    status = engine_status(None, 'default', failed)
    assert (status.level, status.message) == (
        Level.ERROR,
        'not configured: no such file; next try in 4 s',
    )
    status = engine_status(fake_engine, 'default', StartState('no thread'))
    assert status.message == 'not active: no thread'
    assert engine_status(fake_engine, 'default', StartState(build_s=7.4)).values['build_s'] == 7.4


def test_long_texts_are_cut() -> None:
    assert cut('x' * LONGEST_TEXT) == 'x' * LONGEST_TEXT
    assert cut('x' * 100_000) == 'x' * LONGEST_TEXT + '... (100000 characters)'


def test_a_gpu_is_named_with_its_memory_where_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_supported() -> int:
        raise Exception('NVMLError_NotSupported')  # its errors share no other base

    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        mem_get_info=lambda: (6 << 30, 8 << 30),
        get_device_name=lambda: 'Orin',
        temperature=not_supported,
        get_device_properties=lambda: SimpleNamespace(is_integrated=False),
    )
    monkeypatch.setitem(sys.modules, 'torch', SimpleNamespace(cuda=cuda))
    status = gpu_status(gpu_facts())
    assert (status.level, status.message) == (Level.OK, 'Orin, 2048 of 8192 MB used')
    assert status.values['temperature_c'] is None
    cuda.mem_get_info = lambda: (100 << 20, 8 << 30)
    assert gpu_status(gpu_facts()).level == Level.WARN
    cuda.get_device_properties = lambda: SimpleNamespace(is_integrated=True)
    shared = gpu_status(gpu_facts())
    assert (shared.level, shared.message) == (Level.OK, 'Orin')
    cuda.is_initialized = lambda: False
    assert gpu_status(gpu_facts()) == gpu_status({})
    monkeypatch.delitem(sys.modules, 'torch')
    assert (gpu_status(gpu_facts()).message, gpu_facts()) == ('none is used', {})
