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
        (100.0 - BEHIND_S, 100.0, 0.0, '', ''),
        (1.0, 100.0, 0.0, 'are 99 s behind the clock of this node; synchronise', ''),
        (1.0, 100.0, 200.0, '', ''),  # who sets a limit has thought of it
        (-5.0, 100.0, 0.0, 'are 105 s behind the clock', ''),
        (
            1.0,
            100.0,
            2.0,
            'its stamp is 99.0 s old, max_age_s is 2.0; does the camera share',
            'too_old',
        ),
        (0.0, 100.0, 0.0, 'images carry no stamp (0); mend the camera driver', ''),
        (0.0, 100.0, 2.0, 'carry no stamp (0), and max_age_s is 2.0; mend', 'too_old'),
        (100.0 + AHEAD_S, 100.0, 0.0, '', ''),
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
    again = 'images carry the same stamp again and again; mend the camera driver'
    assert seen(99.0, 99.0, 99.1, 99.1, 99.1, 99.1, 99.2) == ['', '', '', '', again, again, '']
    assert set(seen(0.0, 0.0, 0.0, 0.0)) == {'images carry no stamp (0); mend the camera driver'}


def test_a_bag_that_begins_again_is_nothing_and_a_zigzag_is_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeTime()
    monkeypatch.setattr(stamp_watch, 'time', clock)
    watch = StampWatch()
    found = []
    for stamp, passed in ((97.0, 0.1), (96.5, 0.1), (97.5, 0.1), (97.0, 0.1), (97.2, 0.1)):
        clock.now += passed
        found.append(watch.look(stamp, 100.0, 0.0))
    assert [one.back_s for one in found] == [0.0, 0.5, 0.0, 0.5, 0.0]
    assert [bool(one.problem) for one in found] == [False, False, False, True, False]
    assert 'go back again and again: two cameras on one topic' in found[3].problem
    clock.now += RECENT_S + 1
    assert watch.look(96.0, 100.0, 0.0).problem == ''


def test_the_age_of_an_image() -> None:
    watch = StampWatch()
    assert watch.look(99.0, 100.5, 0.0).age_s == 1.5
    assert watch.look(0.0, 100.5, 0.0).age_s is None
    assert watch.look(99.0, 0.0, 0.0).age_s is None
