"""The training loop: epochs, steps, validation, and a state that a run goes on from exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
import json
import logging
import math
from pathlib import Path
import time
from typing import Any, cast

from lightning.fabric import Fabric
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from anomaly_seg_ros.checkpoint.folder import save_checkpoint
from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.network import Network
from anomaly_seg_ros.provenance import code_version
from training.datasets import Dataset
from training.feeding.loading import Batch, checked, EpochSampler
from training.feeding.normalisation import Normalisation
from training.objectives import check_network
from training.objectives.objective import Reports
from training.recipes.train_config import TrainConfig

from .kept_checkpoint import checkpoint_meta, start_meta, stored_weights, write_objective
from .optimizer import set_learning_rate, set_training
from .run_folder import (
    CONFIG_FILE,
    EpochRow,
    KEPT_FOLDER,
    TABLE_FILE,
    write_errors,
    write_rows,
)
from .run_parts import (
    build_loader,
    build_network,
    build_training_objective,
    build_validation,
)
from .run_state import image_names, Progress, read_state, save_state
from .schedule import ema_update, learning_rate

logger = logging.getLogger(__name__)

MAY_DIFFER = (
    'workers', 'patience', 'root', 'init', 'outliers.root', 'objective_options.flow',
    'objective_options.teacher',
)  # fmt: skip
"""Keys that a resumed run may have other values of: files may have moved, and whoever stopped for
want of patience may find some."""


class Trainer:
    """One run: the network, its data and its optimisers on the devices that Fabric gives.

    With several processes batch norms count the whole batch, and the loss is the mean of theirs:
    that of the whole batch for means over valid pixels, while other losses are per process.

    Args:
        fabric: Launched already.
        config: The recipe.
        out: Folder for all that is written.
        train_set: What is learned.
        val_set: What the run is validated on.
        interrupted: Whether somebody wants the run to stop; asked after every step.
    """

    def __init__(
        self,
        fabric: Fabric,
        config: TrainConfig,
        out: Path,
        train_set: Dataset,
        val_set: Dataset,
        interrupted: Callable[[], bool] = lambda: False,
    ):
        self.fabric, self.config, self.out = fabric, config, out
        self.train_set, self.interrupted = train_set, interrupted
        sets = {'train': train_set, 'val': val_set}
        self.frames = {name: image_names(found, config.root) for name, found in sets.items()}
        self.progress = Progress()
        self.commit = code_version()
        self.void_index = len(train_set.classes.names) if config.void else None
        self.sampler = EpochSampler(
            len(train_set), config.batch_size, config.seed, fabric.global_rank, fabric.world_size
        )
        self.loader = build_loader(fabric, config, train_set, self.sampler, self.void_index)
        self.model, self.optimizer = build_network(fabric, config, train_set)
        check_network(config.objective, config.model, self.model.module.provides)
        self.ema = (
            AveragedModel(self.model.module, avg_fn=ema_update(config.ema_decay), use_buffers=True)
            if config.ema_decay
            else None
        )
        self.objective, self.own_optimizer = build_training_objective(fabric, config, train_set)
        start = start_meta(config)
        gamma = 1.0 if start is None else start.gamma
        self.normalise = Normalisation(config.mean, config.std, gamma, fabric.device)
        self.validate = build_validation(
            fabric, config, val_set, self.normalise, self.void_index, self.kept_network
        )

    @property
    def step(self) -> int:
        """Optimiser steps that are done."""
        return self.progress.epoch * len(self.sampler) + self.progress.step_in_epoch

    @property
    def is_stale(self) -> bool:
        """Whether the last `patience` validations were none better than the kept one."""
        patience, rows = self.config.patience, self.progress.rows
        since = sum('val_miou' in row for row in rows[max(self.progress.kept_epoch, 0) :])
        return 0 < patience <= since

    @property
    def kept_network(self) -> Network:
        """What is validated and kept: the averaged weights where there are such."""
        kept = self.model if self.ema is None else self.ema
        return cast('Network', kept.module)

    def run(self) -> bool:
        """Trains to the last epoch; tells whether it got there (False: stopped, state saved)."""
        writer = None
        if self.fabric.is_global_zero:
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / CONFIG_FILE).write_text(json.dumps(self.config.as_dict(), indent=1))
            folder = str(self.out / 'tensorboard')
            writer = SummaryWriter(folder, purge_step=self.progress.epoch + 1)
        try:
            if self.step == 0:
                self._report('before')
            while self.progress.epoch < self.config.epochs and not self.is_stale:
                if not self._epoch(writer):
                    save_state(self.fabric, self.out, self._state())
                    return False
            self._report('after')
            return True
        finally:
            if writer is not None:
                writer.close()

    def resume(self) -> None:
        """Goes on from the last state in `out`.

        Raises:
            ValueError: It cannot be read, or was made with another configuration.
        """
        state = read_state(
            self.out,
            self.fabric.load,
            self.config,
            MAY_DIFFER,
            lambda state: int(state['progress']['epoch']),
        )
        self._check_classes(state)
        self._check_frames(state)
        self.model.load_state_dict(state['model'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.objective.load_state_dict(state['objective'])
        self.fabric.strategy.precision.load_state_dict(state['precision'])
        if self.own_optimizer is not None:
            self.own_optimizer.load_state_dict(state['own_optimizer'])
        if self.ema is not None:
            self.ema.load_state_dict(state['ema'])
        self.progress = Progress(**state['progress'])

    def _check_classes(self, state: Mapping[str, Any]) -> None:
        """Refuses a state of other classes: its channels would be taken for those of today.

        Raises:
            ValueError: The data have others than the run began with, or in another order.
        """
        # States of before did not say.
        began, now = state.get('class_names'), list(self.train_set.classes.names)
        if began is not None and began != now:
            raise ValueError(
                f'{str(self.out)!r} began with the classes {", ".join(began)}, and the data have '
                f'{", ".join(now)}; give them back, or begin again with another --out'
            )

    def _check_frames(self, state: Mapping[str, Any]) -> None:
        """Refuses a state that was validated on other frames: some may have been learned by now.

        Raises:
            ValueError: The text names one, where one was.
        """
        began = state.get('frames', self.frames)  # states of before did not say
        if began['val'] != self.frames['val']:
            learned = sorted(set(self.frames['val']) & set(began['train']))
            raise ValueError(
                f'{str(self.out)!r} began with other frames to validate on'
                + (f', and {learned[0]!r} of those of now was learned' if learned else '')
                + '; give them back, or begin again with another --out'
            )
        if began['train'] != self.frames['train']:
            logger.warning(
                '%r began with %d frames to learn from, and goes on with %d, not the same ones',
                str(self.out), len(began['train']), len(self.frames['train']),
            )  # fmt: skip

    def _state(self) -> dict[str, Any]:
        state = {
            'model': self.model,
            'optimizer': self.optimizer,
            'objective': self.objective.state_dict(),
            'precision': self.fabric.strategy.precision.state_dict(),
            'progress': vars(self.progress),
            'config': self.config.as_dict(),
            'class_names': list(self.train_set.classes.names),
            'frames': self.frames,
        }
        if self.own_optimizer is not None:
            state['own_optimizer'] = self.own_optimizer
        if self.ema is not None:
            state['ema'] = self.ema.state_dict()
        return state

    def _report(self, when: str) -> None:
        if self.fabric.is_global_zero and isinstance(self.objective, Reports):
            self.objective.report(self.out, when)

    def _epoch(self, writer: SummaryWriter | None) -> bool:
        """Trains and validates the rest of an epoch; False: it was stopped before its end."""
        began = time.monotonic()
        epoch = self.progress.epoch + 1
        if not self._train_epoch():
            return False
        rate = self._learning_rate(self.step - 1)
        row: EpochRow = {'epoch': epoch, **self.progress.means(), 'lr': rate}
        if epoch % self.config.val_every == 0 or epoch == self.config.epochs:
            found = self.validate(self.kept_network, self.interrupted)
            if found is None:
                return False
            row |= found
        row['seconds'] = round(time.monotonic() - began, 1)
        self._finish_epoch(row, writer)
        return True

    def _train_epoch(self) -> bool:
        """Trains the rest of the current epoch; False: it was stopped behind some step."""
        set_training(self.model.module, self.config.trainable)
        self.objective.train()
        progress = self.progress
        self.sampler.epoch, self.sampler.first_step = progress.epoch, progress.step_in_epoch
        with tqdm(
            total=len(self.sampler),
            initial=progress.step_in_epoch,
            desc=f'epoch {progress.epoch + 1}/{self.config.epochs}',
            unit='step',
            leave=False,
            disable=None if self.fabric.is_global_zero else True,
        ) as bar:
            batches: Iterator[Any] = iter(self.loader)
            for batch in checked(batches):
                stop = self._step(batch)
                progress.step_in_epoch += 1
                bar.update()
                bar.set_postfix(loss=f'{progress.means()["loss"]:.3f}')
                if stop:
                    return False
        return True

    def _step(self, batch: Batch) -> bool:
        """Takes one step of the optimisers; tells whether any rank wants to stop behind it."""
        # Dropout draws from the step's own seed, so that a resumed run draws the same.
        ranks = self.fabric.world_size
        torch.manual_seed(self.config.seed + self.step * ranks + self.fabric.global_rank)
        set_learning_rate(self.optimizer, self._learning_rate(self.step))
        terms = self.objective(self.forward, batch)
        self.optimizer.zero_grad()
        if self.own_optimizer is not None:
            self.own_optimizer.zero_grad()
        self.fabric.backward(torch.stack(list(terms.values())).sum())
        stop = self._add_up(terms)
        if self.config.clip_norm:
            longest = self.config.clip_norm
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=longest)
        self.optimizer.step()
        if self.own_optimizer is not None:
            self._average_own_gradients()
            self.own_optimizer.step()
        if self.ema is not None:
            self.ema.update_parameters(self.model.module)
        done = (self.step + 1) / (self.config.epochs * len(self.sampler))
        for network in {self.model.module, self.kept_network}:
            network.anneal(done)
        return stop

    def forward(self, images: Tensor) -> ModelOutput:
        """Gives the network's output for (N, 3, H, W) RGB in 0..1."""
        output: ModelOutput = self.model(self.normalise(images))
        return output

    def _learning_rate(self, step: int) -> float:
        return learning_rate(self.config, step, len(self.sampler))

    def _add_up(self, terms: dict[str, Tensor]) -> bool:
        """Adds the step's terms, as means over the ranks, to the epoch's sums.

        Returns:
            Whether any rank wants to stop: all learn of it in the same step.

        Raises:
            ValueError: The loss is not finite; on every rank at once.
        """
        wish = torch.tensor(float(self.interrupted()), device=self.fabric.device)
        mine = torch.stack([*(term.detach().float() for term in terms.values()), wish])
        *values, stop = cast('Tensor', self.fabric.all_reduce(mine, reduce_op='mean')).tolist()
        if not all(map(math.isfinite, values)):
            named = ', '.join(f'{k} {v:.4g}' for k, v in zip(terms, values, strict=True))
            raise ValueError(
                f'the loss is {sum(values)} at step {self.step} ({named}); lower lr '
                f'({self.config.lr})'
            )
        sums = self.progress.sums
        for name, value in zip(terms, values, strict=True):
            sums[name] = sums.get(name, 0.0) + value
        return bool(stop)

    def _average_own_gradients(self) -> None:
        """Gives the objective's own parameters the mean gradient of all ranks."""
        if self.fabric.world_size == 1:
            return
        for parameter in self.objective.parameters():
            if parameter.requires_grad:
                own = parameter.grad
                gradient = torch.zeros_like(parameter) if own is None else own
                parameter.grad = cast('Tensor', self.fabric.all_reduce(gradient))

    def _finish_epoch(self, row: EpochRow, writer: SummaryWriter | None) -> None:
        progress = self.progress
        progress.rows.append(row)
        better = row.get('val_miou', -1.0) > progress.kept.get('val_miou', -1.0)
        kept = better if self.config.keep == 'best' else 'val_miou' in row
        if kept:
            progress.kept_epoch = progress.epoch + 1
        progress.epoch, progress.step_in_epoch, progress.sums = progress.epoch + 1, 0, {}
        if kept and self.fabric.is_global_zero:
            self._save_kept()
        save_state(self.fabric, self.out, self._state())
        if writer is None:
            return
        for key, value in row.items():
            writer.add_scalar(key, value, progress.epoch)
        write_rows(self.out / TABLE_FILE, progress.rows)
        score = ''
        if 'val_miou' in row:
            score = f'val mIoU {row["val_miou"]:.4f}{" (kept)" if kept else ""}, '
        if 'val_ap' in row:
            score += f'AP {row["val_ap"]:.3f}, '
        print(
            f'epoch {progress.epoch}/{self.config.epochs}: loss {row["loss"]:.3f}, '
            f'{score}{row["seconds"]} s',
            flush=True,
        )

    def _save_kept(self) -> None:
        """Writes the checkpoint folder, without the heads that only training needs."""
        weights = stored_weights(self.kept_network, self.config.stored_weights)
        meta = checkpoint_meta(self.config, self.train_set, self.progress, self.commit)
        with write_errors(self.out / KEPT_FOLDER):
            save_checkpoint(self.out / KEPT_FOLDER, meta, weights)
        write_objective(self.out, self.objective)
