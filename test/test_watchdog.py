"""What the node says of itself, in plain values: no ROS is needed to decide it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from anomaly_seg_ros.node import statistics as frame_statistics
from anomaly_seg_ros.node.statistics import FrameStatistics
from anomaly_seg_ros.node.watchdog import (
    anomaly_status,
    cut,
    engine_status,
    inference_status,
    input_status,
    INPUT_TIMEOUT_S,
    InputState,
    Level,
    LONGEST_TEXT,
    NOT_CONFIGURED,
    StartState,
)


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


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'publishers': 0}, 'nobody publishes /front/image; remap image'),
        ({'incompatible': 2}, 'the publisher of /front/image offers other QoS; set input_reli'),
        ({}, 'although /front/image has a publisher; .* config/fastdds_shm.xml'),
    ],
)
def test_a_silent_camera_and_its_likely_cause(changes: dict[str, int], words: str) -> None:
    late = state(waiting_s=INPUT_TIMEOUT_S + 0.1, **changes)
    status = input_status(late, FrameStatistics())
    assert status.level == Level.WARN

    assert re.search(words, status.message), status.message
    in_time = input_status(state(**changes), FrameStatistics())
    assert (in_time.level, in_time.message) == (Level.OK, 'images arrive')


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
    assert frames_at(clock, 30.0, 'ssss').skipped_share() is None
    assert frames_at(clock, 30.0, 'sssss').skipped_share() == 1.0


def test_only_the_last_seconds_count(clock: FakeTime) -> None:
    frames = frames_at(clock, 10.0, 's' * 100)
    assert frames.skipped_share() == 1.0
    for _ in range(100):
        clock.now += 0.1
        frames.arrived()
    assert frames.skipped_share() == 0.0
    assert frames.count('skipped') == 100


def test_the_share_holds_at_high_rates(clock: FakeTime) -> None:
    assert frames_at(clock, 120.0, '-sss' * 250).skipped_share() == pytest.approx(0.75, abs=0.01)


def test_silence_comes_before_a_problem_and_a_problem_before_skips(clock: FakeTime) -> None:
    frames = frames_at(clock, 30.0, 's' * 20)
    frames.dropped('failed', 'image dropped: unknown encoding')
    assert input_status(state(), frames).message == 'image dropped: unknown encoding'
    silent = input_status(state(waiting_s=9.0), frames)
    assert silent.message.startswith('no image for 9 s')


def test_every_count_is_shown(clock: FakeTime) -> None:
    frames = frames_at(clock, 10.0, '-s')
    for why in ('too_old', 'failed', 'failed', 'discarded'):
        frames.dropped(why)
    values = input_status(state(), frames).values
    shown = {key: value for key, value in values.items() if key.startswith('frames_')}
    assert shown == {
        'frames_received': 2,
        'frames_skipped': 1,
        'frames_too_old': 1,
        'frames_failed': 2,
        'frames_discarded': 1,
    }
    assert values['rate_hz'] == pytest.approx(10.0)
    assert (values['encoding'], values['size']) == (None, None)


def test_what_is_not_known_yet_is_none() -> None:
    frames = FrameStatistics()
    assert inference_status(frames).message == 'no frame processed yet'
    assert inference_status(frames).values['processing_time_p95_ms'] is None
    assert anomaly_status(frames, 0.9).values == {'anomalous_share': None, 'threshold': 0.9}


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
