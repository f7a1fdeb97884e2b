"""A bag through the node's inference core, every frame once, without ROS: `anomaly_seg bag`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import ExitStack
import os
from pathlib import Path
import shutil
import sys
import tempfile
from typing import Any

from tqdm import tqdm

from anomaly_seg_ros.bags.reader import BagReader, choose_topic
from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.command_line.options import add_camera, add_checkpoint, add_engine
from anomaly_seg_ros.engines import open_engine
from anomaly_seg_ros.frames.ignore_mask import read_mask
from anomaly_seg_ros.frames.persistence import Persistence
from anomaly_seg_ros.frames.pipeline import default_threshold
from anomaly_seg_ros.node.calibration_file import camera_checkpoint
from anomaly_seg_ros.node.label_info import latched_contents
from anomaly_seg_ros.node.node_pipeline import node_pipeline, warm_up
from anomaly_seg_ros.node.outputs import usual_outputs
from anomaly_seg_ros.prediction import Engine
from anomaly_seg_ros.process.shards import choose_shard
from anomaly_seg_ros.provenance import code_version
from anomaly_seg_ros.registry import check_name
from anomaly_seg_ros.scores import SCORES
from training.datasets.label_ids import LABEL_MAP_HELP, parse_label_map
from training.evaluation.bag.bag_pass import BagPass
from training.evaluation.bag.frames import LabelledFrames
from training.evaluation.bag.labels import FrameKey, match_labels, MatchedLabels, RULES
from training.evaluation.bag.many import (
    bag_folders,
    file_sizes,
    finished,
    merge,
    parse_parameters,
    Plan,
    SUMMARY_FILE,
    write_json,
)
from training.evaluation.bag.outputs import (
    clear_output_bag,
    output_names,
    OutputBag,
    parse_outputs,
)
from training.evaluation.bag.timeline import frame_score_rule, Timeline
from training.results import clear_results, ResultRow, typed_command

BAG_FOLDER = 'bag'
TIMELINE_FILE = 'timeline.csv'
LABELLED = '.labelled_'
"""How the folder begins in which frames with labels wait to be measured."""
SHOWN = 3
"""Problems that are said on the terminal one by one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg bag` takes."""
    parser.add_argument(
        'bags', type=Path, nargs='+', metavar='IN_BAG', help='rosbag2 folders or files'
    )
    parser.add_argument(
        '--shard',
        metavar='K/N',
        help='do part K of N of the bags, counted from 1; default: as torchrun, a Slurm array or '
        'an indexed job of Kubernetes says, else all; what is done already is not done again',
    )
    parser.add_argument('--topic', help='image topic, raw or compressed; default: the only one')
    add_checkpoint(parser)
    add_engine(parser)
    add_camera(parser)
    parser.add_argument(
        '--labels',
        type=Path,
        metavar='DIR',
        help='labels STEM.png or .npy, 0/1/255; STEM is that of the source image (bags of '
        'make_bag), else the header stamp in nanoseconds, else the number of the frame from 0',
    )
    parser.add_argument('--label-map', metavar='ID=MEANING[,...]', help=LABEL_MAP_HELP)
    parser.add_argument(
        '--save',
        default=','.join(output_names(usual_outputs())),
        metavar='TOPIC[,TOPIC]',
        help=f'topics of the new bag, of: {", ".join(output_names())} (default: %(default)s)',
    )
    parser.add_argument(
        '-p',
        dest='parameters',
        action='append',
        metavar='NAME:=VALUE',
        help='a parameter of the node, as behind --ros-args; may be given again',
    )
    parser.add_argument('--out', type=Path, required=True, help='folder for the results')


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg bag`.

    Returns:
        0 done, 1 something of the bags was skipped, or somebody stopped it.
    """
    config = parse_parameters(args.parameters or ())
    plan = Plan(parse_outputs(args.save), config, args.topic, args.camera)
    label_map = parse_label_map(args.label_map)
    shard = choose_shard(args.shard, os.environ)
    checkpoint = Checkpoint.open(args.checkpoint)
    alone = len(args.bags) == 1 and shard.count == 1
    if args.labels and not alone:
        raise ValueError('--labels goes with one bag; run each labelled bag by itself')
    with ExitStack() as stack:
        if alone:
            stack.enter_context(BagReader(args.bags[0]))  # what is wrong with it is said at once
        score = args.score or checkpoint.meta.score
        check_name('score', SCORES, score)
        own = of_camera(checkpoint, plan, score)
        own.meta.calibration_of(score)  # before an engine is built, which takes long
        engine = open_engine(checkpoint, args.engine, score, args.precision)
        stack.callback(engine.close)
        warm_up(engine)
        checkpoint = own
        if alone:
            (bag,) = args.bags
            return status_of(run_bag(args, bag, args.out, plan, label_map, checkpoint, engine))
        key = plan.key(checkpoint, engine)
        folders = bag_folders(args.bags, args.out)
        known = {out: finished(out, bag, key) for bag, out in folders}
        if None in known.values():
            # Of other bags or settings; whoever ends last writes it anew.
            (args.out / SUMMARY_FILE).unlink(missing_ok=True)
        status = 0
        for bag, out in shard.part(folders):
            if (summary := known[out]) is not None:
                print(f'{out}: done already')
                say_losses(summary)
                status |= status_of(summary)
                continue
            try:
                summary = run_bag(args, bag, out, plan, label_map, checkpoint, engine, key)
            except (ValueError, OSError) as error:
                # One bag that is broken must not keep the others from being done.
                print(f'warning: {bag}: {error}', file=sys.stderr)
                status = 1
                continue
            status |= status_of(summary)
            if summary['stopped']:
                break
        print(merge(args.out, folders, key))
    return status


def of_camera(checkpoint: Checkpoint, plan: Plan, score: str) -> Checkpoint:
    """Gives the checkpoint as the node has it for the camera.

    Raises:
        ValueError: Nobody knows the camera, or the calibration file cannot be read.
    """
    file = plan.config.calibration_file
    if not file:
        return checkpoint.of_camera(plan.camera)
    own, note = camera_checkpoint(checkpoint, plan.camera, score, file)
    if note:
        print(f'warning: {note}', file=sys.stderr)
    return own


def run_bag(
    args: argparse.Namespace,
    path: Path,
    out: Path,
    plan: Plan,
    label_map: Mapping[int, int],
    checkpoint: Checkpoint,
    engine: Engine,
    key: str = '',
) -> dict[str, Any]:
    """Takes one bag through; gives its summary."""
    with ExitStack() as stack:
        reader = stack.enter_context(BagReader(path))
        topic = choose_topic(reader.topics, plan.topic, path)
        if reader.count(topic) == 0:
            raise ValueError(f'bag {str(path)!r} holds no message on {topic}')
        names = reader.image_names(topic)
        labels = find_labels(reader, topic, names, args.labels)
        mask = read_mask(plan.config.ignore_mask, plan.camera)
        pipeline = node_pipeline(engine, checkpoint, plan.config, mask)
        prepare_out(out, path)
        store = stack.enter_context(tempfile.TemporaryDirectory(prefix=LABELLED, dir=out))
        labelled = LabelledFrames(engine.score_name, Path(store), label_map, pipeline.ignored)
        run = BagPass(pipeline, names, labels, labelled, plan.config)
        threshold = pipeline.settings.threshold
        explained = latched_contents(checkpoint, engine, threshold, plan.config)
        with (
            (out / TIMELINE_FILE).open('w', newline='', encoding='utf-8') as file,
            OutputBag(out / BAG_FOLDER, plan.outputs, plan.config, explained) as bag,
        ):
            run.through(reader, topic, bag, Timeline(file))
        summary = summarise(run, reader, topic, engine)
        write_json(out / SUMMARY_FILE, {**summary, 'run': key})
        say(out, summary)
        print(run.alarms.sentence())
        if labels and len(run.labelled) and not run.stopped:
            measure(args.checkpoint, out, checkpoint, run, engine, summary)
    return summary


def status_of(summary: Mapping[str, Any]) -> int:
    """Gives the status of the command: 1 where something of the bag was left out."""
    return int(bool(summary['stopped'] or summary['broken'] or summary['problems']))


def find_labels(
    reader: BagReader, topic: str, names: Mapping[int, str], folder: Path | None
) -> MatchedLabels | None:
    """Matches labels to frames, which takes a pass over the bag; None where none are asked for."""
    if folder is None:
        return None
    images = tqdm(
        reader.images(topic), 'match labels', reader.count(topic), unit='frame', disable=None
    )
    keys = [FrameKey(image.number, image.stamp, names.get(image.log_time, '')) for image in images]
    return match_labels(folder, keys)


def prepare_out(out: Path, bag: Path) -> None:
    """Makes the result folder and removes what an earlier run has left there.

    Raises:
        ValueError: The input lies where the new bag will be, or something foreign does.
    """
    target, source = (out / BAG_FOLDER).resolve(), bag.resolve()
    if target in (source, *source.parents) or out.resolve() == source:
        raise ValueError(f'bag {str(bag)!r} lies where the new one goes; choose another --out')
    out.mkdir(parents=True, exist_ok=True)
    # First of all: it is what says that the rest is whole.
    (out / SUMMARY_FILE).unlink(missing_ok=True)
    clear_output_bag(out / BAG_FOLDER)
    for left in out.glob(f'{LABELLED}*'):  # of a run that was killed
        shutil.rmtree(left)
    clear_results(out)


def summarise(run: BagPass, reader: BagReader, topic: str, engine: Engine) -> dict[str, Any]:
    """Gives what `summary.json` holds."""
    return {
        'bag': str(reader.path),
        'bag_files': file_sizes(reader.path),
        'topic': topic,
        'messages': run.frames + len(run.broken),
        'messages_announced': reader.announced(topic),
        'frames': run.frames,
        'encoding': run.encoding,
        'first_stamp': run.stamps[0] if run.stamps else None,
        'last_stamp': run.stamps[-1] if run.stamps else None,
        'broken': [{'number': number, 'problem': problem} for number, problem in run.broken],
        'problems': reader.problems(),
        'stopped': run.stopped,
        'score': engine.score_name,
        'engine': engine.name,
        'precision': engine.precision,
        'threshold': run.pipeline.settings.threshold,
        'frame_score_rule': frame_score_rule(run.pipeline.judge),
        'persistence': run.config.persistence,
        'alarms': {**run.alarms.counts(), **run.alarms.report()},
        'label_rule': RULES[run.labels.rule] if run.labels else None,
        'labels_matched': len(run.labels.files) if run.labels else None,
        'labels_left_over': [p.name for p in run.labels.left_over] if run.labels else None,
    }


def say(out: Path, summary: Mapping[str, Any]) -> None:
    """Says on the terminal how far it went and what was wrong.

    Raises:
        ValueError: No frame could be used.
    """
    say_losses(summary)
    announced = summary['messages_announced']
    of = f' of {announced}' if announced not in (None, summary['messages']) else ''
    end = f'{summary["messages"]}{of} messages on {summary["topic"]}'
    if summary['stopped'] or summary['problems']:
        how = 'stopped' if summary['stopped'] else 'reading ended'
        print(f'{how} after {end}, last stamp {summary["last_stamp"]}', file=sys.stderr)
    if not summary['frames']:
        raise ValueError(f'no frame could be used: {end}')
    print(
        f'{out}: {summary["frames"]} frames of {end} ({summary["encoding"]}); score '
        f'{summary["score"]}, engine {summary["engine"]}, precision {summary["precision"]}'
    )


def say_losses(summary: Mapping[str, Any]) -> None:
    """Says on the terminal what of the bag could not be read."""
    broken = summary['broken']
    for entry in broken[:SHOWN]:
        print(f'warning: message {entry["number"]}: {entry["problem"]}', file=sys.stderr)
    if len(broken) > SHOWN:
        print(f'warning: {len(broken)} messages are broken; see {TIMELINE_FILE}', file=sys.stderr)
    if summary['problems']:
        print(f'warning: the bag is not whole: {"; ".join(summary["problems"])}', file=sys.stderr)


def measure(
    typed: str,
    out: Path,
    checkpoint: Checkpoint,
    run: BagPass,
    engine: Engine,
    summary: Mapping[str, Any],
) -> None:
    """Writes the metrics of the labelled frames and says the main ones."""
    from training.evaluation.bag.metrics import measure_frames
    from training.evaluation.network_pass import latency, peak_mb

    meta = checkpoint.meta
    shipped, threshold = default_threshold(meta, engine.score_name), summary['threshold']
    origin = ResultRow(
        dataset=summary['bag'],
        split=summary['topic'],
        model=meta.model,
        checkpoint=typed,
        engine=engine.name,
        precision=engine.precision,
        input_size=engine.input_size,
        temperature=meta.temperature,
        latency_ms=latency({engine.score_name: run.times_ms}, engine.score_name),
        peak_mb=round(peak_mb(), 1),
        command=typed_command(),
        commit=code_version(),
        extra={
            'class_names': list(meta.class_names),
            'weights': checkpoint.weights_sha256[:12],
            'trained_on': list(meta.trained_on),
            'device': engine.description,
            'label_rule': summary['label_rule'],
            'n_frames_read': summary['frames'],
            'threshold_given': None if threshold == shipped else threshold,
            'warnings': row_warnings(run, summary, shipped),
        },
    )
    row = measure_frames(run.labelled, meta, threshold, origin, out)
    for text in row.extra['warnings']:
        print(f'warning: {text}', file=sys.stderr)
    values = {key: getattr(row, key) for key in ('ap', 'auroc', 'fpr95', 'best_f1')}
    shown = ', '.join(f'{k} {"-" if v is None else format(v, ".4f")}' for k, v in values.items())
    print(f'{len(run.labelled)} labelled frames ({summary["label_rule"]}): {shown}')


def row_warnings(run: BagPass, summary: Mapping[str, Any], shipped: float) -> list[str]:
    """Gives what readers of the numbers should know; `shipped`: the checkpoint's threshold."""
    found = [f'the bag is not whole: {problem}' for problem in summary['problems']]
    if summary['broken']:
        found.append(f'{len(summary["broken"])} messages of the bag are broken')
    if left := summary['labels_left_over']:
        found.append(f'{len(left)} labels fit no frame of the bag; the first is {left[0]!r}')
    if run.labels and (unused := len(run.labels.files) - len(run.labelled)):
        found.append(f'{unused} labels belong to broken messages')
    config = run.config
    needed, _ = Persistence.parse(config.persistence)
    if config.smoothing or config.min_region_area or needed > 1:
        found.append(
            'the numbers are of the raw score, frame by frame: smoothing, min_region_area and '
            'persistence change the masks alone'
        )
    if (given := summary['threshold']) != shipped:
        found.append(
            f'precision, recall and what is marked are at threshold {given:g} as given, not at '
            f"the checkpoint's {shipped:g}"
        )
    return found
