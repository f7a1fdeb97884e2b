"""Labels, scores, masks and overlays of image files: `anomaly_seg predict`."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import ExitStack
import csv
import os
from pathlib import Path
import sys
from typing import Any, cast, NamedTuple, TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.command_line.options import add_camera, add_checkpoint, add_engine
from anomaly_seg_ros.engines import open_engine
from anomaly_seg_ros.frames.images import (
    find_images,
    printable,
    read_image,
    SUFFIXES,
    write_image,
)
from anomaly_seg_ros.frames.pipeline import build_pipeline, Pipeline
from anomaly_seg_ros.frames.result import Result
from anomaly_seg_ros.frames.significant_bits import SignificantBits
from anomaly_seg_ros.process.shards import choose_shard
from anomaly_seg_ros.process.whole_file import whole_file
from anomaly_seg_ros.registry import check_name
from anomaly_seg_ros.scores import SCORES
from anomaly_seg_ros.whole_frame.methods import frame_judge

if TYPE_CHECKING:
    from anomaly_seg_ros.engines.torch_engine import TorchEngine

OUTPUTS = ('overlay', 'labels', 'score', 'mask', 'logits')
ARRAYS = ('score', 'logits')
NOTHING = 'nothing'


class Job(NamedTuple):
    """An image file, and where its results go: `out` with `_overlay.png` and so on behind."""

    path: Path
    out: Path

    def result(self, output: str) -> Path:
        """Gives the file of one of `OUTPUTS`."""
        suffix = '.npy' if output in ARRAYS else '.png'
        return self.out.with_name(f'{self.out.name}_{output}{suffix}')


class SummaryRow(NamedTuple):
    """One line of `summary.csv`; a file that cannot be read has only its problem.

    Attributes:
        file: As it was found.
        anomalous_share: Share of the pixels that the mask marks.
        regions: 8-connected regions of the mask at the network's size.
        frame_score: By the checkpoint's method for whole frames, 0.5 at its threshold; else the
            mean calibrated score, about 0.5 on frames like those of the calibration.
        height: Of the image.
        width: Likewise.
        problem: Why there are no numbers.
    """

    file: str
    anomalous_share: float | None = None
    regions: int | None = None
    frame_score: float | None = None
    height: int | None = None
    width: int | None = None
    problem: str = ''


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg predict` takes."""
    parser.add_argument(
        'images', nargs='+', type=Path, metavar='IMAGE|DIR', help='a folder at any depth'
    )
    add_checkpoint(parser)
    add_engine(parser)
    add_camera(parser)
    parser.add_argument(
        '--save',
        default='overlay',
        metavar='WHAT[,WHAT]',
        help=f'of: {", ".join(OUTPUTS)}; or {NOTHING}',
    )
    parser.add_argument(
        '--summary',
        action='store_true',
        help='write summary.csv: of each file the anomalous share, the regions, the frame score',
    )
    parser.add_argument(
        '--shard',
        metavar='K/N',
        help='do part K of N, counted from 1; default: as torchrun, a Slurm array or an indexed '
        'job of Kubernetes says, else all',
    )
    parser.add_argument('--out', type=Path, required=True, help='folder for the results')


