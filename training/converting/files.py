"""Finds and reads the files of an export."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import json
from pathlib import Path
from typing import Any

from anomaly_seg_ros.frames.images import is_hidden, SUFFIXES, walk

MACOS = '__MACOSX'
"""Folder that macOS packs beside the files, of what its file system knows of them."""


def files_below(folder: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Gives the files with one of these suffixes, sorted; hidden ones are no data."""
    for inner, folders, names in walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if name != MACOS and not is_hidden(name))
        for name in sorted(names):
            if not is_hidden(name) and Path(name).suffix.lower() in suffixes:
                yield Path(inner) / name


def image_files(folder: Path) -> Iterator[Path]:
    """Gives the image files below a folder."""
    return files_below(folder, SUFFIXES)


def json_files(folder: Path) -> list[Path]:
    """Gives the JSON files below a folder."""
    return sorted(files_below(folder, ('.json',)))


class ImagesByName:
    """Finds the image that an annotation names, whose folders the export may have changed.

    Args:
        folder: Where all images lie, in any depth.
        without: Folders in it that hold no photos.
    """

    def __init__(self, folder: Path, without: Sequence[Path] = ()):
        self._by_name: dict[str, list[Path]] = {}
        for path in image_files(folder):
            if not any(other in path.parents for other in without):
                self._by_name.setdefault(path.name, []).append(path)

    def find(self, named: str) -> Path | None:
        """Gives the file whose path ends most like `named`; None where there is none.

        Raises:
            ValueError: Two files fit as well.
        """
        wanted = named.replace('\\', '/').split('/')
        found = self._by_name.get(wanted[-1], [])
        if len(found) < 2:
            return found[0] if found else None
        likeness = {path: _common_end(path.parts, wanted) for path in found}
        best = [path for path in found if likeness[path] == max(likeness.values())]
        if len(best) > 1:
            raise ValueError(
                f'image {named!r} may be {str(best[0])!r} or {str(best[1])!r}; keep one of them'
            )
        return best[0]


def _common_end(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count


class LabelledOnce:
    """Sees to it that no image is labelled twice."""

    def __init__(self) -> None:
        self._labels: dict[Path, str] = {}

    def add(self, image: Path, labels: str) -> None:
        """Notes what holds an image's labels.

        Raises:
            ValueError: Something else does already; both are named.
        """
        first = self._labels.get(image.resolve())
        if first is not None:
            raise ValueError(
                f'image {str(image)!r} is labelled in {first} and in {labels}; keep one of them'
            )
        self._labels[image.resolve()] = labels


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        ValueError: It is none.
    """
    try:
        return json.loads(path.read_text(encoding='utf-8-sig'), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{str(path)!r} is not valid JSON: {error}') from None


def _refuse(constant: str) -> None:
    raise ValueError(f'it holds {constant!r} for a number')


def key_of(image: Path, folder: Path) -> str:
    """Gives the path of an image below a folder, without suffix."""
    return image.relative_to(folder).with_suffix('').as_posix()
