"""The sections with PR and ROC curves, and with reliability diagrams."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .charts import guide, line_chart, reliability_chart, Series, swatch
from .columns import Column, metric, size
from .markup import DASH, join, Markup, tag
from .runs import Bin, Curve, finite, ReportRow

SHOWN = 10
"""Curves in one chart; more cannot be told apart."""

LEGEND = (metric('ap'), metric('auroc'), metric('fpr95'))
TELLING = ('model', 'checkpoint', 'engine', 'precision')


def place(row: ReportRow) -> str:
    """Gives the dataset and split of a row, and its protocol where that is not `exact`.

    >>> from pathlib import Path
    >>> place(ReportRow(1, Path(), {'dataset': 'camvid', 'split': 'test', 'protocol': 'course'}))
    'camvid test, protocol course'
    """
    name = ' '.join(filter(None, (row.name('dataset'), row.name('split'))))
    protocol = row.name('protocol')
    return f'{name}, protocol {protocol}' if protocol not in ('', 'exact') else name


def by_place(rows: Iterable[ReportRow]) -> dict[str, list[ReportRow]]:
    """Gives the rows of each dataset, split and protocol."""
    groups: dict[str, list[ReportRow]] = {}
    for row in rows:
        groups.setdefault(place(row), []).append(row)
    return groups


def row_labels(rows: Sequence[ReportRow]) -> dict[int, str]:
    """Gives each row's score, with what tells it from others of that score."""
    labels = {}
    for row in rows:
        twins = [other for other in rows if other.name('score') == row.name('score')]
        parts = [row.name('score') or '(no score)']
        parts += [
            (row.checkpoint if key == 'checkpoint' else row.name(key)) or DASH
            for key in TELLING
            if len({other.name(key) for other in twins}) > 1
        ]
        if len({size(other) for other in twins}) > 1:
            parts.append(size(row))
        labels[row.number] = ' · '.join(parts)
    seen = list(labels.values())
    return {n: f'{v} · row {n}' if seen.count(v) > 1 else v for n, v in labels.items()}


def curves_section(rows: Sequence[ReportRow]) -> Markup:
    """Gives PR and ROC of each dataset and split, all scores in one chart."""
    drawn = [row for row in rows if row.curve and (row.curve.pr or row.curve.roc)]
    if not drawn:
        return Markup()
    groups = by_place(drawn)
    labels = {
        number: label for group in groups.values() for number, label in row_labels(group).items()
    }
    # A score keeps its colour over the whole page.
    colours = {label: index for index, label in enumerate(dict.fromkeys(labels.values()))}
    figures = [
        _curves_figure(name, group, labels, colours) for name, group in groups.items() if group
    ]
    lede = (
        'All scores of a dataset in one chart. Dotted on the left: what guessing gives; on the '
        'right: 95 % of the anomalous pixels found, where FPR95 is read.'
    )
    return tag(
        'section', tag('h2', 'Curves'), tag('p', lede, class_='lede'), *figures, id='curves'
    )


def _curves_figure(
    name: str, rows: Sequence[ReportRow], labels: dict[int, str], colours: dict[str, int]
) -> Markup:
    """Gives the two charts of one dataset with their legend."""
    ranked = sorted(rows, key=lambda row: -(row.number_of('ap') or 0))[:SHOWN]
    pairs = [(row, row.curve) for row in ranked if row.curve]

    def lines(kind: str) -> list[Series]:
        return [
            Series(labels[row.number], colours[labels[row.number]], getattr(curve, kind))
            for row, curve in reversed(pairs)  # the best on top
        ]

    rate = next((r for row in ranked if (r := row.number_of('base_rate')) is not None), None)
    base = [] if rate is None else [guide(rate)]
    note = '' if rate is None else f'base rate {rate * 100:.2f} %'
    left_out = len(rows) - len(ranked)
    return tag(
        'figure',
        tag('figcaption', tag('h3', name or 'no dataset')),
        tag(
            'div',
            _titled('Precision and recall', note, line_chart(
                f'Precision over recall, {name}', ('recall', 'precision'), lines('pr'), base)),
            _titled('ROC', '', line_chart(
                f'ROC, {name}', ('false positive rate', 'true positive rate'), lines('roc'),
                [guide(0.95)])),
            _legend(ranked, labels, colours, left_out),
            class_='charts',
        ),
        class_='curves',
    )  # fmt: skip


def _titled(title: str, note: str, chart: Markup) -> Markup:
    return tag('div', tag('h4', title, tag('span', note)), chart)


