"""The learning rate of every step, and the running average of the weights."""

from __future__ import annotations

from collections.abc import Callable
import math

from torch import Tensor

from training.recipes.train_config import TrainConfig

STEP_FACTOR = 0.1


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Gives the rate of one optimiser step, before `lr_multipliers`.

    Args:
        config: Names the schedule; the warm-up multiplies all of them.
        step: Counted from 0 over the whole run.
        steps_per_epoch: Optimiser steps of an epoch.
    """
    factor = 1.0
    done = min(step / (config.epochs * steps_per_epoch), 1.0)
    if config.schedule == 'poly':
        factor = float((1 - done) ** config.poly_power)
    elif config.schedule == 'cosine':
        factor = (1 + math.cos(math.pi * done)) / 2
    elif config.schedule == 'step':
        factor = float(STEP_FACTOR ** (step // steps_per_epoch // config.step_epochs))
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    return config.lr * warm * factor


def ema_update(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Gives the running average of weights with a decay that rises from 0.1 to `decay`.

    Without the rise the first average is that of untrained weights for many steps.
    """

    def update(average: Tensor, value: Tensor, updates: Tensor | int) -> Tensor:
        count = float(updates)
        return average + (value - average) * (1 - min(decay, (1 + count) / (10 + count)))

    return update
