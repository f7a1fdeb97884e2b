"""HTML text that is escaped by construction."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

TIMES = '\N{MULTIPLICATION SIGN}'
DASH = '\N{EN DASH}'
VOID = frozenset({'br', 'img', 'meta'})
"""HTML elements that have no end tag."""


class Markup(str):
    """Text that is HTML already; any other text is escaped by `tag`."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Gives a value as HTML text.

    >>> text('a < b')
    'a &lt; b'
    """
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def join(parts: Iterable[object], between: str = '') -> Markup:
    """Gives the parts one after the other; those that are no markup are escaped."""
    return Markup(escape(between).join(text(part) for part in parts))


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """Gives an element.

    In names of attributes `_` stands for `-` and a trailing `_` goes: `class_`, `data_value`.
    An attribute that is None or False is left out, one that is True has no value.

    >>> tag('a', '<x>', href='#a"b', class_=None)
    '<a href="#a&quot;b">&lt;x&gt;</a>'
    """
    opening = [name]
    for key, value in attributes.items():
        label = key.rstrip('_').replace('_', '-')
        if value is True:
            opening.append(label)
        elif value is not None and value is not False:
            opening.append(f'{label}="{escape(str(value))}"')
    end = '' if name in VOID else f'{join(children)}</{name}>'
    return Markup(f'<{" ".join(opening)}>{end}')
