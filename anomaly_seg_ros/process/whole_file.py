"""Writes a file so that others see it whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to; it takes its place once all is written.

    Where writing fails nothing of it is left, and what was at `path` before still is. It gets the
    rights of any new file, whatever the writer gives it: safetensors would let nobody else read
    what a node of another user has to.

    Raises:
        OSError: It cannot be written.
    """
    part = path.with_name(f'{path.name}.part')
    part.touch()
    rights = part.stat().st_mode
    try:
        yield part
        part.chmod(rights)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
