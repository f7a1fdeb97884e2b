"""Reads a YAML file of keys and values: its bases first, then its own keys, then changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

BASE = 'base'


def read_recipe(path: Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """Gives the keys of a YAML file with those of its base below and `key=value` changes on top.

    `base: OTHER.yaml` names a file beside this one; each key given here replaces the base's value
    as a whole. In a change `a.b.c=value` replaces one value inside mappings, which are made
    where missing. Values are read as YAML.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: No valid YAML mapping, bases in a circle, or a change that does not fit.
    """
    values = _read(path, ())
    for change in changes:
        key, separator, text = change.partition('=')
        if not separator:
            raise ValueError(f'{change!r} is not of the form key=value')
        _set(values, key, _parse(text, f'the value of {change!r}'))
    return values


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if not path.is_file():
        wanted_by = f', the base of {str(above[-1])!r}' if above else ''
        raise FileNotFoundError(f'no training configuration {str(path)!r}{wanted_by}')
    if path.resolve() in above:
        raise ValueError(f'{str(path)!r} is a base of itself')
    # As bytes: YAML knows UTF-16, as Windows writes it, by its first two.
    values = _parse(path.read_bytes(), repr(str(path)))
    if not isinstance(values, dict):
        raise ValueError(f'{str(path)!r} holds no mapping of keys to values')
    base = values.pop(BASE, None)
    if base is None:
        return values
    return _read(path.parent / str(base), (*above, path.resolve())) | values


def _parse(text: str | bytes, source: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.reader.ReaderError as error:
        raise ValueError(
            f'{source} is no text in UTF-8 ({error.reason}); save it as UTF-8'
        ) from None
    except (yaml.YAMLError, RecursionError) as error:
        reason = ' '.join(str(error).split())
        raise ValueError(f'{source} is not valid YAML: {reason}') from None


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split('.')
    place = values
    for index, parent in enumerate(parents):
        inner = place.setdefault(parent, {})
        if not isinstance(inner, dict):
            outer = '.'.join(parents[: index + 1])
            raise ValueError(f'cannot set {key!r}: {outer!r} is {inner!r}, not a mapping')
        place = inner
    place[last] = value
