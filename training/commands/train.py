"""Trains a network from one YAML file; can be stopped at any step and resumed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
import logging
import os
from pathlib import Path
import shlex
import signal
import sys
from types import FrameType
from typing import Any, cast

from lightning.fabric import Fabric
from lightning.fabric.strategies.ddp import DDPStrategy
import torch

from training.datasets import build_dataset
from training.loop.run_files import KEPT_FOLDER, LAST_FILE
from training.loop.run_folder import check_resume, default_score
from training.loop.trainer import Trainer
from training.recipes.train_config import load_train_config

OUT_OF_MEMORY = ('out of memory', 'DefaultCPUAllocator', 'not enough memory')
LOST_PEER = ('closed by peer', 'reset by peer', 'Broken pipe', 'remote process exited')


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
    check_resume(args.out, args.resume)
    last = args.out / LAST_FILE
    # Before the processes part, so that a wrong path is said once.
    train_set = build_dataset(config.dataset, config.root, config.train_split)
    val_set = build_dataset(config.dataset, config.root, config.val_split)
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


def make_fabric(devices: int, precision: str) -> Fabric:
    """Gives what runs on one device or several.

    Under torchrun the numbers of processes and machines are those that it was started with.

    Raises:
        ValueError: No such number of devices.
    """
    machines = 1
    if 'TORCHELASTIC_RUN_ID' in os.environ:
        devices = int(os.environ['LOCAL_WORLD_SIZE'])
        machines = int(os.environ['WORLD_SIZE']) // devices
    if devices < 1:
        raise ValueError(f'devices is {devices}; it must be 1 or more')
    if devices > torch.cuda.device_count() > 0:
        raise ValueError(f'devices is {devices}; this machine has {torch.cuda.device_count()}')
    for name in ('lightning.fabric', 'lightning.pytorch'):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Some networks hold weights that a recipe leaves unused, as ERFNet's encoder output.
    several = DDPStrategy(find_unused_parameters=True)
    return Fabric(
        devices=devices,
        num_nodes=machines,
        strategy=several if devices * machines > 1 else 'auto',
        precision=cast('Any', precision),
    )


class StopRequest:
    """Turns the first Ctrl-C or SIGTERM into a wish; the next one acts as usual.

    Attributes:
        asked: Whether somebody wants the run to stop.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        self._before = {number: signal.signal(number, self._ask) for number in self.SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self.__exit__()


@contextmanager
def one_line_errors(lower: str, workers: int) -> Iterator[None]:
    """Says in one line what users can mend: memory, and the end of another process.

    Args:
        lower: The keys that memory depends on, with their values, for the error text.
        workers: Processes that load.

    Raises:
        ValueError: In the place of the library's own error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error)
        if isinstance(error, MemoryError) or any(part in text for part in OUT_OF_MEMORY):
            raise ValueError(f'out of memory; lower {lower}') from None
        if 'DataLoader worker' in text:
            raise ValueError(
                'a loading process has died, mostly for lack of memory; lower workers '
                f'({workers}), {lower}'
            ) from None
        if any(part in text for part in LOST_PEER):
            raise ValueError(
                'another process of this run has ended; what it said before tells why'
            ) from None
        raise


def _say_the_end(trainer: Trainer, finished: bool) -> None:
    """Prints where the weights are and what to type next."""
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
