"""Counts, rates and durations of the frames, for diagnostics."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
import threading
import time

import numpy as np

WINDOW = 100
"""Frames that percentiles are taken over."""
RECENT_S = 5.0
"""Seconds after which an arrival no longer counts for the rate, and a problem is forgotten."""

ARRIVALS = 1000
"""Arrivals that are remembered: those of `RECENT_S` up to 200 Hz."""
FEW = 5
"""Recent arrivals below which no share is given of them."""

UNPROCESSED = ('skipped', 'too_old', 'failed', 'discarded')
"""What becomes of a frame that is not processed: a newer one came before its turn, its stamp was
too old, it could not be used, or it waited when the node was deactivated."""


class FrameStatistics:
    """What happened to the frames so far; written by the worker, read by the diagnostics timer.

    Every frame that is 'received' becomes 'processed' or one of `UNPROCESSED`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrivals: deque[float] = deque(maxlen=ARRIVALS)
        self._skips: deque[float] = deque(maxlen=ARRIVALS)
        self._durations: dict[str, deque[float]] = {}
        self._counts: Counter[str] = Counter()
        self._problem = ('', -np.inf)
        self.anomalous_share: float | None = None
        self.encoding = ''
        self.size = (0, 0)

    def arrived(self) -> None:
        """Notes that a message came in."""
        with self._lock:
            self._arrivals.append(time.monotonic())
            self._counts['received'] += 1

    def done(self, durations_ms: Mapping[str, float]) -> None:
        """Notes a frame that went all the way, with its stage times."""
        with self._lock:
            self._counts['processed'] += 1
            for stage, value in durations_ms.items():
                self._durations.setdefault(stage, deque(maxlen=WINDOW)).append(value)

    def dropped(self, why: str, problem: str = '') -> None:
        """Notes a frame that was not processed.

        Args:
            why: One of `UNPROCESSED`.
            problem: What a user should know, if anything.
        """
        with self._lock:
            self._counts[why] += 1
            if why == 'skipped':
                self._skips.append(time.monotonic())
            if problem:
                self._problem = (problem, time.monotonic())

    def count(self, what: str) -> int:
        """Gives the number of frames 'received', 'processed', or one of `UNPROCESSED`."""
        with self._lock:
            return self._counts[what]

    def recent_problem(self) -> str:
        """Gives the last problem, or '' when it is more than `RECENT_S` ago."""
        with self._lock:
            problem, when = self._problem
        return problem if time.monotonic() - when <= RECENT_S else ''

    def rate_hz(self) -> float | None:
        """Gives the rate of the recent arrivals; None with fewer than two."""
        with self._lock:
            recent = self._recent_arrivals()
        if len(recent) < 2 or recent[-1] == recent[0]:
            return None
        return (len(recent) - 1) / (recent[-1] - recent[0])

    def skipped_share(self) -> float | None:
        """Gives the share of the recent arrivals that were skipped; None with fewer than `FEW`."""
        with self._lock:
            recent = self._recent_arrivals()
            if len(recent) < FEW:
                return None
            skips = sum(skip >= recent[0] for skip in self._skips)
        return min(1.0, skips / len(recent))

    def _recent_arrivals(self) -> list[float]:
        since = time.monotonic() - RECENT_S
        return [arrival for arrival in self._arrivals if arrival >= since]

    def silence_s(self) -> float | None:
        """Gives the seconds since the last arrival; None before the first one."""
        with self._lock:
            return time.monotonic() - self._arrivals[-1] if self._arrivals else None

    def percentiles_ms(self) -> dict[str, tuple[float, float]]:
        """Gives stage to (p50, p95) over the last frames."""
        with self._lock:
            durations = {stage: list(values) for stage, values in self._durations.items()}
        return {
            stage: (float(np.percentile(values, 50)), float(np.percentile(values, 95)))
            for stage, values in durations.items()
        }