def _legend(
    rows: Sequence[ReportRow], labels: dict[int, str], colours: dict[str, int], left_out: int
) -> Markup:
    """Gives the legend, a table with the numbers behind the curves."""
    columns: list[Column] = [c for c in LEGEND if any(c.show(row) for row in rows)]
    head = tag('tr', tag('th', 'Score'), *(tag('th', f'{c.label} %') for c in columns))
    lines = []
    for row in rows:
        index = colours[labels[row.number]]
        cells = (tag('td', column.show(row), class_='num') for column in columns)
        name = tag('th', tag('span', swatch(index), labels[row.number]), scope='row')
        lines.append(tag('tr', name, *cells, data_series=index))
    more = tag('p', f'The {len(rows)} best by AP of {len(rows) + left_out}.', class_='hint')
    return tag(
        'div',
        tag('table', tag('thead', head), tag('tbody', *lines), class_='legend'),
        more if left_out else '',
        class_='legend-box',
    )


def reliability_section(rows: Sequence[ReportRow]) -> Markup:
    """Gives the reliability diagrams; equal ones of several scores are shown once."""
    groups: dict[tuple[object, ...], list[ReportRow]] = {}
    for row in rows:
        if row.curve and (row.curve.reliability or row.curve.reliability_before):
            curve = row.curve
            key = (row.folder, place(row), curve.reliability, curve.reliability_before)
            groups.setdefault(key, []).append(row)
    if not groups:
        return Markup()
    return tag(
        'section',
        tag('h2', 'Reliability'),
        tag(
            'p',
            'How often the class is right, for pixels of equal confidence. On the diagonal the '
            'confidence can be taken at its word; the tinted gap is the calibration error.',
            class_='lede',
        ),
        *(_reliability_figure(group) for group in list(groups.values())[:SHOWN]),
        id='reliability',
    )


def _reliability_figure(rows: Sequence[ReportRow]) -> Markup:
    """Gives the diagrams before and after the temperature."""
    row, curve = rows[0], rows[0].curve or Curve((), ())
    scores = ', '.join(dict.fromkeys(row.name('score') for row in rows))
    before = curve.reliability_before
    charts = []
    if before:
        charts.append(_reliability('Before the temperature', '_before', before, row))
    if curve.reliability:
        title = 'After the temperature' if before else 'Confidence and accuracy'
        charts.append(_reliability(title, '', curve.reliability, row))
    return tag(
        'figure',
        tag('figcaption', tag('h3', place(row) or 'no dataset'), tag('p', scores, class_='hint')),
        tag('div', *charts, class_='charts'),
    )


def _reliability(title: str, when: str, bins: Sequence[Bin | None], row: ReportRow) -> Markup:
    """Gives one diagram with its numbers."""
    shown = {'ECE': metric(f'ece{when}'), 'NLL': metric(f'nll{when}')}
    if not when:
        shown['temperature'] = metric('temperature')
    values = [f'{name} {c.show_with_unit(row)}' for name, c in shown.items() if c.show(row)]
    chart = reliability_chart(f'Reliability diagram. {title}', bins)
    return tag('div', tag('h4', title), tag('p', ' · '.join(values), class_='hint'), chart)


def classes_section(rows: Sequence[ReportRow]) -> Markup:
    """Gives the IoU of each class; equal ones of several scores are shown once."""
    groups: dict[tuple[object, ...], list[ReportRow]] = {}
    for row in rows:
        found = class_iou(row)
        if found:
            groups.setdefault((place(row), row.folder, tuple(found.items())), []).append(row)
    if not groups:
        return Markup()
    tables = [_class_table(group[0]) for group in list(groups.values())[:SHOWN]]
    return tag(
        'section', tag('h2', 'Classes'), tag('div', *tables, class_='columns'), id='classes'
    )


def class_iou(row: ReportRow) -> dict[str, float | None]:
    """Gives the IoU of each class by name, empty where the row has none."""
    values = row.values.get('iou')
    if isinstance(values, dict):
        return {str(name): finite(value) for name, value in values.items()}
    if not isinstance(values, list):
        return {}
    names = row.values.get('class_names')
    if not isinstance(names, list) or len(names) != len(values):
        names = [f'class {index}' for index in range(len(values))]
    return {str(name): finite(value) for name, value in zip(names, values, strict=True)}


def _class_table(row: ReportRow) -> Markup:
    """Gives the classes of one network with a bar each, best first."""
    lines = []
    found = class_iou(row)
    for name, value in sorted(found.items(), key=lambda item: 1 if item[1] is None else -item[1]):
        share = 0 if value is None else value
        bar = tag('span', style=f'width:{share * 100:.1f}%', class_='bar')
        lines.append(
            tag(
                'tr',
                tag('th', name, scope='row'),
                tag('td', DASH if value is None else f'{value * 100:.2f}', class_='num'),
                tag('td', bar, class_='bar-cell'),
            )
        )
    caption = join([tag('b', place(row) or 'no dataset'), f' {row.name("model")}'])
    head = tag('tr', tag('th', 'Class'), tag('th', 'IoU %', class_='num'), tag('td'))
    return tag(
        'table', tag('caption', caption), tag('thead', head), tag('tbody', *lines),
        class_='classes',
    )  # fmt: skip
