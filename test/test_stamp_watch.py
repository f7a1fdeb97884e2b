"""What the stamps of a camera tell, alone and one after the other."""

from __future__ import annotations

import pytest

from anomaly_seg_ros.node import stamp_watch
from anomaly_seg_ros.node.stamp_watch import AHEAD_S, BEHIND_S, stamp_problem, StampWatch
from anomaly_seg_ros.node.statistics import RECENT_S


@pytest.mark.parametrize(
    ('stamp_s', 'now_s', 'max_age_s', 'words', 'left'),
    [
        (99.0, 100.0, 0.0, '', ''),
        (99.0, 100.0, 2.0, '', ''),
        (1.0, 100.0, 0.0, '', ''),  # one alone may be of a bag that begins again
        (1.0, 100.0, 200.0, '', ''),  # who sets a limit has thought of it
        (
            1.0,
            100.0,
            2.0,
            'its stamp is 99.0 s old, max_age_s is 2.0; does the camera share',
            'too_old',
        ),
        (0.0, 100.0, 0.0, 'images carry no stamp (0); mend the camera driver', ''),
        (0.0, 100.0, 2.0, 'carry no stamp (0), and max_age_s is 2.0; mend', 'too_old'),
        (98.0, 100.0, 2.0, '', ''),  # no older than that
        (100.0 + AHEAD_S, 100.0, 0.0, '', ''),
        (100.0 + AHEAD_S + 0.2, 100.0, 0.0, 'are 1.2 s ahead of the clock', ''),
        (160.0, 100.0, 2.0, 'are 60.0 s ahead of the clock of this node; synchronise', ''),
        (160.0, 0.0, 2.0, '', ''),  # no /clock yet
    ],
)
def test_what_a_stamp_tells(
    stamp_s: float, now_s: float, max_age_s: float, words: str, left: str
) -> None:
    problem, why = stamp_problem(stamp_s, now_s, max_age_s)
    assert why == left
    assert words in problem
    assert bool(problem) == bool(words)


class FakeTime:
    now = 50.0

    def monotonic(self) -> float:
        return self.now


def seen(*stamps: float) -> list[str]:
    watch = StampWatch()
    return [watch.look(stamp, 100.0, 0.0).problem for stamp in stamps]


def test_one_stamp_again_and_again() -> None:
    found = seen(99.0, 99.0, 99.0, 99.0, 99.0, 99.1, 99.1, 99.1)
    again = 'images carry the same stamp again and again; mend the camera driver, or in a'
    assert [text[: len(again)] for text in found] == ['', '', '', again, again, '', '', '']
    assert set(seen(0.0, 0.0, 0.0, 0.0, 0.0)) == {
        'images carry no stamp (0); mend the camera driver'
    }


def test_stamps_of_another_time() -> None:
    behind = 'stamps of images are 98 s behind the clock of this node; synchronise the clocks, or '
    assert [text[: len(behind)] for text in seen(1.0, 1.5, 2.0, 99.0)] == ['', '', behind, '']
    assert seen(*[100.0 - BEHIND_S + number / 10 for number in range(4)]) == [''] * 4
    assert 'are 105 s behind' in seen(-5.2, -5.1, -5.0)[-1]
    watch = StampWatch()
    limited = [watch.look(number / 10, 100.0, 200.0).problem for number in range(1, 6)]
    assert limited == [''] * 5, 'who sets a limit has thought of it'


def steps_back(times: list[float], monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of a step back at each of these times, whether something is said."""
    clock = FakeTime()
    monkeypatch.setattr(stamp_watch, 'time', clock)
    watch, found = StampWatch(), []
    for when in times:
        clock.now = 50.0 + when
        assert watch.look(97.5, 100.0, 0.0).back_s == 0.0
        back = watch.look(97.0, 100.0, 0.0)
        assert back.back_s == 0.5
        found.append(back.problem.startswith('stamps of images go back again and again: two cam'))
    return found


def test_a_bag_that_begins_again_is_nothing_and_a_zigzag_is_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert steps_back([0.0, 4.0, 8.0, 12.0], monkeypatch) == [False] * 4
    zigzag = steps_back([0.0, 0.2, 0.4, 0.6, RECENT_S + 2, RECENT_S + 2.2], monkeypatch)
    assert zigzag == [False, False, True, True, False, False]


def test_the_age_of_an_image() -> None:
    watch = StampWatch()
    assert watch.look(99.0, 100.5, 0.0).age_s == 1.5
    assert watch.look(0.0, 100.5, 0.0).age_s is None
    assert watch.look(99.0, 0.0, 0.0).age_s is None


def test_after_a_step_back_stamps_are_held_against_those_behind_it() -> None:
    watch = StampWatch()
    found = [watch.look(stamp, 100.0, 0.0) for stamp in (99.0, 97.5, 97.75, 98.0, 98.25)]
    assert [each.back_s for each in found] == [0.0, 1.5, 0.0, 0.0, 0.0]
    assert [each.problem for each in found] == [''] * 5
