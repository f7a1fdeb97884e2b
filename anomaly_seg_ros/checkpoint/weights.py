"""The tensors of a checkpoint: read, written, and put into a network, all strictly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly_seg_ros.classes import first_names
from anomaly_seg_ros.process.path_errors import system_errors

if TYPE_CHECKING:
    from torch import Tensor

    from anomaly_seg_ros.models.network import Network


_KINDS = (
    'float32', 'float16', 'bfloat16', 'float64', 'int64', 'int32', 'int16', 'int8', 'uint8', 'bool'
)  # fmt: skip
"""What weights may be of."""


def read_stored(path: Path, keys: Iterable[str]) -> dict[str, Tensor]:
    """Reads tensors of a safetensors file as they are, on the CPU.

    Raises:
        ValueError: The file is truncated or not safetensors.
    """
    from safetensors import safe_open, SafetensorError

    try:
        with safe_open(path, framework='pt') as file:
            return {key: file.get_tensor(key) for key in keys}
    except SafetensorError as error:
        raise ValueError(
            f'cannot read {str(path)!r}: {error}; the file is truncated or no safetensors file'
        ) from None


def read_tensors(path: Path, keys: Iterable[str]) -> dict[str, Tensor]:
    """Reads tensors of a safetensors file, floating point ones as float32, on the CPU.

    Raises:
        ValueError: The file is truncated, not safetensors, or what is wanted is not finite or of
            a type that we do not know.
    """
    return {k: finite_float(path, k, value) for k, value in read_stored(path, keys).items()}


def finite_float(path: Path, key: str, value: Tensor) -> Tensor:
    """Gives a floating point tensor of a file as float32; another as it is.

    Raises:
        ValueError: It is not finite, of another type or layout, or larger than what is stored.
    """
    _check_plain(path, key, value)
    if not value.is_floating_point():
        return value
    if not bool(value.isfinite().all()):
        raise ValueError(f'weight {key!r} in {str(path)!r} is not finite (NaN or infinite)')
    return value.float()


def _check_plain(path: Path, key: str, value: Tensor) -> None:
    """Refuses what is no dense tensor with a stored number for each of its values."""
    import torch

    kind = str(value.dtype).removeprefix('torch.')
    if value.is_nested or value.layout != torch.strided or value.is_meta or kind not in _KINDS:
        what = 'a nested tensor' if value.is_nested else f'{value.layout} {kind}'
        raise ValueError(
            f'weight {key!r} in {str(path)!r} is {what} on {value.device}; save it as a dense '
            f'tensor of one of: {", ".join(_KINDS)}'
        )
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        # One stored number can stand for gigabytes.
        raise ValueError(
            f'weight {key!r} of shape {tuple(value.shape)} in {str(path)!r} repeats what is '
            'stored; save its .contiguous()'
        )


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors as a safetensors file.

    Raises:
        OSError: The disk is full or the like.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    with system_errors(path, SafetensorError):
        save_file(plain, path)


def load_state(
    model: Network, weights: Mapping[str, Tensor], source: str, new: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Loads weights into a network, strictly.

    Batch counters (`num_batches_tracked`) may be absent on either side, and so may heads that
    the network's `train_only_prefixes` names; anything else must match by key and shape.

    Args:
        model: Takes the weights.
        weights: State dict.
        source: What the weights are, for the error text.
        new: State-dict prefixes of heads that a fine-tune may start afresh. Where the weights
            lack such a head or hold another one (a key or a shape differs), the whole head keeps
            what it has, and the weights of the other head are not used.

    Returns:
        Those of `new` that the network has and that started afresh.

    Raises:
        ValueError: Keys are missing, left over, or of another shape; the text names some.
    """
    own = model.state_dict()
    optional = model.train_only_prefixes

    def required(keys: set[str]) -> list[str]:
        return sorted(
            key
            for key in keys
            if not key.endswith('num_batches_tracked') and not key.startswith(optional)
        )

    missing = required(own.keys() - weights.keys())
    surplus = required(weights.keys() - own.keys())
    shared = own.keys() & weights.keys()
    shapes = sorted(key for key in shared if weights[key].shape != own[key].shape)
    fresh = tuple(
        prefix
        for prefix in new
        if any(key.startswith(prefix) for key in (*missing, *surplus, *shapes))
    )
    described = [
        f'{key} {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}'
        for key in shapes
        if not key.startswith(fresh)
    ]
    problems = [
        f'{len(found)} {what} ({first_names(found)})'
        for what, found in (
            ('keys missing', [key for key in missing if not key.startswith(fresh)]),
            ('keys unexpected', [key for key in surplus if not key.startswith(fresh)]),
            ('shapes differ', described),
        )
        if found
    ]
    if problems:
        raise ValueError(
            f'{source} does not fit {type(model).__name__}: {"; ".join(problems)}; '
            f'{len(shared) - len(shapes)} of {len(own)} tensors match'
        )
    model.load_state_dict(
        {key: weights[key] for key in shared if not key.startswith(fresh)}, strict=False
    )
    return tuple(prefix for prefix in fresh if any(key.startswith(prefix) for key in own))
