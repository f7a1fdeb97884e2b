"""How often a bag would have raised an alarm, how long each lasted, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
import math
from statistics import median
from typing import Any

from anomaly_seg_ros.frames.maps import Anomalies

LONGEST_GAP_S = 5.0
"""Seconds between two frames; more is a break in the recording and was not watched."""
DOUBT = 0.05
"""Chance that a rate lies outside of its interval."""
_STEPS = 60


@dataclass
class Alarms:
    """Counts of one bag or of several; an alarm is a region that counts for the first time.

    Attributes:
        frames: Frames seen.
        alarmed: Frames with a region that counts.
        events: Alarms.
        watched_s: Seconds between frames.
        delays: Of each alarm: frames from the first sight of its region.
    """

    frames: int = 0
    alarmed: int = 0
    events: int = 0
    watched_s: float = 0.0
    delays: list[int] = field(default_factory=list)
    _last: int | None = field(default=None, repr=False)

    def add(self, stamp: int, anomalies: Anomalies) -> None:
        """Counts a frame with its stamp in nanoseconds."""
        if self._last is not None and 0 < (gap_s := (stamp - self._last) * 1e-9) <= LONGEST_GAP_S:
            self.watched_s += gap_s
        self._last = stamp
        self.frames += 1
        self.alarmed += anomalies.total > 0
        self.events += anomalies.delays.size
        self.delays += anomalies.delays.tolist()

    def counts(self) -> dict[str, Any]:
        """Gives what `merged` takes, as plain values."""
        return {key: value for key, value in asdict(self).items() if not key.startswith('_')}

    @classmethod
    def merged(cls, parts: list[Mapping[str, Any]]) -> Alarms:
        """Puts the counts of several bags together."""
        whole = cls()
        for part in parts:
            whole.frames += part['frames']
            whole.alarmed += part['alarmed']
            whole.events += part['events']
            whole.watched_s += part['watched_s']
            whole.delays += part['delays']
        return whole

    def report(self) -> dict[str, Any]:
        """Gives the rates."""
        hours = self.watched_s / 3600
        low, high = poisson_interval(self.events)
        rates = {
            'per_hour': _per(self.events, hours),
            'per_hour_95': [_per(low, hours), _per(high, hours)],
        }
        return {
            'events': self.events,
            'hours': round(hours, 6),
            **rates,
            'duty_cycle': _per(self.alarmed, self.frames),
            'delay_frames': {
                'median': median(self.delays) if self.delays else None,
                'max': max(self.delays, default=None),
            },
        }

    def sentence(self) -> str:
        """Says what it comes to."""
        found = self.report()
        if not self.watched_s:
            return (
                f'{self.events} alarms; no two frames lie {LONGEST_GAP_S:g} s apart or less, with '
                'rising stamps, so there is no rate'
            )
        low, high = found['per_hour_95']
        watched = f'in {found["hours"]:.3g} hours'
        if not self.events:
            proved = f'under {high:.3g} an hour (3/T, 95 %)'
            return f'no alarm {watched}: that proves no more than {proved}'
        return (
            f'{self.events} alarms {watched}: {found["per_hour"]:.3g} an hour (95 %: {low:.3g} to '
            f'{high:.3g}), {found["duty_cycle"]:.1%} of the frames; each came '
            f'{found["delay_frames"]["median"]:g} frames after its region (at most '
            f'{found["delay_frames"]["max"]})'
        )


def _per(count: float, whole: float) -> float | None:
    return round(count / whole, 6) if whole else None


def poisson_interval(count: int, doubt: float = DOUBT) -> tuple[float, float]:
    """Gives the exact interval of the mean of a Poisson count, Garwood's (Biometrika 28, 1936).

    Without any event the lower end is 0 by itself, and all of the doubt goes to the upper one:
    about 3, the rule of three.

    >>> [round(end, 2) for end in (*poisson_interval(0), *poisson_interval(10))]
    [0.0, 3.0, 4.8, 18.39]
    """
    if count == 0:
        return 0.0, -math.log(doubt)
    return _mean(count - 1, 1 - doubt / 2), _mean(count, doubt / 2)


def _mean(count: int, chance: float) -> float:
    """Gives the mean under which `count` or fewer come with this chance, by halving."""
    low, high = 0.0, count + 10 * math.sqrt(count + 1) + 10
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _at_most(count, middle) > chance:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _at_most(count: int, mean: float) -> float:
    logs = (k * math.log(mean) - mean - math.lgamma(k + 1) for k in range(count + 1))
    return math.fsum(map(math.exp, logs))
