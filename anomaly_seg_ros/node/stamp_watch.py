"""What is wrong with the stamps of a camera's images, looked at one after the other."""

from __future__ import annotations

from collections import deque
import time
from typing import NamedTuple

from .statistics import RECENT_S

AHEAD_S = 1.0
"""Seconds that a stamp may lie in the future; more is another clock."""
BEHIND_S = 10.0
"""Seconds that it may lie behind; no camera and no network is so slow."""
REPEATED = 3
"""Times that something happens, in a row or within the last seconds: then it is no chance, and no
bag that begins again."""


class StampFinding(NamedTuple):
    """What was found out about one.

    Attributes:
        problem: What is wrong; '' where nothing is.
        left: Word of `UNUSABLE` for an image that is not to be processed; '' for one that is.
        back_s: Seconds that it lies before that of the image before; 0 where it does not.
        age_s: Seconds behind the clock of the node; None where one of the two has no time.
    """

    problem: str
    left: str
    back_s: float
    age_s: float | None


class StampWatch:
    """Knows the stamps of one camera; called by one thread."""

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._same = self._behind = 0
        self._went_back = deque([-RECENT_S] * REPEATED, maxlen=REPEATED)

    def look(self, stamp_s: float, now_s: float, max_age_s: float) -> StampFinding:
        """Takes the stamp of the next image.

        Args:
            stamp_s: As the camera set it; 0: it did not.
            now_s: By the node's clock; 0: that has no time yet.
            max_age_s: Above which an image is left; 0: none is.
        """
        problem, left = stamp_problem(stamp_s, now_s, max_age_s)
        age_s = now_s - stamp_s if stamp_s and now_s else None
        self._behind = self._behind + 1 if (age_s or 0.0) > BEHIND_S else 0
        if not problem and not max_age_s and self._behind >= REPEATED:
            problem = (
                f'stamps of images are {age_s:.0f} s behind the clock of this node; synchronise '
                'the clocks, or with a bag set use_sim_time'
            )
        last_s, self._last_s = self._last_s, stamp_s
        if last_s is None or not stamp_s:
            return StampFinding(problem, left, 0.0, age_s)
        back_s = max(last_s - stamp_s, 0.0)
        return StampFinding(problem or self._of_sequence(stamp_s - last_s), left, back_s, age_s)

    def _of_sequence(self, step_s: float) -> str:
        """Gives what is wrong with the step from the stamp before to this one."""
        self._same = 0 if step_s else self._same + 1
        if self._same >= REPEATED:
            return (
                'images carry the same stamp again and again; mend the camera driver, or in a '
                'simulation let /clock run as fast as they come'
            )
        if step_s < 0:
            self._went_back.append(time.monotonic())
            if self._went_back[-1] - self._went_back[0] < RECENT_S:
                return (
                    'stamps of images go back again and again: two cameras on one topic, or a '
                    'driver that sends them in another order'
                )
        return ''


def stamp_problem(stamp_s: float, now_s: float, max_age_s: float) -> tuple[str, str]:
    """Gives what is wrong with the stamp of an image by itself, and whether it is to be left.

    Arguments as of `StampWatch.look`; the result is that of `StampFinding.problem` and
    `left`.

    >>> stamp_problem(99.5, 100.0, 0.0)
    ('', '')
    """
    age_s = now_s - stamp_s
    left = 'too_old' if 0 < max_age_s < age_s and now_s else ''
    if not stamp_s:
        limit = f', and max_age_s is {max_age_s}' if left else ''
        return f'images carry no stamp (0){limit}; mend the camera driver', left
    if not now_s:
        return '', ''  # said of the clock itself
    if age_s < -AHEAD_S:
        return (
            f'stamps of images are {-age_s:.1f} s ahead of the clock of this node; synchronise '
            'the clocks, or with a bag set use_sim_time',
            '',
        )
    if left:
        return (
            f'image dropped: its stamp is {age_s:.1f} s old, max_age_s is {max_age_s}; does the '
            'camera share the clock of this node?',
            left,
        )
    return '', ''
