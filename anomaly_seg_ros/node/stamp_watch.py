"""What is wrong with the stamps of a camera's images, looked at one after the other."""

from __future__ import annotations

import time
from typing import NamedTuple

from anomaly_seg_ros.node.statistics import RECENT_S

AHEAD_S = 1.0
"""Seconds that a stamp may lie in the future; more is another clock."""
BEHIND_S = 10.0
"""Seconds that it may lie behind; no camera and no network is so slow."""
SAME = 3
"""Images behind each other that carry one stamp: from there on it is no chance."""


class Stamp(NamedTuple):
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
        self._same = 1
        self._went_back = -RECENT_S

    def look(self, stamp_s: float, now_s: float, max_age_s: float) -> Stamp:
        """Takes the stamp of the next image.

        Args:
            stamp_s: As the camera set it; 0: it did not.
            now_s: By the node's clock; 0: that has no time yet.
            max_age_s: Above which an image is left; 0: none is.
        """
        problem, left = stamp_problem(stamp_s, now_s, max_age_s)
        last_s, self._last_s = self._last_s, stamp_s
        age_s = now_s - stamp_s if stamp_s and now_s else None
        if last_s is None or not stamp_s:
            return Stamp(problem, left, 0.0, age_s)
        self._same = self._same + 1 if stamp_s == last_s else 1
        if self._same >= SAME:
            again = 'images carry the same stamp again and again; mend the camera driver'
            problem = problem or again
        back_s = max(last_s - stamp_s, 0.0)
        if back_s:
            before, self._went_back = self._went_back, time.monotonic()
            if self._went_back - before < RECENT_S:
                problem = problem or (
                    'stamps of images go back again and again: two cameras on one topic, or a '
                    'driver that sends them in another order'
                )
        return Stamp(problem, left, back_s, age_s)


def stamp_problem(stamp_s: float, now_s: float, max_age_s: float) -> tuple[str, str]:
    """Gives what is wrong with the stamp of an image by itself, and whether it is to be left.

    Arguments as of `StampWatch.look`; the result is that of `Stamp.problem` and `Stamp.left`.

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
    if age_s > BEHIND_S and not max_age_s:
        return (
            f'stamps of images are {age_s:.0f} s behind the clock of this node; synchronise the '
            'clocks, or with a bag set use_sim_time',
            '',
        )
    return '', ''
