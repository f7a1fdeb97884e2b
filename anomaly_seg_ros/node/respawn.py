"""Whether launch starts the node again when it has ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
import time

MOST_STARTS = 5
WITHIN_S = 60.0


class Respawn:
    """Takes down each start; a process that ends again and again is given up.

    Launch's own respawn knows no limit on Humble, and later none in time.

    Args:
        delay_s: Pause before the next start.
        clock: Gives the seconds now.
    """

    def __init__(self, delay_s: float, clock: Callable[[], float] = time.monotonic):
        self.delay_s = delay_s
        self._clock = clock
        self._starts: deque[float] = deque(maxlen=MOST_STARTS)

    def started(self) -> None:
        """Takes down a start."""
        self._starts.append(self._clock())

    def why_not_again(self) -> str:
        """Gives why there is no further start; '' where there is one."""
        if len(self._starts) < MOST_STARTS or self._clock() - self._starts[0] >= WITHIN_S:
            return ''
        return (
            f'the node has ended {MOST_STARTS} times within {WITHIN_S:.0f} s and is not started '
            'again; its last lines above say why'
        )
