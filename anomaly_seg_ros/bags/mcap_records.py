"""The records that an MCAP file is made of, whole or cut."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
import struct
from typing import BinaryIO, NamedTuple
from zlib import crc32

from anomaly_seg_ros.bags import packing

MAGIC = b'\x89MCAP0\r\n'

FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK = 0x02, 0x03, 0x04, 0x05, 0x06
CHUNK_INDEX, STATISTICS, DATA_END = 0x08, 0x0B, 0x0F

_RECORD_HEAD = struct.Struct('<BQ')
_MESSAGE_HEAD = struct.Struct('<HIQQ')
_CHUNK_HEAD = struct.Struct('<QQQI')


class Record(NamedTuple):
    """One record; `whole` is False where the file ends inside of it."""

    kind: int
    content: bytes
    whole: bool


class McapMessage(NamedTuple):
    """A message record: its channel, its log time in nanoseconds and its CDR."""

    channel: int
    log_time: int
    data: bytes


def kinds_between(file: BinaryIO, start: int, end: int) -> Iterator[int]:
    """Gives the kinds of the records in a part of a file without reading their content."""
    while start + _RECORD_HEAD.size <= end:
        file.seek(start)
        kind, length = _RECORD_HEAD.unpack(file.read(_RECORD_HEAD.size))
        yield kind
        start += _RECORD_HEAD.size + length


def read_record(file: BinaryIO, end: int) -> Record | None:
    """Gives the next record before `end`, or None where not even its head is there."""
    head = file.read(_RECORD_HEAD.size)
    if len(head) < _RECORD_HEAD.size:
        return None
    kind, length = _RECORD_HEAD.unpack(head)
    # A length that is rubbish must not ask for memory that nobody has.
    content = file.read(max(min(length, end - file.tell()), 0))
    return Record(kind, content, len(content) == length)


def chunk_records(content: bytes) -> tuple[list[Record], str]:
    """Gives the whole records of a chunk, and what is wrong with it, '' if nothing is.

    A chunk that is cut gives the records before its end. One that does not unpack to what it
    declares, or to more than `packing.MOST_BYTES`, gives none.
    """
    try:
        _, _, size, checksum = _CHUNK_HEAD.unpack_from(content)
    except struct.error as error:
        return [], f'damaged: {error}'
    if size > packing.MOST_BYTES:
        most = packing.in_mb(packing.MOST_BYTES)
        return [], f'unpacks to {packing.in_mb(size)}, which is more than {most}'
    compression = read_string(content, _CHUNK_HEAD.size)
    packed = content[_CHUNK_HEAD.size + 4 + len(compression) + 8 :]
    try:
        raw = packing.unpack(packed, compression, size).data
    except packing.TooLargeError:
        return [], f'damaged: it holds more than the {size} bytes that it declares'
    except ValueError as error:
        return [], str(error)
    if len(raw) == size and checksum and crc32(raw) != checksum:
        return [], 'damaged: wrong checksum'
    stream = BytesIO(raw)
    records = []
    while (record := read_record(stream, len(raw))) is not None and record.whole:
        records.append(record)
    return records, '' if len(raw) == size else 'damaged: it ends too early'


def read_message(content: bytes) -> McapMessage | None:
    """Reads the content of a message record; None where it is too short to be one."""
    if len(content) < _MESSAGE_HEAD.size:
        return None
    channel, _, log_time, _ = _MESSAGE_HEAD.unpack_from(content)
    return McapMessage(channel, log_time, content[_MESSAGE_HEAD.size :])


def read_uint(content: bytes, at: int, size: int) -> int:
    """Reads a number of `size` bytes; one that is not all there gives what there is."""
    return int.from_bytes(content[at : at + size], 'little')


def read_string(content: bytes, at: int) -> str:
    """Reads a text; one that is not all there gives what there is."""
    size = read_uint(content, at, 4)
    return content[at + 4 : at + 4 + size].decode(errors='replace')
