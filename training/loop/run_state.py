"""Where a run stands: a state that it goes on from exactly."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, MISSING
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric

from training.datasets import Dataset
from training.recipes.flow_config import FlowConfig
from training.recipes.train_config import TrainConfig

from .run_folder import EpochRow, LAST_FILE, writing

RunConfig = TrainConfig | FlowConfig


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


def image_names(dataset: Dataset, root: Path) -> list[str]:
    """Gives the images of a dataset, sorted; those below `root` as from there, for it may move."""
    files = (dataset.files(index) for index in range(len(dataset)))
    images = [found[0] for found in files if found is not None]
    return sorted(str(p.relative_to(root) if p.is_relative_to(root) else p) for p in images)


def save_state(fabric: Fabric, out: Path, state: dict[str, Any]) -> None:
    """Writes the last state, at once; every rank must call it."""
    if fabric.is_global_zero:
        with writing(out / LAST_FILE) as part:
            fabric.save(part, state)
    else:
        fabric.save(out / LAST_FILE, state)


def read_state(
    out: Path,
    load: Callable[[Path], Any],
    config: RunConfig,
    may_differ: Collection[str],
    epochs_done: Callable[[dict[str, Any]], int],
) -> dict[str, Any]:
    """Gives the last state of a run with the same configuration.

    A run that has reached its last epoch goes on where `epochs` is more now.

    Args:
        out: The run's folder.
        load: Reads the file.
        config: Of the run that goes on; a key that the run began without had its default then.
        may_differ: Its keys that may have other values; those inside mappings as 'outer.inner'.
        epochs_done: Gives the whole epochs behind a state.

    Raises:
        ValueError: The file cannot be read, or the run was made with another configuration.
    """
    path = out / LAST_FILE
    try:
        state: dict[str, Any] = load(path)
        began = dict(state['config'])
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - damaged bytes raise whatever they lead to
        raise ValueError(
            f'{str(path)!r} is no whole state of a run; begin again with another --out'
        ) from None
    mine = config.as_dict()
    theirs = _flat(_defaults(config, mine.keys() - began.keys()) | began)
    mine = _flat(mine)
    changed = sorted(
        key
        for key in (mine.keys() | theirs.keys()) - set(may_differ)
        if mine.get(key) != theirs.get(key)
    )
    if changed == ['epochs']:
        done = epochs_done(state)
        if theirs['epochs'] <= done < mine['epochs']:
            return state
        raise ValueError(
            f'the run in {str(out)!r} has done {done} of its {theirs["epochs"]} epochs; finish it '
            'with the same epochs (and patience=0 where it ended for want of patience), and then '
            'go on with more'
        )
    if changed:
        changed = [key for key in changed if key != 'epochs']  # which may be more
        raise ValueError(
            f'the run in {str(out)!r} was started with other {changed}; give it the same, or '
            'begin again with another --out'
        )
    return state


def _defaults(config: RunConfig, names: Collection[str]) -> dict[str, Any]:
    """Gives the default of each of these fields that has one."""
    known = [field for field in fields(config) if field.name in names]
    values = {f.name: f.default for f in known} | {
        f.name: f.default_factory() for f in known if f.default_factory is not MISSING
    }
    return {name: value for name, value in values.items() if value is not MISSING}


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Gives the keys inside mappings as 'outer.inner' beside the others."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = value if isinstance(value, Mapping) else None
        flat |= {key: value} if inner is None else {f'{key}.{k}': v for k, v in inner.items()}
    return flat
