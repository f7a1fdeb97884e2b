"""Benchmark results as Markdown: `python -m training.bench.table RESULT_DIR ...`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from anomaly_seg_ros.command_line.tool import run_tool, tool_parser
from training.reporting.markdown import markdown_table
from training.results import read_results, ResultRow

Cell = Callable[[ResultRow], object]


def engine_table(rows: Sequence[ResultRow]) -> str:
    """Gives the table of `anomaly_seg benchmark`."""
    return markdown(
        [row for row in rows if row.extra.get('kind') == 'engine'],
        {
            'engine': lambda row: ' '.join(filter(None, (row.engine, row.precision))),
            'score': lambda row: row.score,
            'input': input_size,
            'p50 ms': lambda row: number(row.latency_ms, 'p50'),
            'p95': lambda row: number(row.latency_ms, 'p95'),
            'fps': lambda row: number(row.extra, 'fps'),
            'CPU ms': lambda row: number(row.extra, 'cpu_ms'),
            'peak MB': lambda row: '' if row.peak_mb is None else f'{row.peak_mb:.0f}',
            'to first': lambda row: number(row.extra, 'ratio_to_first', digits=3),
            'frame': lambda row: number(row.extra, 'ratio_frames', 'frame', digits=3),
            'frame at camera size': lambda row: number(
                row.extra, 'ratio_frames', 'frame_camera', digits=3
            ),
            'with pictures': lambda row: number(row.extra, 'ratio_frames', 'pictures', digits=3),
            'equal labels %': lambda row: percent(row.extra.get('label_agreement')),
            'floor ms': floor_cell,
        },
    )


def stage_table(rows: Sequence[ResultRow]) -> str:
    """Gives the stage times of whole frames and of the node."""
    staged = [row for row in rows if row.extra.get('stages_ms')]
    names = dict.fromkeys(name for row in staged for name in row.extra['stages_ms'])
    cells: dict[str, Cell] = {
        'what': lambda row: row.extra.get('what') or 'whole frame, all pictures',
        'engine': lambda row: f'{row.engine} {row.precision}',
        'input': input_size,
        'image': image_size,
    }
    for name in names:
        cells[f'{name} ms'] = lambda row, name=name: number(  # type: ignore[misc]
            row.extra, 'stages_ms', name, digits=2
        )
    cells['whole ms'] = lambda row: number(row.extra, 'total_ms', digits=2)
    return markdown(staged, cells)


def node_table(rows: Sequence[ResultRow]) -> str:
    """Gives the table of `python -m training.bench.node`."""
    return markdown(
        [row for row in rows if row.extra.get('kind') == 'node'],
        {
            'engine': lambda row: f'{row.engine} {row.precision}',
            'image': image_size,
            'outputs': lambda row: row.extra['outputs'],
            'frames': lambda row: row.extra['pace'],
            'node p50 ms': lambda row: number(row.latency_ms, 'p50'),
            'p95': lambda row: number(row.latency_ms, 'p95'),
            'of it publish of the camera': lambda row: number(row.extra, 'camera_publish_ms'),
            'bare p50 ms': lambda row: number(row.extra, 'bare_ms', 'p50'),
            'target ms': lambda row: number(row.extra, 'target_ms'),
            'met': lambda row: 'yes' if row.extra['target_met'] else 'no',
            'fps': lambda row: number(row.extra, 'fps'),
            'fps of 30 Hz': lambda row: number(row.extra, 'fps_at_30_hz'),
            'RSS MB': lambda row: number(row.extra, 'memory_mb', 'rss', digits=0),
            'USS MB': lambda row: number(row.extra, 'memory_mb', 'uss', digits=0),
            'first mask s': lambda row: number(row.extra, 'start_s'),
        },
    )


def load_table(rows: Sequence[ResultRow]) -> str:
    """Gives the table of `python -m training.bench.node` with `--cameras` or `--transport`."""
    return markdown(
        [row for row in rows if row.extra.get('kind') == 'load'],
        {
            'engine': lambda row: f'{row.engine} {row.precision}',
            'image': image_size,
            'cameras': lambda row: row.extra['what'],
            'fps': lambda row: number(row.extra, 'fps'),
            'over one raw camera': lambda row: number(row.extra, 'ratio_to_one_raw', digits=3),
            'age ms': lambda row: ', '.join(f'{age:.0f}' for age in row.extra['ages_ms']),
            'oldest over youngest': lambda row: number(row.extra, 'age_ratio', digits=2),
            'RSS MB': lambda row: number(row.extra, 'memory_mb', 'rss', digits=0),
        },
    )


def other_table(rows: Sequence[ResultRow]) -> str:
    """Gives calibration and allocator figures."""
    return markdown(
        [row for row in rows if row.extra.get('kind') in ('calibration', 'allocator')],
        {
            'what': lambda row: row.extra['what'],
            'input': input_size,
            'p50 ms': lambda row: number(row.latency_ms, 'p50', digits=2),
            'p95': lambda row: number(row.latency_ms, 'p95', digits=2),
            'ratio': lambda row: number(row.extra, 'ratio_to_first', digits=3),
            'page faults a frame': lambda row: number(row.extra, 'page_faults', digits=0),
            'RSS MB': lambda row: number(row.extra, 'memory_mb', 'rss', digits=0),
        },
    )


def markdown(rows: Sequence[ResultRow], cells: dict[str, Cell]) -> str:
    r"""Gives a table; columns in which no row says anything are left out, notes stand below.

    >>> markdown([ResultRow(engine='torch')], {'engine': lambda r: r.engine, 'fps': lambda r: ''})
    '| engine |\n| --- |\n| torch |'
    """
    lines = [[str(cell(row) or '') for cell in cells.values()] for row in rows]
    kept = [i for i in range(len(cells)) if any(line[i] for line in lines)]
    heads = list(cells)
    table = markdown_table([heads[i] for i in kept], [[line[i] for i in kept] for line in lines])
    notes = [
        f'{row.engine} {row.precision}: not measured: {row.extra["note"]}'
        for row in rows
        if row.extra.get('note')
    ]
    return '\n\n'.join(filter(None, [table if rows else '', *notes]))


def input_size(row: ResultRow) -> str:
    """Gives 'HxW' of the network."""
    return 'x'.join(map(str, row.input_size)) if row.input_size else ''


def image_size(row: ResultRow) -> str:
    """Gives 'HxW' of the camera."""
    return 'x'.join(map(str, row.extra.get('image_size') or ()))


def number(values: Any, *keys: str, digits: int = 1) -> str:
    """Gives a number inside of nested mappings, '' where there is none.

    >>> number({'a': {'b': 1.25}}, 'a', 'b', digits=2), number(None, 'a')
    ('1.25', '')
    """
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return f'{values:.{digits}f}' if isinstance(values, int | float) else ''


def percent(value: float | None) -> str:
    """Gives a fraction in percent, never rounded up to 100.

    >>> percent(0.999999), percent(1.0), percent(None)
    ('99.99', '100', '')
    """
    if value is None:
        return ''
    return '100' if value == 1 else f'{int(value * 1e4) / 100:.2f}'


def floor_cell(row: ResultRow) -> str:
    """Gives the physical floor and how much of the time it explains."""
    floor = row.extra.get('floor')
    return f'{floor["floor_ms"]:.1f} ({floor["efficiency"]:.0%})' if floor else ''


def main() -> int:
    """Prints every table that the folders have rows for."""
    parser = tool_parser(__doc__)
    parser.add_argument('results', nargs='+', type=Path, help='folders with results.json')
    args = parser.parse_args()
    rows = [row for folder in args.results for row in read_results(folder)]
    tables = [
        table(rows) for table in (engine_table, node_table, load_table, stage_table, other_table)
    ]
    print('\n\n'.join(filter(None, tables)))
    return 0


if __name__ == '__main__':
    run_tool(main)
