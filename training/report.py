"""One HTML page from any number of result folders: `anomaly_seg report`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .reporting.page import build_page
from .reporting.runs import read_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg report` takes."""
    parser.add_argument('results', nargs='+', type=Path, metavar='RESULT_DIR')
    parser.add_argument('--out', type=Path, required=True, help='the page, FILE.html')


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg report`.

    Raises:
        ValueError: `--out` is no .html file, or a result folder cannot be read.
    """
    out: Path = args.out
    if out.suffix.lower() not in ('.html', '.htm') or out.is_dir():
        raise ValueError(f'--out {str(out)!r} is no page; give a file that ends in .html')
    runs = read_runs(args.results)
    # A file name may hold bytes that are no UTF-8.
    data = build_page(runs).encode('utf-8', 'backslashreplace')
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(data)
    rows = sum(len(run.rows) for run in runs)
    folders = '1 folder' if len(runs) == 1 else f'{len(runs)} folders'
    print(f'{out}: {rows} rows of {folders}, {len(data) / 1e6:.1f} MB')
    return 0
