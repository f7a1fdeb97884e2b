"""Reads a YAML file of keys and values: its bases first, then its own keys, then changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anomaly_seg_ros.process.yaml_text import parse_yaml

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
        _set(values, key, parse_yaml(text, f'the value of {change!r}'))
    return values


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if not path.is_file():
        wanted_by = f', the base of {str(above[-1])!r}' if above else ''
        raise FileNotFoundError(f'no training configuration {str(path)!r}{wanted_by}')
    if path.resolve() in above:
        raise ValueError(f'{str(path)!r} is a base of itself')
    values = parse_yaml(path.read_bytes(), repr(str(path)))
    if not isinstance(values, dict):
        raise ValueError(f'{str(path)!r} holds no mapping of keys to values')
    base = values.pop(BASE, None)
    if base is None:
        return values
    return _read(path.parent / str(base), (*above, path.resolve())) | values


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
