"""The section on speed: latency, its physical floor, memory, stages, ratios."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .columns import Column, METRICS, size, SPEED
from .markup import DASH, join, Markup, tag, TIMES
from .runs import finite, ReportRow

SPEED_COLUMNS = (
    *(column for column in METRICS if column.group == SPEED),
    Column('cpu_ms', 'CPU time', SPEED, 'ms', 1, -1, 'CPU time of an inference, all threads.'),
    Column(
        'label_agreement', 'Equal labels', SPEED, '%', 2, 1,
        'Pixels that get the label that the first engine gives them.',
    ),
    Column('bare_ms.p50', 'Bare engine', SPEED, 'ms', 1, -1, 'Of the same minutes.'),
    Column('target_ms', 'Target', SPEED, 'ms', 1, 0, 'For the median.'),
    Column('start_s', 'First mask, s', SPEED, '', 1, -1, 'From the start of the process.'),
    Column('fps_at_30_hz', 'fps of 30 Hz', SPEED, '', 1, 1, 'Masks of a camera at 30 Hz.'),
    Column(
        'floor.floor_ms', 'Floor', SPEED, 'ms', 1, 0,
        'Arithmetic or traffic of the network at the peak that this machine was measured at.',
    ),
)  # fmt: skip
OWN_KEYS = frozenset(
    [column.key.split('.')[0] for column in SPEED_COLUMNS] + ['frames_ms', 'total_ms', 'what']
)
"""Keys of a row that this section shows, or sums up."""


FLOOR_HINT = (
    'The mark in a bar is the physical floor: all of the arithmetic, or all that the convolutions '
    'read and write, at the speed that a matrix product and a copy reached in the same run.'
)


def is_speed_extra(key: str) -> bool:
    """Says whether an extra key of a row belongs here: stage times and ratios.

    >>> is_speed_extra('stages_ms'), is_speed_extra('ratio_to_first'), is_speed_extra('protocol')
    (True, True, False)
    """
    return 'stage' in key or 'ratio' in key or key in OWN_KEYS


def speed_section(rows: Sequence[ReportRow]) -> Markup:
    """Gives a table of what was timed; scores of one timed pass share a line."""
    groups: dict[tuple[object, ...], list[ReportRow]] = {}
    for row in rows:
        values = tuple(column.show(row) for column in SPEED_COLUMNS)
        if any(values):
            names = map(row.name, ('what', 'engine', 'precision'))
            setting = (row.folder, *names, size(row))
            groups.setdefault((*setting, *values, *ratios(row)), []).append(row)
    if not groups:
        return Markup()
    timed = [group[0] for group in groups.values()]
    columns = [c for c in SPEED_COLUMNS if any(c.show(row) for row in timed)]
    slowest = max(row.number_of('latency_ms.p95') or 0 for row in timed) or 1
    has_ratio = any(list(ratios(row)) for row in timed)
    heads = [
        tag('th', 'Engine'), tag('th', 'Input', class_='num'), tag('th', 'Score'),
        tag('th', 'Latency, p50 and p95'),
        *(tag('th', c.label, tag('span', c.unit, class_='unit'), class_='num') for c in columns),
        tag('th', 'Ratio', class_='num') if has_ratio else '',
    ]  # fmt: skip
    lines = [_line(group, columns, slowest, has_ratio) for group in groups.values()]
    table = tag('table', tag('thead', tag('tr', *heads)), tag('tbody', *lines))
    region = tag('div', table, class_='scroll', tabindex='0', role='region', aria_label='Speed')
    floors = any(row.number_of('floor.floor_ms') for row in timed)
    hint = tag('p', FLOOR_HINT, class_='hint') if floors else ''
    return tag('section', tag('h2', 'Speed'), region, hint, _stage_charts(timed), id='speed')


def _line(
    rows: Sequence[ReportRow], columns: Sequence[Column], slowest: float, has_ratio: bool
) -> Markup:
    """Gives the line of rows that were timed together."""
    row = rows[0]
    engine = ' '.join(filter(None, (row.name('engine'), row.name('precision'))))
    place = row.name('what') or ' '.join(filter(None, map(row.name, ('dataset', 'split'))))
    scores = ', '.join(dict.fromkeys(row.name('score') for row in rows))
    return tag(
        'tr',
        tag('th', engine or DASH, scope='row'),
        tag('td', size(row), class_='num'),
        tag('td', scores, tag('small', place) if place else '', class_='scores'),
        tag('td', _latency_bar(row, slowest), class_='bar-cell'),
        *(tag('td', column.show(row), class_='num') for column in columns),
        tag('td', join(ratios(row), ', '), class_='num') if has_ratio else '',
    )


def ratios(row: ReportRow) -> Iterator[str]:
    """Gives each ratio of a row as text."""
    for key, value in row.values.items():
        if 'ratio' not in key:
            continue
        number = finite(value)
        if number is not None:
            yield f'{_ratio_name(key)}{number:.2f} {TIMES}'
        elif isinstance(value, Mapping):
            for name, inner in value.items():
                found = finite(inner)
                if found is not None:
                    yield f'{name} {found:.2f} {TIMES}'


def _ratio_name(key: str) -> str:
    """Gives what a ratio is to, '' for that to the first engine.

    >>> _ratio_name('ratio_to_first'), _ratio_name('ratio_to_bare')
    ('', 'to bare ')
    """
    return '' if key == 'ratio_to_first' else f'{key.removeprefix("ratio_").replace("_", " ")} '


def stages(row: ReportRow) -> dict[str, float]:
    """Gives the time of each stage in ms, its median where there are several values."""
    found: dict[str, float] = {}
    for key, value in row.values.items():
        if 'stage' not in key or not isinstance(value, Mapping):
            continue
        for name, inner in value.items():
            number = finite(inner.get('p50') if isinstance(inner, Mapping) else inner)
            if number is not None and number >= 0:
                found[str(name)] = number
    return found


def _latency_bar(row: ReportRow, slowest: float) -> Markup:
    """Gives a bar up to the median with a thin tail up to p95, and a mark at the floor."""
    p50, p95 = row.number_of('latency_ms.p50'), row.number_of('latency_ms.p95')
    bars = [
        tag('span', style=f'width:{value / slowest * 100:.1f}%', class_=name)
        for value, name in ((p95, 'bar tail'), (p50, 'bar'))
        if value is not None and value >= 0
    ]
    floor = row.number_of('floor.floor_ms')
    if floor is not None:
        place = f'left:{min(floor / slowest, 1) * 100:.1f}%'
        bars.append(tag('i', style=place, class_='floor', title=f'floor {floor:.1f} ms'))
    return tag('div', *bars, class_='bars')


def _named(row: ReportRow) -> list[str]:
    return [*map(row.name, ('what', 'engine', 'precision')), size(row)]


def _stage_charts(rows: Sequence[ReportRow]) -> Markup:
    """Gives one stacked bar per row that tells its stages apart."""
    found = [(row, stages(row)) for row in rows]
    longest = max((sum(times.values()) for _, times in found), default=0)
    if not longest:
        return Markup()
    names = list(dict.fromkeys(name for _, times in found for name in times))
    keys = (
        tag('span', tag('i', class_=f'key b{names.index(name) % 8}'), name, class_='pair')
        for name in names
    )
    lines = []
    for row, times in found:
        if not times:
            continue
        parts = [
            tag(
                'span',
                style=f'width:{times[name] / longest * 100:.2f}%',
                class_=f'part b{names.index(name) % 8}',
                title=f'{name} {times[name]:.2f} ms',
            )
            for name in names
            if name in times
        ]
        label = ' '.join(filter(None, _named(row)))
        words = ' · '.join(f'{name} {value:.2f}' for name, value in times.items())
        lines.append(
            tag('div', tag('b', label), tag('div', *parts, class_='stack'), tag('small', words))
        )
    return tag(
        'div', tag('h3', 'Stages, ms'), tag('p', *keys, class_='keys'), *lines, class_='stages'
    )
