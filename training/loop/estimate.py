"""How long a run will take, measured by a few of its steps before it starts."""

from __future__ import annotations

from collections.abc import Sequence
import math
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from anomaly_seg_ros.process.cores import usable_cores
from training.feeding.loading import Batch, collate

if TYPE_CHECKING:
    from training.feeding.loading import SampleKey

    from .trainer import Trainer

STEPS = 2
"""That are timed, behind one that is not."""


def estimate_seconds(trainer: Trainer) -> float:
    """Gives the seconds that a whole run will take, without an early end.

    Steps run on real crops and leave the network as it was. What loading takes is counted on the
    cores that it shares with the steps.
    """
    batch, load = _load(trainer)
    step = min(_time_steps(trainer, batch)) + load / usable_cores()
    config = trainer.config
    validations = math.ceil(config.epochs / config.val_every)
    return config.epochs * len(trainer.sampler) * step + validations * _validation(trainer)


def _load(trainer: Trainer) -> tuple[Batch, float]:
    """Gives a batch, and the seconds of one core that it took."""
    keys: Sequence[SampleKey] = next(iter(trainer.sampler))
    frames = trainer.loader.dataset
    began = time.process_time()
    batch = collate([frames[key] for key in keys])
    if isinstance(batch, Exception):
        raise batch
    used = time.process_time() - began
    moved = (part.to(trainer.fabric.device) for part in batch)
    return Batch(*moved), used


def _time_steps(trainer: Trainer, batch: Batch) -> list[float]:
    """Gives the seconds of steps forward and back; weights and statistics stay as they are."""
    model = trainer.model
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    times = []
    for _ in range(STEPS + 1):
        began = time.monotonic()
        terms = trainer.objective(trainer.forward, batch)
        trainer.fabric.backward(torch.stack(list(terms.values())).sum())
        _wait(trainer)
        times.append(time.monotonic() - began)
    for part in (model, trainer.objective):
        part.zero_grad(set_to_none=True)
    model.load_state_dict(before)
    return times[1:]


def _validation(trainer: Trainer) -> float:
    """Gives the seconds of one validation."""
    image = np.zeros((*trainer.config.input_size, 3), np.uint8)
    trainer.kept_network.eval()
    times = []
    with torch.inference_mode(), trainer.fabric.autocast():
        for _ in range(2):
            began = time.monotonic()
            trainer.validate.output(trainer.kept_network, image)
            _wait(trainer)
            times.append(time.monotonic() - began)
    return min(times) * len(trainer.validate.dataset) / trainer.fabric.world_size


def _wait(trainer: Trainer) -> None:
    if trainer.fabric.device.type == 'cuda':
        torch.cuda.synchronize()


def in_words(seconds: float) -> str:
    """Gives a time as people say it.

    >>> in_words(40), in_words(200), in_words(7000)
    ('under a minute', 'about 3 minutes', 'about 2 hours')
    """
    if seconds < 50:
        return 'under a minute'
    if seconds < 90 * 60:
        minutes = round(seconds / 60)
        return f'about {minutes} minute{"s" if minutes != 1 else ""}'
    return f'about {round(seconds / 3600)} hours'
