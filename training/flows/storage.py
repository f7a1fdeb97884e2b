"""One file per flow: its weights, and in the header the options to build it anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open, SafetensorError
from safetensors.torch import save_file
import torch

from anomaly_seg_ros.checkpoint.digests import refuse_lfs_pointer
from anomaly_seg_ros.process.whole_file import whole_file

from .denseflow import DenseFlow

OPTIONS_KEY = 'denseflow'


def keep_float32_exact() -> None:
    """Turns TF32 off in this process's convolutions, before a flow is trained on a GPU.

    With its ten bits of mantissa a flow's inverse is not the inverse of its forward pass, and a
    sample not what the likelihood was trained on.
    """
    torch.backends.cudnn.allow_tf32 = False


def build_flow(preset: str, **options: Any) -> DenseFlow:
    """Gives an untrained flow.

    Args:
        preset: A key of `DenseFlow.presets`.
        options: Constructor arguments on top.

    Raises:
        ValueError: Unknown preset or option.
    """
    if preset not in DenseFlow.presets:
        known = ', '.join(sorted(DenseFlow.presets))
        raise ValueError(f'unknown flow {preset!r}; choose one of: {known}')
    try:
        return DenseFlow(**{**DenseFlow.presets[preset], **options})
    except TypeError as error:
        raise ValueError(f'a flow does not take the options {options}: {error}') from None


def save_flow(path: Path, flow: DenseFlow) -> None:
    """Writes a `.safetensors` file at once."""
    weights = {key: value.detach().contiguous() for key, value in flow.state_dict().items()}
    with whole_file(path) as part:
        save_file(weights, part, metadata={OPTIONS_KEY: json.dumps(flow.options)})


def load_flow(path: Path, checkpointing: bool = False) -> DenseFlow:
    """Gives the flow of a file that `save_flow` wrote.

    Args:
        path: The file.
        checkpointing: See `DenseFlow`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is broken or holds no flow.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'no flow file {str(path)!r}; make one: anomaly_seg train_flow CONFIG.yaml --out DIR'
        )
    refuse_lfs_pointer(path)
    try:
        with safe_open(path, 'pt') as file:
            options = (file.metadata() or {}).get(OPTIONS_KEY)
            if options is None:
                raise ValueError(f'{str(path)!r} holds weights, but not of a flow')
            flow = DenseFlow(**json.loads(options), checkpointing=checkpointing)
            flow.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
    except (SafetensorError, RuntimeError, TypeError) as error:
        raise ValueError(f'cannot read the flow {str(path)!r}: {error}') from None
    return flow
