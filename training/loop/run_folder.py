"""What a run leaves in its folder: the last state, the table and the checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
import csv
from dataclasses import dataclass, field
from pathlib import Path
import pickle
from typing import Any

from lightning.fabric import Fabric
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn, Tensor

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.scores import SCORES
from training.datasets import Dataset
from training.recipes.train_config import TrainConfig

from .run_files import LAST_FILE, OBJECTIVE_FILE

MAY_DIFFER = ('workers', 'root', 'init', 'outliers.root', 'objective_options.flow')
"""Keys that a resumed run may have other values of: files may have moved."""

EpochRow = dict[str, float]


@dataclass
class Progress:
    """Where a run stands: all that a resumed run must know beside weights and optimisers.

    Attributes:
        epoch: Epochs that are done.
        step_in_epoch: Steps of the current one that are done.
        kept_epoch: Epoch of the weights that are kept, counted from 1; below 0 before the first.
        sums: Loss terms by name, summed over the steps of the current epoch.
        rows: The table, one row an epoch; an epoch without validation lacks its columns.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    kept_epoch: int = -1
    sums: dict[str, float] = field(default_factory=dict)
    rows: list[EpochRow] = field(default_factory=list)

    @property
    def kept(self) -> EpochRow:
        """The row of the weights that are kept; empty before the first."""
        return self.rows[self.kept_epoch - 1] if self.kept_epoch > 0 else {}

    def means(self) -> EpochRow:
        """Gives 'loss' and each of its terms, as means over the steps of the epoch so far."""
        steps = max(self.step_in_epoch, 1)
        terms = {f'loss_{name}': total / steps for name, total in self.sums.items()}
        return {'loss': sum(terms.values())} | terms


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turns a failure to write into one line.

    Raises:
        ValueError: The disk is full or the like; the last saved state is whole.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = ' '.join(str(error).split())
        raise ValueError(
            f'cannot write {str(path)!r}: {reason}; make room and go on with --resume from the '
            'last state that was saved'
        ) from None


def check_resume(out: Path, resume: bool) -> None:
    """Refuses to go on with a run that is not there, and to write over one that is.

    Raises:
        FileNotFoundError: There is nothing to resume.
        ValueError: The folder holds a run already.
    """
    last = out / LAST_FILE
    if resume and not last.is_file():
        raise FileNotFoundError(f'nothing to resume: no {str(last)!r}')
    if not resume and last.exists():
        raise ValueError(
            f'{str(out)!r} already holds a run; go on with --resume, or choose another --out'
        )


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to; it takes its place once all is written.

    Raises:
        ValueError: As `write_errors`; what was at `path` before still is.
    """
    part = path.with_name(f'{path.name}.part')
    with write_errors(path):
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def write_rows(path: Path, rows: list[EpochRow]) -> None:
    """Writes a CSV file anew, at once; what a row lacks stays empty."""
    with writing(path) as part, part.open('w', newline='', encoding='utf-8') as file:
        names = list(dict.fromkeys(name for row in rows for name in row))
        table = csv.DictWriter(file, fieldnames=names)
        table.writeheader()
        table.writerows(rows)


def save_state(fabric: Fabric, out: Path, state: dict[str, Any]) -> None:
    """Writes the last state, at once; every rank must call it."""
    if fabric.is_global_zero:
        with writing(out / LAST_FILE) as part:
            fabric.save(part, state)
    else:
        fabric.save(out / LAST_FILE, state)


def read_state(fabric: Fabric, out: Path, config: TrainConfig) -> dict[str, Any]:
    """Gives the last state of a run with the same configuration.

    Raises:
        ValueError: The file cannot be read, or the run was made with another configuration.
    """
    path = out / LAST_FILE
    try:
        state: dict[str, Any] = fabric.load(path)
        theirs = state['config']
    except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError):
        raise ValueError(
            f'{str(path)!r} is no whole state of a run; begin again with another --out'
        ) from None
    mine, theirs = _flat(config.as_dict()), _flat(theirs)
    changed = sorted(
        key
        for key in (mine.keys() | theirs.keys()) - set(MAY_DIFFER)
        if mine.get(key) != theirs.get(key)
    )
    if changed:
        raise ValueError(
            f'the run in {str(out)!r} was started with other {changed}; give it the same, or '
            'begin again with another --out'
        )
    return state


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Gives the keys inside mappings as 'outer.inner' beside the others."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = value if isinstance(value, Mapping) else None
        flat |= {key: value} if inner is None else {f'{key}.{k}': v for k, v in inner.items()}
    return flat


def write_objective(out: Path, objective: nn.Module) -> None:
    """Writes the state of an objective that has one (a flow) beside the checkpoint."""
    state = objective.state_dict()
    if state:
        with writing(out / OBJECTIVE_FILE) as part:
            save_file({k: v.detach().cpu().clone().contiguous() for k, v in state.items()}, part)


def stored_weights(network: nn.Module, kind: str) -> dict[str, Tensor]:
    """Gives what a checkpoint holds of a trained network.

    Args:
        network: Its training-only heads are left out.
        kind: 'float32', or 'float16' for convolutions in half precision; norms and biases, which
            are few and sensitive, stay in float32.
    """
    skip = tuple(getattr(network, 'train_only_prefixes', ()))
    weights = {k: v for k, v in network.state_dict().items() if not skip or not k.startswith(skip)}
    if kind == 'float16':
        weights = {k: v.half() if v.ndim > 1 else v for k, v in weights.items()}
    return weights


def default_score(config: TrainConfig) -> str:
    """Gives the score that the checkpoint is used with when none is asked for."""
    if config.score:
        return config.score
    if config.objective == 'dense_hybrid' and not config.objective_options.get('posterior', True):
        return 'energy'  # what is left of the score without the head
    if config.objective in SCORES:
        return config.objective
    return 'void' if config.void else 'max_logit'


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
    now, split = (f'{config.dataset} {name}' for name in (config.train_split, config.val_split))
    return CheckpointMeta(
        model=config.model,
        model_options=options,
        class_names=dataset.classes.names,
        class_colors=dataset.classes.colors,
        mean=config.mean,
        std=config.std,
        gamma=1.0 if start is None else start.gamma,
        input_size=config.input_size,
        void_index=len(dataset.classes.names) if config.void else None,
        score=default_score(config),
        trained_on=(*(name for name in seen if name != now), now),
        training={
            'recipe': {k: v for k, v in config.as_dict().items() if k != 'root'},
            **({'selected_on': split} if config.keep == 'best' else {'validated_on': split}),
            'epoch': progress.kept_epoch,
            **{key: progress.kept[key] for key in ('val_miou', 'val_ap') if key in progress.kept},
        },
        commit=commit,
    )
