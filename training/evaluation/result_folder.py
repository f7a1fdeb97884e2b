"""The result folder of an evaluation: its working files, its pictures and its tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
import tempfile

from training.results import (
    clear_results,
    Picture,
    ResultRow,
    write_curves,
    write_frames,
    write_pictures,
    write_results,
)

from .processes import Processes
from .rows import curve_entry, frame_table
from .run import Evaluation


@contextmanager
def working_folder(out: Path) -> Iterator[Path]:
    """Gives an empty folder below `out`, gone afterwards."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.maps_', dir=out) as folder:
        yield Path(folder)


def clear_folder(out: Path, processes: Processes) -> None:
    """Removes what an earlier run has left in the same result folder."""
    if processes.leads:
        clear_results(out)
    processes.gather(None)


def write_evaluation(
    out: Path, rows: Sequence[ResultRow], evaluation: Evaluation, pictures: Sequence[Picture]
) -> None:
    """Writes all tables; that of the results last, as its file says that the folder is whole."""
    scores = [str(row.score) for row in rows]
    write_pictures(out, pictures)
    write_frames(out, [line for score in scores for line in frame_table(evaluation, score)])
    write_curves(out, [curve_entry(evaluation, score) for score in scores])
    write_results(out, rows)
