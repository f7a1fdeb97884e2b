"""What every anomaly score is, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn, Tensor

from anomaly_seg_ros.model_output import ModelOutput


class StatisticsFit(Protocol):
    """Sums over training frames; what they hold does not grow with the number of frames.

    Attributes:
        labelled: Whether it reads the true classes.
    """

    labelled: bool

    def __init__(self, classes: int): ...

    def update(self, output: ModelOutput, labels: NDArray[np.uint8] | None) -> None:
        """Takes one frame.

        Args:
            output: Of one image, void apart, on any device.
            labels: (H, W) train ids at the size of the logits, 255 = ignore; None where they are
                not read.
        """
        ...

    def compute(self) -> dict[str, Tensor]:
        """Gives the score's statistics by their names, as float32.

        Raises:
            ValueError: These frames cannot give them.
        """
        ...


class AnomalyScore(nn.Module):
    """A formula over a network's output: one number per pixel, higher = more anomalous.

    What it says below is written as a plain value in the class itself, so that it can be read
    where torch is not installed.

    Attributes:
        needs: Names of what it reads, as `ModelOutput.given` takes them.
        layers: Names of the features that it reads, where an option chooses them.
        tempered: Whether it changes with the checkpoint's temperature, its argument of that name.
        from_masks: Whether it reads the logarithm of `semantics` where there are no `logits`, by
            `parts/class_logits.py`.
        coarse: Whether it may be computed at every n-th pixel alone: for those with an exponential
            of every logit, which costs up to 19 % of a network's time.
        statistics: Arguments that `fit_score` fits; kept as buffers of the same names.
        fit: What fits them; its constructor takes the number of classes, and options.
        flip: Whether it is the mean with that of the mirrored image, the network's second run.
        presets: Name to options of the score and of its fit that one word stands for.
        classes: Number of classes that its statistics are for; None: it has no such number.
    """

    needs: frozenset[str]
    tempered: ClassVar[bool] = False
    from_masks: ClassVar[bool] = False
    coarse: ClassVar[bool] = False
    flip: bool = False
    statistics: ClassVar[tuple[str, ...]] = ()
    fit: ClassVar[type[StatisticsFit] | None] = None
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})
    classes: int | None = None
    layers: tuple[str, ...] = ()

    @classmethod
    def reads(cls, provides: Iterable[str]) -> frozenset[str]:
        """Gives the names of what it reads of a network that gives `provides`."""
        if cls.from_masks and 'logits' not in set(provides):
            return cls.needs - {'logits'} | {'semantics'}
        return cls.needs

    __call__: Callable[..., Tensor]

    def forward(self, output: ModelOutput) -> Tensor:
        """Gives (N, H, W) float32."""
        raise NotImplementedError
