"""What a command says of a path that it cannot read or write, and trying `--out` early."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import errno
import os
from pathlib import Path
import re
import shutil
import stat
import tempfile

WAYS_OUT = {
    errno.ENOENT: 'check the path',
    errno.EEXIST: 'a file stands where a folder is to be; choose another path',
    errno.ENOTDIR: 'choose a path below a folder',
    errno.EISDIR: 'give a file',
    errno.EACCES: 'change its rights or choose another path',
    errno.EPERM: 'change its rights or choose another path',
    errno.EROFS: 'choose a path on another disk',
    errno.ENAMETOOLONG: 'choose a shorter name',
    errno.ELOOP: 'mend the link or choose another path',
    errno.ENOSPC: 'make room or choose another --out',
    errno.EDQUOT: 'make room or choose another --out',
    errno.EFBIG: 'choose another --out',
    errno.EMFILE: 'raise the limit with ulimit -n',
    errno.ENFILE: 'close other programs',
    errno.EIO: 'check the disk',
}
"""What a user can do about an error of the system."""

OF_THE_PATH = (
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
)
_CUT_SHORT = re.compile(r'\d+ requested and \d+ written')
"""What NumPy says of a full disk."""

PATH_NUMBERS = (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)


def is_bad_path(error: OSError) -> bool:
    """Whether another path would do, in the contrary to a machine that has failed."""
    return isinstance(error, OF_THE_PATH) or error.errno in PATH_NUMBERS


def explain(error: OSError, out: Path | None) -> str:
    """Gives one line that names the path and the way out.

    Args:
        error: Of the system; one that our own code has raised with a text of its own stays as
            it is.
        out: `--out`; all that is written lies below it, so it stands in where the system names
            no path, as when a disk is full.
    """
    if isinstance(error, shutil.Error):
        source, target, reason = error.args[0][0]  # of many files, the first
        return f'cannot copy {str(source)!r} to {str(target)!r}: {reason}'
    number = errno.ENOSPC if _CUT_SHORT.fullmatch(str(error)) else error.errno
    if number is None:
        return str(error)
    name = next((name for name in (error.filename2, error.filename) if name is not None), None)
    if isinstance(name, (str, bytes)):
        place = repr(os.fsdecode(name))
    elif out is not None:
        place = f'below --out {str(out)!r}'
    else:
        place = 'no path is known'
    reason = os.strerror(number).lower()
    return f'{place}: {reason}; {WAYS_OUT.get(number, "see what the system says")}'


@contextmanager
def system_errors(
    path: Path, *kinds: type[Exception], way_out: str = WAYS_OUT[errno.ENOSPC]
) -> Iterator[None]:
    """Makes an error of the system of what a library raises where it cannot write.

    Args:
        path: What it writes, for the text.
        kinds: What it raises then.
        way_out: The end of the text.

    Raises:
        OSError: One of these kinds was raised.
    """
    try:
        yield
    except kinds as error:
        reason = ' '.join(str(error).split())
        raise OSError(f'cannot write {str(path)!r}: {reason}; {way_out}') from None


def try_out(out: Path, is_file: bool = False) -> None:
    """Tries whether a result can be written, before hours of work; leaves nothing behind.

    Args:
        out: A folder, which need not exist, and neither need those above it.
        is_file: It is a file instead.

    Raises:
        OSError: It cannot; the error names the path.
    """
    folder = out.parent if is_file else out
    place = _nearest(folder)
    longest = os.pathconf(place, 'PC_NAME_MAX')
    if any(len(os.fsencode(part)) > longest for part in out.parts):
        raise OSError(errno.ENAMETOOLONG, '', str(out))
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b'0')
    except OSError as error:
        raise OSError(error.errno, '', str(folder)) from None


def _nearest(folder: Path) -> Path:
    """Gives the folder itself or the first above it that exists."""
    for place in (folder, *folder.parents):
        try:
            kind = place.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISDIR(kind):
            raise NotADirectoryError(errno.ENOTDIR, '', str(place))
        return place
    raise FileNotFoundError(errno.ENOENT, '', str(folder))  # the working folder is gone
