"""Inline SVG: lines in a unit square, and reliability diagrams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .markup import Markup, tag
from .runs import Bin, Line

WIDTH, HEIGHT = 360, 320
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 44
COLOURS = 8
"""Colours in page.css; a second round of them is dashed."""

TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Series:
    """A line of a chart; `index` is its colour."""

    label: str
    index: int
    points: Line


def x_of(value: float) -> float:
    """Gives the place of 0..1 on the horizontal axis."""
    return LEFT + value * (WIDTH - LEFT - RIGHT)


def y_of(value: float) -> float:
    """Gives the place of 0..1 on the vertical axis."""
    return HEIGHT - BOTTOM - value * (HEIGHT - TOP - BOTTOM)


def colour_class(index: int) -> str:
    """Gives the CSS classes of the line with this index."""
    dashed = ' dashed' if index // COLOURS % 2 else ''
    return f'c{index % COLOURS}{dashed}'


def swatch(index: int) -> Markup:
    """Gives a piece of the line with this index, for a legend."""
    return tag(
        'svg',
        tag('path', d='M1,6H23', class_=f'line {colour_class(index)}'),
        viewBox='0 0 24 12',
        class_='swatch',
        aria_hidden='true',
    )


def line_chart(
    title: str, axes: tuple[str, str], series: Sequence[Series], marks: Sequence[Markup] = ()
) -> Markup:
    """Gives a chart of lines.

    Args:
        title: What a screen reader says.
        axes: Names of the horizontal and the vertical axis.
        series: The lines.
        marks: What lies over the lines, such as `guide`.
    """
    lines = [
        tag(
            'path',
            tag('title', entry.label),
            d=path(entry.points),
            class_=f'line {colour_class(entry.index)}',
            data_series=entry.index,
        )
        for entry in series
        if entry.points
    ]
    return _svg(title, HEIGHT, [*_axes(*axes), *lines, *marks])


def guide(level: float) -> Markup:
    """Gives a thin dashed level line."""
    return _guide_line((0, level), (1, level))


def _guide_line(start: tuple[float, float], end: tuple[float, float]) -> Markup:
    (x1, y1), (x2, y2) = start, end
    return tag(
        'line', x1=_px(x_of(x1)), y1=_px(y_of(y1)), x2=_px(x_of(x2)), y2=_px(y_of(y2)),
        class_='guide',
    )  # fmt: skip


def _svg(title: str, height: float, parts: Sequence[Markup]) -> Markup:
    return tag(
        'svg',
        *parts,
        viewBox=f'0 0 {WIDTH} {_px(height)}',
        role='img',
        aria_label=title,
        class_='chart',
    )


def _axes(x_name: str, y_name: str) -> list[Markup]:
    """Gives grid, percent ticks and names of both axes."""
    parts = []
    for tick in TICKS:
        x, y = _px(x_of(tick)), _px(y_of(tick))
        words = f'{tick * 100:.0f}'
        parts += [
            tag('line', x1=x, x2=x, y1=_px(y_of(0)), y2=_px(y_of(1)), class_='grid'),
            tag('line', x1=_px(x_of(0)), x2=_px(x_of(1)), y1=y, y2=y, class_='grid'),
            tag('text', words, x=x, y=_px(y_of(0) + 15), class_='tick middle'),
            tag('text', words, x=_px(LEFT - 7), y=_px(y_of(tick) + 3.5), class_='tick end'),
        ]
    middle = _px(y_of(0.5))
    parts += [
        tag('text', f'{x_name}, %', x=_px(x_of(0.5)), y=_px(HEIGHT - 8), class_='axis middle'),
        tag(
            'text', f'{y_name}, %', x=12, y=middle, class_='axis middle',
            transform=f'rotate(-90 12 {middle})',
        ),
    ]  # fmt: skip
    return parts


def path(points: Line) -> str:
    """Gives the SVG path of points in the unit square, without those that no eye would miss."""
    places = [(x_of(min(max(x, 0), 1)), y_of(min(max(y, 0), 1))) for x, y in points]
    return 'M' + ' '.join(f'{_px(x)},{_px(y)}' for x, y in thin(places))


def thin(points: Sequence[tuple[float, float]], tolerance: float = 0.2) -> Line:
    """Gives fewer points whose line stays within `tolerance`.

    Source: Douglas and Peucker, 1973.

    >>> thin([(0, 0), (1, 0.1), (2, 0), (3, 4)])
    ((0, 0), (2, 0), (3, 4))
    """
    kept = {0, len(points) - 1}
    stack = [(0, len(points) - 1)]
    while stack:
        first, last = stack.pop()
        (x1, y1), (x2, y2) = points[first], points[last]
        length = max(abs(x2 - x1) + abs(y2 - y1), 1e-9)
        far, where = 0.0, None
        for index in range(first + 1, last):
            x, y = points[index]
            if (x1, y1) == (x2, y2):
                gap = abs(x - x1) + abs(y - y1)
            else:
                gap = abs((x2 - x1) * (y1 - y) - (x1 - x) * (y2 - y1)) / length
            if gap > far:
                far, where = gap, index
        if where is not None and far > tolerance:
            kept.add(where)
            stack += [(first, where), (where, last)]
    return tuple(points[index] for index in sorted(kept))


def reliability_chart(title: str, bins: Sequence[Bin | None]) -> Markup:
    """Gives a reliability diagram: accuracy per bin of confidence, and how full the bins are."""
    bars = []
    strip = 34
    fullest = max((entry.share for entry in bins if entry), default=0) or 1
    for index, entry in enumerate(bins):
        if entry is None:
            continue
        left, right = x_of(index / len(bins)), x_of((index + 1) / len(bins))
        low, high = sorted((entry.accuracy, entry.confidence))
        words = (
            f'confidence {entry.confidence:.1%}, accuracy {entry.accuracy:.1%}, '
            f'{entry.share:.1%} of the pixels'
        )
        full = strip * entry.share / fullest
        bars += [
            tag(
                'g',
                tag('title', words),
                _bar(left, right, y_of(entry.accuracy), y_of(0), 'accuracy'),
                _bar(left, right, y_of(high), y_of(low), 'gap'),
                _bar(left, right, HEIGHT + strip - full, HEIGHT + strip, 'share'),
            )
        ]
    perfect = _guide_line((0, 0), (1, 1))
    foot = tag(
        'text', 'share of pixels', x=_px(x_of(0.5)), y=_px(HEIGHT + strip + 14),
        class_='axis middle',
    )  # fmt: skip
    axes = _axes('confidence', 'accuracy')
    return _svg(title, HEIGHT + strip + 20, [*axes, *bars, perfect, foot])


def _bar(left: float, right: float, top: float, bottom: float, kind: str) -> Markup:
    return tag(
        'rect', x=_px(left + 0.5), width=_px(right - left - 1), y=_px(top),
        height=_px(bottom - top), class_=kind,
    )  # fmt: skip


def _px(value: float) -> str:
    """Gives a length with one digit.

    >>> _px(3.04), _px(12.34)
    ('3', '12.3')
    """
    return f'{value:.1f}'.removesuffix('.0')
