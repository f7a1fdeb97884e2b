"""Writes a file so that others see it whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to; it takes its place once all is written.

    Where writing fails nothing of it is left, and what was at `path` before still is.

    Raises:
        OSError: It cannot be written.
    """
    part = path.with_name(f'{path.name}.part')
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
