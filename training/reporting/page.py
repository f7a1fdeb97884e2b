"""Puts the sections of a report together as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from string import Template

from anomaly_seg_ros import __version__

from .columns import METRICS
from .grids import grids_section
from .markup import join, Markup, tag
from .operating import operating_section
from .origins import commit_words, origins_section
from .pictures import frames_section
from .plots import by_place, classes_section, curves_section, reliability_section
from .runs import ReportRow, Run
from .speed import speed_section
from .table import ARROWS, results_section, table_columns
from .trainings import Training, trainings_section

HERE = Path(__file__).parent
TITLES = {
    'results': 'Results',
    'curves': 'Curves',
    'reliability': 'Reliability',
    'classes': 'Classes',
    'operating': 'Shipped threshold',
    'frames': 'Frames',
    'grids': 'Whole frames',
    'speed': 'Speed',
    'training': 'Training',
    'origins': 'How made',
    'metrics': 'Metrics',
}


def build_page(runs: Sequence[Run], trainings: Sequence[Training] = ()) -> str:
    """Gives the whole page of result folders and of training runs."""
    rows = [row for run in runs for row in run.rows]
    sections = {
        'results': results_section(rows),
        'curves': curves_section(rows),
        'reliability': reliability_section(rows),
        'classes': classes_section(rows),
        'operating': operating_section(rows),
        'frames': frames_section(runs),
        'grids': grids_section(runs),
        'speed': speed_section(rows),
        'training': trainings_section(trainings),
        'origins': origins_section(rows),
        'metrics': metrics_section(rows),
    }
    links = (tag('a', TITLES[key], href=f'#{key}') for key, part in sections.items() if part)
    return Template(_part('page.html')).substitute(
        style=_part('page.css'),
        script=_part('page.js'),
        title=tag('title', f'{_subject(runs, rows)}: anomaly segmentation results'),
        header=join([header(runs, trainings, rows), tag('nav', *links, aria_label='Sections')]),
        main=join([warnings_section(runs), glance(rows), *sections.values()]),
        footer=f'anomaly_seg_ros {__version__}, {_stamp(datetime.now(timezone.utc))}',
    )


def _part(name: str) -> str:
    return (HERE / name).read_text(encoding='utf-8')


def _stamp(when: datetime) -> str:
    return f'{when:%Y-%m-%d %H:%M} UTC'


def _names(rows: Iterable[ReportRow], key: str) -> list[str]:
    """Gives the different values of a key, in order."""
    return list(dict.fromkeys(row.name(key) for row in rows if row.name(key)))


def _subject(runs: Sequence[Run], rows: Sequence[ReportRow]) -> str:
    """Gives what was evaluated in a few words."""
    models = _names(rows, 'model')
    if len(models) > 3:
        return f'{len(models)} models'
    return ', '.join(models) or ('Results' if runs else 'Training')


def header(
    runs: Sequence[Run], trainings: Sequence[Training], rows: Sequence[ReportRow]
) -> Markup:
    """Says what was evaluated, when, and by which commit."""
    places, models = list(filter(None, by_place(rows))), _names(rows, 'model')
    many = [f'{len(runs)} folders'] if len(runs) > 1 else []
    if runs:
        many.append('1 row' if len(rows) == 1 else f'{len(rows)} rows')
    if trainings:
        many.append('1 training run' if len(trainings) == 1 else f'{len(trainings)} training runs')
    times = [*(run.written for run in runs), *(run.written for run in trainings)]
    written = sorted(set(map(_stamp, times)))
    facts = [
        ('Models', models if len(models) > 3 else []),
        ('Data', places),
        ('Scores', _names(rows, 'score')),
        ('Written', [' to '.join(dict.fromkeys((written[0], written[-1])))]),
        ('Commit', [commit_words(commit) for commit in _names(rows, 'commit')]),
        ('Results', many),
    ]
    pairs = (
        tag('div', tag('dt', label), tag('dd', ', '.join(values)))
        for label, values in facts
        if values
    )
    return tag(
        'header',
        tag('p', 'Anomaly segmentation', class_='over'),
        tag('h1', _subject(runs, rows)),
        tag('dl', *pairs, class_='facts'),
    )


def warnings_section(runs: Sequence[Run]) -> Markup:
    """Gives the warnings of all rows, and what could not be read."""
    found: dict[str, list[ReportRow]] = {}
    for run in runs:
        for row in run.rows:
            given = row.values.get('warnings') or []
            for warning in given if isinstance(given, list) else [given]:
                found.setdefault(str(warning), []).append(row)
    items = []
    for warning, rows in found.items():
        where = ', '.join(
            dict.fromkeys(f'{row.name("score")} on {row.name("dataset")}' for row in rows)
        )
        items.append(tag('li', tag('b', where), ' ', warning))
    items += [tag('li', note) for run in runs for note in run.notes]
    if not items:
        return Markup()
    heading = '1 warning' if len(items) == 1 else f'{len(items)} warnings'
    return tag(
        'section', tag('h2', '⚠ ', heading), tag('ul', *items), id='warnings', class_='warnings'
    )


def glance(rows: Sequence[ReportRow]) -> Markup:
    """Gives the best number of each set of frames and protocol in large type."""
    cards = [card for name, group in by_place(rows).items() if (card := _card(name, group))]
    return tag('section', *cards, class_='glance', id='glance') if cards else Markup()


def _card(name: str, rows: Sequence[ReportRow]) -> Markup:
    """Gives the row that is best by AP, or else by mIoU, of one set of frames."""
    for key in ('ap', 'miou'):
        ranked = [row for row in rows if row.number_of(key) is not None]
        if ranked and name:
            break
    else:
        return Markup()
    top = max(ranked, key=lambda row: row.number_of(key) or 0)
    columns = {column.key: column for column in METRICS}
    rest = [c for k in ('auroc', 'fpr95', 'miou') if k != key and (c := columns[k]).show(top)]
    details = (
        tag('span', tag('i', f'{column.label} '), column.show_with_unit(top), class_='pair')
        for column in rest
    )
    shown = columns[key]
    note = f'best {shown.label} of {len(ranked)}: ' if len(ranked) > 1 else f'{shown.label}, '
    several = len({row.checkpoint for row in ranked}) > 1
    whose = f' of {top.checkpoint}' if several and top.checkpoint else ''
    return tag(
        'div',
        tag('h2', name),
        tag('p', tag('b', shown.show(top)), tag('span', ' %'), class_='big'),
        tag('p', note, tag('b', top.name('score')), whose, class_='who'),
        tag('p', *details, class_='rest'),
        class_='card',
    )


def metrics_section(rows: Sequence[ReportRow]) -> Markup:
    """Explains each metric that the page shows in a sentence, with its direction."""
    shown = [column for column in table_columns(rows)[0] if column.meaning]
    groups = []
    for group, members in groupby(shown, key=lambda column: column.group):
        pairs = []
        for column in members:
            way = ''
            if column.better:
                arrow, words = ARROWS[column.better]
                way = tag('span', f'{arrow} {words}', class_='way')
            pairs.append(tag('div', tag('dt', column.label), tag('dd', column.meaning, ' ', way)))
        groups.append(tag('div', tag('h3', group), tag('dl', *pairs)))
    if not groups:
        return Markup()
    return tag(
        'section',
        tag('h2', 'Metrics'),
        tag('div', *groups, class_='columns definitions'),
        id='metrics',
    )
