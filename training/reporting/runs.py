"""One result folder as the page needs it: its rows, their curves, its pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
import math
from pathlib import Path
from typing import Any

from training.results import (
    CURVES_FILE,
    FRAMES_FILE,
    Picture,
    PICTURES_FILE,
    read_curves,
    read_frames,
    read_pictures,
    read_results,
    RESULTS_FILE,
)

Line = tuple[tuple[float, float], ...]
"""Points (x, y) of a curve."""


@dataclass(frozen=True)
class Bin:
    """One bar of a reliability diagram: shares in 0..1."""

    confidence: float
    accuracy: float
    share: float


@dataclass(frozen=True)
class Curve:
    """The curves of one score.

    Attributes:
        pr: (recall, precision).
        roc: (false positive rate, true positive rate).
        reliability: One entry per equal bin of confidence, None in a bin without pixels.
        reliability_before: The same before the temperature was fitted.
    """

    pr: Line
    roc: Line
    reliability: tuple[Bin | None, ...] = ()
    reliability_before: tuple[Bin | None, ...] = ()


@dataclass(frozen=True)
class ReportRow:
    """One row of a results.json.

    Attributes:
        number: Its place on the page, from 1.
        folder: Where it was read.
        values: What results.json says, extra keys included; `dataset` is a name to show.
        curve: Its curves where the folder has them.
        checkpoint: As much of the end of its path as tells it from the page's others.
        frames: Names of its frames in order; empty where they are not known.
    """

    number: int
    folder: Path
    values: Mapping[str, Any]
    curve: Curve | None = None
    checkpoint: str = ''
    frames: tuple[str, ...] = ()

    @property
    def frame_count(self) -> int:
        """How many frames were read, 0 where that is not known."""
        counts = (len(self.frames), self.number_of('n_frames_read'), self.number_of('n_images'))
        return int(next((count for count in counts if count), 0))

    def name(self, key: str) -> str:
        """Gives a value as plain text, '' where there is none."""
        value = self.values.get(key)
        return '' if value is None else str(value)

    def number_of(self, key: str) -> float | None:
        """Gives a finite number, None where there is none; 'latency_ms.p50' looks inside."""
        value: Any = self.values
        for part in key.split('.'):
            value = value.get(part) if isinstance(value, Mapping) else None
        return finite(value)


@dataclass(frozen=True)
class Run:
    """A result folder; `notes` says what of it could not be read."""

    folder: Path
    written: datetime
    rows: tuple[ReportRow, ...]
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...]


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Reads result folders; rows are numbered through.

    Raises:
        FileNotFoundError: A folder has no results.json.
        ValueError: A results.json is cut short or foreign.
    """
    runs: list[Run] = []
    for folder in folders:
        runs.append(_read_run(folder, 1 + sum(len(run.rows) for run in runs)))
    rows = [row for run in runs for row in run.rows]
    names = data_names([row.values for row in rows])
    sets = set_names(rows)
    ends = path_ends(row.name('checkpoint') for row in rows)

    def named(row: ReportRow) -> ReportRow:
        name = names[data_source(row.values)] + sets[row.number]
        values = {**row.values, 'dataset': name or None}
        return replace(row, values=values, checkpoint=ends[row.name('checkpoint')])

    return [replace(run, rows=tuple(map(named, run.rows))) for run in runs]


OWN_DATA = ('folder', 'classes', 'frames')
"""Layouts of any data that a user has."""


def data_source(values: Mapping[str, Any]) -> str:
    """Gives what tells the data of rows apart: frames of a user by their path, else the name."""
    name = values.get('dataset')
    if name in OWN_DATA and values.get('root'):
        return str(values['root'])
    return '' if name is None else str(name)


