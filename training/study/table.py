"""The study's tables in Markdown, read back from the result folders of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

from training.loop.run_folder import CONFIG_FILE
from training.reporting.markdown import markdown_table
from training.results import read_frames, read_results, ResultRow, RESULTS_FILE

from .rows import CHOICES, GRIDS, StudyRow
from .steps import Data, TEST, TRAIN

ANOMALY_SETS = tuple(Data(Path()).anomaly_sets)
BUDGET = (
    'flow',
    'epochs',
    'batch_size',
    'patch',
    'crop',
    'scale',
    'optimizer',
    'lr',
    'schedule',
    'precision',
    'seed',
)
DASH = '-'
HEAD = """# The study of losses and scores

Made by `make study` (`python -m training.study --help`): each row is trained, fitted and measured
by `anomaly_seg train`, `fit_score` and `evaluate`, whose commands stand in the `.done` files below
`out/study`. Anomaly scores are measured on the torch engine with the protocol `exact`; `msp`,
`entropy` and `energy` at the temperature that was fitted on CamVid val; `mahalanobis` and `sml`
with statistics of CamVid train. Budgets are short: what differs by a point or two may differ the
other way round with another seed.
"""


@dataclass(frozen=True)
class Measured:
    """A row whose commands are done.

    Attributes:
        row: What it is.
        folder: Of its results.
    """

    row: StudyRow
    folder: Path

    def results(self, name: str) -> dict[str, ResultRow]:
        """Gives the measured scores of one evaluation by name; empty where it was not run."""
        folder = self.folder / name
        if not (folder / RESULTS_FILE).is_file():
            return {}
        return {str(row.score): row for row in read_results(folder)}

    def config(self) -> dict[str, Any] | None:
        """Gives what its training was made of; None for a checkpoint that was not trained here."""
        path = self.folder / TRAIN / CONFIG_FILE
        if not path.is_file():
            return None
        values: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
        return values


def write_tables(out: Path, path: Path) -> None:
    """Writes the tables of all rows below `out` that have been measured.

    Raises:
        FileNotFoundError: There is none.
    """
    parts = []
    for title, grid in GRIDS.items():
        trained = [Measured(row, out / row.name) for row in grid()]
        rows = [row for row in trained if row.row.measured and row.results(TEST)]
        if rows:
            parts += [f'## {title.capitalize()}', CHOICES[title]]
            parts += [*budgets(trained), commits(rows)]
            parts.append(classes_table(rows))
            parts += [
                anomaly_table(name, done)
                for name in ANOMALY_SETS
                if (done := [row for row in rows if row.results(name)])
            ]
    if not parts:
        raise FileNotFoundError(f'no measured row below {str(out)!r}; run the study first')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n\n'.join((HEAD.rstrip(), *parts)) + '\n', encoding='utf-8')


def budgets(rows: Sequence[Measured]) -> list[str]:
    """Gives a line for each training budget, naming the rows that had it."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        if (config := row.config()) is not None:
            text = ', '.join(f'{key} {config[key]}' for key in BUDGET if key in config)
            groups.setdefault(text, []).append(row.row.name)
    alone = len(groups) == 1
    return [
        f'Budget{"" if alone else " of " + ", ".join(names)}: {text}.'
        for text, names in groups.items()
    ]


def commits(rows: Sequence[Measured]) -> str:
    """Gives the line that says which state of the code measured."""
    found = {str(row.results(TEST)['msp'].commit) for row in rows}
    return f'Measured at commit {", ".join(sorted(found))}.'


def classes_table(rows: Sequence[Measured]) -> str:
    """Gives mIoU, and ECE and NLL before and after the temperature was fitted."""
    head = ['network', 'training', 'mIoU', 'ECE, T = 1', 'ECE', 'NLL, T = 1', 'NLL', 'T']
    lines = []
    for row in rows:
        result = row.results(TEST)['msp']
        lines.append(
            [
                row.row.network,
                row.row.training,
                percent(result.miou),
                percent(result.extra.get('ece_before')),
                percent(result.ece),
                number(result.extra.get('nll_before')),
                number(result.nll),
                number(result.temperature),
            ]
        )
    return 'CamVid test; mIoU and ECE in percent, NLL in nats:\n\n' + markdown_table(head, lines)


def anomaly_table(name: str, rows: Sequence[Measured]) -> str:
    """Gives AP / FPR95 of every score of every row on one set; the best AP is bold."""
    columns = dict.fromkeys(score for row in rows for score in row.row.measured_by)
    values = [[row.results(name).get(score) for score in columns] for row in rows]
    best = max((cell.ap for line in values for cell in line if cell and cell.ap), default=None)
    lines = [
        [row.row.network, row.row.training, *(pair(cell, best) for cell in line)]
        for row, line in zip(rows, values, strict=True)
    ]
    chance = f'{100 * base_rate(rows[0].folder / name):.1f}'
    return (
        f'{name}, AP / FPR95 in percent; a random score has {chance} / 95:\n\n'
        + markdown_table(['network', 'training', *columns], lines)
    )


def base_rate(folder: Path) -> float:
    """Gives the share of anomalous pixels among the labelled ones, a random score's AP."""
    frames = {frame.frame: frame for frame in read_frames(folder)}.values()
    anomalous = sum(frame.n_anomaly or 0 for frame in frames)
    pixels = sum(frame.n_pixels for frame in frames)
    return anomalous / pixels


def percent(value: float | None) -> str:
    """Gives a fraction in percent; a dash where it is undefined."""
    return DASH if value is None else f'{100 * value:.1f}'


def number(value: float | None) -> str:
    """Gives a number; a dash where it is undefined."""
    return DASH if value is None else f'{value:.3f}'


def pair(row: ResultRow | None, best: float | None) -> str:
    """Gives 'AP / FPR95', bold where AP is the best."""
    if row is None:
        return DASH
    text = f'{percent(row.ap)} / {percent(row.fpr95)}'
    return f'**{text}**' if row.ap is not None and row.ap == best else text
