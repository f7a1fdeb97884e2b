"""Counts, rates and durations of the frames, for diagnostics."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
import threading
import time
from typing import NamedTuple, TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from anomaly_seg_ros.whole_frame.health import CameraHealth

T = TypeVar('T')

WINDOW = 100
"""Frames that percentiles are taken over, at most."""
RECENT_S = 5.0
"""Seconds after which nothing that happened counts for a rate, a share or a duration any more."""

REMEMBERED = 1000
"""Events of a kind that are remembered: those of `RECENT_S` up to 200 Hz."""
FEW = 5
"""Recent images below which no share is given of them."""

UNPROCESSED = ('idle', 'skipped', 'too_old', 'failed', 'discarded')
"""What becomes of a frame that is not processed: nobody listened, a newer one came before its
turn, its stamp was too old, it could not be used, or it waited when the node was deactivated."""
UNUSABLE = ('too_old', 'failed')
"""Those of them that have a problem."""
NOTHING = ('', -np.inf)
"""What is said of no frame, and when that was."""


class Done(NamedTuple):
    """A frame that went all the way.

    Attributes:
        when: By the steady clock.
        durations_ms: Stage to milliseconds.
        anomalous_share: Share of its pixels that are anomalous.
        judged: Score of the whole frame by the checkpoint's method; None where it has none.
        health: Of the camera, this frame included.
    """

    when: float
    durations_ms: Mapping[str, float]
    anomalous_share: float
    judged: float | None = None
    health: CameraHealth | None = None


class FrameStatistics:
    """What happened to the frames so far; written by the worker, read by the diagnostics timer.

    Every frame that is 'received' becomes 'processed' or one of `UNPROCESSED`. A frame that is
    'lost' never came.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._events: dict[str, deque[tuple[float, int]]] = {}
        self._last: dict[str, float] = {}
        self._done: deque[Done] = deque(maxlen=REMEMBERED)
        self._problem = self._oddity = NOTHING
        self.encoding = ''
        self.size = (0, 0)
        self._age_s: tuple[float | None, float] = None, -np.inf

    def reset(self) -> None:
        """Begins to count anew; what is in work now counts as received then.

        When the last frame of a kind was is no count, and stays.
        """
        with self._lock:
            ended = sum(self._counts[what] for what in ('processed', *UNPROCESSED))
            in_work = self._counts['received'] - ended
            self._counts.clear()
            self._counts['received'] = in_work
            self._events.clear()
            self._done.clear()
            self._problem = self._oddity = NOTHING

    def arrived(self) -> None:
        """Notes that a message came in."""
        self._note('received')

    def lost(self, count: int) -> None:
        """Notes messages that were sent and will never come in."""
        self._note('lost', count)

    def done(
        self,
        durations_ms: Mapping[str, float],
        anomalous_share: float,
        alarms: int = 0,
        judged: float | None = None,
        health: CameraHealth | None = None,
    ) -> None:
        """Notes a frame that went all the way, with the regions that count for the first time."""
        self._note('processed')
        if alarms:
            self._note('alarms', alarms)
        with self._lock:
            now = time.monotonic()
            self._done.append(Done(now, durations_ms, anomalous_share, judged, health))
            # Each holds a small picture: of a slow camera they would come in for minutes.
            while self._done[0].when < now - RECENT_S:
                self._done.popleft()

    def dropped(self, why: str, problem: str = '') -> None:
        """Notes a frame that was not processed.

        Args:
            why: One of `UNPROCESSED`.
            problem: What a user should know, if anything.
        """
        self._note(why)
        if problem:
            with self._lock:
                self._problem = problem, time.monotonic()

    def strange(self, problem: str) -> None:
        """Notes what a user should know of a frame that is processed all the same."""
        with self._lock:
            self._oddity = problem, time.monotonic()

    def aged(self, age_s: float | None) -> None:
        """Notes how far the stamp of a frame lies behind the clock; None: one has no time."""
        with self._lock:
            self._age_s = age_s, time.monotonic()

    def recent_age_s(self) -> float | None:
        """Gives the age of the last frame; None after `RECENT_S`."""
        return self._if_recent(self._age_s, None)

    def stamps_back(self) -> None:
        """Notes that a stamp lies before that of the frame before."""
        self._note('stamps_back')

    def _note(self, what: str, count: int = 1) -> None:
        with self._lock:
            self._counts[what] += count
            events = self._events.setdefault(what, deque(maxlen=REMEMBERED))
            self._last[what] = time.monotonic()
            events.append((self._last[what], count))

    def count(self, what: str) -> int:
        """Gives how many frames were 'received', 'processed', 'lost' or in `UNPROCESSED`.

        'alarms' are regions that counted for the first time.
        """
        with self._lock:
            return self._counts[what]

    def recent_problem(self) -> str:
        """Gives the last problem of a frame that was not processed; '' after `RECENT_S`."""
        return self._if_recent(self._problem, '')

    def recent_oddity(self) -> str:
        """Gives what was strange of the last frame that was processed so; '' after `RECENT_S`."""
        return self._if_recent(self._oddity, '')

    def _if_recent(self, noted: tuple[T, float], otherwise: T) -> T:
        value, when = noted
        return value if time.monotonic() - when <= RECENT_S else otherwise

    def rate_hz(self, what: str = 'received') -> float | None:
        """Gives the rate of the recent frames of a kind; None with fewer than two."""
        with self._lock:
            recent = self._recent(what)
        if len(recent) < 2 or recent[-1][0] == recent[0][0]:
            return None
        return (len(recent) - 1) / (recent[-1][0] - recent[0][0])

    def share(self, *kinds: str) -> float | None:
        """Gives the share that frames of some kinds have of the recent ones.

        Of those received that somebody wanted; of the 'lost' ones of all that were sent. None
        with fewer than `FEW`.
        """
        with self._lock:
            received = self._recent('received')
            whole = sum(count for _, count in received)
            if 'lost' in kinds:
                whole += sum(count for _, count in self._recent('lost'))
            else:
                whole -= sum(count for _, count in self._recent('idle'))
            if whole < FEW:
                return None
            # A frame that was skipped just now may have come before the oldest recent one.
            oldest = -np.inf if 'lost' in kinds or not received else received[0][0]
            part = sum(
                count for kind in kinds for when, count in self._recent(kind) if when >= oldest
            )
        return min(1.0, part / whole)

    def _recent(self, what: str) -> list[tuple[float, int]]:
        since = time.monotonic() - RECENT_S
        return [event for event in self._events.get(what, ()) if event[0] >= since]

    def since_s(self, what: str) -> float | None:
        """Gives the seconds since the last frame of a kind; None before the first one."""
        with self._lock:
            return time.monotonic() - self._last[what] if what in self._last else None

    def recent_done(self) -> list[Done]:
        """Gives the frames that went all the way in the last seconds, the newest last."""
        since = time.monotonic() - RECENT_S
        with self._lock:
            return [done for done in self._done if done.when >= since]

    def percentiles_ms(self) -> dict[str, tuple[float, float]]:
        """Gives stage to (p50, p95) over the recent frames; nothing where there are none."""
        recent = [done.durations_ms for done in self.recent_done()[-WINDOW:]]
        stages = recent[-1] if recent else ()
        found = {}
        for stage in stages:
            values = [durations[stage] for durations in recent]
            found[stage] = (float(np.percentile(values, 50)), float(np.percentile(values, 95)))
        return found
