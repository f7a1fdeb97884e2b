"""Fits what scores need on normal frames: `anomaly_seg fit_score`.

A score name fits its statistics, where it has any, on training frames, then its calibration on
validation frames; the word `temperature` fits the temperature of the softmax on the latter.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
import shutil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from anomaly_seg_ros.calibration import Calibration
from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.engines import open_engine
from anomaly_seg_ros.engines.folder import engine_folders
from anomaly_seg_ros.frames.preprocess import to_input_size
from anomaly_seg_ros.prediction import Engine
from anomaly_seg_ros.scores import FITTED, SCORES, TEMPERED
from training.datasets import build_dataset, Dataset
from training.evaluation.network_pass import open_pass
from training.fitting.score_option import parse_option
from training.fitting.score_statistics import check_frames, fit_statistics
from training.fitting.temperature import (
    check_classes,
    collect_logits,
    fit_temperature,
    TemperatureFit,
)

PIXELS_PER_FRAME = 20_000
TEMPERATURE = 'temperature'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg fit_score` takes."""
    parser.add_argument('--checkpoint', required=True, help="folder, or 'default'")
    parser.add_argument(
        '--score',
        required=True,
        metavar='S[,S]',
        help=f"scores to calibrate; '{TEMPERATURE}' fits the temperature of "
        f'{", ".join(sorted(TEMPERED))} first; {", ".join(sorted(FITTED))} get their statistics '
        'from the train split before',
    )
    parser.add_argument('--dataset', required=True, help='normal frames with class labels')
    parser.add_argument('--root', type=Path, required=True, help='folder of the dataset')
    parser.add_argument(
        '--split', default='val', help='frames for calibration and temperature (default val)'
    )
    parser.add_argument(
        '--train-split',
        default='train',
        help=f'frames for the statistics of {", ".join(sorted(FITTED))} (default train)',
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
        '--gamma',
        type=float,
        help='exponent on the image before the network, below 1 brightens; kept in the checkpoint',
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
    scores = [name for name in wanted if name != TEMPERATURE]
    fitted = [name for name in scores if name in FITTED]
    options = parse_options(args.option, scores)
    checkpoint = Checkpoint.open(args.checkpoint)
    meta = checkpoint.meta
    dataset = build_dataset(args.dataset, args.root, args.split)
    train_set = build_dataset(args.dataset, args.root, args.train_split) if fitted else dataset
    if TEMPERATURE in wanted:
        check_classes(meta, dataset)
    check_frames(meta, fitted, train_set)
    if args.out.resolve() != checkpoint.folder.resolve():
        shutil.copytree(checkpoint.folder, args.out, dirs_exist_ok=True)
    checkpoint = Checkpoint.open(args.out)
    # What changes the graph goes first: all later fits read it from the folder.
    if args.gamma is not None and args.gamma != meta.gamma:
        checkpoint = change_gamma(checkpoint, args.gamma, wanted)
    if options:
        kept = checkpoint.meta.score_options
        options = {score: {**kept.get(score, {}), **options[score]} for score in options}
        checkpoint = checkpoint.with_meta(score_options={**kept, **options})
    if TEMPERATURE in wanted:
        fit = fit_checkpoint_temperature(checkpoint, dataset)
        checkpoint = _with_temperature(checkpoint, fit, scores, f'{args.dataset} {args.split}')
    if fitted:
        statistics = fit_statistics(checkpoint, fitted, train_set)
        checkpoint = checkpoint.with_statistics(statistics, f'{args.dataset} {args.train_split}')
        print(f'statistics of {", ".join(fitted)}: {len(train_set)} frames')
    remove_stale_engines(checkpoint)
    for score in scores:
        checkpoint = calibrate(
            checkpoint, args.engine, score, dataset, 1 - args.false_positive_rate
        )
    print(f'wrote {args.out}')
    return 0


def parse_wanted(text: str) -> list[str]:
    """Reads 'temperature,msp'.

    Raises:
        ValueError: An unknown name, or none.
    """
    wanted = [part.strip() for part in text.split(',') if part.strip()]
    for name in wanted or ['']:
        if name not in (*SCORES, TEMPERATURE):
            raise ValueError(
                f'unknown score {name!r}; choose of: {", ".join(sorted(SCORES))}, {TEMPERATURE}'
            )
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


def change_gamma(checkpoint: Checkpoint, gamma: float, refitted: Sequence[str]) -> Checkpoint:
    """Changes the exponent of a checkpoint and removes what was fitted at the old one.

    Args:
        checkpoint: What is changed on disk.
        gamma: The new exponent.
        refitted: What is fitted again at once, and need not be spoken of.
    """
    meta = checkpoint.meta
    made = f'made at gamma {meta.gamma:g}; fit them again with --score'
    for what, names in (('calibrations', meta.calibrations), ('statistics', meta.fitted)):
        if lost := sorted(set(names) - set(refitted)):
            print(f'dropped the {what} of {", ".join(lost)}, {made} {",".join(lost)}')
    if meta.temperature != 1 and TEMPERATURE not in refitted:
        print(
            f'the temperature {meta.temperature:g} was fitted at gamma {meta.gamma:g}; fit it '
            f'again with --score {TEMPERATURE}'
        )
    if meta.fitted:
        checkpoint = checkpoint.with_statistics(dict.fromkeys(meta.fitted), '')
    return checkpoint.with_meta(gamma=gamma, calibrations={}, thresholds={})


def calibrate(
    checkpoint: Checkpoint, engine_name: str, score: str, dataset: Dataset, threshold: float
) -> Checkpoint:
    """Fits the calibration of a score and puts it with its threshold into the checkpoint."""
    engine = open_engine(checkpoint, engine_name, score)
    calibration = fit_calibration(engine, dataset)
    engine.close()
    print(f'{score}: {len(dataset)} frames, threshold {threshold:.3f}')
    meta = checkpoint.meta
    return checkpoint.with_meta(
        calibrations={**meta.calibrations, score: calibration},
        thresholds={**meta.thresholds, score: threshold},
    )


def fit_checkpoint_temperature(checkpoint: Checkpoint, dataset: Dataset) -> TemperatureFit:
    """Fits the temperature of a checkpoint's logits on normal frames, and says the gain.

    Raises:
        ValueError: The dataset has other classes than the checkpoint, or there is no optimum.
    """
    network = open_pass(checkpoint, 'torch', ['max_logit'])
    pixels = collect_logits(network, checkpoint.meta, dataset)
    network.close()
    fit = fit_temperature(pixels)
    print(
        f'temperature {fit.temperature:.4f} from {fit.pixels} pixels of {len(dataset)} frames: '
        f'ECE {fit.ece_before:.4f} -> {fit.ece:.4f}, NLL {fit.nll_before:.4f} -> {fit.nll:.4f}'
    )
    return fit


def _with_temperature(
    checkpoint: Checkpoint, fit: TemperatureFit, refitted: Sequence[str], fitted_on: str
) -> Checkpoint:
    """Puts in a temperature and drops the calibrations that it outdates."""
    meta = checkpoint.meta
    outdated = TEMPERED & meta.calibrations.keys() if fit.temperature != meta.temperature else ()
    lost = sorted(set(outdated) - set(refitted))
    if lost:
        print(
            f'dropped the calibrations of {", ".join(lost)}, made at temperature '
            f'{meta.temperature:g}; fit them again with --score {",".join(lost)}'
        )
    return checkpoint.with_meta(
        temperature=fit.temperature,
        calibrations={k: v for k, v in meta.calibrations.items() if k not in outdated},
        thresholds={k: v for k, v in meta.thresholds.items() if k not in outdated},
        training={
            **meta.training,
            'temperature': {
                'fitted_on': fitted_on,
                'ece_before': fit.ece_before,
                'nll_before': fit.nll_before,
                'ece': fit.ece,
                'nll': fit.nll,
            },
        },
    )


def remove_stale_engines(checkpoint: Checkpoint) -> None:
    """Removes exported engines of another graph or format, which could only be refused."""
    for folder, meta in engine_folders(checkpoint.folder):
        if isinstance(meta, str) or meta.key != checkpoint.score_key(meta.score):
            shutil.rmtree(folder)
            why = 'that cannot be used' if isinstance(meta, str) else 'of another graph'
            print(f'removed engine {folder.name} {why}; export it again')


def fit_calibration(engine: Engine, dataset: Dataset) -> Calibration:
    """Fits the distribution of an engine's score over the labelled pixels of normal frames.

    Pixels with label 255 are left out: what they show may be anything. Of each frame a fixed
    random share is taken, so that memory does not grow with the frames' size.

    Raises:
        ValueError: No pixel of the dataset has a class label.
    """
    scores: list[NDArray[np.float32]] = []
    random = np.random.default_rng(0)
    for index in tqdm(range(len(dataset)), desc=engine.score_name, unit='frame', disable=None):
        sample = dataset[index]
        prediction = engine.infer(to_input_size(sample.image, engine.input_size))
        # Labels go to the score's size, so that no score is made up by interpolation.
        rows = np.linspace(0, sample.labels.shape[0] - 1, prediction.score.shape[0]).round()
        columns = np.linspace(0, sample.labels.shape[1] - 1, prediction.score.shape[1]).round()
        labels = sample.labels[np.ix_(rows.astype(int), columns.astype(int))]
        valid = prediction.score[labels != IGNORE]
        count = min(PIXELS_PER_FRAME, valid.size)
        chosen = random.choice(valid, count, replace=False, shuffle=False)
        scores.append(chosen.astype(np.float32, copy=False))
    return Calibration.fit(np.concatenate(scores))
