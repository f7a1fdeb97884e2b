"""Measures methods for whole frames: `python -m training.study.whole_frames`.

Normal are the val and test frames of CamVid; abnormal is each fault of a camera at medium severity
on the same frames, everyday photos, and dashboard cameras of another world. Then the first ten
frames of a highway are given to the first method as ordinary ones, and the later ones are judged
again. The results of each checkpoint go into a folder that `report` reads, the table into
`table.md`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.command_line.tool import run_tool, tool_parser, typed_tool
from anomaly_seg_ros.engines import open_engine
from anomaly_seg_ros.frames.preprocess import to_input_size
from anomaly_seg_ros.provenance import code_version
from anomaly_seg_ros.whole_frame.methods import fit_camera, frame_judge
from training.datasets import build_dataset
from training.evaluation.whole_frames import NORMAL, WholeFrames
from training.frame_level.corruptions import CORRUPTIONS, MEDIUM
from training.results import ResultRow

OTHERS = {'photos': 'negatives', 'dashcam': 'dashcam_normal'}
"""Group to its folder."""
ADAPTED = 10
"""Frames that a camera is known by."""


def main(argv: list[str] | None = None) -> int:
    """Measures each checkpoint and writes the table."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        'checkpoints', nargs='*', default=['default'], help='with a method for whole frames'
    )
    parser.add_argument('--data', type=Path, default=Path('../shared/data'))
    parser.add_argument('--engine', default='auto', help='default: %(default)s')
    parser.add_argument(
        '--every', type=int, default=1, help='draw faults into every n-th frame; default: all'
    )
    parser.add_argument('--out', type=Path, default=Path('out/whole_frames'))
    args = parser.parse_args(argv)
    columns = {}
    for number, name in enumerate(args.checkpoints):
        judged, rows = measure(name, args)
        judged.write(args.out / f'{number}_{Path(name).name}', rows)
        columns[name] = rows
    text = table(columns)
    if later := adapted_line(args.checkpoints[0], args):
        text += f'\n{later}\n'
    (args.out / 'table.md').write_text(text, encoding='utf-8')
    print(text, end='')
    return 0


def measure(name: str, args: argparse.Namespace) -> tuple[WholeFrames, list[ResultRow]]:
    """Judges all groups by a checkpoint."""
    checkpoint = Checkpoint.open(name)
    engine = open_engine(checkpoint, args.engine)
    judged = WholeFrames.open(engine, checkpoint)
    sets = [build_dataset('camvid', args.data / 'camvid', split) for split in ('val', 'test')]
    for frames in sets:
        judged.add_all(frames, NORMAL, range(len(frames)))
    for fault in CORRUPTIONS:
        for frames in sets:
            judged.add_corrupted(frames, fault, MEDIUM, range(0, len(frames), args.every))
    for group, folder in OTHERS.items():
        others = build_dataset('frames', args.data / folder, 'all')
        judged.add_all(others, group, range(len(others)))
    engine.close()
    origin = ResultRow(
        dataset='camvid',
        split='val and test',
        model=checkpoint.meta.model,
        checkpoint=name,
        score=judged.judge.name,
        engine=engine.name,
        precision=engine.precision,
        input_size=engine.input_size,
        command=typed_tool(),
        commit=code_version(),
        extra={'device': engine.description, 'warnings': []},
    )
    return judged, judged.rows(origin)


def table(columns: dict[str, list[ResultRow]]) -> str:
    """Gives a line for each kind of abnormal frames, three columns for each checkpoint."""
    heads = [f'{name} {what}' for name in columns for what in ('AUROC', 'F1', 'found')]
    lines = [f'| abnormal | {" | ".join(heads)} |', '| --- |' + ' --- |' * len(heads)]
    kinds = [row.extra['abnormal'] for row in next(iter(columns.values()))][:-1]
    for kind in kinds:
        cells = [c for rows in columns.values() for c in _cells(_row(rows, kind))]
        lines.append(f'| {kind} | {" | ".join(cells)} |')
    means = []
    for rows in columns.values():
        found = [_cells(row, plain=True) for row in rows[:-1]]
        means += [f'**{np.mean([values[i] for values in found]):.3f}**' for i in range(3)]
    lines.append(f'| **mean** | {" | ".join(means)} |')
    alarms = [
        f'{name} {rows[0].extra["frame_shipped"]["false_alarms_per_1000"]:.1f}'
        for name, rows in columns.items()
    ]
    normal = next(iter(columns.values()))[0]
    count = (normal.n_images or 0) - normal.extra['n_abnormal']
    lines += ['', f'False alarms per 1000 of {count} normal frames: {", ".join(alarms)}.']
    return '\n'.join(lines) + '\n'


def _row(rows: Sequence[ResultRow], kind: str) -> ResultRow:
    return next(row for row in rows if row.extra['abnormal'] == kind)


def _cells(row: ResultRow, plain: bool = False) -> list[Any]:
    shipped = row.extra['frame_shipped']
    values = [row.extra['frame_auroc'], shipped['f1'], shipped['recall']]
    return values if plain else [f'{value:.3f}' for value in values]


def adapted_line(name: str, args: argparse.Namespace) -> str:
    """Says what the later frames of a highway are before and after the first were given."""
    checkpoint = Checkpoint.open(name)
    judge = frame_judge(checkpoint)
    highway = build_dataset('frames', args.data / OTHERS['dashcam'], 'highway')
    if judge is None or judge.name != 'dfkde':
        return ''
    engine = open_engine(checkpoint, args.engine)
    frames = [highway[index].image for index in range(len(highway))]
    pooled = [engine.infer(to_input_size(image, engine.input_size)).frame for image in frames]
    engine.close()
    values = np.stack([value for value in pooled if value is not None])
    shift = fit_camera(judge, values[:ADAPTED], judge.threshold, 'highway')
    own = replace(checkpoint.meta, frame_cameras={'': shift})
    after = frame_judge(checkpoint.in_memory(own))
    assert after is not None
    later = values[ADAPTED:]
    was, now = (int((j.raw(later) >= j.threshold).sum()) for j in (judge, after))
    return (
        f'Of {len(later)} later frames of a highway {was} are out of domain; once its first '
        f'{ADAPTED} are known, {now}.'
    )


if __name__ == '__main__':
    run_tool(main)
