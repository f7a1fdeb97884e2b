"""Reads weights as Detectron2 publishes them: pickled NumPy arrays, and nothing that could run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
import pickle
from typing import Any, IO

import numpy as np
import torch

BEGINS = b'\x80'
"""The first byte of a pickle."""

_CORES = ('numpy.core', 'numpy._core')
"""The same before NumPy 2 and since."""


def _latin(text: str, encoding: str) -> bytes:
    """Stands for `codecs.encode`, by which old pickles spell the bytes of an array."""
    if encoding not in ('latin1', 'latin-1'):
        raise pickle.UnpicklingError(f'bytes in {encoding!r}')
    return text.encode('latin-1')


_ALLOWED: dict[tuple[str, str], Any] = {
    **{(f'{core}.multiarray', '_reconstruct'): np.empty(0).__reduce__()[0] for core in _CORES},
    **{(f'{core}.numeric', '_frombuffer'): np.empty(1).__reduce_ex__(5)[0] for core in _CORES},
    ('numpy', 'ndarray'): np.ndarray,
    ('numpy', 'dtype'): np.dtype,
    ('_codecs', 'encode'): _latin,
    ('collections', 'OrderedDict'): OrderedDict,
}


class _ArraysOnly(pickle.Unpickler):
    """Refuses every class and function that is none of an array."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file, encoding='latin1')

    def find_class(self, module: str, name: str) -> Any:
        """Gives what may be made.

        Raises:
            pickle.UnpicklingError: Anything else.
        """
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f'{module}.{name}') from None


def read_arrays(path: Path) -> dict[str, Any]:
    """Gives what a pickle holds, its arrays of numbers as tensors.

    Raises:
        pickle.UnpicklingError: It is none, holds more than arrays, or no mapping.
    """
    try:
        with path.open('rb') as file:
            content = _ArraysOnly(file).load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:
        # Damaged bytes raise whatever they lead to.
        raise pickle.UnpicklingError(str(error)) from error
    if not isinstance(content, Mapping):
        raise pickle.UnpicklingError('no mapping')
    return {key: _tensors(value) for key, value in content.items()}


def _tensors(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in 'fiub':
        return torch.from_numpy(np.array(value))
    if isinstance(value, Mapping):
        return {key: _tensors(inner) for key, inner in value.items()}
    return value
