"""Loads a program that `torch.export` has written without running what is hidden in it."""

from __future__ import annotations

from collections.abc import Callable
import json
import os
from pathlib import Path
import pickle
from typing import Any
import zipfile

EXPRESSION = 'expr_str'
"""Key of what torch evaluates as Python, so that sizes may vary; those of an engine do not."""

NO_PICKLES = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
"""Else torch falls back to a pickle that may run anything."""


def load_program(load: Callable[[str], Any], path: Path) -> Any:
    """Gives what `load` makes of a file.

    Args:
        load: `torch.export.load`, or one that calls it.
        path: Of a program whose sizes are fixed, as `export` writes them.

    Raises:
        ValueError: It would run code as it is loaded.
    """
    why = 'is no engine of ours: loading it would run code that is in it; export it again'
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith('.json') and _holds_expression(archive.read(name)):
                raise ValueError(f'{str(path)!r} {why}')
    before = os.environ.get(NO_PICKLES)
    os.environ[NO_PICKLES] = '1'
    try:
        return load(str(path))
    except pickle.UnpicklingError:
        raise ValueError(f'{str(path)!r} {why}') from None
    finally:
        if before is None:
            del os.environ[NO_PICKLES]
        else:
            os.environ[NO_PICKLES] = before


def _holds_expression(text: bytes) -> bool:
    found: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        found.extend(key for key, _ in pairs if key == EXPRESSION)

    json.loads(text, object_pairs_hook=note)
    return bool(found)
