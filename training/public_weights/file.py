"""Reads a public weights file; never runs code from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
import pickle
import re
from typing import Any, TYPE_CHECKING
import warnings

from anomaly_seg_ros.checkpoint.digests import refuse_lfs_pointer
from anomaly_seg_ros.checkpoint.weights import finite_float
from anomaly_seg_ros.models import MODELS

from .layouts import public_layouts

if TYPE_CHECKING:
    from torch import Tensor

WRAPPERS = ('state_dict', 'model_state_dict', 'model_state', 'model', 'net')
"""Keys under which training scripts keep the weights."""
PREFIXES = ('module.', '_orig_mod.', 'model.', 'net.')
"""What training scripts and `torch.compile` put before all keys, perhaps several of them."""
PROFILED = ('total_ops', 'total_params')
"""Last part of the keys that the profiler thop leaves in a network."""


@dataclass(frozen=True)
class WeightsFile:
    """What a file holds: the state dict, and the names of what lay beside it."""

    weights: dict[str, Tensor]
    beside: frozenset[str]


class _Unread:
    """Stands for a numpy number beside the weights; takes its data and keeps nothing."""

    def __init__(self, *_: object):
        pass

    def __setstate__(self, _: object) -> None:
        pass


# The davidtvs script saves its mIoU as a numpy number, which torch refuses to read by default.
NUMBERS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_Unread, 'numpy.dtype'),
    (_Unread, 'numpy.dtypes.Float64DType'),
    (_Unread, 'numpy.core.multiarray.scalar'),
    (_Unread, 'numpy._core.multiarray.scalar'),
]


FORBIDDEN = re.compile(r'GLOBAL ([\w.]+)|(?:class|global|function) ([\w.]+\.[\w.]+)')
"""Where torch's refusal names what a file wants to call."""


def guess_model(path: Path) -> str:
    """Gives the network that a public weights file is of.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or no network has such keys.
    """
    for model in MODELS:
        weights = read_weights_file(path, model).weights
        if any(layout.classifier in weights for layout in public_layouts(model)):
            return model
    raise ValueError(
        f'{str(path)!r} holds weights of no network that is known here; choose a model among: '
        f'{", ".join(sorted(model for model in MODELS if public_layouts(model)))}'
    )


def read_weights_file(path: Path, model: str) -> WeightsFile:
    """Reads the state dict of a torch file as float32 on the CPU, by the network's own keys.

    Args:
        path: The file.
        model: A key of `MODELS`; what other parts of a training script left is taken out.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is a git-lfs pointer, truncated, no torch file, needs code to be read,
            holds no state dict, or a weight is not finite.
    """
    from torch import Tensor

    content = _load(path)
    beside: frozenset[str] = frozenset()
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            beside = frozenset(str(name) for name in content if name != key)
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f'{str(path)!r} holds no state dict; give a file of named tensors')
    weights: dict[str, Tensor] = {}
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ValueError(
                f'{str(path)!r} holds no state dict: {key!r} is no tensor; the weights are looked '
                f'for at the top and under {", ".join(WRAPPERS)}'
            )
        value = finite_float(path, key, value)
        if key.rpartition('.')[2] not in PROFILED:
            weights[key] = value
    classifiers = tuple(layout.classifier for layout in public_layouts(model))
    return WeightsFile(part_of_network(without_prefixes(weights), classifiers), beside)


def part_of_network(
    weights: Mapping[str, Tensor], classifiers: tuple[str, ...]
) -> dict[str, Tensor]:
    """Gives the weights of the one part of a training script that holds the network.

    Lightning and others keep losses, metrics and averages beside it, each under its name.

    >>> import torch
    >>> one = torch.zeros(1)
    >>> list(part_of_network({'loss.w': one, 'nets.0._orig_mod.a.b': one}, ('a.b',)))
    ['a.b']
    """
    plain = {key.replace('_orig_mod.', ''): value for key, value in weights.items()}
    if any(name in plain for name in classifiers):
        return plain
    before = {
        key.removesuffix(name) for key in plain for name in classifiers if key.endswith(f'.{name}')
    }
    if not before:
        return plain
    prefix = min(before, key=len)
    return {k.removeprefix(prefix): v for k, v in plain.items() if k.startswith(prefix)}


def without_prefixes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gives the weights without what stands before all of their keys.

    >>> import torch
    >>> list(without_prefixes({'module.net.a': torch.zeros(1), 'module.net.b': torch.zeros(1)}))
    ['a', 'b']
    """
    kept = dict(weights)
    while prefix := next((p for p in PREFIXES if kept and all(k.startswith(p) for k in kept)), ''):
        kept = {key.removeprefix(prefix): value for key, value in kept.items()}
    return kept


def _load(path: Path) -> Any:
    import torch

    from training.hub.detectron2 import BEGINS, read_arrays

    if not path.is_file():
        raise FileNotFoundError(f'no weights file {str(path)!r}')
    refuse_lfs_pointer(path)
    with path.open('rb') as file:
        head = file.read(64)
    if head.startswith(BEGINS):
        with suppress(pickle.UnpicklingError):
            return read_arrays(path)
    try:
        # The warnings are about pickle dialects; what comes of them is said below.
        with torch.serialization.safe_globals(NUMBERS), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # noqa: BLE001 - damaged bytes raise whatever they lead to
        problem = error
    needs = isinstance(problem, pickle.UnpicklingError) and re.search(FORBIDDEN, str(problem))
    if needs:
        raise ValueError(
            f'{str(path)!r} holds more than tensors ({needs[1] or needs[2]}); reading that '
            'could run code, so it is refused; save model.state_dict() alone where it was made'
        ) from None
    if head.startswith(b'PK'):
        raise ValueError(
            f'cannot read {str(path)!r}: the file is truncated or damaged; copy it again'
        ) from problem
    raise ValueError(
        f'{str(path)!r} is no torch file, or truncated; give the .pth file of the weights, or '
        "Detectron2's .pkl"
    ) from problem
