"""One slot between a producer and a worker: the newest item wins."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

Item = TypeVar('Item')


class Mailbox(Generic[Item]):
    """A slot that `put` overwrites and `take` empties; safe between threads."""

    def __init__(self) -> None:
        self._item: Item | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: Item) -> bool:
        """Stores the newest item; what lay there is dropped.

        Returns:
            Whether an item was dropped that nobody had taken.
        """
        with self._changed:
            replaced = self._item is not None
            self._item = item
            self._changed.notify()
            return replaced

    def take(self) -> Item | None:
        """Waits for an item; None once the mailbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed)
            if self._closed:
                return None
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        """Drops what lies there and lets every `take` return None."""
        with self._changed:
            self._closed, self._item = True, None
            self._changed.notify_all()
