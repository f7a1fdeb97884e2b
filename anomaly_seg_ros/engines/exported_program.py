"""Loads a program that `torch.export` has written without running what is hidden in it."""

from __future__ import annotations

from collections.abc import Callable
import io
import json
import os
from pathlib import Path
import pickle
from typing import Any
import zipfile

EXPRESSION = 'expr_str'
"""Key of what torch evaluates as Python, so that sizes may vary; those of an engine do not."""

OBJECT = '/opaque_obj_'
"""Begins the names of what torch unpickles whatever it holds: TensorRT's engines lie in such."""

ENGINE = ('torch_tensorrt.dynamo.runtime._TRTEngine', '_reconstruct_trt_engine')
"""Module and name of all that the pickle of an engine calls, in torch-tensorrt 2.13."""

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
            checks = {_holds_expression: name.endswith('.json'), _calls_others: OBJECT in name}
            if any(check(archive.read(name)) for check, wanted in checks.items() if wanted):
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


class _Names(pickle.Unpickler):
    """Calls nothing, and refuses what is not of an engine."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) != ENGINE:
            raise ValueError(f'{module}.{name}')
        return lambda *_: None


def _calls_others(data: bytes) -> bool:
    try:
        _Names(io.BytesIO(data)).load()
    except Exception:  # noqa: BLE001 - damaged bytes raise whatever they lead to
        return True
    return False
