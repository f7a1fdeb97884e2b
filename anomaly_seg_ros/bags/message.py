"""What every storage of a bag gives."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from anomaly_seg_ros.node.message_types import COMPRESSED_IMAGE, IMAGE


class BagMessage(NamedTuple):
    """A message as it was recorded.

    Attributes:
        topic: Its topic.
        kind: Its type, as its own channel says.
        log_time: When it was recorded, nanoseconds since 1970.
        data: CDR.
    """

    topic: str
    kind: str
    log_time: int
    data: bytes


class Channel(NamedTuple):
    """Where messages of one type come from; several may share a topic."""

    topic: str
    kind: str


def types_of(channels: Iterable[Channel]) -> dict[str, str]:
    """Gives topic to message type; of several types on one topic that of images.

    >>> types_of([Channel('/a', IMAGE), Channel('/a', 'std_msgs/msg/String')])
    {'/a': 'sensor_msgs/msg/Image'}
    """
    types: dict[str, str] = {}
    for channel in channels:
        if types.get(channel.topic) not in (IMAGE, COMPRESSED_IMAGE):
            types[channel.topic] = channel.kind
    return types


class Storage(Protocol):
    """One file of a bag."""

    @property
    def topics(self) -> Mapping[str, str]:
        """Topic to message type; of several types on one topic that of images."""
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
