"""The section with training runs: how the validation went, and the pictures that a run left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import csv
from dataclasses import dataclass
from datetime import datetime
import json
import math
from pathlib import Path
from typing import Any

from anomaly_seg_ros.frames.images import is_hidden
from training.loop.run_folder import CONFIG_FILE, TABLE_FILE

from .charts import line_chart, Series, swatch
from .markup import Markup, tag
from .pictures import picture_cell, PictureStore
from .runs import last_written, Line

SHARES = {'val_miou': 'mIoU', 'val_ap': 'AP'}
"""Columns in 0..1 that are drawn."""

CLASS = 'iou_'
"""How the columns of classes begin."""

NUMBERS = {
    'loss': 'loss of the epochs',
    'bits_per_dim': 'bits/dim',
    'val_bits_per_dim': 'val bits/dim',
}
"""Columns whose first and last value are said."""

FACTS = ('model', 'flow', 'objective', 'loss', 'dataset', 'init', 'epochs', 'lr', 'batch_size')


@dataclass(frozen=True)
class Training:
    """The folder of a run of `train` or `train_flow`.

    Attributes:
        folder: Where it was read.
        written: When the run last wrote.
        config: Its recipe.
        rows: Column to number of each epoch; a column that an epoch lacks is not in it.
        pictures: Names of the pictures of samples, those of before the run first.
    """

    folder: Path
    written: datetime
    config: dict[str, Any]
    rows: tuple[dict[str, float], ...]
    pictures: tuple[str, ...]


def is_training(folder: Path) -> bool:
    """Says whether a folder is that of a training run."""
    return (folder / TABLE_FILE).is_file() and (folder / CONFIG_FILE).is_file()


def read_training(folder: Path) -> Training:
    """Reads the folder of a training run.

    Raises:
        ValueError: One of its files is cut short or foreign.
    """
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding='utf-8'))
        with (folder / TABLE_FILE).open(encoding='utf-8', newline='') as file:
            table = csv.DictReader(file)
            columns = table.fieldnames or ()
            rows = [_numbers(row) for row in table]
        if not isinstance(config, dict) or 'epoch' not in columns:
            raise ValueError(f'{CONFIG_FILE} is no recipe, or {TABLE_FILE} no table of epochs')
    except (ValueError, TypeError, RecursionError, csv.Error) as error:
        raise ValueError(f'cannot read the training run {str(folder)!r}: {error}') from None
    names = sorted(p.name for p in folder.glob('*samples*.png') if not is_hidden(p.name))
    return Training(
        folder,
        last_written(folder / TABLE_FILE),
        config,
        tuple(rows),
        tuple(sorted(names, key=lambda name: 'before' not in name)),
    )


def _numbers(row: dict[str, str]) -> dict[str, float]:
    """Gives the finite numbers of a line."""
    found = {key: float(value) for key, value in row.items() if value}
    return {key: value for key, value in found.items() if math.isfinite(value)}


def trainings_section(trainings: Sequence[Training]) -> Markup:
    """Gives a chart, the numbers and the pictures of each run."""
    if not trainings:
        return Markup()
    store = PictureStore()
    parts = [_training(training, store) for training in trainings]
    return tag('section', tag('h2', 'Training'), *parts, id='training')


def _training(training: Training, store: PictureStore) -> Markup:
    """Gives one run."""
    lines = {label: points for key, label in SHARES.items() if (points := _line(training, key))}
    series = [Series(label, i, points) for i, (label, points) in enumerate(lines.items())]
    chart = line_chart('Validation over the run', ('of the epochs', 'validation'), series)
    return tag(
        'figure',
        tag('figcaption', tag('h3', training.folder)),
        tag('dl', *_facts(training), class_='facts'),
        tag('div', tag('div', chart), _legend(lines), class_='charts') if lines else '',
        _classes(training),
        tag('div', *(_picture(training, name, store) for name in training.pictures), class_='row'),
        class_='training',
    )


def _line(training: Training, key: str) -> Line:
    """Gives a column over the share of all epochs."""
    whole = max(training.config.get('epochs') or 0, len(training.rows))
    return tuple((i / whole, row[key]) for i, row in enumerate(training.rows, 1) if key in row)


def _facts(training: Training) -> Iterable[Markup]:
    """Gives what the run was made of, and its numbers at the start and at the end."""
    facts = {key: training.config[key] for key in FACTS if training.config.get(key)}
    for key, label in NUMBERS.items():
        values = [row[key] for row in training.rows if key in row]
        if values:
            ends = dict.fromkeys(f'{value:.3f}' for value in (values[0], values[-1]))
            facts[label] = ' to '.join(ends)
    return (tag('div', tag('dt', key), tag('dd', value)) for key, value in facts.items())


def _legend(lines: dict[str, Line]) -> Markup:
    """Gives the last value of each line."""
    rows = []
    for index, (label, points) in enumerate(lines.items()):
        name = tag('th', tag('span', swatch(index), label), scope='row')
        rows.append(tag('tr', name, tag('td', f'{points[-1][1] * 100:.2f}', class_='num')))
    head = tag('tr', tag('th', 'Validation'), tag('th', 'at the end %'))
    return tag(
        'div',
        tag('table', tag('thead', head), tag('tbody', *rows), class_='legend'),
        class_='legend-box',
    )


def _classes(training: Training) -> Markup:
    """Gives the IoU of each class in the validation whose weights are kept, the best first."""
    validated = [row for row in training.rows if 'val_miou' in row]
    if not validated:
        return Markup()
    last = training.config.get('keep') == 'last'
    kept = validated[-1] if last else max(validated, key=lambda row: row['val_miou'])
    found = {k.removeprefix(CLASS): v for k, v in kept.items() if k.startswith(CLASS)}
    rows = [
        tag('tr', tag('th', name, scope='row'), tag('td', f'{100 * value:.2f}', class_='num'))
        for name, value in sorted(found.items(), key=lambda pair: -pair[1])
    ]
    head = tag('tr', tag('th', 'Class'), tag('th', 'IoU of the kept weights %'))
    return tag('table', tag('thead', head), tag('tbody', *rows), class_='legend')


def _picture(training: Training, name: str, store: PictureStore) -> Markup:
    """Gives a picture of the run with its name."""
    words = Path(name).stem.replace('_', ' ').capitalize()
    return picture_cell(f'{words} of {training.folder}', words, name, training.folder, store)
