"""What bytes a file holds, told without torch."""

from __future__ import annotations

from collections.abc import Iterator
import hashlib
import json
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

CHUNK = 1 << 20
LARGEST_HEADER = 100_000_000
"""Bytes; the limit of the safetensors library."""


class WeightsDigest(NamedTuple):
    """The sha256 of a safetensors file, and of each tensor in it.

    Attributes:
        file: Of all bytes.
        tensors: Key to dtype, shape and sha256 of the bytes.
    """

    file: str
    tensors: dict[str, tuple[str, list[int], str]]


def refuse_lfs_pointer(path: Path) -> None:
    """Refuses the small text that stands for a big file until git-lfs has fetched it.

    Raises:
        ValueError: It is one.
    """
    with path.open('rb') as file:
        if file.read(12) == b'version http':
            raise ValueError(f"{str(path)!r} is only a git-lfs pointer; run 'git lfs pull'")


def file_sha256(path: Path) -> str:
    """Gives the sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def digest_weights(path: Path) -> WeightsDigest:
    """Hashes a safetensors file in one pass.

    Raises:
        ValueError: It is truncated, a git-lfs pointer, or not safetensors.
    """
    refuse_lfs_pointer(path)
    whole = hashlib.sha256()
    tensors = {}
    try:
        with path.open('rb') as file:
            (head,) = _pieces(file, 8)
            length = int.from_bytes(head, 'little')
            if length > LARGEST_HEADER:
                raise ValueError(f'its header has {length} bytes')
            text = b''.join(_pieces(file, length))
            whole.update(head + text)
            for key, dtype, shape, size in _entries(json.loads(text)):
                own = hashlib.sha256()
                for piece in _pieces(file, size):
                    whole.update(piece)
                    own.update(piece)
                tensors[key] = dtype, shape, own.hexdigest()
            if file.read(1):
                raise ValueError('bytes are left behind its last tensor')
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f'cannot read {str(path)!r}: {error}; the file is truncated or no safetensors file'
        ) from None
    return WeightsDigest(whole.hexdigest(), tensors)


def _entries(header: dict[str, Any]) -> Iterator[tuple[str, str, list[int], int]]:
    """Gives key, dtype, shape and number of bytes of each tensor in the order of the file."""
    tensors = {key: entry for key, entry in header.items() if key != '__metadata__'}
    position = 0
    for key in sorted(tensors, key=lambda key: tuple(tensors[key]['data_offsets'])):
        begin, end = tensors[key]['data_offsets']
        if begin != position or end < begin:
            raise ValueError(f'tensor {key!r} lies at {begin}..{end}, not at {position}')
        yield key, tensors[key]['dtype'], tensors[key]['shape'], end - begin
        position = end


def _pieces(file: BinaryIO, count: int) -> Iterator[bytes]:
    """Gives the next bytes of a file in pieces; fails where it ends too early."""
    while count:
        piece = file.read(min(count, CHUNK))
        if not piece:
            raise ValueError(f'it ends {count} bytes too early')
        yield piece
        count -= len(piece)
