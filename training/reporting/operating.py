"""The section on the threshold in force: what it marks, by third of the image and by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .columns import IN_FORCE
from .markup import Markup, tag
from .plots import row_labels
from .runs import finite, ReportRow

RATES = {'false_positive_share': 'False marks', 'recall': 'Recall', 'precision': 'Precision'}


def operating_section(rows: Sequence[ReportRow]) -> Markup:
    """Gives two small tables for each row that has a threshold of its own."""
    known = [row for row in rows if isinstance(row.values.get('by_third'), Sequence)]
    if not known:
        return Markup()
    parts: list[Markup] = []
    labels = row_labels(known)
    for row in known:
        by_class = f'by {row.name("by_class_rule") or "class"}'
        tables = [_groups(row, 'by_third', 'third', 'by third of the image')]
        tables.append(_groups(row, 'by_class', 'class', by_class))
        place = ' '.join(filter(None, (row.name('dataset'), row.name('split'))))
        if (given := finite(row.values.get('threshold_given'))) is not None:
            place += f', threshold {given:g} as given'
        title = tag(
            'summary', tag('b', labels[row.number]), ' ', tag('span', place, class_='hint')
        )
        parts.append(tag('details', title, *tables, class_='more', open=len(known) == 1))
    return tag('section', tag('h2', IN_FORCE), *parts, id='operating')


def _groups(row: ReportRow, key: str, name: str, title: str) -> Markup:
    """Gives a table with a line for each group of pixels, in percent."""
    value = row.values.get(key)
    several = value if isinstance(value, list) else []
    groups = [group for group in several if isinstance(group, Mapping)]
    heads = [tag('th', title, scope='col'), tag('th', 'Normal pixels', scope='col')]
    heads += [tag('th', f'{word}, %', scope='col') for word in RATES.values()]
    lines = []
    for group in groups:
        cells = [tag('td', f'{int(finite(group.get("n_normal")) or 0):,}', class_='num')]
        for rate in RATES:
            value = finite(group.get(rate))
            cells.append(tag('td', '' if value is None else f'{value * 100:.2f}', class_='num'))
        lines.append(tag('tr', tag('th', group.get(name), scope='row'), *cells))
    if not lines:
        return Markup()
    table = tag('table', tag('thead', tag('tr', *heads)), tag('tbody', *lines), class_='values')
    return tag('div', table, class_='scroll', tabindex='0', role='region', aria_label=title)
