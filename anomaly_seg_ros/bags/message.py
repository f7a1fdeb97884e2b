"""What every storage of a bag gives."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple, Protocol


class BagMessage(NamedTuple):
    """A message as it was recorded.

    Attributes:
        topic: Its topic.
        log_time: When it was recorded, nanoseconds since 1970.
        data: CDR.
    """

    topic: str
    log_time: int
    data: bytes


class Storage(Protocol):
    """One file of a bag."""

    @property
    def topics(self) -> Mapping[str, str]:
        """Topic to message type."""
        ...

    @property
    def counts(self) -> Mapping[str, int]:
        """Topic to number of messages; empty where that is not known before reading."""
        ...

    @property
    def problem(self) -> str:
        """What of the recording is lost and why, '' if nothing is; sure once all is read."""
        ...

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """Gives the messages of these topics, every one once, always in the same order."""
        ...

    def close(self) -> None:
        """Closes the file."""
        ...
