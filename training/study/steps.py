"""The commands of one row, each run as a user would type it, and skipped where it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
import shlex
import subprocess
import sys

from .rows import BASELINE, FITTED, PLAIN_SCORES, Row

FITTED_FOLDER = 'fitted'
"""The checkpoint with its temperature and statistics."""

TEST = 'camvid_test'
"""Folder of the results on the classes."""


@dataclass(frozen=True)
class Step:
    """One command; what it prints goes to a log, and a mark says that it ended well.

    Attributes:
        name: Of its log and its mark.
        arguments: Behind `anomaly_seg`.
        folder: Of log and mark.
        state: Where this file is there, the command goes on from it.
    """

    name: str
    arguments: tuple[str, ...]
    folder: Path
    state: Path | None = None

    @property
    def command(self) -> str:
        """As a user would type it."""
        return shlex.join(['anomaly_seg', *self.arguments])

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.folder / f'{self.name}.log'

    @property
    def mark(self) -> Path:
        """Holds the command once it has ended well."""
        return self.folder / f'{self.name}.done'


@dataclass(frozen=True)
class Data:
    """Where the study's data lie: folders of the names of `../shared/data`."""

    folder: Path

    @property
    def camvid(self) -> Path:
        """Trains, validates and tests the classes."""
        return self.folder / 'camvid'

    @property
    def negatives(self) -> Path:
        """Photos to paste."""
        return self.folder / 'negatives'

    @property
    def anomaly_sets(self) -> dict[str, tuple[str, Path]]:
        """Folder of results to (dataset, root)."""
        return {
            'camvid_anomaly_val': ('folder', self.folder / 'camvid_anomaly_val'),
            'road_anomaly_val': ('road_anomaly', self.folder / 'road_anomaly_val'),
        }


def steps(row: Row, data: Data, out: Path, changes: Sequence[str]) -> list[Step]:
    """Gives the commands of a row, in order.

    Args:
        row: What to train and measure.
        data: Of training and measuring.
        out: The row's folder.
        changes: `key=value` on top of its recipe.
    """
    trained = str(out / 'train' / 'checkpoint') if row.recipe else BASELINE
    return [
        *_training(row, data, out, changes),
        *_fitting(trained, data, out),
        *_measuring(row, data, out),
    ]


def _training(row: Row, data: Data, out: Path, changes: Sequence[str]) -> list[Step]:
    if row.recipe is None:
        return []
    changes = [f'root={data.camvid}', *changes]
    result: list[Step] = []
    if row.flow is not None:
        flow = out / 'flow'
        result.append(
            Step(
                'flow',
                ('train_flow', str(row.flow), f'root={data.camvid}', '--out', str(flow)),
                out,
                flow / 'last.ckpt',
            )
        )
        changes.append(f'objective_options.flow={flow / "flow.safetensors"}')
    if row.start:
        changes.append(f'init={out.parent / row.start / "train" / "checkpoint"}')
    if row.outliers:
        changes.append(f'outliers.root={data.negatives}')
    folder = out / 'train'
    arguments = ('train', str(row.recipe), *changes, '--out', str(folder))
    return [*result, Step('train', arguments, out, folder / 'last.ckpt')]


def _fitting(trained: str, data: Data, out: Path) -> list[Step]:
    """Fits temperature and statistics into a copy of the checkpoint."""
    arguments = (
        *('fit_score', '--checkpoint', trained, '--score', ','.join(('temperature', *FITTED))),
        *('--dataset', 'camvid', '--root', str(data.camvid), '--out', str(out / FITTED_FOLDER)),
    )
    return [Step('fit', arguments, out)]


def _measuring(row: Row, data: Data, out: Path) -> list[Step]:
    scores = (*PLAIN_SCORES, *FITTED, *row.scores)
    return [
        _evaluation(out, TEST, ('msp',), 'camvid', data.camvid, 'test'),
        *(
            _evaluation(out, name, scores, dataset, root)
            for name, (dataset, root) in data.anomaly_sets.items()
        ),
    ]


def _evaluation(
    out: Path,
    name: str,
    scores: Sequence[str],
    dataset: str,
    root: Path,
    split: str | None = None,
) -> Step:
    arguments = (
        *('evaluate', '--checkpoint', str(out / FITTED_FOLDER), '--score', ','.join(scores)),
        *('--engine', 'torch', '--dataset', dataset, '--root', str(root)),
        *(('--split', split) if split else ()),
        *('--out', str(out / name)),
    )
    return Step(name, arguments, out)


def run(step: Step) -> None:
    """Runs a command unless the same has ended well before.

    Raises:
        ValueError: It failed; the text names the command and its log.
    """
    if step.mark.is_file() and step.mark.read_text(encoding='utf-8') == step.command:
        return
    print(step.command, flush=True)
    step.folder.mkdir(parents=True, exist_ok=True)
    resume = ['--resume'] if step.state is not None and step.state.is_file() else []
    with step.log.open('w', encoding='utf-8') as log:
        status = subprocess.run(
            [sys.executable, '-m', 'anomaly_seg_ros', *step.arguments, *resume],
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if status:
        lines = step.log.read_text(encoding='utf-8').strip().splitlines() or ['it said nothing']
        raise ValueError(
            f'{step.command!r} failed with status {status}: {lines[-1]}; see {str(step.log)!r}'
        )
    step.mark.write_text(step.command, encoding='utf-8')