def data_names(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Gives each source of data a name: of a path its end, the whole where two end alike.

    >>> data_names([{'dataset': 'folder', 'root': '/data/yard'}, {'dataset': 'camvid'}])
    {'/data/yard': 'yard', 'camvid': 'camvid'}
    """
    sources = dict.fromkeys(map(data_source, rows))
    short = {source: _path_end(source) for source in sources}
    ends = list(short.values())
    return {source: end if ends.count(end) == 1 else source for source, end in short.items()}


def _path_end(source: str) -> str:
    """Gives the last name of a path; of a folder with labels alone, which it belongs to."""
    parts = Path(source).parts
    if len(parts) > 1 and parts[-1].startswith('labels'):
        return '/'.join(parts[-2:])
    return parts[-1] if parts else source


def path_ends(paths: Iterable[str]) -> dict[str, str]:
    """Gives each path as many of its last parts as tell it from the others.

    >>> path_ends(['out/a/fitted', 'out/b/fitted', 'default'])
    {'out/a/fitted': 'a/fitted', 'out/b/fitted': 'b/fitted', 'default': 'default'}
    """
    parts = {path: Path(path).parts for path in paths}
    ends = {}
    for path, mine in parts.items():
        others = [theirs for other, theirs in parts.items() if other != path]
        counts = range(1, len(mine) + 1)
        unique = (n for n in counts if all(other[-n:] != mine[-n:] for other in others))
        ends[path] = '/'.join(mine[-n:]) if (n := next(unique, 0)) else path
    return ends


def set_names(rows: Sequence[ReportRow]) -> dict[int, str]:
    """Gives each row what tells its frames from other frames of the same dataset and split.

    Numbers of two sets of frames do not compare, even if both go by the same name: a part of a
    set, or its frames at another size.

    Returns:
        Number of a row to the end of its dataset's name; '' where there is nothing to tell apart.
    """
    places: dict[tuple[str, ...], dict[object, list[ReportRow]]] = {}
    for row in rows:
        place = (data_source(row.values), row.name('split'), row.name('protocol'))
        # The course protocol counts pixels at the network's size, whichever that is.
        pixels = None if row.name('protocol') == 'course' else row.number_of('n_pixels')
        same = (row.frames or row.frame_count, pixels)
        places.setdefault(place, {}).setdefault(same, []).append(row)
    names: dict[int, str] = {}
    for (source, *_), sets in places.items():
        many = bool(source) and len(sets) > 1
        counts = [members[0].frame_count for members in sets.values()]
        for members in sets.values():
            count = members[0].frame_count
            where = members[0].name('root') or str(members[0].folder)
            words = f' ({count} frames)' if counts.count(count) == 1 else f' ({count} of {where})'
            names |= {row.number: words if many else '' for row in members}
    return names


def _read_run(folder: Path, first: int) -> Run:
    """Reads one folder whose first row gets the number `first`."""
    found = [row.to_json() for row in read_results(folder)]
    notes: list[str] = []
    curves: dict[str, Curve] = {}
    for entry in _optional(read_curves, folder, CURVES_FILE, notes):
        _add_curve(curves, entry, folder / CURVES_FILE, notes)
    pictures = _optional(read_pictures, folder, PICTURES_FILE, notes)
    frames: dict[str, list[str]] = {}
    for line in _optional(read_frames, folder, FRAMES_FILE, notes):
        frames.setdefault(line.score, []).append(line.frame)
    rows = []
    for number, values in enumerate(found, first):
        score = str(values.get('score'))
        names = tuple(frames.get(score, ()))
        # A curve belongs to one row: the first with that score.
        rows.append(ReportRow(number, folder, values, curves.pop(score, None), frames=names))
    written = last_written(folder / RESULTS_FILE)
    return Run(folder, written, tuple(rows), tuple(pictures), tuple(notes))


def last_written(path: Path) -> datetime:
    """Gives when a file was last written."""
    return datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)


def _optional(
    read: Callable[[Path], list[Any]], folder: Path, file: str, notes: list[str]
) -> list[Any]:
    """Gives what an optional file holds; one that cannot be read leaves a note."""
    if not (folder / file).exists():
        return []
    try:
        return read(folder)
    except (OSError, ValueError) as error:
        notes.append(str(error))
        return []


def _add_curve(curves: dict[str, Curve], entry: Any, path: Path, notes: list[str]) -> None:
    """Adds one entry of curves.json; a broken one leaves a note."""
    try:
        curves[str(entry['score'])] = _parse_curve(entry)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        notes.append(f'a curve in {str(path)!r} is broken: {error!r}')


def _parse_curve(entry: Mapping[str, Any]) -> Curve:
    """Reads one entry of curves.json."""
    return Curve(
        _parse_line(entry.get('pr'), 'recall', 'precision'),
        _parse_line(entry.get('roc'), 'fpr', 'tpr'),
        _parse_bins(entry.get('reliability')),
        _parse_bins(entry.get('reliability_before')),
    )


def _parse_line(value: Any, x: str, y: str) -> Line:
    """Reads two lists as points; points without a value are left out."""
    if value is None:
        return ()
    pairs = zip(value[x], value[y], strict=True)
    points = ((finite(a), finite(b)) for a, b in pairs)
    return tuple((a, b) for a, b in points if a is not None and b is not None)


def _parse_bins(value: Any) -> tuple[Bin | None, ...]:
    """Reads a reliability diagram."""
    if value is None:
        return ()
    bins: list[Bin | None] = []
    for entry in zip(value['confidence'], value['accuracy'], value['share'], strict=True):
        confidence, accuracy, share = map(finite, entry)
        empty = confidence is None or accuracy is None
        bins.append(None if empty else Bin(confidence or 0, accuracy or 0, share or 0))
    return tuple(bins)


def finite(value: object) -> float | None:
    """Gives a finite number, None for anything else.

    >>> finite(1), finite(float('nan')), finite('1'), finite(True), finite(10**400)
    (1.0, None, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
