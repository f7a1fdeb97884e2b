"""Turns a public name into the object behind it, imported only when it is used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any


def lookup(kind: str, table: Mapping[str, str], name: str) -> Any:
    """Gives the object that `table` lists under `name`.

    Args:
        kind: What the table holds, for the error text ('model', 'score', ...).
        table: Public name to 'module:attribute'.
        name: The public name.

    Raises:
        ValueError: The name is not in the table; the text lists those that are.
    """
    if name not in table:
        raise ValueError(f'unknown {kind} {name!r}; choose one of: {", ".join(sorted(table))}')
    module, attribute = table[name].split(':')
    return getattr(import_module(module), attribute)
