"""Ctrl-C and SIGTERM as an exception or as a wish, so that a command ends in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, ClassVar

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE_S = 1.0
"""A second signal within this time is a part of the first: it would only cut the order short."""


class Stopped(KeyboardInterrupt):
    """A signal wants the command to end."""


class StopSignals:
    """While entered, SIGINT and SIGTERM raise `Stopped` in the main thread.

    Args:
        is_own_process: Nothing comes behind: Ctrl-C then ends Python's own end without a word.
        hears_ignored: Whether it hears, too, what a shell has set to be ignored.

    Attributes:
        caught: The first that came; None: none did. A library that was cut short in the middle may
            have made another error of `Stopped`, and then only this tells why.
    """

    _held: ClassVar[bool] = False
    _entered: ClassVar[list[StopSignals]] = []

    def __init__(self, is_own_process: bool = False, hears_ignored: bool = False) -> None:
        self._is_own_process = is_own_process
        self._hears_ignored = hears_ignored
        self.caught: signal.Signals | None = None
        self._heard_s = 0.0
        self._before: dict[signal.Signals, Any] = {}
        self._say_unraisable = sys.unraisablehook

    def __enter__(self) -> StopSignals:
        self._before = _heard_by(self._stop, self._hears_ignored)
        self._say_unraisable, sys.unraisablehook = sys.unraisablehook, self._unraisable
        StopSignals._entered.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        StopSignals._entered.remove(self)
        sys.unraisablehook = self._say_unraisable
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if self._is_own_process else handler)

    def check(self) -> None:
        """Raises `Stopped` if a signal came and what it met let nothing be raised.

        Python drops what is raised in a finaliser or a callback of an import.
        """
        if self.caught is not None:
            raise Stopped

    @property
    def name(self) -> str:
        """What users call the signal that came."""
        return 'SIGTERM' if self.caught == signal.SIGTERM else 'Ctrl-C'

    def _stop(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.caught is not None and now - self._heard_s < PATIENCE_S:
            return
        self.caught, self._heard_s = self.caught or signal.Signals(number), now
        if not StopSignals._held:
            raise Stopped

    def _unraisable(self, what: Any) -> None:
        """Keeps still about what is no fault: see `check`."""
        if what.exc_type is not Stopped:
            self._say_unraisable(what)


class StopRequest:
    """While entered, the first SIGINT or SIGTERM is a wish; the next one acts as before.

    For work that ends in order by itself, behind the step or the frame that it is at.

    Attributes:
        asked: Whether somebody wants the work to stop.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        self._before = _heard_by(self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self.__exit__()


def _heard_by(
    handler: Callable[[int, FrameType | None], None], hears_ignored: bool = False
) -> dict[signal.Signals, Any]:
    """Lets a handler hear the signals; gives the handlers before it.

    What is ignored stays so by itself: a shell asks for it, for what it runs in the background.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    heard = [n for n in SIGNALS if hears_ignored or signal.getsignal(n) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heard}


def stop_is_asked() -> bool:
    """Whether a signal has come that wants the process to end."""
    return any(signals.caught for signals in StopSignals._entered)


@contextmanager
def held_signals() -> Iterator[None]:
    """Within, a signal raises nothing: what runs asks `stop_is_asked`.

    For callbacks of a library that would make a fault of `Stopped`, or lose it.
    """
    before, StopSignals._held = StopSignals._held, True
    try:
        yield
    finally:
        StopSignals._held = before


@contextmanager
def raised_signals() -> Iterator[None]:
    """Within, signals raise although they are held around it: for what takes long.

    Raises:
        Stopped: One came while they were held.
    """
    before, StopSignals._held = StopSignals._held, False
    try:
        if before and stop_is_asked():
            raise Stopped
        yield
    finally:
        StopSignals._held = before
