"""Trains a network from one YAML file; can be stopped at any step and resumed."""

from __future__ import annotations

import argparse
from pathlib import Path
import shlex
import sys
from typing import TYPE_CHECKING

from anomaly_seg_ros.models import stride_of
from training.datasets import build_dataset
from training.datasets.joined import check_entry, join
from training.feeding.pasting import read_options
from training.loop.early_end import one_line_errors, StopRequest
from training.loop.run_folder import check_resume, KEPT_FOLDER, LAST_FILE
from training.objectives import check_objective, check_outliers
from training.recipes.train_config import load_train_config, TrainConfig

if TYPE_CHECKING:
    from training.datasets import Dataset
    from training.loop.trainer import Trainer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg train` takes."""
    parser.add_argument('config', type=Path, metavar='CONFIG.yaml')
    parser.add_argument(
        'changes',
        nargs='*',
        metavar='key=value',
        help='changes of the YAML file; a.b=value inside mappings',
    )
    parser.add_argument('--resume', action='store_true', help='go on from the last state in --out')
    parser.add_argument(
        '--devices', type=int, default=1, help='GPUs, or CPU processes; torchrun sets its own'
    )
    parser.add_argument('--out', type=Path, required=True, help='folder for all that is written')


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg train`."""
    config = load_train_config(args.config, args.changes)
    check_recipe(config)
    check_resume(args.out, args.resume)
    # Before the processes part, so that a wrong path is said once.
    train_set = join(build_dataset(config.dataset, config.root, config.train_split), config.also)
    val_set = build_dataset(config.dataset, config.root, config.val_split)
    # Torch comes only now, which takes seconds: what is wrong in a line of the recipe was said.
    from training.loop.devices import make_fabric
    from training.loop.trainer import Trainer

    check_data(config, train_set, val_set)
    last = args.out / LAST_FILE
    fabric = make_fabric(args.devices, config.precision)
    fabric.launch()
    try:
        lower = f'batch_size ({config.batch_size}) or crop ({list(config.crop)})'
        with StopRequest() as stop, one_line_errors(lower, config.workers):
            trainer = Trainer(fabric, config, args.out, train_set, val_set, lambda: stop.asked)
            if args.resume:
                trainer.resume()
            finished = trainer.run()
    except KeyboardInterrupt:
        print(f'stopped at once; {str(last)!r}, if there is one, is of before', file=sys.stderr)
        return 1
    if fabric.is_global_zero:
        _say_the_end(trainer, finished)
    return 0 if finished else 1


def check_recipe(config: TrainConfig) -> None:
    """Checks what the rooms of a recipe's parts say of it without torch.

    Raises:
        ValueError: A part does not fit; the text says what would.
    """
    check_objective(config.objective, config.objective_options)
    check_crop(config.model, config.crop)
    if config.outliers:
        read_options(config.outliers)
    for entry in config.also:
        check_entry(entry)


def check_crop(model: str, crop: tuple[int, int]) -> None:
    """Checks that a network takes crops of this size.

    Raises:
        ValueError: A side is no multiple of the network's stride; the text says the nearest.
    """
    stride = stride_of(model)
    if any(side % stride for side in crop):
        nearest = [max(round(side / stride), 1) * stride for side in crop]
        raise ValueError(
            f'crop {list(crop)} does not fit {model!r}, whose stride is {stride}; use {nearest}'
        )


def check_data(config: TrainConfig, train_set: Dataset, val_set: Dataset) -> None:
    """Checks the values of losses and whether the data have what is to be learned.

    Raises:
        ValueError: They do not; the text says what would.
    """
    from training.loop.network_start import check_labels
    from training.losses import build_loss

    build_loss(config.loss_terms, config.loss_options)
    check_outliers(config.objective, bool(config.outliers), config.void)
    check_labels(train_set, f'{config.dataset} {config.train_split}')
    check_labels(val_set, f'{config.dataset} {config.val_split}')


def _say_the_end(trainer: Trainer, finished: bool) -> None:
    """Prints where the weights are and what to type next."""
    from training.loop.kept_checkpoint import default_score

    out, progress, config = trainer.out, trainer.progress, trainer.config
    if not finished:
        print(f'stopped; go on with: --resume --out {out}', file=sys.stderr)
    if progress.kept_epoch < 0:
        return
    checkpoint, fitted = str(out / KEPT_FOLDER), str(out / 'fitted')
    print(f'{config.keep} val mIoU {progress.kept["val_miou"]:.4f} at epoch {progress.kept_epoch}')
    print(f'checkpoint: {checkpoint}')
    if not finished:
        return
    score = default_score(config)
    data = ['--score', score, '--dataset', config.dataset, '--root', str(config.root)]
    fit = ['fit_score', '--checkpoint', checkpoint, *data, '--split', config.val_split]
    evaluate = ['evaluate', '--checkpoint', fitted, *data, '--out', str(out / 'results')]
    print('next, the calibration of the anomaly score, and then its measures:')
    print(f'  anomaly_seg {shlex.join([*fit, "--out", fitted])}')
    print(f'  anomaly_seg {shlex.join(evaluate)}')
