"""Which weights of a network are trained, and by what."""

from __future__ import annotations

import torch
from torch import nn

from anomaly_seg_ros.models.network import Network
from anomaly_seg_ros.models.parts.outlier_head import PREFIXES as OUTLIER_HEAD
from training.recipes.train_config import TrainConfig

SCALE = 'lr_scale'
"""Key of an optimiser's group: the factor on the learning rate of its weights."""

POSITIONS = ('relative_position_bias_table', 'absolute_pos_embed')
"""Swin's tables of positions, by the names that they have everywhere."""


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Gives the optimiser; biases, norms and embeddings decay with `decay_all`.

    Biases and norms are the weights of one dimension; embeddings those of `nn.Embedding`, such as
    queries, and Swin's tables of positions. Mask2Former's runs on Detectron2 leave out the same,
    but for the biases of linear layers and convolutions, which decay there; in timm they do not.

    Raises:
        ValueError: A key of `lr_multipliers` begins no weight's name, or nothing is trainable.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not named:
        raise ValueError(f"model {config.model!r} has no weights to train; use 'trainable: all'")
    for prefix in config.lr_multipliers:
        if not any(name.startswith(prefix) for name in named):
            raise ValueError(
                f'no trainable weight begins with {prefix!r} of lr_multipliers; names are like '
                f'{next(iter(named))!r}'
            )
    embedded = {name for name in named if _is_embedding(model, name)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        decays = config.decay_all or (parameter.ndim > 1 and name not in embedded)
        decay = config.weight_decay if decays else 0.0
        scales = (s for prefix, s in config.lr_multipliers.items() if name.startswith(prefix))
        groups.setdefault((decay, next(scales, 1.0)), []).append(parameter)
    settings = [
        {'params': parameters, 'weight_decay': decay, SCALE: scale}
        for (decay, scale), parameters in groups.items()
    ]
    if config.optimizer == 'sgd':
        return torch.optim.SGD(settings, lr=config.lr, momentum=0.9)
    if config.optimizer == 'adam':
        return torch.optim.Adam(settings, lr=config.lr)
    return torch.optim.AdamW(settings, lr=config.lr)


def _is_embedding(model: nn.Module, name: str) -> bool:
    owner, _, own = name.rpartition('.')
    return isinstance(model.get_submodule(owner), nn.Embedding) or own in POSITIONS


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives every group this rate times its own factor."""
    for group in optimizer.param_groups:
        group['lr'] = rate * group[SCALE]


def trained_prefixes(model: Network, trainable: str) -> tuple[str, ...]:
    """Gives the beginnings of the names of what a recipe's `trainable` trains.

    Raises:
        ValueError: The network has no such part.
    """
    if trainable == 'decoder':
        if not model.encoder_prefixes:
            raise ValueError(
                "trainable is 'decoder', but the network has no encoder apart; use 'all' or 'last'"
            )
        parts = [*(f'{name}.' for name, _ in model.named_children())]
        parts += [name for name, _ in model.named_parameters(recurse=False)]
        return tuple(name for name in parts if not name.startswith(model.encoder_prefixes))
    wanted = {'last': model.classifier_prefixes, 'outlier_head': OUTLIER_HEAD}.get(
        trainable, ('',)
    )
    if not any(name.startswith(wanted) for name, _ in model.named_parameters()):
        raise ValueError(
            f'trainable is {trainable!r}, but the network has no weights {", ".join(wanted)}; '
            'set model_options.outlier_head=true'
        )
    return wanted


def freeze_all_but(model: Network, prefixes: tuple[str, ...]) -> None:
    """Leaves gradients to the weights whose names begin so, alone."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(prefixes))


def set_training(model: Network, trainable: str) -> None:
    """Puts a network into training mode.

    Where only a part is trained, all else stays as in evaluation: batch norms keep their
    statistics and nothing is dropped, so the part learns from what it will see.
    """
    model.train(trainable == 'all')
    if trainable != 'all':
        prefixes = trained_prefixes(model, trainable)
        for name, module in model.named_modules():
            module.training = f'{name}.'.startswith(prefixes)
