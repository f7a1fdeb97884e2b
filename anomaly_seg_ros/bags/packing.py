"""Unpacks what a recorder has packed with zstd or lz4, and never more than a stated size."""

from __future__ import annotations

from pathlib import Path
import sys
from typing import NamedTuple

from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MOST_BYTES = 512 * 2**20
"""What a message or a chunk may unpack to: an image of 16384x10922 pixels in rgb8."""

ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
_HEADER_BYTES = 18
_BLOCK_BYTES = 1 << 20


class TooLargeError(ValueError):
    """More would come out than may."""


class Unpacked(NamedTuple):
    """What came out; `whole` is False where the packed bytes end too early."""

    data: bytes
    whole: bool


def unpack(packed: bytes, compression: str, most: int | None = None) -> Unpacked:
    """Unpacks bytes, as far as they go.

    Args:
        packed: May be cut.
        compression: 'zstd', 'lz4', or '' for bytes that are not packed.
        most: Bytes that may come out; `MOST_BYTES` if None.

    Raises:
        TooLargeError: More than `most` bytes would come out.
        ValueError: Unknown compression, or damaged bytes.
    """
    limit = MOST_BYTES if most is None else most
    if not packed or not compression:
        return Unpacked(packed, whole=True)
    if compression == 'zstd':
        return _from_zstd(packed, limit)
    if compression == 'lz4':
        return _from_lz4(packed, limit)
    raise ValueError(f'unknown compression {compression!r}')


def unpack_file(path: Path, unpacked: Path, most: int) -> str:
    """Unpacks a zstd file, as far as it goes.

    Args:
        path: The packed file.
        unpacked: What is written.
        most: Bytes that may be written.

    Returns:
        Why it stopped before the end; '' if it did not.

    Raises:
        TooLargeError: More than `most` bytes would come out.
    """
    with path.open('rb') as file:
        declared = declared_bytes(file.read(_HEADER_BYTES))
    if declared is not None and declared > most:
        raise TooLargeError(f'unpacks to {in_mb(declared)}, which is more than {in_mb(most)}')
    try:
        with zstd.open(path, 'rb') as packed, unpacked.open('wb') as out:
            while block := packed.read(_BLOCK_BYTES):
                if out.tell() + len(block) > most:
                    raise TooLargeError(f'unpacks to more than {in_mb(most)}')
                out.write(block)
    except (EOFError, zstd.ZstdError) as error:
        return str(error)
    return ''


def declared_bytes(start: bytes) -> int | None:
    """Gives the size that the head of a zstd frame speaks of; None where it speaks of none."""
    try:
        return zstd.get_frame_info(start[:_HEADER_BYTES]).decompressed_size
    except zstd.ZstdError:
        return None


def _from_zstd(packed: bytes, most: int) -> Unpacked:
    """Unpacks frames that follow each other."""
    declared = declared_bytes(packed)
    if declared is not None and declared > most:
        raise TooLargeError(f'unpacks to {in_mb(declared)}, which is more than {in_mb(most)}')
    parts: list[bytes] = []
    found, whole = 0, True
    while packed and whole:
        decompressor = zstd.ZstdDecompressor()
        try:
            parts.append(decompressor.decompress(packed, most - found + 1))
        except zstd.ZstdError as error:
            raise ValueError(f'damaged: {error}') from None
        found += len(parts[-1])
        if found > most:
            raise TooLargeError(f'unpacks to more than {in_mb(most)}')
        whole, packed = decompressor.eof, decompressor.unused_data
    return Unpacked(b''.join(parts), whole)


def _from_lz4(packed: bytes, most: int) -> Unpacked:
    """Unpacks one frame."""
    decompressor = LZ4FrameDecompressor()
    try:
        data = bytes(decompressor.decompress(packed, most + 1))
    except RuntimeError as error:
        raise ValueError(f'damaged: {error}') from None
    if len(data) > most:
        raise TooLargeError(f'unpacks to more than {in_mb(most)}')
    return Unpacked(data, bool(decompressor.eof))


def in_mb(size: int) -> str:
    """Gives a size in bytes as people read it.

    >>> in_mb(512 * 2**20)
    '512 MiB'
    """
    return f'{size / 2**20:.0f} MiB'
