"""What a value of `meta.json` may be: a check gives it in our types, or says what it must be."""

from __future__ import annotations

from collections.abc import Callable, Collection
import math
import re
import reprlib
from typing import Any

Check = Callable[[str, Any], Any]
"""From the name of a value, for the error text, and the value as JSON or as ours, to ours."""


def unfit(key: str, value: object, what: str) -> ValueError:
    """Gives the error of a value that does not fit."""
    return ValueError(f'{key} is {reprlib.repr(value)}; it must be {what}')


def number(what: str, fits: Callable[[float], bool] = lambda value: True) -> Check:
    """Checks for a finite number.

    Args:
        what: What it must be, for the error text.
        fits: Whether its size is right.
    """

    def check(key: str, value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise unfit(key, value, what)
        try:
            result = float(value)
        except OverflowError:
            result = math.inf
        if not math.isfinite(result) or not fits(result):
            raise unfit(key, value, what)
        return result

    return check


def whole(least: int, most: int | None = None) -> Check:
    """Checks for a whole number of a range."""
    what = f'a whole number of {least} ' + ('or more' if most is None else f'to {most}')

    def check(key: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise unfit(key, value, what)
        if value < least or (most is not None and value > most):
            raise unfit(key, value, what)
        return value

    return check


def text(key: str, value: Any) -> str:
    """Checks for a text."""
    if not isinstance(value, str):
        raise unfit(key, value, 'a text')
    return value


def name(key: str, value: Any) -> str:
    """Checks for a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise unfit(key, value, 'a text that is not empty')
    return value


def matching(pattern: str, what: str) -> Check:
    """Checks for a text of a form."""

    def check(key: str, value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise unfit(key, value, what)
        return value

    return check


def one_of(names: Collection[str]) -> Check:
    """Checks for a known name."""

    def check(key: str, value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise unfit(key, value, f'one of: {", ".join(sorted(names))}')
        return value

    return check


def or_none(inner: Check) -> Check:
    """Lets None through."""
    return lambda key, value: None if value is None else inner(key, value)


def listed(inner: Check, count: int | None = None) -> Check:
    """Checks for a list, of `count` values where that is given, each by itself."""
    what = 'a list' if count is None else f'a list of {count}'

    def check(key: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or count not in (None, len(value)):
            raise unfit(key, value, what)
        return tuple(inner(f'{key}[{index}]', part) for index, part in enumerate(value))

    return check


def anything(key: str, value: Any) -> Any:
    """Lets everything through."""
    return value


def mapped(inner: Check, key_check: Check = text) -> Check:
    """Checks for an object, its keys and values each by themselves."""

    def check(key: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise unfit(key, value, 'an object')
        return {
            key_check(f'a key of {key}', own): inner(f'{key}.{own}', part)
            for own, part in value.items()
        }

    return check
