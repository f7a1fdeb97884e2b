"""The network that a run begins with: fresh, or with the weights of a checkpoint."""

from __future__ import annotations

import logging

import torch

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.weights import load_state
from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.models import build_model
from anomaly_seg_ros.models.network import Network
from training.datasets import Dataset
from training.recipes.train_config import TrainConfig

logger = logging.getLogger(__name__)


def start_network(config: TrainConfig, dataset: Dataset) -> Network:
    """Gives the network that `config` names, with `init`'s weights where it has one.

    Raises:
        FileNotFoundError: There is no checkpoint `init`.
        ValueError: Options or weights do not fit, or void is wanted and the dataset has none.
    """
    if config.void:
        check_void(config, dataset)
    torch.manual_seed(config.seed)
    channels = len(dataset.classes.names) + config.void
    model = build_model(config.model, channels, config.model_options)
    if config.init:
        load_init(model, config, dataset)
    return model


def load_init(model: Network, config: TrainConfig, dataset: Dataset) -> None:
    """Loads the weights of `init`; the heads that it lacks or has for other classes stay fresh.

    Those are named in a warning. Auxiliary heads, which no checkpoint has, always start fresh and
    are not named.

    Raises:
        FileNotFoundError: No such checkpoint.
        ValueError: The weights do not fit beyond the heads, or were trained on images that were
            normalised otherwise.
    """
    checkpoint = Checkpoint.open(config.init)
    folder, meta = checkpoint.folder, checkpoint.meta
    for name in ('mean', 'std'):
        theirs = getattr(meta, name)
        if tuple(theirs) != tuple(getattr(config, name)):
            raise ValueError(
                f'checkpoint {str(folder)!r} was trained with {name} {list(theirs)}, not '
                f'{list(getattr(config, name))}; set {name}: {list(theirs)}'
            )
    heads = model.new_head_prefixes
    weights = checkpoint.network_weights()
    void_index = len(dataset.classes.names) if config.void else None
    if (meta.class_names, meta.void_index) != (dataset.classes.names, void_index):
        weights = {k: v for k, v in weights.items() if not k.startswith(heads)}
    fresh = load_state(model, weights, f'checkpoint {str(folder)!r}', new=heads)
    if fresh:
        logger.warning('not in %s, so they start fresh: %s', folder, ', '.join(fresh))


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
