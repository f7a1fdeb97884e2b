"""Writes a file or a folder so that others see it whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import tempfile
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


def check_replaceable(out: Path, mark: str) -> None:
    """Checks before the work that `fresh_folder` may take the place of `out`.

    Raises:
        ValueError: `out` holds something else.
    """
    target = out.resolve()
    empty = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    if not (empty or (target / mark).is_file()):
        raise ValueError(f'{str(out)!r} exists and has no {mark}; choose another --out')


@contextmanager
def fresh_folder(out: Path, mark: str) -> Iterator[Path]:
    """Gives an empty folder that takes the place of `out` once it is filled.

    Until then, and where the filling fails or is interrupted, `out` stays as it is.

    Args:
        out: Where the folder shall be; its parents are made.
        mark: A file that is in every folder that may be replaced; an empty one may be too.

    Raises:
        ValueError: `out` holds something else.
    """
    check_replaceable(out, mark)
    target = out.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f'.{target.name}.') as work:
        fresh, old = Path(work) / 'new', Path(work) / 'old'
        fresh.mkdir()
        yield fresh
        try:
            if target.exists():
                target.rename(old)
            fresh.rename(target)
        except BaseException:
            if old.exists():
                old.rename(target)
            raise
