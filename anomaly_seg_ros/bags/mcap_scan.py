"""Reads an MCAP file front to back without its index, as far as it goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from io import BytesIO
from pathlib import Path
import struct
import sys
from typing import BinaryIO, NamedTuple
from zlib import crc32

from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]

from anomaly_seg_ros.bags.message import BagMessage

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b'\x89MCAP0\r\n'

_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0F
_RECORD_HEAD = struct.Struct('<BQ')
_MESSAGE_HEAD = struct.Struct('<HIQQ')
_CHUNK_HEAD = struct.Struct('<QQQI')


class Record(NamedTuple):
    """One record; `whole` is False where the file ends inside of it."""

    kind: int
    content: bytes
    whole: bool


class McapScan:
    """An MCAP file whose recorder was killed or whose end is lost.

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
        self.topics: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        self.problem = ''
        counts = Counter(message.topic for message in self._walk(None))
        self.counts = {topic: counts[topic] for topic in self.topics}

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """Gives the messages of these topics in the order of the file."""
        return self._walk(frozenset(topics))

    def close(self) -> None:
        """Nothing is open between two walks."""

    def _walk(self, topics: frozenset[str] | None) -> Iterator[BagMessage]:
        schemas: dict[int, str] = {}
        channels: dict[int, str] = {}
        for kind, content, _ in self._records():
            if kind == _SCHEMA:
                schemas[_uint16(content, 0)] = _string(content, 2)
            elif kind == _CHANNEL:
                name = channels[_uint16(content, 0)] = _string(content, 4)
                self.topics[name] = schemas.get(_uint16(content, 2), '')
            elif kind == _MESSAGE and len(content) >= _MESSAGE_HEAD.size:
                channel, _, log_time, _ = _MESSAGE_HEAD.unpack_from(content)
                topic = channels.get(channel)
                if topic is not None and (topics is None or topic in topics):
                    yield BagMessage(topic, log_time, content[_MESSAGE_HEAD.size :])

    def _records(self) -> Iterator[Record]:
        """Gives the whole records of the file and of its chunks; sets `problem`."""
        damaged = 0
        size = self._path.stat().st_size
        self.problem = f'the file is cut after {size} bytes'
        with self._path.open('rb') as file:
            file.seek(len(MAGIC))
            while (record := _read_record(file, size)) is not None:
                if record.kind == _CHUNK:
                    inner, sound = _chunk_records(record.content)
                    yield from inner
                    damaged += record.whole and not sound
                elif record.whole and record.kind in (_DATA_END, _FOOTER):
                    self.problem = ''
                    break
                elif record.whole:
                    yield record
        if damaged:
            lost = f'{damaged} damaged chunks are left out'
            self.problem = f'{lost}; {self.problem}' if self.problem else lost


def _read_record(file: BinaryIO, end: int) -> Record | None:
    """Gives the next record, or None where not even its head is there."""
    head = file.read(_RECORD_HEAD.size)
    if len(head) < _RECORD_HEAD.size:
        return None
    kind, length = _RECORD_HEAD.unpack(head)
    # A length that is rubbish must not ask for memory that nobody has.
    content = file.read(min(length, end - file.tell()))
    return Record(kind, content, len(content) == length)


def _chunk_records(content: bytes) -> tuple[list[Record], bool]:
    """Gives the whole records of a chunk, and whether that is all it should hold."""
    try:
        _, _, size, checksum = _CHUNK_HEAD.unpack_from(content)
        compression = _string(content, _CHUNK_HEAD.size)
        packed = content[_CHUNK_HEAD.size + 4 + len(compression) + 8 :]
        raw = _unpacked(packed, compression)
    except (struct.error, ValueError, RuntimeError, zstd.ZstdError):
        return [], False
    if len(raw) == size and checksum and crc32(raw) != checksum:
        return [], False
    stream = BytesIO(raw)
    records = []
    while (record := _read_record(stream, len(raw))) is not None and record.whole:
        records.append(record)
    return records, len(raw) == size


def _unpacked(packed: bytes, compression: str) -> bytes:
    """Unpacks what there is of a chunk that may be cut."""
    if not packed or not compression:
        return packed
    if compression == 'zstd':
        return bytes(zstd.ZstdDecompressor().decompress(packed))
    if compression == 'lz4':
        return bytes(LZ4FrameDecompressor().decompress(packed))
    raise ValueError(f'unknown compression {compression!r}')


def _uint16(content: bytes, at: int) -> int:
    return int.from_bytes(content[at : at + 2], 'little')


def _string(content: bytes, at: int) -> str:
    """Reads a text; one that is not all there gives what there is."""
    size = int.from_bytes(content[at : at + 4], 'little')
    return content[at + 4 : at + 4 + size].decode(errors='replace')
