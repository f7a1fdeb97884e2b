"""The training loop of a normalising flow, on crops of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
import json
import math
from pathlib import Path
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from training.datasets import Dataset, Sample
from training.feeding.loading import AugmentedFrames, checked, EpochSampler, training_loader
from training.feeding.transforms import Augmentation
from training.flows.pictures import write_samples
from training.flows.storage import build_flow, keep_float32_exact, save_flow
from training.recipes.flow_config import FlowConfig

from .run_folder import CONFIG_FILE, EpochRow, LAST_FILE, TABLE_FILE, write_rows, writing
from .run_state import read_state

FLOW_FILE = 'flow.safetensors'
SAMPLES_FILE = 'samples.png'
MAY_DIFFER = ('root', 'workers')
"""Keys that a resumed run may have other values of: files may have moved."""


class CropsOfFrames(Dataset):
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
        train_set: What is learned.
        val_set: What is measured.
        interrupted: Whether somebody wants the run to stop; asked after every step.
    """

    def __init__(
        self,
        config: FlowConfig,
        out: Path,
        train_set: Dataset,
        val_set: Dataset,
        interrupted: Callable[[], bool] = lambda: False,
    ):
        self.config, self.out, self.interrupted = config, out, interrupted
        self.device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        self.val_set = val_set
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
        load = partial(torch.load, map_location=self.device, weights_only=True)
        state = read_state(
            self.out, load, self.config, MAY_DIFFER, lambda state: len(state['rows'])
        )
        self.flow.load_state_dict(state['flow'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.rows = state['rows']
