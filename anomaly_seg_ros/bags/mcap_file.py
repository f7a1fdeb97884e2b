"""Reads a whole MCAP file by its summary, in the order of the log times."""

from __future__ import annotations

from collections.abc import Collection, Iterator
import heapq
from pathlib import Path
import struct
from typing import NamedTuple

from anomaly_seg_ros.bags import packing

from .mcap_records import (
    CHANNEL,
    CHUNK,
    CHUNK_INDEX,
    chunk_records,
    FOOTER,
    kinds_between,
    MAGIC,
    McapMessage,
    MESSAGE,
    read_message,
    read_record,
    read_string,
    read_uint,
    Record,
    SCHEMA,
    STATISTICS,
)
from .message import BagMessage, Channel, types_of

_FOOTER_BYTES = 9 + 20 + len(MAGIC)
_CHUNK_INDEX_HEAD = struct.Struct('<QQQQI')
_STATISTICS_HEAD = struct.Struct('<QHIIIIQQI')
_COUNT = struct.Struct('<HQ')
_TOO_MANY = 'more of its chunks overlap in time than memory may hold'


class _ChunkPlace(NamedTuple):
    """Where a chunk lies, its log times, and which channels it has (None: not said).

    `end` is that of the chunk and of the index of its messages, `size` what it unpacks to.
    """

    start: int
    last: int
    offset: int
    end: int
    size: int
    channels: frozenset[int] | None