def parse_outputs(text: str) -> tuple[str, ...]:
    """Reads a list such as 'overlay,mask'; 'nothing' gives none.

    Raises:
        ValueError: An unknown output.
    """
    outputs = tuple(part.strip() for part in text.split(',') if part.strip())
    if outputs == (NOTHING,):
        return ()
    for output in outputs:
        if output not in OUTPUTS:
            raise ValueError(f'unknown output {output!r}; choose of: {", ".join(OUTPUTS)}')
    if not outputs:
        raise ValueError(f'nothing to save; choose of: {", ".join(OUTPUTS)}')
    return outputs


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg predict`.

    Returns:
        0 done, 1 some images could not be read, 2 the only one could not.

    Raises:
        ValueError: None could be read, or the arguments do not fit.
    """
    outputs = parse_outputs(args.save)
    if not (outputs or args.summary):
        raise ValueError(f'--save {NOTHING} leaves only --summary to be made; give it too')
    shard = choose_shard(args.shard, os.environ)
    jobs = shard.part(find_jobs(args.images, args.out, writes=bool(outputs)))
    checkpoint = Checkpoint.open(args.checkpoint).of_camera(args.camera)
    meta = checkpoint.meta
    wants_logits = 'logits' in outputs
    if wants_logits and args.engine not in ('auto', 'torch'):
        raise ValueError(f'logits come from engine torch only, not {args.engine!r}')
    score = args.score or meta.score
    check_name('score', SCORES, score)
    check_calibration((*outputs, 'summary') if args.summary else outputs, meta, score)
    engine = open_engine(
        checkpoint, 'torch' if wants_logits else args.engine, score, args.precision
    )
    pipeline = build_pipeline(engine, meta, judge=frame_judge(checkpoint))
    args.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.callback(engine.close)
        summary = None
        if args.summary:
            path = stack.enter_context(whole_file(args.out / f'summary{shard.suffix}.csv'))
            file = stack.enter_context(path.open('w', newline='', encoding='utf-8'))
            summary = csv.writer(file)
            summary.writerow(SummaryRow._fields)
        failed = predict_all(jobs, pipeline, outputs, summary)
    if jobs and failed == len(jobs):
        if failed == 1:
            return 2  # it was said why
        raise ValueError(f'none of the {failed} images could be read')
    what = ', '.join((*outputs, 'summary') if args.summary else outputs)
    of = f' (part {shard.number} of {shard.count})' if shard.count > 1 else ''
    print(
        f'{args.out}: {what} of {len(jobs) - failed} images{of}; score {engine.score_name}, '
        f'engine {engine.name}, precision {engine.precision}'
    )
    return 1 if failed else 0


def find_jobs(paths: Sequence[Path], out: Path, writes: bool = True) -> list[Job]:
    """Lists the images and where their results go: as deep below `out` as they lie in a folder.

    Results of a run before are no images to be done: what lies in an `out` below the folder, or
    is called like a result of an image beside it where `out` is the folder itself.

    Args:
        paths: Images and folders.
        out: For the results.
        writes: Whether each image has results of its own, which then need a name of their own.

    Raises:
        FileNotFoundError: A path does not exist, or nothing was found.
        ValueError: The results of two images would have the same name.
    """
    jobs: list[Job] = []
    own = out.resolve()
    for top in paths:
        found = find_images([top], below=True)
        if top.resolve() == own:
            beside = {*found}
            found = [path for path in found if not _is_result(path, beside)]
        elif own.is_relative_to(top.resolve()):
            found = [path for path in found if not path.resolve().is_relative_to(own)]
        for path in found:
            place = path.relative_to(top).parent if top.is_dir() else Path()
            jobs.append(Job(path, out / place / path.stem))
    taken: dict[Path, Path] = {}
    for path, target in jobs if writes else ():
        if (first := taken.setdefault(target, path)) is not path and path.is_file():
            way_out = 'run each folder with an --out of its own'
            if first.parent == path.parent:
                way_out = 'rename one, or name the images that you want in place of the folder'
            raise ValueError(
                f'2 images are named {path.stem!r}, as {str(first)!r} and {str(path)!r}; their '
                f'results would overwrite each other: {way_out}'
            )
    if not jobs:
        raise FileNotFoundError(f'no images but results of before in {str(out)!r}')
    return jobs


def _is_result(path: Path, beside: Collection[Path]) -> bool:
    """Whether a picture is called like a result of one of the images beside it."""
    image, _, what = path.stem.rpartition('_')
    return what in OUTPUTS and any(path.with_name(f'{image}{end}') in beside for end in SUFFIXES)


def predict_all(
    jobs: Sequence[Job], pipeline: Pipeline, outputs: Sequence[str], summary: Any
) -> int:
    """Does all images and gives how many could not be read; each is said on stderr."""
    failed = 0
    bits: defaultdict[Path, SignificantBits] = defaultdict(SignificantBits)
    for job in tqdm(jobs, unit='image', disable=None):
        row = predict_one(job, bits[job.path.parent], pipeline, outputs)
        failed += bool(row.problem)
        if summary is not None:
            summary.writerow(['' if value is None else value for value in row])
    for folder, found in bits.items():
        if found.bits:
            print(f'{folder}: images of 16 bits, {found.bits} of them significant')
    return failed


def predict_one(
    job: Job, bits: SignificantBits, pipeline: Pipeline, outputs: Sequence[str]
) -> SummaryRow:
    """Writes the outputs of one image and gives its line; one that cannot be read is said."""
    name = printable(str(job.path))
    try:
        result = pipeline(read_image(job.path, bits))
    except (OSError, ValueError) as error:
        print(f'anomaly_seg predict: {error}', file=sys.stderr)
        for output in outputs:  # of the image that was there before
            job.result(output).unlink(missing_ok=True)
        return SummaryRow(name, problem=str(error))
    if outputs:
        job.out.parent.mkdir(parents=True, exist_ok=True)
    save(result, pipeline, job, outputs)
    return summary_row(name, result) if result.calibrated else SummaryRow(name)


def summary_row(name: str, result: Result) -> SummaryRow:
    """Gives the line of an image."""
    height, width = result.size
    return SummaryRow(
        name,
        round(result.anomalous_share, 6),
        result.maps.anomalies.total,
        round(result.frame_score, 6),
        height,
        width,
    )


def check_calibration(outputs: Sequence[str], meta: CheckpointMeta, score: str) -> None:
    """Refuses masks of an uncalibrated score, and warns where an overlay will lack them.

    Raises:
        ValueError: A mask or a summary is asked for and the score has no calibration.
    """
    try:
        meta.calibration_of(score)
    except ValueError as error:
        if {'mask', 'summary'} & set(outputs):
            raise
        if 'overlay' in outputs:
            print(f'warning: {error}; the overlays show classes only', file=sys.stderr)


def save(result: Result, pipeline: Pipeline, job: Job, outputs: Sequence[str]) -> None:
    """Writes the wanted outputs of one frame."""
    for output in outputs:
        if output == 'score':
            np.save(job.result(output), result.score)
        elif output == 'logits':
            engine = cast('TorchEngine', pipeline.engine)
            np.save(job.result(output), engine.logits(result.network_input))
        else:
            write_image(job.result(output), getattr(result, output))
