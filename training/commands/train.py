"""Trains a network from one YAML file; can be stopped at any step and resumed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import shlex
import sys
import tempfile
from typing import TYPE_CHECKING

from anomaly_seg_ros.cli import build_parser
from anomaly_seg_ros.engines.export import check_size
from anomaly_seg_ros.models import stride_of
from anomaly_seg_ros.process.stop_signals import StopRequest
from training.datasets import build_dataset
from training.datasets.joined import check_entry, join
from training.feeding.pasting import read_options
from training.hub.source import PREFIX
from training.loop.early_end import one_line_errors
from training.loop.run_folder import (
    check_resume,
    FITTED_FOLDER,
    KEPT_FOLDER,
    LAST_FILE,
    PAGE,
    read_recipe_of,
)
from training.objectives import check_loss, check_objective, check_outliers
from training.recipes.recipe import read_recipe
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
    check_resume(args.out, args.resume)
    stored = read_recipe_of(args.out) if args.resume else None
    config = load_train_config(args.config, [*args.changes, *imported_start(args)], stored)
    check_recipe(config)
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
        with (
            resized_frames(config, (train_set, val_set), args.out) as (train_set, val_set),
            StopRequest() as stop,
            one_line_errors(lower, config.workers),
        ):
            trainer = Trainer(fabric, config, args.out, train_set, val_set, lambda: stop.asked)
            if args.resume:
                trainer.resume()
            elif config.report:
                _say_the_plan(trainer, val_set)
            finished = trainer.run()
            if finished and config.report and fabric.is_global_zero:
                _show_the_outcome(trainer)
    except KeyboardInterrupt:
        print(f'stopped at once; {str(last)!r}, if there is one, is of before', file=sys.stderr)
        return 1
    if fabric.is_global_zero:
        _say_the_end(trainer, finished)
    return 0 if finished else 1


def imported_start(args: argparse.Namespace) -> list[str]:
    """Makes a checkpoint of `init` where that is a public weights file or `hf:...`.

    Gives the change of the recipe for it.

    Raises:
        FileNotFoundError: There is no such recipe.
        ValueError: The recipe is none, or the file cannot be read.
    """
    values = read_recipe(args.config, args.changes)
    file, model, folder = str(values.get('init') or ''), values.get('model'), args.out / 'start'
    of_hub = file.startswith(PREFIX)
    if not of_hub and not Path(file).is_file():
        return []
    if not (args.resume and folder.is_dir()):
        source = ['--model', file] if of_hub else [file, '--model', str(model)]
        argv = [*source, '--out', str(folder)]
        importing = build_parser('import_weights').parse(argv)
        importing.main(importing)
    return [f'init={folder}']


def check_recipe(config: TrainConfig) -> None:
    """Checks what the rooms of a recipe's parts say of it without torch.

    Raises:
        ValueError: A part does not fit; the text says what would.
    """
    check_objective(config.objective, config.objective_options)
    check_crop(config.model, config.crop)
    check_size(config.model, config.input_size)
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
    check_loss(config.objective, config.loss_keys)
    check_labels(train_set, f'{config.dataset} {config.train_split}')
    check_labels(val_set, f'{config.dataset} {config.val_split}')


@contextmanager
def resized_frames(
    config: TrainConfig, sets: tuple[Dataset, Dataset], out: Path
) -> Iterator[tuple[Dataset, Dataset]]:
    """Gives both splits, at the size that the network sees where the recipe wants that.

    They are kept in a file each for as long as the run takes, of this process alone.
    """
    if not config.resize:
        yield sets
        return
    from training.feeding.resized import ResizedFrames

    with tempfile.TemporaryDirectory(dir=_made(out), prefix='.frames_') as folder:
        train_set, val_set = (
            ResizedFrames(dataset, config.input_size, Path(folder) / f'{name}.npy')
            for name, dataset in zip(('train', 'val'), sets, strict=True)
        )
        train_set.read()
        val_set.read()
        yield train_set, val_set


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _say_the_plan(trainer: Trainer, val_set: Dataset) -> None:
    """Prints what the run will do and how long that takes."""
    from training.guiding.plan import plan
    from training.loop.estimate import estimate_seconds

    seconds = estimate_seconds(trainer)
    if trainer.fabric.is_global_zero:
        for line in plan(trainer.config, trainer.train_set, val_set, seconds):
            print(line, flush=True)


def _show_the_outcome(trainer: Trainer) -> None:
    """Draws validation frames, fits the calibration and writes the page."""
    from training.guiding.outcome import class_lines, draw_validation
    from training.reporting.page import build_page
    from training.reporting.trainings import read_training

    out = trainer.out
    for line in class_lines(trainer.train_set.classes.names, trainer.progress.kept):
        print(line)
    draw_validation(trainer)
    page = build_page([], [read_training(out)]).encode('utf-8', 'backslashreplace')
    (out / PAGE).write_bytes(page)
    args = build_parser('fit_score').parse(fit_arguments(trainer)[1:])
    args.main(args)
    print(f'the run as a page: {out / PAGE}')


def fit_arguments(trainer: Trainer) -> list[str]:
    """Gives the command that fits the calibration of what was trained."""
    from training.loop.kept_checkpoint import default_score

    out, config = trainer.out, trainer.config
    data = ['--dataset', config.dataset, '--root', str(config.root), '--split', config.val_split]
    score = ['--score', default_score(config)]
    checkpoint = ['--checkpoint', str(out / KEPT_FOLDER)]
    return ['fit_score', *checkpoint, *score, *data, '--out', str(out / FITTED_FOLDER)]


def _say_the_end(trainer: Trainer, finished: bool) -> None:
    """Prints where the weights are and what to type next."""
    out, progress, config = trainer.out, trainer.progress, trainer.config
    if not finished:
        print(f'stopped; go on with: --resume --out {out}', file=sys.stderr)
    if progress.kept_epoch < 0:
        return
    checkpoint, fitted = str(out / KEPT_FOLDER), str(out / FITTED_FOLDER)
    print(f'{config.keep} val mIoU {progress.kept["val_miou"]:.4f} at epoch {progress.kept_epoch}')
    print(f'checkpoint: {fitted if finished and config.report else checkpoint}')
    if not finished:
        return
    fit = fit_arguments(trainer)
    data = fit[fit.index('--score') : fit.index('--split')]
    evaluate = ['evaluate', '--checkpoint', fitted, *data, '--out', str(out / 'results')]
    if config.report:
        engine = str(out / FITTED_FOLDER / 'engines' / 'openvino')
        print('next, an engine for the node:')
        print(f'  anomaly_seg {shlex.join(["export", "--checkpoint", fitted, "--out", engine])}')
        folder = shlex.quote(str(Path(fitted).resolve()))
        print(f'  ros2 launch anomaly_seg_ros anomaly_seg.launch.py checkpoint:={folder}')
        return
    print('next, the calibration of the anomaly score, and then its measures:')
    print(f'  anomaly_seg {shlex.join(fit)}')
    print(f'  anomaly_seg {shlex.join(evaluate)}')
