"""Measures anomaly scores over a dataset or over saved maps: `anomaly_seg evaluate`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
import inspect
from pathlib import Path
import sys

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.frame_fit import METHODS
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.command_line.options import add_camera
from anomaly_seg_ros.engines import ENGINES, open_engine
from anomaly_seg_ros.provenance import code_version
from anomaly_seg_ros.registry import check_name, lookup
from training.datasets import build_dataset, Dataset, DATASETS, takes_label_map
from training.datasets.frame_folders import ABNORMAL, refuse_abnormal
from training.datasets.label_ids import LABEL_MAP_HELP, parse_label_map
from training.datasets.missing import heard_warnings
from training.evaluation.checkpoint_frames import CheckpointFrames
from training.evaluation.map_frames import MapFrames
from training.evaluation.measure import MeasureSettings
from training.evaluation.network_pass import joined_times, latency, open_pass, peak_mb
from training.evaluation.origin import (
    class_cautions,
    network_origin,
    raw_thresholds,
    trained_on,
)
from training.evaluation.pictures import draw_pictures
from training.evaluation.processes import Processes
from training.evaluation.result_folder import clear_folder, working_folder, write_evaluation
from training.evaluation.rows import result_row
from training.evaluation.run import evaluate_frames
from training.frame_level.corrupted import ALL, Corrupted, parse_faults
from training.frame_level.corruptions import CORRUPTIONS, FROZEN, MEDIUM
from training.metrics.component import TRACKS
from training.metrics.protocols import PROTOCOLS
from training.results import ResultRow, typed_command

NETWORK_FORM = ('checkpoint', 'dataset', 'root')
MAPS_FORM = ('scores', 'labels')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg evaluate` takes."""
    network = parser.add_argument_group('a checkpoint on a dataset')
    network.add_argument('--checkpoint', help="folder, or 'default'")
    network.add_argument(
        '--score',
        metavar='S[,S]',
        help="anomaly scores; default: the checkpoint's own; "
        f'or one of {", ".join(METHODS)}: whole frames are judged',
    )
    network.add_argument('--dataset', help=f'one of: {", ".join(sorted(DATASETS))}')
    network.add_argument('--root', type=Path, help='folder of the dataset')
    add_camera(network)
    network.add_argument('--split', help='default: the one that benchmarks report')
    network.add_argument(
        '--engine',
        help=f'torch (default: one network pass for all scores, with ECE and NLL), auto, '
        f'{", ".join(name for name in ENGINES if name != "torch")}',
    )
    network.add_argument(
        '--corrupt',
        metavar='FAULT[:SEVERITY][,...]',
        help=f'draw a fault of the camera into the frames, severity 1 to 5, default {MEDIUM}: '
        f'{", ".join(CORRUPTIONS)}, or {ALL}; where whole frames are judged their good frames are '
        'the normal ones',
    )
    maps = parser.add_argument_group('or saved score maps')
    maps.add_argument('--scores', type=Path, metavar='DIR', help='STEM.npy, higher = anomalous')
    maps.add_argument('--labels', type=Path, metavar='DIR', help='STEM.png or .npy, 0/1/255')
    parser.add_argument('--label-map', metavar='ID=MEANING[,...]', help=LABEL_MAP_HELP)
    parser.add_argument(
        '--protocol',
        default='exact',
        help='exact (default: native label size, all pixels), smiyc (its quantised curve), '
        'course (network size, frames without anomaly dropped)',
    )
    parser.add_argument(
        '--track',
        choices=TRACKS,
        help='sizes of the components that count; default: as the dataset, else anomaly',
    )
    parser.add_argument('--out', type=Path, required=True, help='result folder')


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg evaluate`."""
    form = check_form(args)
    check_name('protocol', PROTOCOLS, args.protocol)
    with Processes() as processes:
        if form == MAPS_FORM:
            _evaluate_maps(args, processes)
        elif args.score in METHODS:
            refuse_for_frames(args, processes)
            _evaluate_frames(args)
        else:
            _evaluate_checkpoint(args, processes)
    return 0


def check_form(args: argparse.Namespace) -> tuple[str, ...]:
    """Tells which of the two forms was typed, by the names of its required arguments.

    Raises:
        ValueError: The forms are mixed, or an argument is missing.
    """
    form = MAPS_FORM if args.scores or args.labels else NETWORK_FORM
    others = (
        (*NETWORK_FORM, 'score', 'camera', 'split', 'engine', 'corrupt')
        if form == MAPS_FORM
        else MAPS_FORM
    )
    if mixed := [name for name in others if getattr(args, name) not in (None, '')]:
        raise ValueError(
            f'--{mixed[0]} does not go with --{form[0]}; give either --checkpoint, --dataset '
            'and --root, or --scores and --labels'
        )
    if missing := [name for name in form if getattr(args, name) is None]:
        raise ValueError(
            f'--{missing[0]} is missing; give either --checkpoint, --dataset and --root, or '
            '--scores and --labels'
        )
    return form


def refuse_for_frames(args: argparse.Namespace, processes: Processes) -> None:
    """Refuses what says nothing of whole frames.

    Raises:
        ValueError: Names the option, or the number of processes.
    """
    given = {
        '--protocol': args.protocol != 'exact',
        '--label-map': args.label_map is not None,
        '--track': args.track is not None,
    }
    if wrong := [option for option, is_given in given.items() if is_given]:
        raise ValueError(
            f'{wrong[0]} does not go with --score {args.score}, which judges whole frames; it is '
            'for scores of pixels'
        )
    if processes.size > 1:
        raise ValueError(
            f'--score {args.score} judges whole frames in one process, not in {processes.size}; '
            'run it without torchrun'
        )


def parse_scores(text: str) -> tuple[str, ...]:
    """Reads 'msp,energy' as names, each once.

    Raises:
        ValueError: No name, or one twice.
    """
    scores = tuple(part.strip() for part in text.split(',') if part.strip())
    if not scores or len(set(scores)) < len(scores):
        raise ValueError(f'scores {text!r} must be one or more names, each once')
    return scores


def default_split(dataset: str) -> str:
    """Gives the split that a dataset takes when none is asked for.

    >>> default_split('camvid')
    'test'
    """
    parameters = inspect.signature(lookup('dataset', DATASETS, dataset)).parameters
    return str(parameters['split'].default)


def _evaluate_checkpoint(args: argparse.Namespace, processes: Processes) -> None:
    checkpoint = Checkpoint.open(args.checkpoint).of_camera(args.camera)
    meta = checkpoint.meta
    split = args.split or default_split(args.dataset)
    with heard_warnings() as heard:
        label_map = parse_label_map(args.label_map) if args.label_map is not None else None
        dataset = build_dataset(args.dataset, args.root, split, label_map)
    refuse_abnormal(dataset)
    dataset = _corrupted(args, dataset)
    scores = parse_scores(args.score or meta.score)
    network = open_pass(checkpoint, args.engine or 'torch', scores)
    with working_folder(args.out) as store:
        source = CheckpointFrames(dataset, network, meta, args.protocol, store)
        evaluation = evaluate_frames(source, _settings(args, meta, dataset), processes)
        origin = replace(
            network_origin(args.checkpoint, checkpoint, network, dataset),
            dataset=args.dataset,
            split=split,
        )
        origin.extra['root'] = str(args.root)
        if args.corrupt:
            origin = replace(origin, split=f'{split}, {args.corrupt}')
        known = [
            *trained_on(meta, args.dataset, args.root, split),
            *class_cautions(meta, dataset, source, args.dataset),
        ]
        origin.extra['warnings'] = heard + known
        clear_folder(args.out, processes)
        pictures = draw_pictures(source, evaluation, processes, args.out)
    origin = replace(origin, peak_mb=round(max(processes.gather(peak_mb())), 1))
    times = joined_times(processes.gather(network.times_ms))
    network.close()
    rows = [
        replace(result_row(evaluation, score, origin), latency_ms=latency(times, score))
        for score in scores
    ]
    if processes.leads:
        write_evaluation(args.out, rows, evaluation, pictures)
        _say(rows, args.out, said=heard)


def _corrupted(args: argparse.Namespace, dataset: Dataset) -> Dataset:
    """Gives the frames with the fault that is asked for.

    Raises:
        ValueError: Several are, or one that no single frame shows.
    """
    if args.corrupt is None:
        return dataset
    faults = parse_faults(args.corrupt)
    if len(faults) > 1 or faults[0].name == FROZEN:
        raise ValueError(
            f'--corrupt {args.corrupt!r}: scores of pixels are measured under one fault that a '
            'frame by itself shows'
        )
    return Corrupted(dataset, faults[0])


def _evaluate_frames(args: argparse.Namespace) -> None:
    """Measures a method for whole frames: the frames of the dataset, faults drawn into them."""
    from training.evaluation.whole_frames import NORMAL, WholeFrames

    faults = parse_faults(args.corrupt) if args.corrupt else ()
    checkpoint = Checkpoint.open(args.checkpoint).of_camera(args.camera)
    fit = checkpoint.meta.frame
    if fit is None or fit.method != args.score:
        has = f'it has {fit.method!r}' if fit else 'it has none'
        raise ValueError(
            f'the checkpoint has no frame method {args.score!r}, {has}; run fit_score --score '
            f'{args.score} on it first'
        )
    split = args.split or default_split(args.dataset)
    with heard_warnings() as heard:
        dataset = build_dataset(args.dataset, args.root, split)
    known = trained_on(checkpoint.meta, args.dataset, args.root, split)
    engine = open_engine(checkpoint, args.engine or 'torch')
    judged = WholeFrames.open(engine, checkpoint)
    abnormal = getattr(dataset, 'abnormal', [False] * len(dataset))
    good = [index for index, bad in enumerate(abnormal) if not bad]
    judged.add_all(dataset, NORMAL, good)
    if bad := [index for index, bad in enumerate(abnormal) if bad]:
        judged.add_all(dataset, ABNORMAL, bad)
    for fault in faults:
        judged.add_corrupted(dataset, *fault, good)
    engine.close()
    origin = ResultRow(
        dataset=args.dataset,
        split=split,
        model=checkpoint.meta.model,
        checkpoint=str(args.checkpoint),
        score=args.score,
        engine=engine.name,
        precision=engine.precision,
        input_size=engine.input_size,
        latency_ms=latency({args.score: judged.times_ms}, args.score),
        peak_mb=round(peak_mb(), 1),
        command=typed_command(),
        commit=code_version(),
        extra={
            'root': str(args.root),
            'device': engine.description,
            'warnings': [*heard, *known],
        },
    )
    for text in known:
        print(f'warning: {text}', file=sys.stderr)
    rows = judged.rows(origin)
    judged.write(args.out, rows)
    print(frame_table(rows))
    print(f'wrote {args.out}')


def frame_table(rows: Sequence[ResultRow]) -> str:
    """Gives what the terminal shows of whole frames: a line for each kind of abnormal ones."""
    titles = ('auroc', 'best f1', 'at score', 'found', 'false/1000')
    width = max(len('abnormal'), *(len(row.extra['abnormal']) for row in rows))
    lines = [' '.join([f'{"abnormal":{width}}', *(f'{title:>10}' for title in titles)])]
    for row in rows:
        shipped = row.extra['frame_shipped']
        values = [row.extra[k] for k in ('frame_auroc', 'frame_f1', 'frame_f1_threshold')]
        values += [shipped['recall'], shipped['false_alarms_per_1000']]
        cells = (f'{"-" if value is None else format(value, ".4f"):>10}' for value in values)
        lines.append(' '.join([f'{row.extra["abnormal"]:{width}}', *cells]))
    return '\n'.join(lines)


def _settings(args: argparse.Namespace, meta: CheckpointMeta, dataset: Dataset) -> MeasureSettings:
    return MeasureSettings(
        protocol=args.protocol,
        track=args.track or dataset.track,
        temperature=meta.temperature,
        thresholds=raw_thresholds(meta),
        towns=dataset.towns,
        label_map=parse_label_map(args.label_map) if takes_label_map(args.dataset) else None,
    )


def _evaluate_maps(args: argparse.Namespace, processes: Processes) -> None:
    label_map = parse_label_map(args.label_map)
    source = MapFrames(args.scores, args.labels, args.protocol, label_map)
    settings = MeasureSettings(
        protocol=args.protocol, track=args.track or 'anomaly', label_map=label_map
    )
    evaluation = evaluate_frames(source, settings, processes)
    clear_folder(args.out, processes)
    pictures = draw_pictures(source, evaluation, processes, args.out)
    peak = max(processes.gather(peak_mb()))
    origin = ResultRow(
        dataset=str(args.labels),
        peak_mb=round(peak, 1),
        command=typed_command(),
        commit=code_version(),
        extra={'maps': str(args.scores)},
    )
    if processes.leads:
        rows = [result_row(evaluation, source.scores[0], origin)]
        write_evaluation(args.out, rows, evaluation, pictures)
        _say(rows, args.out)


def _say(rows: Sequence[ResultRow], out: Path, said: Sequence[str] = ()) -> None:
    """Says on the terminal what came out, without warnings that were said already."""
    for text in dict.fromkeys(text for row in rows for text in row.extra['warnings']):
        if text not in said:
            print(f'warning: {text}', file=sys.stderr)
    _print_table(rows)
    print(f'wrote {out}')


COLUMNS = ('ap', 'auroc', 'fpr95', 'best_f1', 'siou_gt', 'ppv', 'f1_mean', 'miou', 'ece', 'nll')


def _print_table(rows: Sequence[ResultRow]) -> None:
    shown = [key for key in COLUMNS if any(getattr(row, key) is not None for row in rows)]
    width = max(len(str(row.score)) for row in rows)
    print(f'{rows[0].n_images} frames, protocol {rows[0].extra["protocol"]}')
    print(' '.join([' ' * width, *(f'{key:>8}' for key in shown)]))
    for row in rows:
        cells = [getattr(row, key) for key in shown]
        texts = [f'{"-" if value is None else format(value, ".4f"):>8}' for value in cells]
        print(' '.join([f'{row.score:{width}}', *texts]))
