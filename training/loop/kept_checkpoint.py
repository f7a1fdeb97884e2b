"""The checkpoint that a run leaves: its weights, its meta data and its objective's state."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file
from torch import nn, Tensor

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.models.network import Network
from training.datasets import Dataset
from training.datasets.joined import entry_name
from training.objectives import objective_class
from training.recipes.train_config import TrainConfig

from .run_folder import OBJECTIVE_FILE, writing
from .run_state import Progress


def stored_weights(network: Network, kind: str) -> dict[str, Tensor]:
    """Gives what a checkpoint holds of a trained network.

    Args:
        network: Its training-only heads are left out.
        kind: 'float32', or 'float16' for convolutions in half precision; norms and biases, which
            are few and sensitive, stay in float32.
    """
    skip = network.train_only_prefixes
    weights = {k: v for k, v in network.state_dict().items() if not k.startswith(skip)}
    if kind == 'float16':
        weights = {k: v.half() if v.ndim > 1 else v for k, v in weights.items()}
    return weights


def default_score(config: TrainConfig) -> str:
    """Gives the score that the checkpoint is used with when none is asked for."""
    if config.score:
        return config.score
    trained = objective_class(config.objective).score(config.objective_options)
    return trained or ('void' if config.void else 'max_logit')


def start_meta(config: TrainConfig) -> CheckpointMeta | None:
    """Gives the meta data of the checkpoint that a run starts from; None: from scratch.

    Raises:
        FileNotFoundError: There is no checkpoint `init`.
        ValueError: Its meta data cannot be read.
    """
    return Checkpoint.open(config.init).meta if config.init else None


def checkpoint_meta(
    config: TrainConfig, dataset: Dataset, progress: Progress, commit: str
) -> CheckpointMeta:
    """Gives the meta data of the weights of a run that are kept so far."""
    options = {k: v for k, v in config.model_options.items() if k != 'aux_heads'}
    start = start_meta(config)
    seen = () if start is None else start.trained_on
    now, split = (
        entry_name({'dataset': config.dataset, 'root': config.root, 'split': name})
        for name in (config.train_split, config.val_split)
    )
    learned = [*(entry_name(entry) for entry in config.also), now]
    return CheckpointMeta(
        model=config.model,
        model_options=options,
        class_names=dataset.classes.names,
        class_colors=dataset.classes.colors,
        dynamic_classes=dataset.classes.dynamic,
        mean=config.mean,
        std=config.std,
        gamma=1.0 if start is None else start.gamma,
        input_size=config.input_size,
        void_index=len(dataset.classes.names) if config.void else None,
        score=default_score(config),
        trained_on=(*(name for name in seen if name not in learned), *learned),
        training={
            'recipe': {k: v for k, v in config.as_dict().items() if k != 'root'},
            **({'selected_on': split} if config.keep == 'best' else {'validated_on': split}),
            'epoch': progress.kept_epoch,
            **{key: progress.kept[key] for key in ('val_miou', 'val_ap') if key in progress.kept},
        },
        commit=commit,
    )


def write_objective(out: Path, objective: nn.Module) -> None:
    """Writes the state of an objective that has one (a flow) beside the checkpoint."""
    state = objective.state_dict()
    if state:
        with writing(out / OBJECTIVE_FILE) as part:
            save_file({k: v.detach().cpu().clone().contiguous() for k, v in state.items()}, part)
