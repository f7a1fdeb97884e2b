"""The parts of a run, built from its recipe on the devices that Fabric gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from lightning.fabric import Fabric
import torch
from torch import Tensor

from anomaly_seg_ros.models.forward import run_fields
from anomaly_seg_ros.models.network import Network
from anomaly_seg_ros.scores import build_score, score_class
from training.datasets import Dataset
from training.feeding.loading import AugmentedFrames, EpochSampler, training_loader
from training.feeding.pasting import build_paster, PastedFrames
from training.feeding.transforms import Augmentation
from training.losses import build_loss
from training.losses.class_weights import class_weights
from training.objectives import build_objective
from training.objectives.objective import HasTeacher, SplitsGradients
from training.recipes.train_config import TrainConfig

from .kept_checkpoint import default_score
from .network_start import start_network
from .optimizer import build_optimizer, freeze_all_but, trained_prefixes
from .sync_norm import synchronise_norms
from .validation import Validation


def build_loader(
    fabric: Fabric,
    config: TrainConfig,
    dataset: Dataset,
    sampler: EpochSampler,
    void_label: int | None,
) -> Any:
    """Gives the loader of augmented crops, with outliers pasted where the recipe wants them."""
    augmentation = Augmentation(
        config.crop,
        config.scale,
        config.flip,
        config.color,
        config.class_balanced_crops,
        config.scale_draw,
        config.stretch,
    )
    paster = build_paster(config.outliers, dataset.classes) if config.outliers else None
    frames = AugmentedFrames(
        dataset,
        augmentation,
        config.seed,
        paster,
        void_label,
        config.camera_changes,
        config.ground_changes,
    )
    loader = training_loader(frames, sampler, config.workers)
    return fabric.setup_dataloaders(loader, use_distributed_sampler=False)


def build_network(fabric: Fabric, config: TrainConfig, dataset: Dataset) -> tuple[Any, Any]:
    """Gives the network on its device and its optimiser.

    With several processes batch norms count the whole batch.
    """
    model = start_network(config, dataset)
    if config.trainable != 'all':
        freeze_all_but(model, trained_prefixes(model, config.trainable))
    if fabric.world_size > 1:
        synchronise_norms(model, fabric.device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return cast('tuple[Any, Any]', fabric.setup(model, build_optimizer(model, config)))


def build_validation(
    fabric: Fabric,
    config: TrainConfig,
    dataset: Dataset,
    normalise: Callable[[Tensor], Tensor],
    void_index: int | None,
    network: Network,
) -> Validation:
    """Gives the validation, on frames with outliers where the recipe pastes such.

    The score is the checkpoint's own, or max_logit where that is fitted to trained weights.

    Raises:
        ValueError: The network cannot serve the score.
    """
    if config.outliers:
        dataset = PastedFrames(dataset, build_paster(config.outliers, dataset.classes))
    name = default_score(config)
    provides = run_fields(network, void_index)
    try:
        name = 'max_logit' if score_class(name).statistics else name
        score = build_score(name, config.model, provides)
    except ValueError as error:
        raise ValueError(f'{error}; choose another score: for this run') from None
    return Validation(
        fabric,
        normalise,
        dataset,
        config.input_size,
        void_index,
        score.to(fabric.device),
    )


def build_training_objective(
    fabric: Fabric, config: TrainConfig, dataset: Dataset
) -> tuple[Any, Any]:
    """Gives the objective around the recipe's losses and its own optimiser, or None.

    Raises:
        ValueError: Its teacher has other classes; or it has an optimiser of its own, which
            16-mixed would let fall behind: where Fabric skips a step for an overflow, the two
            optimisers part.
    """
    weights = class_weights(config.class_weights, dataset, config.void)
    if weights is not None:
        weights = weights.to(fabric.device)
    loss = build_loss(config.loss_terms, config.loss_options, weights)
    options = {'aux_weight': config.aux_weight, **config.objective_options}
    objective = build_objective(config.objective, loss, options).to(fabric.device)
    if isinstance(objective, SplitsGradients):
        objective.backward = fabric.backward
    if isinstance(objective, HasTeacher):
        _check_teacher(objective.class_names, dataset.classes.names)
        objective.autocast = fabric.autocast
    own = objective.build_optimizer()
    if own is not None and config.precision == '16-mixed':
        raise ValueError(
            f'objective {config.objective!r} has an optimiser of its own, which precision '
            '16-mixed cannot scale with the other; set precision: bf16-mixed or 32-true'
        )
    return objective, None if own is None else fabric.setup_optimizers(own)


def _check_teacher(theirs: Sequence[str], ours: Sequence[str]) -> None:
    """Checks that a channel of a teacher means what it means in the data.

    Raises:
        ValueError: It does not.
    """
    if tuple(theirs) != tuple(ours):
        raise ValueError(
            f'the teacher has the classes {", ".join(theirs)}, and the data have '
            f'{", ".join(ours)}; choose a teacher that was trained on data like these'
        )
