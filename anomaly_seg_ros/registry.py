"""Turns a public name into the object behind it, imported only when it is used.

And guesses which name was meant by one that is unknown.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Mapping
import difflib
from importlib import import_module
from importlib.util import find_spec
import inspect
import sys
from typing import Any


def did_you_mean(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """Gives the end of a sentence that names the known word that comes nearest, if one does.

    >>> did_you_mean('--sore', ['--score', '--out'])
    "; did you mean '--score'?"
    """
    close = difflib.get_close_matches(word, list(known), 1, likeness)
    return f'; did you mean {close[0]!r}?' if close else ''


def lookup(kind: str, table: Mapping[str, str], name: str) -> Any:
    """Gives the object that `table` lists under `name`.

    Args:
        kind: What the table holds, for the error text ('model', 'score', ...).
        table: Public name to 'module:attribute'.
        name: The public name.

    Raises:
        ValueError: The name is not in the table; the text lists those that are.
    """
    module, attribute = _place(kind, table, name)
    return getattr(import_module(module), attribute)


def read_fact(kind: str, table: Mapping[str, str], name: str, fact: str, default: Any) -> Any:
    """Gives what the class that `table` lists under `name` says of itself, without importing it.

    For those who must know where the libraries that it imports are not installed.

    Args:
        kind: What the table holds, for the error text.
        table: Public name to 'module:class'.
        name: The public name.
        fact: An attribute that the class sets to a plain value in its own body.
        default: What holds where it sets none.

    Raises:
        ImportError: Its source is not there.
        ValueError: The name is not in the table; the text lists those that are.
    """
    module, attribute = _place(kind, table, name)
    for node in ast.parse(module_source(module)).body:
        if isinstance(node, ast.ClassDef) and node.name == attribute:
            for part in node.body:
                if isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == fact:
                    return ast.literal_eval(part.value)
    return default


def check_options(
    kind: str,
    table: Mapping[str, str],
    name: str,
    options: Collection[str],
    fixed: Collection[str] = (),
    beside: Iterable[str] = (),
) -> None:
    """Checks that what `table` lists under `name` takes such options, without importing it.

    Args:
        kind: What the table holds, for the error text.
        table: Public name to 'module:attribute', a function or a class.
        name: The public name.
        options: Names of keyword arguments.
        fixed: What it takes that is no option.
        beside: Further options that stand beside its own, for the error text.

    Raises:
        ImportError: Its source is not there.
        ValueError: The name is not in the table, or it takes no such option.
    """
    taken = _parameters(kind, table, name)
    if taken is None:
        return
    valid = [parameter for parameter in taken if parameter not in fixed]
    if unknown := sorted(set(options) - set(valid)):
        raise ValueError(
            f'unknown options {unknown} of {kind} {name!r}; it takes: '
            f'{", ".join([*valid, *beside]) or "none"}'
        )


def _parameters(kind: str, table: Mapping[str, str], name: str) -> list[str] | None:
    """Gives what a function or a constructor takes; None where its source alone does not say."""
    module, attribute = _place(kind, table, name)
    if module in sys.modules:
        found = inspect.signature(lookup(kind, table, name)).parameters
        return None if any(p.kind == p.VAR_KEYWORD for p in found.values()) else list(found)
    for node in ast.parse(module_source(module)).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == attribute:
            parts = node.body if isinstance(node, ast.ClassDef) else [node]
            for part in parts:
                if isinstance(part, ast.FunctionDef) and part.name in ('__init__', attribute):
                    taken = [a.arg for a in (*part.args.args, *part.args.kwonlyargs)]
                    return None if part.args.kwarg else [a for a in taken if a != 'self']
    return None


def module_source(module: str) -> str:
    """Gives the source of a module, without importing it.

    Raises:
        ImportError: It is not there.
    """
    loader: Any = spec.loader if (spec := find_spec(module)) else None
    source: str | None = loader.get_source(module) if loader else None
    if source is None:
        raise ImportError(f'the source of {module!r} is not there; it must lie beside the rest')
    return source


def check_name(kind: str, table: Collection[str], name: str) -> None:
    """Checks that a table has a name, without importing what it stands for.

    Raises:
        ValueError: It has not; the text lists those that it has.
    """
    if name not in table:
        raise ValueError(f'unknown {kind} {name!r}; choose one of: {", ".join(sorted(table))}')


def _place(kind: str, table: Mapping[str, str], name: str) -> tuple[str, str]:
    """Gives module and attribute of a name."""
    check_name(kind, table, name)
    module, attribute = table[name].split(':')
    return module, attribute
