"""One HTML page from any number of result folders: `anomaly_seg report`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.reporting.page import build_page
from training.reporting.runs import read_runs
from training.reporting.trainings import is_training, read_training
from training.results import RESULTS_FILE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg report` takes."""
    parser.add_argument(
        'results',
        nargs='+',
        type=Path,
        metavar='RESULT_DIR',
        help='results of evaluate, bag or benchmark, and folders of training runs',
    )
    parser.add_argument('--out', type=Path, required=True, help='the page, FILE.html')


def each_once(folders: Sequence[Path]) -> list[Path]:
    """Gives folders as they are called first, however often and by whichever path."""
    found: dict[Path, Path] = {}
    for folder in folders:
        found.setdefault(folder.resolve(), folder)
    return list(found.values())


def has_results(folder: Path) -> bool:
    """Says whether a folder is to be read for results: also where there should be some."""
    return (folder / RESULTS_FILE).exists() or not is_training(folder)


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg report`.

    Raises:
        ValueError: `--out` is no .html file, or a result folder cannot be read.
    """
    out: Path = args.out
    if out.suffix.lower() not in ('.html', '.htm') or out.is_dir():
        raise ValueError(f'--out {str(out)!r} is no page; give a file that ends in .html')
    given = each_once(args.results)
    trainings = [read_training(folder) for folder in given if is_training(folder)]
    runs = read_runs([folder for folder in given if has_results(folder)])
    # A file name may hold bytes that are no UTF-8.
    data = build_page(runs, trainings).encode('utf-8', 'backslashreplace')
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(data)
    rows = sum(len(run.rows) for run in runs)
    folders = '1 folder' if len(given) == 1 else f'{len(given)} folders'
    parts = [f'{rows} rows'] if runs else []
    parts += [f'{len(trainings)} training runs'] if trainings else []
    print(f'{out}: {" and ".join(parts)} of {folders}, {len(data) / 1e6:.1f} MB')
    return 0
