"""What a run leaves in its folder: the names of its files, and how they are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
import csv
import json
from pathlib import Path
from typing import Any

from anomaly_seg_ros.process.path_errors import system_errors
from anomaly_seg_ros.process.whole_file import whole_file

CONFIG_FILE = 'config.json'
"""The whole recipe."""

TABLE_FILE = 'metrics.csv'
"""One row an epoch."""

LAST_FILE = 'last.ckpt'
"""The state that `--resume` goes on from."""

KEPT_FOLDER = 'checkpoint'
"""The checkpoint folder of the weights that are kept."""

FITTED_FOLDER = 'fitted'
"""The same with the calibration of its score."""

PAGE = 'report.html'
"""The run as a page."""

OBJECTIVE_FILE = 'objective.safetensors'
"""The state of an objective that has one."""

EpochRow = dict[str, float]
"""One row of the table."""


def check_resume(out: Path, resume: bool) -> None:
    """Refuses to go on with a run that is not there, and to write over one that is.

    Raises:
        FileNotFoundError: There is nothing to resume.
        ValueError: The folder holds a run already.
    """
    last = out / LAST_FILE
    if resume and not last.is_file():
        raise FileNotFoundError(f'nothing to resume: no {str(last)!r}')
    if not resume and last.exists():
        raise ValueError(
            f'{str(out)!r} already holds a run; go on with --resume, or choose another --out'
        )


def read_recipe_of(out: Path) -> dict[str, Any]:
    """Gives the recipe of the run in a folder.

    Raises:
        ValueError: The file is broken, or is none.
    """
    path = out / CONFIG_FILE
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        values = None
    if not isinstance(values, dict):
        raise ValueError(f'{str(path)!r} is no recipe of a run; begin again with another --out')
    return values


def write_errors(path: Path) -> AbstractContextManager[None]:
    """Turns a failure to write into one line.

    Raises:
        OSError: The disk is full or the like; the last saved state is whole.
    """
    from safetensors import SafetensorError

    return system_errors(
        path,
        OSError,
        RuntimeError,
        SafetensorError,
        way_out='make room and go on with --resume from the last state that was saved',
    )


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to; it takes its place once all is written.

    Raises:
        OSError: As `write_errors`; what was at `path` before still is.
    """
    with write_errors(path), whole_file(path) as part:
        yield part


def write_rows(path: Path, rows: list[EpochRow]) -> None:
    """Writes a CSV file anew, at once; what a row lacks stays empty."""
    with writing(path) as part, part.open('w', newline='', encoding='utf-8') as file:
        names = list(dict.fromkeys(name for row in rows for name in row))
        table = csv.DictWriter(file, fieldnames=names)
        table.writeheader()
        table.writerows(rows)
