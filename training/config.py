"""What a training run is made of, read from YAML with `key=value` changes on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
import difflib
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run; every field is a key of the YAML file.

    Attributes:
        dataset: A key of `DATASETS`; `root` is its folder.
        train_split: Split that is learned; `val_split` chooses the best epoch.
        model: A key of `MODELS`; `model_options` go to its constructor.
        init: Checkpoint folder whose weights are the start (fine-tuning); empty: from scratch.
        mean: RGB mean of the normalisation, images in 0..1; `std` likewise.
        input_size: (height, width) that the checkpoint is meant for.
        crop: (height, width) of the training crops.
        scale: Range of the random enlargement.
        flip: Probability of a horizontal flip.
        color: Largest relative change of brightness, contrast and saturation.
        loss: A key of `LOSSES`; `loss_options` go to it.
        class_weights: 'none', or 'enet' for 1 / ln(1.02 + frequency) of the train split.
        aux_weight: Weight of each auxiliary head's loss.
        optimizer: 'sgd' (momentum 0.9) or 'adamw'.
        lr: Peak learning rate: linear warm-up over `warmup_steps`, then
            (1 - step / steps) ** `poly_power`.
        weight_decay: For weights of convolutions; biases and norms have none.
        batch_size: Images per step, over all devices.
        epochs: Passes over the train split.
        ema_decay: Decay per step of the averaged weights that are validated and kept; 0 = off.
        precision: A Fabric precision: 'bf16-mixed', '16-mixed' or '32-true'.
        stored_weights: 'float32', or 'float16' to store convolutions in half the bytes; exported
            engines hold them in half precision anyway.
        seed: Of everything random.
        workers: Processes that load and augment.
    """

    dataset: str
    root: Path
    model: str
    train_split: str = 'train'
    val_split: str = 'val'
    model_options: dict[str, Any] = field(default_factory=dict)
    init: str = ''
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    input_size: tuple[int, int] = (512, 1024)
    crop: tuple[int, int] = (512, 512)
    scale: tuple[float, float] = (0.75, 2.0)
    flip: float = 0.5
    color: float = 0.4
    loss: str = 'ohem'
    loss_options: dict[str, Any] = field(default_factory=dict)
    class_weights: str = 'none'
    aux_weight: float = 1.0
    optimizer: str = 'sgd'
    lr: float = 0.01
    weight_decay: float = 5e-4
    warmup_steps: int = 0
    poly_power: float = 0.9
    batch_size: int = 8
    epochs: int = 100
    ema_decay: float = 0.0
    precision: str = '32-true'
    stored_weights: str = 'float32'
    seed: int = 0
    workers: int = 2

    def __post_init__(self) -> None:
        self._one_of('class_weights', ('none', 'enet'))
        self._one_of('optimizer', ('sgd', 'adamw'))
        self._one_of('stored_weights', ('float32', 'float16'))
        self._one_of('precision', ('32-true', 'bf16-mixed', '16-mixed'))
        for name in ('lr', 'batch_size', 'epochs'):
            if not getattr(self, name) > 0:
                raise ValueError(f'{name} is {getattr(self, name)}; it must be above 0')
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f'ema_decay is {self.ema_decay}; it must lie in 0..1, 1 excluded')
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f'scale is {self.scale}; it must be (low, high) with 0 < low <= high')

    def _one_of(self, name: str, choices: Sequence[str]) -> None:
        value = getattr(self, name)
        if value not in choices:
            raise ValueError(f'unknown {name} {value!r}; choose one of: {", ".join(choices)}')

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Builds the configuration from parsed YAML.

        Raises:
            ValueError: An unknown or missing key, or a value of another type.
        """
        known = {f.name: f for f in fields(cls)}
        for key in values:
            if key not in known:
                close = difflib.get_close_matches(str(key), known, 1)
                hint = f'did you mean {close[0]!r}?' if close else f'the keys are: {sorted(known)}'
                raise ValueError(f'unknown training key {key!r}; {hint}')
        missing = [key for key in ('dataset', 'root', 'model') if key not in values]
        if missing:
            raise ValueError(f'training keys {missing} are missing')
        typed = {key: _convert(key, str(known[key].type), value) for key, value in values.items()}
        return cls(**typed)

    def as_dict(self) -> dict[str, Any]:
        """Gives plain values that YAML and JSON can hold."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            key: list(value)
            if isinstance(value, tuple)
            else str(value)
            if isinstance(value, Path)
            else value
            for key, value in values.items()
        }


def _convert(key: str, kind: str, value: Any) -> Any:
    """Brings a YAML value to the type of its field, or says what does not fit."""
    if kind.startswith('tuple'):
        of = float if 'float' in kind else int
        length = kind.count(',') + 1
        if not isinstance(value, (list, tuple)) or len(value) != length:
            raise ValueError(f'{key} is {value!r}; it must be a list of {length} numbers')
        return tuple(of(item) for item in value)
    if kind.startswith('dict'):
        if not isinstance(value, dict):
            raise ValueError(f'{key} is {value!r}; it must be a mapping')
        return dict(value)
    if kind == 'Path':
        return Path(str(value)).expanduser()
    convert = {'str': str, 'int': int, 'float': float}[kind]
    wrong = isinstance(value, (list, dict)) or value is None or isinstance(value, bool)
    try:
        if wrong or (kind == 'int' and int(value) != float(value)):
            raise ValueError
        return convert(value)
    except ValueError:
        raise ValueError(f'{key} is {value!r}; it must be of type {kind}') from None


def load_train_config(path: Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Reads a YAML file and applies `key=value` changes; values are read as YAML.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: No valid YAML mapping, or a change without '='.
    """
    if not path.is_file():
        raise FileNotFoundError(f'no training configuration {str(path)!r}')
    try:
        values = yaml.safe_load(path.read_text(encoding='utf-8'))
        if not isinstance(values, dict):
            raise ValueError(f'{str(path)!r} holds no mapping of keys to values')
        for change in changes:
            key, separator, text = change.partition('=')
            if not separator:
                raise ValueError(f'{change!r} is not of the form key=value')
            values[key] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f'{str(path)!r} is not valid YAML: {error}') from None
    return TrainConfig.from_mapping(values)
