"""Whether launch starts the node again when it has ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
import time

MOST_ENDS = 5
WITHIN_S = 60.0


class RespawnLimit:
    """Takes down each end of a process; one that ends again and again is left.

    Launch's own respawn knows no limit on Humble, and later none in time.

    Args:
        clock: Gives the seconds now.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._ends: deque[float] = deque(maxlen=MOST_ENDS)

    def ended(self) -> str:
        """Takes down an end; gives why there is to be no further start, '' where there is one."""
        self._ends.append(self._clock())
        if len(self._ends) < MOST_ENDS or self._ends[-1] - self._ends[0] > WITHIN_S:
            return ''
        return (
            f'the node has ended {MOST_ENDS} times within {WITHIN_S:.0f} s and is not started '
            'again; its last lines above say why'
        )
