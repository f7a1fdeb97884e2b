"""The section on how each number was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .columns import Column, DATASET, filled, KNOWN, SETTINGS, shared, SPLIT
from .markup import Markup, tag
from .plots import row_labels
from .runs import ReportRow
from .speed import is_speed_extra

UNLISTED = frozenset(
    {'command', 'commit', 'iou', 'class_names', 'warnings', 'by_third', 'by_class', 'bootstrap'}
)
"""Keys that have another place on the page."""

OPEN = 12
"""Cards up to which all are open."""


def origins_section(rows: Sequence[ReportRow]) -> Markup:
    """Gives one card per command, with the rows that it made."""
    if not rows:
        return Markup()
    groups: dict[tuple[object, ...], list[ReportRow]] = {}
    for row in rows:
        key = (row.folder, *map(row.name, ('command', 'commit', 'dataset', 'split', 'model')))
        groups.setdefault(key, []).append(row)
    cards = [_card(group, is_open=len(groups) <= OPEN) for group in groups.values()]
    return tag('section', tag('h2', 'How each number was made'), *cards, id='origins')


def _card(rows: Sequence[ReportRow], is_open: bool) -> Markup:
    """Gives the command and settings of rows that share them."""
    row = rows[0]
    columns = filled((DATASET, SPLIT, *SETTINGS), rows)
    same = shared(columns, rows)
    differing = [column for column in columns if column not in same]
    facts = {column.label: column.show(row) for column in same}
    facts |= {'Commit': commit_words(row.name('commit')), 'Folder': str(row.folder)}
    pairs = [tag('div', tag('dt', k), tag('dd', v)) for k, v in facts.items() if v]
    if differing:
        scores: list[object] = [', '.join(dict.fromkeys(row.name('score') for row in rows))]
    else:
        scores = [tag('span', _score(r), id=f'row-{r.number}', class_='pair') for r in rows]
    title = ' '.join(filter(None, (row.name('dataset'), row.name('split'), row.name('model'))))
    command = row.name('command') or 'the command was not recorded'
    return tag(
        'details',
        tag('summary', tag('b', title or row.folder.name), tag('span', *scores, class_='hint')),
        tag('pre', tag('code', command), tabindex='0'),
        tag('dl', *pairs, class_='facts'),
        _settings_table(differing, rows) if differing else '',
        _more(rows),
        class_='origin',
        open=is_open,
    )


def _score(row: ReportRow) -> str:
    return row.name('score') or f'row {row.number}'


def _settings_table(columns: Sequence[Column], rows: Sequence[ReportRow]) -> Markup:
    """Gives the settings in which rows of one command differ, a line per row."""
    head = tag('tr', tag('th', 'Score'), *(tag('th', column.label) for column in columns))
    lines = [
        tag(
            'tr',
            tag('th', _score(row), scope='row'),
            *(tag('td', column.show(row)) for column in columns),
            id=f'row-{row.number}',
        )
        for row in rows
    ]
    return _scrolling(tag('table', tag('thead', head), tag('tbody', *lines), class_='values'))


def _scrolling(table: Markup) -> Markup:
    return tag('div', table, class_='scroll', tabindex='0', role='region', aria_label='Values')


def _more(rows: Sequence[ReportRow]) -> Markup:
    """Gives what the rows hold beyond the columns of the page, folded away."""
    found = [extras(row) for row in rows]
    keys = dict.fromkeys(key for each in found for key in each)
    if not keys:
        return Markup()
    values = {key: [each.get(key, '') for each in found] for key in keys}
    table = _values_table(values, list(row_labels(rows).values()))
    return tag('details', tag('summary', 'All recorded values'), table, class_='more')


def _values_table(values: Mapping[str, Sequence[str]], labels: Sequence[str]) -> Markup:
    """Gives a table with a line per key and a column per row; equal values stand once."""
    heads = [tag('th', label, scope='col') for label in labels]
    lines = []
    for key, words in values.items():
        if len(set(words)) == 1:
            cells = [tag('td', words[0], colspan=len(words))]
        else:
            cells = [tag('td', word) for word in words]
        lines.append(tag('tr', tag('th', key, scope='row'), *cells))
    head = tag('thead', tag('tr', tag('td'), *heads))
    return _scrolling(tag('table', head, tag('tbody', *lines), class_='values'))


def commit_words(commit: str) -> str:
    """Gives a commit, and says where the tree held more than that.

    >>> commit_words('540b11e-dirty')
    '540b11e with uncommitted changes'
    """
    clean = commit.removesuffix('-dirty')
    return clean if clean == commit else f'{clean} with uncommitted changes'


def extras(row: ReportRow) -> dict[str, str]:
    """Gives what a row holds beyond the columns of the page, as text."""
    words = {
        key.replace('_', ' '): plain(value)
        for key, value in row.values.items()
        if key not in KNOWN | UNLISTED and not is_speed_extra(key)
    }
    return {key: value for key, value in words.items() if value}


def plain(value: object) -> str:
    """Gives a value of any kind as short text.

    >>> plain(0.1234561), plain([1, 2]), plain({'a': 1.5}), plain(None), plain(True)
    ('0.123456', '1, 2', 'a 1.5', '', 'yes')
    """
    if value is None:
        return ''
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, int):
        return f'{value:,}'
    if isinstance(value, float):
        return f'{value:.6g}'
    if isinstance(value, Mapping):
        return ', '.join(f'{key} {plain(inner)}' for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ', '.join(map(plain, value))
    return str(value)
