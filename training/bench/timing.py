"""Times several candidates in one run: interleaved rounds, and what their times come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
import time

import numpy as np

Stages = Mapping[str, float]
Work = Callable[[], Stages | None]
"""One frame; gives the stages it has timed itself, in ms, if any."""
Clock = Callable[[], float]


@dataclass
class Samples:
    """The times of one candidate.

    Attributes:
        rounds_ms: Wall time of each frame, a list per round.
        cpu_ms: CPU time of the whole process in each frame, all threads added.
        stages: What the work said of each frame.
    """

    rounds_ms: list[list[float]] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    stages: list[Stages] = field(default_factory=list)

    @property
    def wall_ms(self) -> list[float]:
        """Wall time of every frame."""
        return [value for times in self.rounds_ms for value in times]

    def stages_ms(self) -> dict[str, float]:
        """Gives the median of each stage."""
        names = dict.fromkeys(name for stages in self.stages for name in stages)
        return {
            name: float(np.median([stages[name] for stages in self.stages if name in stages]))
            for name in names
        }


def percentiles(values_ms: Sequence[float]) -> dict[str, float]:
    """Gives 'p50' and 'p95', linear between the two nearest values.

    Raises:
        ValueError: There are no values.
    """
    if not values_ms:
        raise ValueError('nothing was timed; ask for at least one frame')
    p50, p95 = np.percentile(values_ms, (50, 95))
    return {'p50': float(p50), 'p95': float(p95)}


def ratio(samples: Samples, base: Samples) -> float:
    """Gives the median over the rounds of this candidate's median over the other's.

    Both are of the same seconds, so load that comes and goes hits both; single medians of two
    runs would not have that.
    """
    pairs = zip(samples.rounds_ms, base.rounds_ms, strict=True)
    return float(np.median([np.median(mine) / np.median(other) for mine, other in pairs]))


def interleave(
    candidates: Mapping[str, Work],
    rounds: int,
    repeats: int = 2,
    clock: Clock = time.perf_counter,
    cpu_clock: Clock = time.process_time,
    progress: Callable[[], object] = lambda: None,
) -> dict[str, Samples]:
    """Runs every candidate in every round; every second round goes backwards.

    A turn is one frame that is not timed, because the candidate before has emptied the caches and
    its threads may still spin, and `repeats` that are.

    Args:
        candidates: Name to one frame of it; they should be warm.
        rounds: Of all candidates.
        repeats: Timed frames of a turn.
        clock: Seconds.
        cpu_clock: Seconds of CPU of this process.
        progress: Called after each turn.
    """
    samples = {name: Samples() for name in candidates}
    for number in range(rounds):
        names = list(candidates)
        for name in names if number % 2 == 0 else reversed(names):
            work, found = candidates[name], samples[name]
            work()
            found.rounds_ms.append([])
            for _ in range(repeats):
                cpu, began = cpu_clock(), clock()
                stages = work()
                found.rounds_ms[-1].append((clock() - began) * 1e3)
                found.cpu_ms.append((cpu_clock() - cpu) * 1e3)
                if stages is not None:
                    found.stages.append(stages)
            progress()
    return samples
