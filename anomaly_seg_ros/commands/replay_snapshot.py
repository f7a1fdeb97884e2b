"""A snapshot of the node once more: `anomaly_seg replay_snapshot` says whether it is the same."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.engines import AUTO, ENGINES, open_engine
from anomaly_seg_ros.node.snapshot import Snapshot


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg replay_snapshot` takes."""
    parser.add_argument('folder', type=Path, metavar='FOLDER', help='as ~/snapshot has named it')
    parser.add_argument('--checkpoint', help='default: where the snapshot says that it was')
    parser.add_argument('--engine', help=f"{', '.join((AUTO, *ENGINES))}; default: the snapshot's")


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg replay_snapshot`.

    Returns:
        0 the outputs are the same, 1 they differ.
    """
    snapshot = Snapshot(args.folder)
    was = snapshot.engine
    checkpoint = Checkpoint.open(args.checkpoint or snapshot.facts['checkpoint'])
    if checkpoint.score_key(was['score']) != was['key']:
        raise ValueError(
            f'checkpoint {str(checkpoint.folder)!r} is another one than that of the snapshot; '
            'give the right one by --checkpoint'
        )
    precision = was['precision'] if args.engine in (None, was['name']) else 'auto'
    folder = Path(snapshot.config.engine_path).expanduser()
    path = folder if snapshot.config.engine_path and not args.engine and folder.is_dir() else None
    engine = open_engine(checkpoint, args.engine or was['name'], was['score'], precision, path)
    with closing(engine):
        if engine.input_size != tuple(was['input_size']):
            sizes = ['x'.join(map(str, size)) for size in (was['input_size'], engine.input_size)]
            raise ValueError(
                f'the snapshot was made at {sizes[0]}, and this engine is of {sizes[1]}; export '
                f'one with --size {sizes[0]} to its engine_path, {snapshot.config.engine_path!r}'
            )
        result = snapshot.pipeline(engine, checkpoint)(snapshot.image())
        result = result.at(snapshot.config.output_resolution == 'input')
        differences = snapshot.differences(result)
    for name, how in differences.items():
        print(f'{name}: {how or "the same"}')
    if any(differences.values()) and engine.description != was['description']:
        print(f'it was made by {was["description"]}; this is {engine.description}')
    return int(any(differences.values()))
