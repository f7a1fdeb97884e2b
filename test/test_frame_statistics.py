"""Counts, rates and durations, on a clock of our own."""

import pytest

from anomaly_seg_ros.node import statistics as frame_statistics
from anomaly_seg_ros.node.statistics import FrameStatistics, RECENT_S


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
    assert statistics.silence_s() is None
    statistics.arrived()
    assert statistics.rate_hz() is None
    for _ in range(8):
        clock.now += 0.25
        statistics.arrived()
    assert statistics.rate_hz() == pytest.approx(4)
    clock.now += 3
    assert statistics.silence_s() == pytest.approx(3)
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


def test_percentiles_of_each_stage() -> None:
    statistics = FrameStatistics()
    for value in range(101):
        statistics.done({'inference': float(value), 'publish': 1.0})
    # Only the last 100 count: 1..100.
    assert statistics.percentiles_ms()['inference'] == pytest.approx((50.5, 95.05))
    assert statistics.percentiles_ms()['publish'] == (1, 1)
    assert statistics.count('processed') == 101
