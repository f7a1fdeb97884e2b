"""Trains a network from one YAML file; can be stopped at any step and resumed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
import csv
from dataclasses import dataclass, field
import json
from pathlib import Path
import sys
import time
from typing import Any, cast

from lightning.fabric import Fabric
import numpy as np
import torch
from torch import nn, Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from anomaly_seg_ros.checkpoint import (
    CheckpointMeta,
    load_state,
    read_weights,
    resolve_checkpoint,
    save_checkpoint,
)
from anomaly_seg_ros.models import build_model
from anomaly_seg_ros.models.padding import forward_padded
from anomaly_seg_ros.provenance import code_version

from .config import load_train_config, TrainConfig
from .datasets import build_dataset, Dataset
from .loading import EpochSampler, training_loader
from .losses import build_loss, Loss
from .losses.class_weights import enet_weights
from .metrics.confusion import ConfusionMatrix
from .transforms import Augmentation

LAST_FILE = 'last.ckpt'
BEST_FOLDER = 'checkpoint'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg train` takes."""
    parser.add_argument('config', type=Path, metavar='CONFIG.yaml')
    parser.add_argument('changes', nargs='*', metavar='key=value', help='changes of the YAML file')
    parser.add_argument('--resume', action='store_true', help='go on from the last state in --out')
    parser.add_argument('--devices', type=int, default=1, help='GPUs, or CPU processes')
    parser.add_argument('--out', type=Path, required=True, help='folder for all that is written')


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg train`."""
    config = load_train_config(args.config, args.changes)
    last = args.out / LAST_FILE
    if args.resume and not last.is_file():
        raise FileNotFoundError(f'nothing to resume: no {str(last)!r}')
    if not args.resume and last.exists():
        raise ValueError(
            f'{str(args.out)!r} already holds a run; go on with --resume, or choose another --out'
        )
    fabric = Fabric(devices=args.devices, precision=cast('Any', config.precision))
    fabric.launch()
    trainer = Trainer(fabric, config, args.out)
    if args.resume:
        trainer.resume()
    finished = trainer.run()
    if fabric.is_global_zero:
        if not finished:
            print(f'stopped; go on with: --resume --out {args.out}', file=sys.stderr)
        print(
            f'best val mIoU {trainer.progress.best_miou:.4f} at epoch '
            f'{trainer.progress.best_epoch}; checkpoint: {args.out / BEST_FOLDER}'
        )
    return 0 if finished else 1


@dataclass
class Progress:
    """Where a run stands: all that a resumed run must know beside weights and optimiser."""

    epoch: int = 0
    step_in_epoch: int = 0
    best_miou: float = -1.0
    best_epoch: int = -1
    loss_sum: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """One run: the network, its data and its optimiser on the devices that Fabric gives."""

    def __init__(self, fabric: Fabric, config: TrainConfig, out: Path):
        self.fabric, self.config, self.out = fabric, config, out
        self.progress = Progress()
        self.commit = code_version()
        self.train_set = build_dataset(config.dataset, config.root, config.train_split)
        self.val_set = build_dataset(config.dataset, config.root, config.val_split)
        self.sampler = EpochSampler(
            len(self.train_set),
            config.batch_size,
            config.seed,
            fabric.global_rank,
            fabric.world_size,
        )
        augmentation = Augmentation(config.crop, config.scale, config.flip, config.color)
        self.loader = fabric.setup_dataloaders(
            training_loader(self.train_set, augmentation, self.sampler, config.workers),
            use_distributed_sampler=False,
        )
        torch.manual_seed(config.seed)
        model = build_model(config.model, len(self.train_set.classes.names), config.model_options)
        if config.init:
            folder = resolve_checkpoint(config.init)
            load_state(model, read_weights(folder), f'checkpoint {str(folder)!r}')
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer: Any = build_optimizer(model, config)
        self.model: Any
        self.model, self.optimizer = fabric.setup(model, self.optimizer)
        self.ema = (
            AveragedModel(self.model.module, avg_fn=ema_update(config.ema_decay), use_buffers=True)
            if config.ema_decay
            else None
        )
        self.loss = self._build_loss()
        self.mean = torch.tensor(config.mean, device=fabric.device).view(3, 1, 1)
        self.std = torch.tensor(config.std, device=fabric.device).view(3, 1, 1)

    def _build_loss(self) -> Loss:
        options = dict(self.config.loss_options)
        if self.config.class_weights == 'enet':
            options['class_weights'] = enet_weights(self.train_set).to(self.fabric.device)
        return build_loss(self.config.loss, options)

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.config.epochs * len(self.sampler)

    def run(self) -> bool:
        """Trains to the last epoch; tells whether it got there (False: interrupted)."""
        writer = None
        if self.fabric.is_global_zero:
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / 'config.json').write_text(json.dumps(self.config.as_dict(), indent=1))
            writer = SummaryWriter(str(self.out / 'tensorboard'))
        try:
            while self.progress.epoch < self.config.epochs:
                began = time.monotonic()
                loss = self._train_epoch()
                row = {'epoch': self.progress.epoch + 1, 'loss': loss, 'lr': self._learning_rate()}
                row |= self._validate()
                row['seconds'] = round(time.monotonic() - began, 1)
                self._finish_epoch(row, writer)
            return True
        except KeyboardInterrupt:
            self._save_state()
            return False
        finally:
            if writer is not None:
                writer.close()

    def _train_epoch(self) -> float:
        """Trains the rest of the current epoch; gives the mean loss of the whole epoch."""
        self.model.train()
        progress, total = self.progress, len(self.sampler)
        self.sampler.epoch, self.sampler.first_step = progress.epoch, progress.step_in_epoch
        title = f'epoch {progress.epoch + 1}/{self.config.epochs}'
        with tqdm(
            total=total,
            initial=progress.step_in_epoch,
            desc=title,
            unit='step',
            leave=False,
            disable=None if self.fabric.is_global_zero else True,
        ) as bar:
            for images, labels in self.loader:
                progress.loss_sum += self._step(images, labels)
                progress.step_in_epoch += 1
                bar.update()
                bar.set_postfix(loss=f'{progress.loss_sum / progress.step_in_epoch:.3f}')
        return progress.loss_sum / total

    def _step(self, images: Tensor, labels: Tensor) -> float:
        step = self.progress.epoch * len(self.sampler) + self.progress.step_in_epoch
        # Dropout draws from the step's own seed, so that a resumed run draws the same.
        torch.manual_seed(self.config.seed + step)
        for group in self.optimizer.param_groups:
            group['lr'] = self._learning_rate()
        output = self.model(self._normalise(images))
        loss = self.loss(output.logits, labels)
        for logits in output.aux_logits:
            loss = loss + self.config.aux_weight * self.loss(logits, labels)
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise ValueError(f'the loss is {value} at step {step}; lower lr ({self.config.lr})')
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update_parameters(self.model.module)
        return value

    def _normalise(self, images: Tensor) -> Tensor:
        scaled = (images.float() / 255 - self.mean) / self.std
        return scaled.contiguous(memory_format=torch.channels_last)

    def _learning_rate(self) -> float:
        config = self.config
        step = self.progress.epoch * len(self.sampler) + self.progress.step_in_epoch
        warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
        left = 1 - min(step / self.steps, 1.0)
        return config.lr * warm * float(left**config.poly_power)

    def _validate(self) -> dict[str, float]:
        """Measures the averaged weights on the whole frames of the validation split."""
        network: nn.Module = self.model.module if self.ema is None else self.ema.module
        network.eval()
        matrix = ConfusionMatrix(len(self.val_set.classes.names))
        mine = range(self.fabric.global_rank, len(self.val_set), self.fabric.world_size)
        for index in tqdm(mine, desc='validate', leave=False, disable=None):
            sample = self.val_set[index]
            image = torch.from_numpy(sample.image).permute(2, 0, 1)[None].to(self.fabric.device)
            with torch.inference_mode(), self.fabric.autocast():
                logits = forward_padded(network, self._normalise(image)).logits
            matrix.update(logits[0].argmax(0).byte().cpu().numpy(), sample.labels)
        counts = self.fabric.all_reduce(torch.from_numpy(matrix.counts), reduce_op='sum')
        matrix.counts = cast('Tensor', counts).cpu().numpy()
        iou = matrix.iou()
        names = self.val_set.classes.names
        return {'val_miou': matrix.mean_iou()} | {
            f'iou_{name}': float(value) for name, value in zip(names, iou, strict=True)
        }

    def _finish_epoch(self, row: dict[str, float], writer: SummaryWriter | None) -> None:
        progress = self.progress
        progress.rows.append(row)
        best = row['val_miou'] > progress.best_miou
        if best:
            progress.best_miou, progress.best_epoch = row['val_miou'], progress.epoch + 1
        progress.epoch, progress.step_in_epoch, progress.loss_sum = progress.epoch + 1, 0, 0.0
        if best and self.fabric.is_global_zero:
            self._save_best()
        self._save_state()
        if writer is None:
            return
        for key, value in row.items():
            writer.add_scalar(key, value, progress.epoch)
        write_rows(self.out / 'metrics.csv', progress.rows)
        print(
            f'epoch {progress.epoch}/{self.config.epochs}: loss {row["loss"]:.3f}, '
            f'val mIoU {row["val_miou"]:.4f}{" (best)" if best else ""}, {row["seconds"]} s',
            flush=True,
        )

    def _save_best(self) -> None:
        """Writes the checkpoint folder, without the heads that only training needs."""
        network: nn.Module = self.model.module if self.ema is None else self.ema.module
        weights = stored_weights(network, self.config.stored_weights)
        meta = checkpoint_meta(self.config, self.train_set, self.progress, self.commit)
        save_checkpoint(self.out / BEST_FOLDER, meta, weights)

    def _save_state(self) -> None:
        state = {
            'model': self.model,
            'optimizer': self.optimizer,
            'progress': vars(self.progress),
            'config': self.config.as_dict(),
        }
        if self.ema is not None:
            state['ema'] = self.ema.state_dict()
        part = self.out / f'{LAST_FILE}.part'
        self.fabric.save(part, state)
        if self.fabric.is_global_zero:
            part.replace(self.out / LAST_FILE)

    def resume(self) -> None:
        """Loads the last state of a run with the same configuration.

        Raises:
            ValueError: The run in `out` was made with another configuration.
        """
        state: dict[str, Any] = {'model': self.model, 'optimizer': self.optimizer}
        rest = self.fabric.load(self.out / LAST_FILE, state)
        changed = sorted(
            key
            for key, value in self.config.as_dict().items()
            if rest['config'].get(key) != value and key not in ('workers', 'root')
        )
        if changed:
            raise ValueError(f'the run in {str(self.out)!r} was started with other {changed}')
        if self.ema is not None:
            self.ema.load_state_dict(rest['ema'])
        self.progress = Progress(**rest['progress'])


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Gives the optimiser; biases and norms (one-dimensional weights) do not decay."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {'params': [p for p in parameters if p.ndim > 1], 'weight_decay': config.weight_decay},
        {'params': [p for p in parameters if p.ndim <= 1], 'weight_decay': 0.0},
    ]
    if config.optimizer == 'sgd':
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9)
    return torch.optim.AdamW(groups, lr=config.lr)


def stored_weights(network: nn.Module, kind: str) -> dict[str, Tensor]:
    """Gives what a checkpoint holds of a trained network.

    Args:
        network: Its training-only heads are left out.
        kind: 'float32', or 'float16' for convolutions in half precision; norms and biases, which
            are few and sensitive, stay in float32.
    """
    skip = tuple(getattr(network, 'train_only_prefixes', ()))
    weights = {k: v for k, v in network.state_dict().items() if not skip or not k.startswith(skip)}
    if kind == 'float16':
        weights = {k: v.half() if v.ndim > 1 else v for k, v in weights.items()}
    return weights


def ema_update(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Gives the running average of weights with a decay that rises from 0.1 to `decay`.

    Without the rise the first average is that of untrained weights for many steps.
    """

    def update(average: Tensor, value: Tensor, updates: Tensor | int) -> Tensor:
        count = float(updates)
        return average + (value - average) * (1 - min(decay, (1 + count) / (10 + count)))

    return update


def checkpoint_meta(
    config: TrainConfig, dataset: Dataset, progress: Progress, commit: str
) -> CheckpointMeta:
    """Gives the meta data of the best weights of a run so far."""
    options = {k: v for k, v in config.model_options.items() if k != 'aux_heads'}
    return CheckpointMeta(
        model=config.model,
        model_options=options,
        class_names=dataset.classes.names,
        class_colors=dataset.classes.colors,
        mean=config.mean,
        std=config.std,
        input_size=config.input_size,
        trained_on=(f'{config.dataset} {config.train_split}',),
        training={
            'recipe': {k: v for k, v in config.as_dict().items() if k != 'root'},
            'selected_on': f'{config.dataset} {config.val_split}',
            'epoch': progress.best_epoch,
            'val_miou': progress.best_miou,
        },
        commit=commit,
    )


def write_rows(path: Path, rows: list[dict[str, float]]) -> None:
    """Writes a CSV file anew, at once."""
    part = path.with_suffix('.part')
    with part.open('w', newline='', encoding='utf-8') as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    part.replace(path)
