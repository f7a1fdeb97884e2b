"""Reads and writes image files; the only place where OpenCV's BGR order meets a file.

Files are read and written here, OpenCV sees their bytes alone: a name that is not UTF-8, or not
ASCII under `LC_ALL=C`, ends the process in its own functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .image_bytes import decode
from .orientation import orientation, turned, UPRIGHT
from .significant_bits import SignificantBits

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp', '.ppm', '.tif', '.tiff')


def read_image(path: Path, bits: SignificantBits | None = None) -> NDArray[np.uint8]:
    """Reads an image file as (H, W, 3) RGB uint8, turned as viewers turn it.

    Args:
        path: The file.
        bits: What is known of the 16-bit images of its source; None looks at this one alone.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no whole image of a bounded size, see `decode`, or its values have
            neither 8 nor 16 bits.
    """
    image = read_pixels(path, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if image.dtype == np.uint16:
        image = (bits or SignificantBits()).to_eight(image)
    elif image.dtype != np.uint8:
        raise ValueError(f'{str(path)!r} holds {image.dtype}; an image has 8 or 16 bits a value')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def read_pixels(path: Path, flags: int) -> NDArray[Any]:
    """Reads what an image file holds, in OpenCV's order of channels, turned as viewers turn it.

    Args:
        path: The file.
        flags: Of `cv2.imdecode`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no whole image of a bounded size, see `decode`.
    """
    return decode_upright(path, read_bytes(path), flags)


def decode_upright(path: Path, data: bytes, flags: int) -> NDArray[Any]:
    """Gives `read_pixels` of a file whose bytes are at hand already."""
    try:
        image = decode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except ValueError as error:
        raise ValueError(f'cannot decode {str(path)!r} as an image; {error}') from None
    return turned(image, orientation(data))


def turned_note(path: Path) -> str:
    """Gives the end of a sentence about an image of another size than expected."""
    if orientation(read_bytes(path)) == UPRIGHT:
        return ''
    return '; the image was turned as its Exif says, as viewers do'


def read_bytes(path: Path) -> bytes:
    """Gives what a file holds.

    Raises:
        FileNotFoundError: As `checked_file`.
    """
    return checked_file(path).read_bytes()


def checked_file(path: Path) -> Path:
    """Gives a path at which there is a file.

    Raises:
        FileNotFoundError: There is none; the text tells a folder and a broken link.
    """
    if not path.is_file():
        raise FileNotFoundError(missing(path))
    return path


def missing(path: Path) -> str:
    """Says why there is no image file at a path."""
    if path.is_dir():
        return f'{str(path)!r} is a folder, not an image file'
    if path.is_symlink():
        return f'{str(path)!r} is a link to {str(path.readlink())!r}, which is not there'
    return f'no image file {str(path)!r}'


def encode_image(image: NDArray[np.uint8], suffix: str, options: Sequence[int] = ()) -> bytes:
    """Gives the bytes of an image file.

    Args:
        image: (H, W, 3) RGB or (H, W) grey.
        suffix: Names the format, as '.png'.
        options: Of `cv2.imencode`.

    Raises:
        ValueError: OpenCV cannot write this format, or not this image in it.
    """
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR).astype(image.dtype, copy=False)
    try:
        done, data = cv2.imencode(suffix, image, list(options))
    except cv2.error:
        done = False
    if not done:
        raise ValueError(f'cannot make a {suffix!r} file of an image of shape {image.shape}')
    return bytes(data)


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes (H, W, 3) RGB or (H, W) grey; the suffix names the format.

    Raises:
        OSError: The file cannot be written.
        ValueError: The suffix is that of no format.
    """
    path.write_bytes(encode_image(image, path.suffix))


def find_images(paths: list[Path], *, below: bool = False) -> list[Path]:
    """Lists the image files among `paths` and, sorted by name, in those that are folders.

    Args:
        paths: Files, taken as they are, and folders.
        below: Also those in folders of these folders, at any depth, but not in hidden ones.

    Raises:
        FileNotFoundError: A path does not exist, or nothing was found.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            if below:
                files = [file for at in folders_below(path) for file in list_files(at, SUFFIXES)]
                found += [file for file in files if not file.is_dir()]
            else:
                found += list_files(path, SUFFIXES)
        elif path.is_file():
            found.append(path)
        else:
            raise FileNotFoundError(f'no file or folder {str(path)!r}')
    if not found:
        raise FileNotFoundError(f'no images in {", ".join(repr(str(p)) for p in paths)}')
    return found


def walk(top: Path, followlinks: bool = True) -> Iterator[tuple[str, list[str], list[str]]]:
    """Gives what `os.walk` does, which leaves out without a word what cannot be read.

    Raises:
        OSError: A folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    return os.walk(top, onerror=refuse, followlinks=followlinks)


def folders_below(top: Path) -> list[Path]:
    """Lists a folder and those below it, sorted, links followed once, hidden ones left out."""
    found: list[Path] = []
    seen: set[Path] = set()
    for name, below, _ in walk(top):
        below[:] = sorted(part for part in below if not is_hidden(part))
        if (real := Path(name).resolve()) in seen:
            below.clear()
            continue
        seen.add(real)
        found.append(Path(name))
    return found


def list_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Lists what has one of these suffixes, sorted by name; hidden files are no data.

    Such are the '._NAME' that macOS puts beside each file on a foreign disk. Links that lead
    nowhere and folders with such a name are listed: whoever reads them says so.
    """
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not is_hidden(path.name)
    )


def is_hidden(name: str) -> bool:
    """Whether a file is hidden by its name."""
    return name.startswith('.')


def printable(name: str) -> str:
    r"""Gives a file name as text for files and terminals; bytes that are not UTF-8 as '\xNN'.

    >>> printable('stra\udcdfe')
    'stra\\xdfe'
    """
    return name.encode('utf-8', 'surrogateescape').decode('utf-8', 'backslashreplace')
