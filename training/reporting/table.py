"""The sortable table of all rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from .columns import (
    best_rows,
    Column,
    DATASET,
    filled,
    METRICS,
    SCORE,
    SETTINGS,
    shared,
    SPLIT,
)
from .markup import DASH, join, Markup, tag
from .runs import finite, ReportRow

BEHIND = 'Settings'
ARROWS = {1: ('↑', 'higher is better'), -1: ('↓', 'lower is better')}


def table_columns(rows: Sequence[ReportRow]) -> tuple[list[Column], list[Column]]:
    """Gives the columns of the table, and the settings that all rows share.

    Settings stand left where they tell rows of one score apart, else behind the numbers.
    """
    settings = filled(SETTINGS, rows)
    same = shared(settings, rows)
    left = [SCORE, *filled((DATASET, SPLIT), rows)]
    telling = [column for column in settings if tells_apart(column, rows)]
    rest = [replace(c, group=BEHIND) for c in settings if c not in same and c not in telling]
    return left + telling + filled(METRICS, rows) + rest, same


def tells_apart(column: Column, rows: Sequence[ReportRow]) -> bool:
    """Says whether rows with the same score on the same data differ in a setting."""
    seen: dict[tuple[str, ...], str] = {}
    for row in rows:
        key = tuple(row.name(name) for name in ('dataset', 'split', 'score'))
        if seen.setdefault(key, column.show(row)) != column.show(row):
            return True
    return False


def results_section(rows: Sequence[ReportRow]) -> Markup:
    """Gives the section with the table of all rows."""
    if not rows:
        return Markup()
    columns, same = table_columns(rows)
    table = tag(
        'table',
        tag('thead', _group_heads(columns), _heads(columns)),
        tag('tbody', *_body(columns, rows)),
        class_='sortable',
        id='results-table',
    )
    region = tag(
        'div', table, class_='scroll', tabindex='0', role='region', aria_label='Table of results'
    )
    return tag(
        'section',
        tag('h2', 'Results'),
        _same_line(same, rows),
        region,
        tag(
            'p',
            'Click a heading to sort. ',
            tag('b', 'Highlighted', class_='best-key'),
            ': best of its dataset, split and protocol. ↑ higher is better, ↓ lower is better.',
            class_='hint',
        ),
        id='results',
    )


def _same_line(same: Sequence[Column], rows: Sequence[ReportRow]) -> Markup:
    """Says what all rows have in common."""
    if not same:
        return Markup()
    parts = [
        tag('span', tag('i', f'{column.label} '), column.show(rows[0]), class_='pair')
        for column in same
    ]
    return tag('p', 'All rows: ' if len(rows) > 1 else '', *parts, class_='same')


def _group_heads(columns: Sequence[Column]) -> Markup:
    """Gives the line of heads over several columns."""
    cells = [tag('td', class_='sticky')]
    for group, members in groupby(columns, key=lambda column: column.group):
        count = len(list(members))
        if group:
            cells.append(tag('th', group, colspan=count, scope='colgroup', class_='first'))
        else:
            cells.append(tag('td', colspan=count - 1))
    return tag('tr', *cells, class_='groups')


def _heads(columns: Sequence[Column]) -> Markup:
    """Gives the line of buttons that sort."""
    cells = []
    for index, column in enumerate(columns):
        button = tag(
            'button',
            join([column.label, *_signs(column)]),
            type='button',
            data_first='descending' if column.better > 0 else 'ascending',
        )
        cells.append(
            tag(
                'th',
                button,
                scope='col',
                aria_sort='none',
                data_key=column.key,
                title=column.meaning or None,
                class_=_cell_class(columns, index),
            )
        )
    return tag('tr', *cells)


def _signs(column: Column) -> list[Markup]:
    """Gives the arrow of direction and the unit behind a heading."""
    signs = []
    if column.better:
        arrow, words = ARROWS[column.better]
        signs.append(tag('span', arrow, class_='arrow', role='img', aria_label=words))
    if column.unit not in ('text', ''):
        signs.append(tag('span', column.unit, class_='unit'))
    return signs


def _cell_class(columns: Sequence[Column], index: int) -> str | None:
    """Gives the classes that all cells of a column share."""
    column = columns[index]
    classes = [
        'num' if column.unit != 'text' or column.key == 'input_size' else '',
        'sticky' if index == 0 else '',
        'first' if index and column.group != columns[index - 1].group else '',
    ]
    return ' '.join(filter(None, classes)) or None


def _body(columns: Sequence[Column], rows: Sequence[ReportRow]) -> list[Markup]:
    """Gives the lines of the table."""
    best = {column.key: best_rows(column, rows) for column in columns}
    lines = []
    for row in rows:
        cells = []
        for index, column in enumerate(columns):
            is_best = row.number in best[column.key]
            base = _cell_class(columns, index)
            cells.append(
                tag(
                    'th' if index == 0 else 'td',
                    _cell(column, row),
                    scope='row' if index == 0 else None,
                    class_=' '.join(filter(None, [base, 'best' if is_best else ''])) or None,
                    data_value=column.sort_value(row),
                )
            )
        lines.append(tag('tr', *cells, data_row=row.number))
    return lines


def _cell(column: Column, row: ReportRow) -> Markup:
    """Gives what stands in a cell."""
    if column is SCORE:
        return _score_cell(row)
    value = column.show(row)
    if column.key == 'checkpoint':
        return tag('span', row.checkpoint, title=value)
    parts: list[object] = [value]
    if column.key == 'ap' and (bounds := ap_bounds(row)):
        parts.append(tag('small', bounds, title='AP lies between these'))
    if interval := resampled(column, row):
        parts.append(tag('small', interval, title=bootstrap_rule(row)))
    return join(parts)


def resampled(column: Column, row: ReportRow) -> str:
    """Gives between which values a number lies over resamples of the frames, '' if unknown."""
    found = row.values.get('bootstrap')
    # The numbers of whole frames, and the engine's precision, have none of the same name.
    name = column.key.removeprefix('operating.') if column.unit == '%' else ''
    ends = found.get(name) if isinstance(found, Mapping) else None
    if not isinstance(ends, Sequence) or len(ends) != 2:
        return ''
    low, high = (finite(value) for value in ends)
    return '' if low is None or high is None else f'[{low * 100:.1f} {DASH} {high * 100:.1f}]'


def bootstrap_rule(row: ReportRow) -> str:
    """Gives what these values mean."""
    found = row.values.get('bootstrap')
    return str(found.get('rule', '')) if isinstance(found, Mapping) else ''


def ap_bounds(row: ReportRow) -> str:
    """Gives the bounds that counting in bins left to AP, '' where two digits cannot tell them.

    >>> from pathlib import Path
    >>> ap_bounds(ReportRow(1, Path(), {'ap_interval': [0.1, 0.100001]}))
    ''
    """
    interval = row.values.get('ap_interval')
    if not isinstance(interval, Sequence) or len(interval) != 2:
        return ''
    low, high = ('' if (v := finite(value)) is None else f'{v * 100:.2f}' for value in interval)
    return f'{low} {DASH} {high}' if low and high and low != high else ''


def _score_cell(row: ReportRow) -> Markup:
    """Gives the score's name with the link to how its numbers were made."""
    link = tag(
        'a',
        row.name('score') or '(no score)',
        href=f'#row-{row.number}',
        title='How these numbers were made',
    )
    if not row.values.get('warnings'):
        return link
    sign = tag('a', '⚠', href='#warnings', class_='alert', title='See the warnings')
    return join([link, ' ', sign])
