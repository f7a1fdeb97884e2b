"""What ends a run early: a signal, or an error that users can mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import signal
from types import FrameType
from typing import Any

OUT_OF_MEMORY = ('out of memory', 'DefaultCPUAllocator', 'not enough memory')
LOST_PEER = ('closed by peer', 'reset by peer', 'Broken pipe', 'remote process exited')


class StopRequest:
    """Turns the first Ctrl-C or SIGTERM into a wish; the next one acts as usual.

    Attributes:
        asked: Whether somebody wants the run to stop.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        self._before = {number: signal.signal(number, self._ask) for number in self.SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self.__exit__()


@contextmanager
def one_line_errors(lower: str, workers: int) -> Iterator[None]:
    """Says in one line what users can mend: memory, and the end of another process.

    Args:
        lower: The keys that memory depends on, with their values, for the error text.
        workers: Processes that load.

    Raises:
        ValueError: In the place of the library's own error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error)
        if isinstance(error, MemoryError) or any(part in text for part in OUT_OF_MEMORY):
            raise ValueError(f'out of memory; lower {lower}') from None
        if 'DataLoader worker' in text:
            raise ValueError(
                'a loading process has died, mostly for lack of memory; lower workers '
                f'({workers}), {lower}'
            ) from None
        if any(part in text for part in LOST_PEER):
            raise ValueError(
                'another process of this run has ended; what it said before tells why'
            ) from None
        raise
