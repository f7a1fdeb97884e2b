"""Arrays of a safetensors file, read without torch and without the library."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def read_arrays(path: Path, prefix: str) -> dict[str, NDArray[np.float32]]:
    """Gives the float32 arrays whose keys begin with a prefix, by the rest of their keys.

    Raises:
        ValueError: One is not float32, or the file is truncated or no safetensors file.
    """
    found = {}
    try:
        with path.open('rb') as file:
            length = int.from_bytes(file.read(8), 'little')
            header = json.loads(file.read(length))
            for key, entry in header.items():
                if not key.startswith(prefix):
                    continue
                if entry['dtype'] != 'F32':
                    raise ValueError(f'{key} is {entry["dtype"]}, not F32')
                begin, end = entry['data_offsets']
                file.seek(8 + length + begin)
                values = np.frombuffer(file.read(end - begin), '<f4').reshape(entry['shape'])
                found[key[len(prefix) :]] = values.astype(np.float32, copy=False)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'cannot read {str(path)!r}: {error}; the file is truncated or no safetensors file'
        ) from None
    return found
