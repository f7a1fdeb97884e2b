"""One place between who gets frames ready and who runs them, filled just before it is wanted."""

from __future__ import annotations

import math
import threading
import time
from typing import Generic, TypeVar

Item = TypeVar('Item')

LEAD = 1.5
"""How often the time that getting ready takes is left for it before what is in work ends."""

NEWEST = 0.2
"""Weight of the last duration among those before, for what the next one is expected to take."""


class Handover(Generic[Item]):
    """Holds the items of one pass at most; safe between two threads.

    Who gets ready asks `wait_until_due` first: while one pass is in work the next is made ready,
    so that no time is lost between them, but no sooner than needed, so that it is made of the
    newest there is. While nothing is in work it is due at once.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[Item] = []
        self._closed = False
        self._in_work = 0
        self._began = 0.0
        self._item_s = math.inf  # not known: the first pass is waited for
        self._ready_s = 0.0

    def wait_until_due(self) -> None:
        """Waits until the place is empty and what is in work nearly over."""
        with self._changed:
            while self._waiting or self._due_in_s() > 0:
                self._changed.wait(None if self._waiting else min(self._due_in_s(), 60.0))

    def _due_in_s(self) -> float:
        if not self._in_work:
            return 0.0
        ends = self._began + self._item_s * self._in_work
        return ends - LEAD * self._ready_s - time.monotonic()

    def put(self, items: list[Item], took_s: float) -> None:
        """Fills the place, which `wait_until_due` has found empty; with nothing it stays empty.

        Args:
            items: Of the next pass.
            took_s: How long it took to get them ready.
        """
        with self._changed:
            self._ready_s += NEWEST * (took_s - self._ready_s)
            self._waiting = items
            self._changed.notify_all()

    def take(self) -> list[Item]:
        """Ends the pass in work and begins the next, which it waits for; [] once closed."""
        with self._changed:
            self._end()
            self._changed.wait_for(lambda: self._waiting or self._closed)
            items, self._waiting = self._waiting, []
            self._in_work, self._began = len(items), time.monotonic()
            self._changed.notify_all()
            return items

    def _end(self) -> None:
        if not self._in_work:
            return
        took_s = (time.monotonic() - self._began) / self._in_work
        known = math.isfinite(self._item_s)
        self._item_s = self._item_s + NEWEST * (took_s - self._item_s) if known else took_s
        self._in_work = 0
        self._changed.notify_all()

    def close(self) -> None:
        """Lets `take` give what is left, and then nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
