"""Writes a file so that others see it whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import threading


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to; it takes its place once all is written.

    Where writing fails nothing of it is left, and what was at `path` before still is. It gets the
    rights of any new file, whatever the writer gives it: safetensors would let nobody else read
    what a node of another user has to.

    Raises:
        OSError: It cannot be written.
    """
    # Of this writer alone: another one may write the same file at the same moment.
    part = path.with_name(f'{path.name}.{os.getpid()}-{threading.get_ident()}.part')
    part.touch()
    rights = part.stat().st_mode
    try:
        yield part
        part.chmod(rights)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
