"""Fits what scores need on normal frames: `anomaly_seg fit_score`.

A score name fits its statistics, where it has any, on training frames, then its calibration on
validation frames; the word `temperature` fits the temperature of the softmax on the latter. The
name of a method for whole frames fits it on training frames, its threshold on validation frames.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
import shutil
import sys
from typing import Any

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.frame_fit import METHODS
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta, META_FILE
from anomaly_seg_ros.command_line.options import add_checkpoint
from anomaly_seg_ros.frames.preprocess import parse_size
from anomaly_seg_ros.process.whole_file import check_replaceable, fresh_folder
from anomaly_seg_ros.scores import has_statistics, is_tempered, SCORES
from training.datasets import build_dataset, DATASETS
from training.fitting.score_option import parse_option

TEMPERATURE = 'temperature'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg fit_score` takes."""
    tempered = ', '.join(filter(is_tempered, sorted(SCORES)))
    fitted = ', '.join(filter(has_statistics, sorted(SCORES)))
    add_checkpoint(parser, required=True)
    parser.add_argument(
        '--score',
        required=True,
        metavar='S[,S]',
        help=f"scores to calibrate; '{TEMPERATURE}' fits the temperature of "
        f'{tempered} first; {fitted} get their statistics from the train split before; '
        f'one of {", ".join(METHODS)} judges whole frames',
    )
    parser.add_argument(
        '--dataset',
        required=True,
        help='normal frames with class labels, which methods for whole frames do not need; '
        f'one of: {", ".join(sorted(DATASETS))}',
    )
    parser.add_argument('--root', type=Path, required=True, help='folder of the dataset')
    parser.add_argument(
        '--split', default='val', help='frames for calibration and temperature (default val)'
    )
    parser.add_argument(
        '--train-split',
        default='train',
        help=f'frames for the statistics of {fitted}, and for methods for whole frames '
        '(default train)',
    )
    parser.add_argument(
        '--option',
        action='append',
        default=[],
        metavar='S.KEY=VALUE',
        help='option of a score, kept in the checkpoint, as sml.dilated_smoothing=false',
    )
    parser.add_argument(
        '--false-positive-rate',
        type=float,
        default=0.01,
        help='share of normal pixels that may lie at or above the threshold (default 0.01)',
    )
    parser.add_argument(
        '--sure',
        action='store_true',
        help='a higher threshold: the upper end (95 %%) of the share of normal pixels above it is '
        'the promised one; for frames of other scenes than these',
    )
    parser.add_argument(
        '--false-alarms-per-1000',
        type=float,
        metavar='N',
        help='normal frames of 1000 that may be out of domain (default 5)',
    )
    parser.add_argument(
        '--false-alarms-per-hour',
        type=float,
        metavar='N',
        help='the same as so many an hour of a camera with --frame-rate',
    )
    parser.add_argument('--frame-rate', type=float, metavar='HZ', help='frames a second')
    parser.add_argument(
        '--own',
        choices=sorted(SCORES),
        metavar='S',
        help="the checkpoint's own score from now on, used where none is asked for; one that is "
        'calibrated (default: the one that it has, or that of --score where this has no '
        'calibration)',
    )
    parser.add_argument(
        '--gamma',
        type=float,
        help='exponent on the image before the network, below 1 brightens; kept in the checkpoint',
    )
    parser.add_argument(
        '--size',
        metavar='HxW',
        help="of the network's input from now on, kept in the checkpoint; larger shows what is "
        'far off',
    )
    parser.add_argument('--engine', default='torch', help='what computes the calibrated scores')
    parser.add_argument('--out', type=Path, required=True, help='folder of the new checkpoint')


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg fit_score`."""
    if not 0 < args.false_positive_rate < 1:
        raise ValueError(
            f'false-positive rate {args.false_positive_rate} must lie between 0 and 1'
        )
    wanted = parse_wanted(args.score)
    scores = [name for name in wanted if name in SCORES]
    methods = [name for name in wanted if name in METHODS]
    if len(methods) > 1:
        raise ValueError(
            f'{" and ".join(methods)}: a checkpoint judges whole frames by one method'
        )
    alarms = (args.false_alarms_per_1000, args.false_alarms_per_hour, args.frame_rate)
    check_replaceable(args.out, META_FILE)
    checkpoint = Checkpoint.open(args.checkpoint)
    if args.own and args.own not in {*scores, *checkpoint.meta.calibrations}:
        raise ValueError(f'--own {args.own} is not calibrated; name it in --score too')
    val_set = train_set = build_dataset(args.dataset, args.root, args.split)
    if methods or any(map(has_statistics, scores)):
        train_set = build_dataset(args.dataset, args.root, args.train_split)
    # Torch comes only now, which takes seconds.
    from training.fitting.calibration import LEAST_FRAMES
    from training.fitting.checkpoint import check_fit, fit_checkpoint, FitRequest, NormalFrames
    from training.fitting.frame_method import false_alarm_rate

    request = FitRequest(
        scores=scores,
        temperature=TEMPERATURE in wanted,
        gamma=args.gamma,
        input_size=parse_size(args.size) if args.size else None,
        options=parse_options(args.option, scores),
        engine=args.engine,
        threshold=1 - args.false_positive_rate,
        sure=args.sure,
        method=methods[0] if methods else '',
        false_alarms=false_alarm_rate(*alarms),
    )
    validation = training = NormalFrames(args.dataset, args.split, val_set)
    if request.fitted or request.method:
        training = NormalFrames(args.dataset, args.train_split, train_set)
    check_fit(checkpoint, request, validation.frames, training.frames)
    if scores and (count := len(validation.frames)) < LEAST_FRAMES:
        print(
            f'warning: {count} frames of {validation} are few for a calibration; take '
            f'{LEAST_FRAMES} or more that show all that is normal',
            file=sys.stderr,
        )
    # All is fitted in a copy: what lies at --out stays whole until the new state is.
    with fresh_folder(args.out, META_FILE) as folder:
        for source in dict.fromkeys((args.out.resolve(), checkpoint.folder.resolve())):
            if source.is_dir():
                shutil.copytree(source, folder, dirs_exist_ok=True)
        fitted = fit_checkpoint(Checkpoint.open(folder), request, validation, training, say=print)
        if own := args.own or own_score(fitted.meta, scores):
            fitted.with_meta(score=own)
    print(f'wrote {args.out}')
    return 0


def own_score(meta: CheckpointMeta, fitted: Sequence[str]) -> str:
    """Gives the one score that was fitted, where the checkpoint's own cannot be used; else ''."""
    if meta.score in meta.calibrations or len(fitted) != 1:
        return ''
    print(
        f"{fitted[0]!r} is the checkpoint's own score now, because {meta.score!r} has no "
        'calibration; --own makes it another one'
    )
    return fitted[0]


def parse_wanted(text: str) -> list[str]:
    """Reads 'temperature,msp'.

    Raises:
        ValueError: An unknown name, or none.
    """
    wanted = list(dict.fromkeys(part.strip() for part in text.split(',') if part.strip()))
    for name in wanted or ['']:
        if name not in (known := (*sorted(SCORES), *METHODS, TEMPERATURE)):
            raise ValueError(f'unknown score {name!r}; choose of: {", ".join(known)}')
    return wanted


def parse_options(texts: Sequence[str], scores: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Reads 'sml.dilated_smoothing=false' texts as options by score.

    Raises:
        ValueError: Another form, a score that is not fitted now, or what the score does not take.
    """
    options: dict[str, dict[str, Any]] = {}
    for text in texts:
        score, option = parse_option(text)
        if score not in scores:
            raise ValueError(
                f'option {text!r} needs its score in --score, to be calibrated with it'
            )
        options.setdefault(score, {}).update(option)
    return options
