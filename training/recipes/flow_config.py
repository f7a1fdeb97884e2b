"""What a training run of a flow is made of, read from YAML with `key=value` changes on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
import math
from pathlib import Path
from typing import Any

from .recipe import read_recipe
from .typed_values import convert


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """One run; every field is a key of the YAML file.

    Attributes:
        dataset: A key of `DATASETS`; `root` is its folder.
        train_split: Split whose frames are learned; `val_split` is measured.
        flow: A preset of `DenseFlow`; `flow_options` change its constructor's arguments.
        patch: Side of the square crops, pixels; a multiple of 8.
        scale: Range of the random enlargement of a frame before the crop.
        flip: Probability of a horizontal flip.
        lr: First learning rate of Adamax; it falls to 0 by half a cosine wave.
        max_gradient: Norm that gradients are cut to.
        batch_size: Crops per step.
        crops_per_frame: Crops of each frame in an epoch.
        epochs: Passes over the train split.
        seed: Of everything random.
        workers: Processes that load and crop.
    """

    dataset: str
    root: Path
    train_split: str = 'train'
    val_split: str = 'val'
    flow: str = 'light'
    flow_options: dict[str, Any] = field(default_factory=dict)
    patch: int = 64
    scale: tuple[float, float] = (0.5, 1.0)
    flip: float = 0.5
    lr: float = 1e-3
    max_gradient: float = 100.0
    batch_size: int = 32
    crops_per_frame: int = 1
    epochs: int = 20
    seed: int = 0
    workers: int = 2

    def __post_init__(self) -> None:
        for name in ('patch', 'lr', 'max_gradient', 'batch_size', 'crops_per_frame', 'epochs'):
            if not getattr(self, name) > 0:
                raise ValueError(f'{name} is {getattr(self, name)}; it must be above 0')
        for name in ('seed', 'workers'):
            if not getattr(self, name) >= 0:
                raise ValueError(f'{name} is {getattr(self, name)}; it must not be below 0')
        if not 0 <= self.flip <= 1:
            raise ValueError(f'flip is {self.flip}; it must lie in 0..1')
        if self.patch % 8:
            raise ValueError(f'patch is {self.patch}; it must be a multiple of 8')
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f'scale is {self.scale}; it must be (low, high) with 0 < low <= high')

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> FlowConfig:
        """Builds the configuration from parsed YAML.

        Raises:
            ValueError: An unknown or missing key, or a value of another type.
        """
        known = {f.name: str(f.type) for f in fields(cls)}
        if unknown := sorted(values.keys() - known.keys()):
            raise ValueError(f'unknown keys {unknown}; the keys are: {", ".join(sorted(known))}')
        if missing := [key for key in ('dataset', 'root') if key not in values]:
            raise ValueError(f'training keys {missing} are missing')
        return cls(**{key: convert(key, known[key], value) for key, value in values.items()})

    def as_dict(self) -> dict[str, Any]:
        """Gives plain values that JSON can hold."""
        return asdict(self) | {'root': str(self.root), 'scale': list(self.scale)}

    def learning_rate(self, step: int, steps: int) -> float:
        """Gives the rate of one of `steps` steps, counted from 0."""
        return self.lr * (1 + math.cos(math.pi * step / steps)) / 2


def load_flow_config(path: Path, changes: Sequence[str] = ()) -> FlowConfig:
    """Reads a YAML file and `key=value` changes, see `read_recipe`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: No valid YAML mapping, or a key or a value that does not fit.
    """
    return FlowConfig.from_mapping(read_recipe(path, changes))
