"""Counts, rates and durations, on a clock of our own."""

import pytest

from anomaly_seg_ros.node import statistics as frame_statistics
from anomaly_seg_ros.node.statistics import FrameStatistics, RECENT_S, UNPROCESSED


class FakeTime:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(frame_statistics, 'time', fake)
    return fake


def test_rate_of_regular_arrivals_is_exact_and_ends_with_them(clock: FakeTime) -> None:
    statistics = FrameStatistics()
    assert statistics.rate_hz() is None
    assert statistics.since_s('received') is None
    statistics.arrived()
    assert statistics.rate_hz() is None
    for _ in range(8):
        clock.now += 0.25
        statistics.arrived()
    assert statistics.rate_hz() == pytest.approx(4)
    clock.now += 3
    assert statistics.since_s('received') == pytest.approx(3)
    assert statistics.rate_hz() == pytest.approx(4)
    clock.now += RECENT_S
    assert statistics.rate_hz() is None
    assert statistics.count('received') == 9


def test_arrivals_at_one_instant_have_no_rate(clock: FakeTime) -> None:
    statistics = FrameStatistics()
    statistics.arrived()
    statistics.arrived()
    assert statistics.rate_hz() is None


def test_a_problem_is_forgotten_after_a_while(clock: FakeTime) -> None:
    statistics = FrameStatistics()
    assert statistics.recent_problem() == ''
    statistics.dropped('failed', 'bad')
    statistics.dropped('skipped')
    assert statistics.recent_problem() == 'bad'
    clock.now += RECENT_S + 0.1
    assert statistics.recent_problem() == ''
    assert (statistics.count('failed'), statistics.count('skipped')) == (1, 1)


def test_percentiles_of_each_stage(clock: FakeTime) -> None:
    statistics = FrameStatistics()
    for value in range(101):
        statistics.done({'inference': float(value), 'publish': 1.0}, 0.0)
    # Only the last 100 count: 1..100.
    assert statistics.percentiles_ms()['inference'] == pytest.approx((50.5, 95.05))
    assert statistics.percentiles_ms()['publish'] == (1, 1)
    assert statistics.count('processed') == 101
    clock.now += RECENT_S - 1
    statistics.done({'inference': 9.0, 'publish': 2.0}, 0.5)
    clock.now += 2
    # Those before that have become old.
    assert statistics.percentiles_ms() == {'inference': (9, 9), 'publish': (2, 2)}
    assert [done.anomalous_share for done in statistics.recent_done()] == [0.5]
    clock.now += RECENT_S
    assert statistics.percentiles_ms() == {}
    assert statistics.recent_done() == []


def test_shares_are_of_the_images_that_were_wanted_or_sent(clock: FakeTime) -> None:
    statistics = FrameStatistics()
    for why in ('idle', 'idle', 'skipped', 'failed', 'too_old'):
        statistics.arrived()
        statistics.dropped(why)
    assert statistics.share('skipped') is None, 'three are few'
    for _ in range(2):
        statistics.arrived()
    assert statistics.share('skipped') == 0.2
    assert statistics.share('failed', 'too_old') == 0.4
    assert statistics.share('lost') == 0
    statistics.lost(14)
    assert statistics.share('lost') == pytest.approx(14 / 21)
    assert statistics.count('lost') == 14
    clock.now += RECENT_S + 0.1
    assert statistics.share('lost') is None
    # Not one came in, and that is known.
    statistics.lost(7)
    assert statistics.share('lost') == 1


def test_what_became_of_images_before_the_recent_ones_is_no_share_of_these(
    clock: FakeTime,
) -> None:
    statistics = FrameStatistics()
    for _ in range(6):
        statistics.arrived()
    clock.now += 3
    for _ in range(6):
        statistics.dropped('skipped')
    clock.now += RECENT_S - 2
    for _ in range(5):
        statistics.arrived()
    assert statistics.share('skipped') == 0
    for _ in range(8):
        statistics.dropped('skipped')
    assert statistics.share('skipped') == 1, 'three of them had come before'


def test_only_frames_of_the_last_seconds_are_kept(clock: FakeTime) -> None:
    statistics = FrameStatistics()
    for _ in range(100):
        clock.now += 1.0
        statistics.done({}, 0.0)
    assert len(statistics._done) == RECENT_S + 1


def test_counting_anew_does_not_forget_when_the_last_frame_was(clock: FakeTime) -> None:
    statistics = FrameStatistics()
    statistics.arrived()
    statistics.done({}, 0.0)
    clock.now += 0.5
    statistics.reset()
    assert (statistics.count('received'), statistics.count('processed')) == (0, 0)
    assert statistics.since_s('received') == statistics.since_s('processed') == 0.5


def test_what_is_in_work_counts_as_received_when_counting_begins_anew(clock: FakeTime) -> None:
    statistics = FrameStatistics()
    for _ in range(2):
        statistics.arrived()
    statistics.done({}, 0.0)
    statistics.reset()
    assert (statistics.count('received'), statistics.count('processed')) == (1, 0)


def test_what_has_ended_in_any_way_is_not_in_work(clock: FakeTime) -> None:
    statistics = FrameStatistics()
    for why in UNPROCESSED:
        statistics.arrived()
        statistics.dropped(why, 'bad')
    statistics.strange('odd')
    statistics.reset()
    assert statistics.count('received') == 0
    assert (statistics.recent_problem(), statistics.recent_oddity()) == ('', '')
