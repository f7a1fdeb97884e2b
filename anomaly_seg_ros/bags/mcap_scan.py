"""Reads an MCAP file front to back without its index, as far as it goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from .mcap_records import (
    CHANNEL,
    CHUNK,
    chunk_records,
    DATA_END,
    FOOTER,
    MAGIC,
    MESSAGE,
    read_message,
    read_record,
    read_string,
    read_uint,
    Record,
    SCHEMA,
)
from .message import BagMessage, Channel, types_of


class McapScan:
    """An MCAP file whose recorder was killed, whose end is lost or that has no whole index.

    The file is walked once when it is opened, to learn its topics and how far it goes. A damaged
    chunk in the middle is left out.

    Source: the format specification on mcap.dev, version 0.

    Attributes:
        topics: Topic to message type.
        counts: Topic to the number of messages that can be read.
        problem: What of the recording is lost and why; '' if nothing is.
    """

    def __init__(self, path: Path):
        self._path = path
        self._seen: dict[Channel, None] = {}
        self.problem = ''
        counts = Counter(message.topic for message in self._walk(None))
        self.topics = types_of(self._seen)
        self.counts = {topic: counts[topic] for topic in self.topics}

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """Gives the messages of these topics in the order of the file."""
        return self._walk(frozenset(topics))

    def close(self) -> None:
        """Nothing is open between two walks."""

    def _walk(self, topics: frozenset[str] | None) -> Iterator[BagMessage]:
        schemas: dict[int, str] = {}
        channels: dict[int, Channel] = {}
        for kind, content, _ in self._records():
            if kind == SCHEMA:
                schemas[read_uint(content, 0, 2)] = read_string(content, 2)
            elif kind == CHANNEL:
                kind_of_channel = schemas.get(read_uint(content, 2, 2), '')
                channel = Channel(read_string(content, 4), kind_of_channel)
                channels[read_uint(content, 0, 2)] = channel
                self._seen[channel] = None
            elif kind == MESSAGE and (message := read_message(content)) is not None:
                found = channels.get(message.channel)
                if found is not None and (topics is None or found.topic in topics):
                    yield BagMessage(*found, message.log_time, message.data)

    def _records(self) -> Iterator[Record]:
        """Gives the whole records of the file and of its chunks; sets `problem`."""
        wrong: Counter[str] = Counter()
        size = self._path.stat().st_size
        self.problem = f'the file is cut after {size} bytes'
        with self._path.open('rb') as file:
            file.seek(len(MAGIC))
            while (record := read_record(file, size)) is not None:
                if record.kind == CHUNK:
                    inner, why = chunk_records(record.content)
                    yield from inner
                    if why and (record.whole or not why.startswith('damaged')):
                        wrong[why.split(':')[0]] += 1
                elif record.whole and record.kind in (DATA_END, FOOTER):
                    self.problem = ''
                    break
                elif record.whole:
                    yield record
        lost = '; '.join(_left_out(count, why) for why, count in wrong.items())
        self.problem = '; '.join(filter(None, (lost, self.problem)))


def _left_out(count: int, why: str) -> str:
    if why == 'damaged':
        return f'{count} damaged chunks are left out'
    return f'{count} chunks are left out ({why})'
