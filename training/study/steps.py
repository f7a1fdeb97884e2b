"""The commands of one row, each run as a user would type it, and skipped where it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import hashlib
import json
from pathlib import Path
import shlex
import shutil
import subprocess
import sys

from anomaly_seg_ros.scores import score_class
from training.loop.run_folder import KEPT_FOLDER, LAST_FILE
from training.recipes.recipe import read_recipe

from .rows import BASELINE, StudyRow

FITTED_FOLDER = 'fitted'
"""The checkpoint with its temperature and statistics."""

TRAIN = 'train'
"""Step and folder of the training."""

TEST = 'camvid_test'
"""Folder of the results on the classes."""


@dataclass(frozen=True)
class StudyStep:
    """One command; what it prints goes to a log, and a mark says that it ended well.

    Attributes:
        name: Of its log and its mark.
        arguments: Behind `anomaly_seg`.
        folder: Of log and mark.
        produces: Folder that it fills; removed before a run on changed input.
        state: Where this file is there, the command goes on from it.
        recipe: What it reads beside its arguments, as text.
        needs: Marks of the commands whose work it builds on.
    """

    name: str
    arguments: tuple[str, ...]
    folder: Path
    produces: Path
    state: Path | None = None
    recipe: str = ''
    needs: tuple[Path, ...] = ()

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
        """Holds `signature` once the command has ended well."""
        return self.folder / f'{self.name}.done'

    @property
    def signature(self) -> str:
        """The command, and a hash of what it was given to work on."""
        given = [self.recipe.encode(), *(path.read_bytes() for path in self.needs)]
        return f'{self.command}\n{hashlib.sha256(b"".join(given)).hexdigest()}\n'


@dataclass(frozen=True)
class Data:
    """Where the study's data lie: folders of the names of `../shared/data`."""

    folder: Path

    @property
    def camvid(self) -> Path:
        """Trains, validates and tests the classes."""
        return self.folder / 'camvid'

    @property
    def anomaly_sets(self) -> dict[str, tuple[str, Path]]:
        """Folder of results to (dataset, root)."""
        return {
            'camvid_anomaly_val': ('folder', self.folder / 'camvid_anomaly_val'),
            'road_anomaly_val': ('road_anomaly', self.folder / 'road_anomaly_val'),
            'other_cameras_val': ('folder', self.folder / 'other_cameras_val'),
        }

    @property
    def weights(self) -> Path:
        """Public weights files."""
        return self.folder.parent / 'weights'


def steps(row: StudyRow, data: Data, out: Path, changes: Sequence[str]) -> list[StudyStep]:
    """Gives the commands of a row, in order.

    Args:
        row: What to train and measure.
        data: Of training and measuring.
        out: The row's folder.
        changes: `key=value` on top of its recipe.
    """
    training = _training(row, data, out, changes)
    if not row.measured:
        return training
    trained = str(out / TRAIN / KEPT_FOLDER) if training else BASELINE
    fit = _fitting(row, trained, data, out, tuple(step.mark for step in training))
    return [*training, fit, *_measuring(row, data, out, fit.mark)]


def _training(row: StudyRow, data: Data, out: Path, changes: Sequence[str]) -> list[StudyStep]:
    if row.recipe is None:
        return []
    # A flow has no keys of a network's recipe.
    changes = [f'root={data.camvid}', *(changes if row.command == 'train' else ())]
    needs: list[Path] = []
    if row.flow:
        flow = out.parent / row.flow
        changes.append(f'objective_options.flow={flow / TRAIN / "flow.safetensors"}')
        needs.append(flow / f'{TRAIN}.done')
    if row.start:
        start = out.parent / row.start
        changes.append(f'init={start / TRAIN / KEPT_FOLDER}')
        needs.append(start / f'{TRAIN}.done')
    if row.outliers:
        changes.append(f'outliers.root={data.folder / row.outliers}')
    folder = out / TRAIN
    step = StudyStep(
        TRAIN,
        (row.command, str(row.recipe), *changes, '--out', str(folder)),
        out,
        folder,
        folder / LAST_FILE,
        json.dumps(read_recipe(row.recipe, changes), sort_keys=True),
        tuple(needs),
    )
    return [step]


def _fitting(
    row: StudyRow, trained: str, data: Data, out: Path, needs: tuple[Path, ...]
) -> StudyStep:
    """Fits temperature and statistics into a copy of the checkpoint."""
    fitted = ['temperature'] if row.logits else []
    fitted += [score for score in row.measured_by if score_class(score).statistics]
    arguments = (
        *('fit_score', '--checkpoint', trained, '--score', ','.join(fitted)),
        *('--dataset', 'camvid', '--root', str(data.camvid), '--out', str(out / FITTED_FOLDER)),
    )
    return StudyStep('fit', arguments, out, out / FITTED_FOLDER, needs=needs)


def _measuring(row: StudyRow, data: Data, out: Path, fitted: Path) -> list[StudyStep]:
    return [
        _evaluation(out, fitted, TEST, ('msp',), 'camvid', data.camvid, 'test'),
        *(
            _evaluation(out, fitted, name, row.measured_by, dataset, root)
            for name, (dataset, root) in data.anomaly_sets.items()
        ),
    ]


def _evaluation(
    out: Path,
    fitted: Path,
    name: str,
    scores: Sequence[str],
    dataset: str,
    root: Path,
    split: str | None = None,
) -> StudyStep:
    arguments = (
        *('evaluate', '--checkpoint', str(out / FITTED_FOLDER), '--score', ','.join(scores)),
        *('--engine', 'torch', '--dataset', dataset, '--root', str(root)),
        *(('--split', split) if split else ()),
        *('--out', str(out / name)),
    )
    return StudyStep(name, arguments, out, out / name, needs=(fitted,))


def run(step: StudyStep) -> None:
    """Runs a command unless the same has ended well before, on the same input.

    Raises:
        ValueError: It failed; the text names the command and its log.
    """
    if step.mark.is_file():
        if step.mark.read_text(encoding='utf-8') == step.signature:
            return
        step.mark.unlink()
        shutil.rmtree(step.produces, ignore_errors=True)
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
    step.mark.write_text(step.signature, encoding='utf-8')
