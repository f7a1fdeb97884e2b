"""Trains a normalising flow on crops of a dataset; its file is what `nflow_js` starts from."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
import json
import math
from pathlib import Path
import pickle
import sys
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from training.datasets import build_dataset, Dataset, Sample
from training.feeding.loading import AugmentedFrames, checked, EpochSampler, training_loader
from training.feeding.transforms import Augmentation
from training.flows.pictures import write_samples
from training.flows.storage import build_flow, keep_float32_exact, save_flow
from training.loop.run_files import CONFIG_FILE, LAST_FILE, TABLE_FILE
from training.loop.run_folder import check_resume, EpochRow, write_rows, writing
from training.recipes.flow_config import FlowConfig, load_flow_config

from .train import one_line_errors, StopRequest

FLOW_FILE = 'flow.safetensors'
SAMPLES_FILE = 'samples.png'
MAY_DIFFER = ('root', 'workers')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg train_flow` takes."""
    parser.add_argument('config', type=Path, metavar='CONFIG.yaml')
    parser.add_argument('changes', nargs='*', metavar='key=value', help='changes of the YAML file')
    parser.add_argument('--resume', action='store_true', help='go on from the last whole epoch')
    parser.add_argument('--out', type=Path, required=True, help='folder for all that is written')


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg train_flow`."""
    config = load_flow_config(args.config, args.changes)
    check_resume(args.out, args.resume)
    lower = f'batch_size ({config.batch_size}) or patch ({config.patch})'
    with StopRequest() as stop, one_line_errors(lower, config.workers):
        trainer = FlowTrainer(config, args.out, lambda: stop.asked)
        if args.resume:
            trainer.resume()
        finished = trainer.run()
    if not finished:
        print(f'stopped; go on with: --resume --out {args.out}', file=sys.stderr)
        return 1
    print(f'best val bits/dim {trainer.best:.3f}; flow: {args.out / FLOW_FILE}')
    print('next, joint training with a network:')
    flow = args.out / FLOW_FILE
    print(f'  anomaly_seg train CONFIG.yaml objective_options.flow={flow} --out DIR')
    return 0


class CropsOfFrames:
    """A dataset whose every frame comes several times, for several crops of it."""

    def __init__(self, dataset: Dataset, times: int):
        self.dataset, self.times, self.classes = dataset, times, dataset.classes

    def __len__(self) -> int:
        return len(self.dataset) * self.times

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[index % len(self.dataset)]


class FlowTrainer:
    """One run of a flow on one device, the GPU where there is one.

    Args:
        config: The recipe.
        out: Folder for all that is written.
        interrupted: Whether somebody wants the run to stop; asked after every step.

    Attributes:
        best: Lowest bits per dimension on the validation crops so far.
    """

    def __init__(self, config: FlowConfig, out: Path, interrupted: Callable[[], bool]):
        self.config, self.out, self.interrupted = config, out, interrupted
        self.device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        train_set = build_dataset(config.dataset, config.root, config.train_split)
        self.val_set = build_dataset(config.dataset, config.root, config.val_split)
        crops = CropsOfFrames(train_set, config.crops_per_frame)
        size = (config.patch, config.patch)
        augmentation = Augmentation(size, config.scale, config.flip, color=0.0)
        self.sampler = EpochSampler(len(crops), config.batch_size, config.seed)
        self.loader = training_loader(
            AugmentedFrames(crops, augmentation, config.seed), self.sampler, config.workers
        )
        keep_float32_exact()
        torch.manual_seed(config.seed)
        self.flow = build_flow(config.flow, **config.flow_options).to(self.device)
        self.optimizer = torch.optim.Adamax(self.flow.parameters(), lr=config.lr)
        self.rows: list[EpochRow] = []

    @property
    def best(self) -> float:
        """Lowest bits per dimension of the validation crops so far."""
        return min((row['val_bits_per_dim'] for row in self.rows), default=math.inf)

    def run(self) -> bool:
        """Trains to the last epoch; tells whether it got there (False: stopped between)."""
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / CONFIG_FILE).write_text(json.dumps(self.config.as_dict(), indent=1))
        while len(self.rows) < self.config.epochs:
            began = time.monotonic()
            bits = self._train_epoch()
            if bits is None:
                return False
            row = {'epoch': len(self.rows) + 1, 'bits_per_dim': bits}
            row['val_bits_per_dim'] = self._validate()
            row['seconds'] = round(time.monotonic() - began, 1)
            self._finish_epoch(row)
        return True

    def _train_epoch(self) -> float | None:
        """Trains one epoch; gives its mean bits per dimension, or None where it was stopped."""
        self.flow.train()
        steps = len(self.sampler)
        first = len(self.rows) * steps
        self.sampler.epoch = len(self.rows)
        total = 0.0
        title = f'epoch {len(self.rows) + 1}/{self.config.epochs}'
        with tqdm(total=steps, desc=title, unit='step', leave=False, disable=None) as bar:
            batches: Iterator[Any] = iter(self.loader)
            for i, batch in enumerate(checked(batches)):
                total += self._step(batch.images.to(self.device), first + i)
                bar.update()
                bar.set_postfix(bits_per_dim=f'{total / (i + 1):.3f}')
                if self.interrupted():
                    return None
        return total / steps

    def _step(self, images: Tensor, step: int) -> float:
        # Dequantisation draws from the step's own seed, so that a resumed run draws the same.
        torch.manual_seed(self.config.seed + step)
        steps = self.config.epochs * len(self.sampler)
        for group in self.optimizer.param_groups:
            group['lr'] = self.config.learning_rate(step, steps)
        loss = self.flow.bits_per_dim(images).mean()
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.flow.parameters(), self.config.max_gradient)
        value = float(loss.detach())
        if not math.isfinite(value) or not math.isfinite(norm):
            raise ValueError(
                f'bits/dim is {value} with a gradient of {float(norm)} at step {step}; lower lr '
                f'({self.config.lr})'
            )
        self.optimizer.step()
        return value

    @torch.no_grad()
    def _validate(self) -> float:
        """Gives the mean bits per dimension of the same crop of every validation frame."""
        self.flow.eval()
        config = self.config
        size = (config.patch, config.patch)
        augmentation = Augmentation(size, config.scale, flip=0.0, color=0.0)
        crops = []
        for index in range(len(self.val_set)):
            sample = self.val_set[index]
            image, _ = augmentation(sample.image, sample.labels, np.random.default_rng(index))
            crops.append(torch.from_numpy(image).permute(2, 0, 1))
        torch.manual_seed(config.seed)
        bits = [
            self.flow.bits_per_dim(torch.stack(crops[i : i + config.batch_size]).to(self.device))
            for i in range(0, len(crops), config.batch_size)
        ]
        return float(torch.cat(bits).mean())

    def _finish_epoch(self, row: EpochRow) -> None:
        best = row['val_bits_per_dim'] < self.best
        self.rows.append(row)
        if best:
            save_flow(self.out / FLOW_FILE, self.flow)
            write_samples(self.flow, self.out / SAMPLES_FILE)
        state = {
            'flow': self.flow.state_dict(),
            'optimizer': self.optimizer.state_dict(),
            'rows': self.rows,
            'config': self.config.as_dict(),
        }
        with writing(self.out / LAST_FILE) as part:
            torch.save(state, part)
        write_rows(self.out / TABLE_FILE, self.rows)
        print(
            f'epoch {len(self.rows)}/{self.config.epochs}: bits/dim {row["bits_per_dim"]:.3f}, '
            f'val {row["val_bits_per_dim"]:.3f}{" (best)" if best else ""}, {row["seconds"]} s',
            flush=True,
        )

    def resume(self) -> None:
        """Goes on behind the last whole epoch of the run in `out`.

        Raises:
            ValueError: Its state cannot be read, or it was made with another configuration.
        """
        path = self.out / LAST_FILE
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            theirs = state['config']
        except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError):
            raise ValueError(f'{str(path)!r} is no whole state of a flow; begin again') from None
        mine = self.config.as_dict()
        changed = sorted(k for k in mine if theirs.get(k) != mine[k] and k not in MAY_DIFFER)
        if changed:
            raise ValueError(
                f'the run in {str(self.out)!r} was started with other {changed}; begin again'
            )
        self.flow.load_state_dict(state['flow'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.rows = state['rows']
