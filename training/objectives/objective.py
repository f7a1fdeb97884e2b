"""What every objective is, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import nn, Tensor

from anomaly_seg_ros.model_output import ModelOutput
from training.feeding.loading import Batch

Forward = Callable[[Tensor], ModelOutput]
"""Takes (N, 3, H, W) float RGB in 0..1 and normalises inside; under autocast where that is on."""

Backward = Callable[..., None]
"""As `torch.autograd.backward`, of a scalar and keywords alone."""


class Objective(nn.Module):
    """Turns a batch into loss terms; runs in float32, outside of autocast.

    Its constructor takes the loss, `aux_weight` and its own options. Parameters of its own (a
    flow) are trained by its own optimiser; its state is saved with the run.

    Attributes:
        reads: Fields of `ModelOutput` that it is made of.
        needs_outliers: Whether it learns nothing without outliers in the recipe.
        ignores_outliers: Whether it keeps pasted pixels out of all classes, void too.
        needs_void: Whether it learns the void class, from pasted outliers alone.
        void_from_zero: Whether that class' rows begin as 0 where `init` has no void class.
        uses_loss: Whether the recipe's loss is a part of it.
    """

    reads: ClassVar[frozenset[str]] = frozenset({'logits'})
    needs_outliers: ClassVar[bool] = False
    ignores_outliers: ClassVar[bool] = False
    needs_void: ClassVar[bool] = False
    void_from_zero: ClassVar[bool] = False
    uses_loss: ClassVar[bool] = True

    @classmethod
    def score(cls, options: Mapping[str, Any]) -> str | None:
        """Gives the anomaly score that is made of what it trains; None: it trains for none.

        Args:
            options: Its own options in the recipe.
        """
        return None

    def forward(self, network: Forward, batch: Batch) -> dict[str, Tensor]:
        """Gives named weighted terms, scalars; the loss is their sum."""
        raise NotImplementedError

    def build_optimizer(self) -> torch.optim.Optimizer | None:
        """Gives the optimiser of its own parameters; None: there is only the network to train."""
        return None


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
class HasTeacher(Protocol):
    """An objective that runs another network beside the one that learns.

    Attributes:
        class_names: Its classes in train-id order, which are those of the data.
        autocast: In what it runs; the run puts Fabric's own in its place, so that the teacher
            computes in the run's precision.
    """

    class_names: Sequence[str]
    autocast: Callable[[], AbstractContextManager[Any]]


@runtime_checkable
class Reports(Protocol):
    """An objective that has something to show."""

    def report(self, out: Path, when: str) -> None:
        """Writes pictures into `out`; `when` is 'before' or 'after' the run."""
        ...
