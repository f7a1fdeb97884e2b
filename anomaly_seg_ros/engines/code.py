"""A digest of the code that an exported graph was made by, told from the sources, without torch.

A corrected formula changes it. What no graph shows does not: comments, docstrings, annotations,
checks that only raise, imports, where a file lies, and which Python reads it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
import hashlib
from importlib.util import find_spec, resolve_name
import json
from typing import Any

from anomaly_seg_ros.models import MODELS
from anomaly_seg_ros.registry import check_name, module_source
from anomaly_seg_ros.scores import SCORES

PACKAGE = 'anomaly_seg_ros'
GRAPH = (f'{PACKAGE}.engines.scored_model', f'{PACKAGE}.engines.graph')
"""What makes one graph of any network and score."""

PARTS = (f'{PACKAGE}.models.', f'{PACKAGE}.scores.', f'{PACKAGE}.model_output')
"""Beginnings of the modules that belong to a graph where one of its modules imports them."""

TABLES = (f'{PACKAGE}.models', f'{PACKAGE}.scores')
"""Their imports belong to a graph, they do not: one more network changes none of the others."""

_SKIPPED = frozenset({'annotation', 'returns', 'type_comment', 'type_params', 'kind', 'ctx'})


def graph_code(model: str, score: str) -> str:
    """Gives the sha256 of the code of a network under a score, up to the graph.

    Args:
        model: A key of `MODELS`.
        score: A key of `SCORES`.

    Raises:
        ValueError: One of them is unknown.
    """
    check_name('model', MODELS, model)
    check_name('score', SCORES, score)
    return _digest(MODELS[model].split(':')[0], SCORES[score].split(':')[0])


@cache
def _digest(*roots: str) -> str:
    trees: dict[str, ast.Module] = {}
    waiting = [*roots, *GRAPH]
    while waiting:
        if (module := waiting.pop()) not in trees:
            trees[module] = ast.parse(module_source(module))
            waiting += _parts(trees[module], module)
    codes = sorted(
        hashlib.sha256(code_text(tree).encode()).hexdigest()
        for module, tree in trees.items()
        if module not in TABLES
    )
    return hashlib.sha256(''.join(codes).encode()).hexdigest()


def _parts(tree: ast.Module, module: str) -> Iterator[str]:
    """Gives the modules that belong to a graph because this one imports them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            package = module if _is_package(module) else module.rpartition('.')[0]
            base = resolve_name('.' * node.level + (node.module or ''), package)
            if base.startswith(PARTS) or base in TABLES:
                yield base
            # A name in a module is no module, and asking for it would import the one it is in.
            if base.startswith(PACKAGE) and _is_package(base):
                names = (f'{base}.{alias.name}' for alias in node.names)
                yield from (name for name in names if name.startswith(PARTS) and find_spec(name))


def _is_package(module: str) -> bool:
    return (spec := find_spec(module)) is not None and spec.submodule_search_locations is not None


def code_text(node: ast.AST) -> str:
    """Gives what a tree computes as text that is the same for every Python.

    >>> code_text(ast.parse('x: int = 1  # one')) == code_text(ast.parse('x = 1'))
    True
    """
    return json.dumps(_plain(node))


def _plain(value: object) -> Any:
    """Gives a node as [class name, field, value, ...] without what no graph shows."""
    if isinstance(value, list):
        return [part for part in map(_plain, value) if part is not None]
    if isinstance(value, str):
        return value
    if not isinstance(value, ast.AST):
        return [type(value).__name__, repr(value)]
    if _invisible(value):
        return None
    if isinstance(value, ast.AnnAssign) and value.value is not None:
        value = ast.Assign(targets=[value.target], value=value.value)
    plain: list[Any] = [type(value).__name__]
    for name in value._fields:
        part = getattr(value, name, None)
        if name in _SKIPPED or part is None or part == []:
            continue
        if (text := _plain(part)) not in (None, []):
            plain += [name, text]
    empty = isinstance(value, ast.If) and 'body' not in plain and 'orelse' not in plain
    return None if empty else plain


def _invisible(node: ast.AST) -> bool:
    """Whether a statement leaves no trace in a graph."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    if isinstance(node, ast.AnnAssign):
        return node.value is None
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == 'TYPE_CHECKING'
    return isinstance(node, ast.Import | ast.ImportFrom | ast.Raise | ast.Pass)
