"""What a training step minimises, by public name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import inspect
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.registry import lookup
from training.feeding.loading import Batch
from training.losses import Loss

OBJECTIVES = {
    'dense_hybrid': 'training.objectives.dense_hybrid:DenseHybrid',
    'nflow_js': 'training.objectives.nflow_js:NFlowJS',
    'segmentation': 'training.objectives.segmentation:Segmentation',
}

Network = Callable[[Tensor], ModelOutput]
"""Takes (N, 3, H, W) float RGB in 0..1 and normalises inside; under autocast where that is on."""

Backward = Callable[..., None]
"""As `torch.autograd.backward`, of a scalar and keywords alone."""

_FIXED = ('loss', 'aux_weight')


class Objective(Protocol):
    """An `nn.Module` that turns a batch into loss terms; runs in float32, outside of autocast.

    Its constructor takes the loss, `aux_weight` and its own options. Parameters of its own (a
    flow) are trained by its own optimiser; its state is saved with the run.

    Attributes:
        needs_outliers: Whether it learns nothing without outliers in the recipe.
        ignores_outliers: Whether it keeps pasted pixels out of all classes, void too.
    """

    needs_outliers: ClassVar[bool]
    ignores_outliers: ClassVar[bool]

    def forward(self, network: Network, batch: Batch) -> dict[str, Tensor]:
        """Gives named weighted terms, scalars; the loss is their sum."""
        ...

    def build_optimizer(self) -> torch.optim.Optimizer | None:
        """Gives the optimiser of its own parameters; None: it has none."""
        ...


@runtime_checkable
class SplitsGradients(Protocol):
    """An objective that takes a gradient of one of its terms alone.

    Attributes:
        backward: What it does so by; the run puts Fabric's own in its place, as Fabric refuses
            any other where precision is mixed. Gradients of the network's weights must not be
            among the `inputs`: other processes would wait for them.
    """

    backward: Backward


@runtime_checkable
class Reports(Protocol):
    """An objective that has something to show."""

    def report(self, out: Path, when: str) -> None:
        """Writes pictures into `out`; `when` is 'before' or 'after' the run."""
        ...


def check_outliers(name: str, pasted: bool, void: bool) -> None:
    """Checks an objective against what a recipe pastes and learns.

    Args:
        name: A key of `OBJECTIVES`.
        pasted: Whether the recipe pastes outliers.
        void: Whether it learns a void class.

    Raises:
        ValueError: Unknown name, outliers are missing, or void would learn what it ignores.
    """
    kind: type[Objective] = lookup('objective', OBJECTIVES, name)
    if kind.needs_outliers and not pasted:
        raise ValueError(
            f'objective {name!r} learns from pasted outliers, but outliers is empty; set '
            'outliers.kind and outliers.root'
        )
    if kind.ignores_outliers and void:
        raise ValueError(
            f'void is true, which learns pasted pixels as a class, but objective {name!r} keeps '
            'them out of all; set void: false, or objective: segmentation'
        )


def build_objective(name: str, loss: Loss, options: Mapping[str, Any]) -> Objective:
    """Gives an objective around a loss of (logits, labels).

    Args:
        name: A key of `OBJECTIVES`.
        loss: What the logits are trained with.
        options: Keyword arguments of its constructor; the trainer adds `aux_weight`.

    Raises:
        ValueError: Unknown name or option.
    """
    kind = lookup('objective', OBJECTIVES, name)
    valid = [option for option in inspect.signature(kind).parameters if option not in _FIXED]
    if unknown := sorted(options.keys() - {*valid, 'aux_weight'}):
        raise ValueError(
            f'unknown objective_options {unknown} of objective {name!r}; it takes: '
            f'{", ".join(valid) or "none"}'
        )
    try:
        objective: Objective = kind(loss, **options)
    except TypeError as error:
        raise ValueError(
            f'objective {name!r} does not take objective_options {dict(options)}: {error}'
        ) from None
    return objective