class McapFile:
    """An MCAP file whose summary speaks of all of it.

    A chunk is unpacked when its time has come, at most `packing.MOST_BYTES` of it, and twice that
    of all whose times overlap. A damaged one ends the reading.

    Source: the format specification on mcap.dev, version 0.

    Attributes:
        topics: Topic to message type.
        counts: Topic to number of messages.
        problem: Why reading stopped early; '' if it did not.

    Raises:
        ValueError: It has no such summary.
    """

    def __init__(self, path: Path):
        self.problem = ''
        self._channels: dict[int, Channel] = {}
        self._chunks: list[_ChunkPlace] = []
        self._held = 0
        self._size = path.stat().st_size
        self._file = path.open('rb')
        try:
            counts = self._read_summary()
        except struct.error as error:
            self._file.close()
            raise ValueError(f'its summary is damaged: {error}') from None
        except ValueError:
            self._file.close()
            raise
        self.topics = types_of(self._channels.values())
        self.counts = dict.fromkeys(self.topics, 0)
        for number, count in counts.items():
            self.counts[self._channels[number].topic] += count

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """Gives the messages of these topics, by log time."""
        channels = {number for number, c in self._channels.items() if c.topic in topics}
        chunks = [c for c in self._chunks if c.channels is None or c.channels & channels]
        # Each chunk first gives its earliest time alone, so that it waits packed until then.
        missing = sum(self.counts[topic] for topic in topics if topic in self.counts)
        in_time = heapq.merge(*(self._messages(c, channels) for c in chunks), key=lambda m: m[:2])
        try:
            for _, _, message in in_time:
                if message is not None:
                    missing -= 1
                    yield message
            if missing:
                self.problem = f'its statistics speak of {missing} messages more than it holds'
        except (ValueError, OSError) as error:
            self.problem = str(error)

    def _messages(
        self, chunk: _ChunkPlace, channels: Collection[int]
    ) -> Iterator[tuple[int, int, BagMessage | None]]:
        yield chunk.start, chunk.offset, None
        found = self._unpacked(chunk)
        size = sum(len(message.data) for message in found)
        self._held += size
        # The index may lie on times and sizes.
        if self._held > 2 * packing.MOST_BYTES:
            raise ValueError(f'damaged: {_TOO_MANY}')
        for channel, log_time, data in sorted(found, key=lambda message: message.log_time):
            if channel in channels:
                yield log_time, chunk.offset, BagMessage(*self._channels[channel], log_time, data)
        self._held -= size

    def _unpacked(self, chunk: _ChunkPlace) -> list[McapMessage]:
        self._file.seek(chunk.offset)
        record = read_record(self._file, self._size)
        if record is None or record.kind != CHUNK or not record.whole:
            raise ValueError(f'damaged: no chunk at byte {chunk.offset}')
        records, why = chunk_records(record.content)
        if why:
            raise ValueError(f'{why} (the chunk at byte {chunk.offset})')
        return [
            message
            for kind, content, _ in records
            if kind == MESSAGE and (message := read_message(content)) is not None
        ]

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _read_summary(self) -> dict[int, int]:
        """Reads topics and chunks; gives channel to number of messages.

        Raises:
            ValueError: It is missing or does not speak of all messages.
            struct.error: It is damaged.
        """
        found: dict[int, list[bytes]] = {}
        for kind, content, whole in self._summary():
            if not whole:
                raise ValueError('its summary is cut')
            found.setdefault(kind, []).append(content)
        self._chunks = [_chunk_place(content) for content in found.get(CHUNK_INDEX, [])]
        self._check_gaps()
        self._check_overlap()
        if not self._chunks or STATISTICS not in found:
            raise ValueError('it has no statistics or no index of chunks')
        schemas = {read_uint(c, 0, 2): read_string(c, 2) for c in found.get(SCHEMA, [])}
        for content in found.get(CHANNEL, []):
            number, schema = read_uint(content, 0, 2), read_uint(content, 2, 2)
            topic = read_string(content, 4)
            if schema not in schemas:
                raise ValueError(f'its summary has no type of {topic!r}')
            self._channels[number] = Channel(topic, schemas[schema])
        counts = _counts(found[STATISTICS][-1], len(self._chunks))
        if unknown := counts.keys() - self._channels.keys():
            raise ValueError(f'its summary has no topic of channel {min(unknown)}')
        return counts

    def _check_gaps(self) -> None:
        """Looks for messages that no index of chunks leads to, or several.

        Raises:
            ValueError: There are some.
        """
        at = len(MAGIC)
        for chunk in sorted(self._chunks, key=lambda chunk: chunk.offset):
            if not at <= chunk.offset < chunk.end:
                raise ValueError(f'its index leads twice to byte {chunk.offset}')
            self._check_gap(at, chunk.offset)
            at = chunk.end
        self._check_gap(at, self._size - _FOOTER_BYTES)

    def _check_overlap(self) -> None:
        """Looks for more than may be unpacked at one time.

        Raises:
            ValueError: There is more.
        """
        held, together = 0, list[tuple[int, int]]()
        for chunk in sorted(self._chunks, key=lambda chunk: chunk.start):
            while together and together[0][0] < chunk.start:
                held -= heapq.heappop(together)[1]
            heapq.heappush(together, (chunk.last, chunk.size))
            held += chunk.size
            if held > 2 * packing.MOST_BYTES:
                raise ValueError(_TOO_MANY)

    def _check_gap(self, start: int, end: int) -> None:
        if not {MESSAGE, CHUNK}.isdisjoint(kinds_between(self._file, start, end)):
            raise ValueError(f'its index leaves out messages between byte {start} and {end}')

    def _summary(self) -> Iterator[Record]:
        """Gives the records between the data and the footer."""
        self._file.seek(max(self._size - _FOOTER_BYTES, 0))
        footer = self._file.read()
        if not footer.endswith(MAGIC) or footer[0] != FOOTER:
            raise ValueError('it has no footer')
        start, end = read_uint(footer, 9, 8), self._size - _FOOTER_BYTES
        if not 0 < start <= end:
            raise ValueError('it has no summary')
        self._file.seek(start)
        while self._file.tell() < end:
            record = read_record(self._file, end)
            if record is None:
                raise ValueError('its summary is cut')
            yield record


def _chunk_place(content: bytes) -> _ChunkPlace:
    start, last, offset, length, size = _CHUNK_INDEX_HEAD.unpack_from(content)
    offsets = content[_CHUNK_INDEX_HEAD.size :][:size]
    channels = frozenset(channel for channel, _ in _COUNT.iter_unpack(offsets))
    at = _CHUNK_INDEX_HEAD.size + size
    end = offset + length + read_uint(content, at, 8)
    unpacked = read_uint(content, at + 20 + read_uint(content, at + 8, 4), 8)
    # A recorder that leaves out the index of messages does not say what a chunk holds.
    return _ChunkPlace(start, last, offset, end, unpacked, channels or None)


def _counts(content: bytes, chunks: int) -> dict[int, int]:
    """Gives channel to number of messages from the statistics.

    Raises:
        ValueError: They speak of other messages or chunks.
    """
    total, _, _, _, _, chunk_count, _, _, size = _STATISTICS_HEAD.unpack_from(content)
    counts = dict(_COUNT.iter_unpack(content[_STATISTICS_HEAD.size :][:size]))
    if sum(counts.values()) != total or chunk_count != chunks:
        raise ValueError(
            f'its statistics speak of {total} messages in {chunk_count} chunks, its index of '
            f'{sum(counts.values())} in {chunks}'
        )
    return counts
