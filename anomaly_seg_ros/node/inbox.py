"""One slot a camera between those who receive images and the worker: the newest image wins."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

Sender = TypeVar('Sender')
Item = TypeVar('Item')


class Inbox(Generic[Sender, Item]):
    """Slots that `put` overwrites and `take` empties; safe between threads.

    It holds at most one item of each sender. A newer one takes the place of the older in the
    queue, so that a fast camera neither pushes a slow one back nor falls behind it.
    """

    def __init__(self) -> None:
        # A dict keeps the order in which its keys came, and a key that is set again its place.
        self._waiting: dict[Sender, Item] = {}
        self._closed = False
        self._changed = threading.Condition()

    def put(self, sender: Sender, item: Item) -> bool:
        """Stores the newest item of a sender; an older one is dropped.

        Returns:
            Whether an item was dropped that nobody had taken: the older one, or this one where
            the inbox is closed.
        """
        with self._changed:
            if self._closed:
                return True
            replaced = sender in self._waiting
            self._waiting[sender] = item
            self._changed.notify()
            return replaced

    def take(self, most: int = 1) -> list[tuple[Sender, Item]]:
        """Waits for items and gives up to `most`, the longest waiting first; [] once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            senders = list(self._waiting)[:most]
            return [(sender, self._waiting.pop(sender)) for sender in senders]

    def close(self) -> list[tuple[Sender, Item]]:
        """Lets every `take` return nothing from now on, and gives what nobody has taken."""
        with self._changed:
            self._closed = True
            left = list(self._waiting.items())
            self._waiting.clear()
            self._changed.notify_all()
            return left
