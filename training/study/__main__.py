"""Runs the study and writes its table: `python -m training.study`, or `make study`.

It can be stopped and started again: what is done is not done again, and a training run goes on
from its last epoch.
"""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from anomaly_seg_ros.command_line.tool import run_tool, tool_parser

from .rows import GRIDS, StudyRow
from .steps import Data, run, steps
from .table import write_tables


def main() -> int:
    """Runs the chosen rows, then writes the tables of all rows that are there."""
    parser = tool_parser(__doc__)
    parser.add_argument('changes', nargs='*', metavar='key=value', help='on top of every recipe')
    parser.add_argument(
        '--data', type=Path, default=Path('../shared/data'), help='default: %(default)s'
    )
    parser.add_argument('--out', type=Path, default=Path('out/study'), help='default: %(default)s')
    parser.add_argument(
        '--only',
        default='*',
        metavar='PATTERN',
        help='rows to run, such as "enet_*", with those they start from',
    )
    parser.add_argument('--table', type=Path, help='Markdown file; default: OUT/study.md')
    args = parser.parse_args()
    for row in chosen(args.only):
        for step in steps(row, Data(args.data), args.out / row.name, args.changes):
            run(step)
    table = args.table or args.out / 'study.md'
    write_tables(args.out, table)
    folders = f'{args.out}/*/*_val_* {args.out}/*/train'
    print(
        f'{table}: the tables; curves and samples: anomaly_seg report {folders} --out study.html'
    )
    return 0


def chosen(pattern: str) -> list[StudyRow]:
    """Gives the rows whose name fits a shell pattern, and before them those they start from.

    Raises:
        ValueError: None does.
    """
    rows = [row for grid in GRIDS.values() for row in grid()]
    fitting = [row for row in rows if fnmatch(row.name, pattern)]
    if not fitting:
        names = ', '.join(row.name for row in rows)
        raise ValueError(f'no row fits {pattern!r}; the rows are: {names}')
    needed = {name for row in fitting for name in (row.start, row.flow)}
    return [row for row in rows if row in fitting or row.name in needed]


if __name__ == '__main__':
    run_tool(main)
