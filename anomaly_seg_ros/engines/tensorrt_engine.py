"""TensorRT on an NVIDIA GPU, through torch-tensorrt; built by `export` only, never on the fly.

Facts are of torch-tensorrt 2.13 with TensorRT 11.0. Networks are strongly typed there: float16
comes from a network that is half itself, not from an option.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import inspect
from pathlib import Path
import re
import shutil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.prediction import LABELS, Prediction, split_outputs, stack_images

from .exported_program import load_program
from .facts import EngineFacts
from .folder import EngineMeta, ExportRequest, read_engine_meta

FACTS = EngineFacts(
    library='torch_tensorrt',
    install='--extra-index-url https://pypi.nvidia.com -r config/requirements/gpu.txt',
    to_build=None,
    precisions=('auto', 'fp16', 'fp32'),
    tied=True,
    batches=True,
    most_classes=128,  # it casts to int8 at most, whose bytes are those of uint8 up to there
)

DEVICE = 'cuda'
EXPLICIT = 'use_explicit_typing'
"""Option of older versions, off before 2.10, as on JetPack: a half network became float32."""

TIMING_CACHE = 'tensorrt_timing.cache'
"""Kept in the engine folder: with it the next build there is quick."""

SAVE_OPTIONS = {'output_format': 'exported_program', 'retrace': False}
"""Of `torch_tensorrt.save`: what was compiled is written as it is."""

_DRIVER = Path('/proc/driver/nvidia/version')


def versions() -> dict[str, str]:
    """Gives what a built engine is tied to."""
    import tensorrt
    import torch
    import torch_tensorrt

    return {
        'torch': str(torch.__version__),
        'torch_tensorrt': str(torch_tensorrt.__version__),
        'tensorrt': str(tensorrt.__version__),
        'cuda': str(torch.version.cuda),
    }


def device() -> str:
    """Gives the GPU with its capability and driver, 'no GPU' without one."""
    import torch

    if not torch.cuda.is_available():
        return 'no GPU'
    major, minor = torch.cuda.get_device_capability()
    text = _DRIVER.read_text(encoding='utf-8') if _DRIVER.is_file() else ''
    found = re.search(r'\b\d+\.\d+(\.\d+)?\b', text)
    driver = found[0] if found else 'unknown'
    return f'{torch.cuda.get_device_name()}, capability {major}.{minor}, driver {driver}'


def runs(precision: str) -> bool:
    """Whether this device can run a graph that was exported for a precision: each can."""
    return True


def compile_options(precision: str, timing_cache: Path) -> dict[str, Any]:
    """Gives the options of `torch_tensorrt.dynamo.compile`.

    The library's own engine cache stays off: its key holds neither weights nor GPU.
    """
    return {
        'require_full_compilation': True,  # an error instead of a graph in pieces
        'disable_tf32': precision == 'fp32',
        'hardware_compatible': False,
        'version_compatible': False,
        'cache_built_engines': False,
        'reuse_cached_engines': False,
        'timing_cache_path': str(timing_cache),
    }


def check_options(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuses options that a function would swallow in its `**kwargs` without a word.

    Raises:
        ValueError: It names no such parameter.
    """
    import torch_tensorrt

    if unknown := sorted(options.keys() - inspect.signature(function).parameters.keys()):
        raise ValueError(
            f'torch_tensorrt {torch_tensorrt.__version__} has no option {", ".join(unknown)}; '
            'install the version of config/requirements/gpu.txt'
        )


def export(request: ExportRequest, folder: Path) -> str:
    """Builds one engine for each batch size, which takes minutes, and gives the precision.

    Raises:
        ValueError: No GPU, the score does not fit, or TensorRT cannot run all of the graph.
    """
    import torch
    import torch_tensorrt

    from .graph import export_graph
    from .scored_model import load_scored_model

    if not torch.cuda.is_available():
        raise ValueError("engine 'tensorrt' is built on the GPU that runs it; none is here")
    precision = 'fp16' if request.precision == 'auto' else request.precision
    if request.replaces is not None and _is_of_here(request.replaces):
        shutil.copy(request.replaces / TIMING_CACHE, folder)
    options = compile_options(precision, folder / TIMING_CACHE)
    check_options(torch_tensorrt.dynamo.compile, options)
    if EXPLICIT in inspect.signature(torch_tensorrt.dynamo.compile).parameters:
        options[EXPLICIT] = True
    scored = load_scored_model(request.checkpoint, request.score)
    scored.spell(torch.int8, precision == 'fp16').to(DEVICE)
    for count in request.batch_sizes:
        program = export_graph(scored, request.input_size, count)
        example = torch.zeros(count, *request.input_size, 3, dtype=torch.uint8, device=DEVICE)
        try:
            module = torch_tensorrt.dynamo.compile(program, inputs=[example], **options)
        except AssertionError as error:
            why = next(iter(str(error).splitlines()), 'it could not be built, see the log above')
            raise ValueError(
                f'score {request.score!r} of this network is not one TensorRT engine: {why}'
            ) from None
        torch_tensorrt.save(
            module,
            str(folder / model_file(count)),
            arg_inputs=(example,),
            **SAVE_OPTIONS,
        )
    return precision


def _is_of_here(folder: Path) -> bool:
    """Whether a folder holds timings of this GPU by these versions: others make a build fail."""
    if not (folder / TIMING_CACHE).is_file():
        return False
    try:
        meta = read_engine_meta(folder)
    except (OSError, ValueError):
        return False
    return (meta.device, meta.versions) == (device(), versions())


def model_file(count: int) -> str:
    """Gives the name of the file for a batch size."""
    return f'batch{count}.pt2'


def load(folder: Path, meta: EngineMeta, precision: str, threads: int) -> TensorRtEngine:
    """Loads the engines of all batch sizes."""
    return TensorRtEngine(folder, meta)


def split_batch(count: int, sizes: Sequence[int]) -> list[int]:
    """Splits a number of images into batches of the sizes there are, the largest first.

    >>> split_batch(7, (1, 2, 4))
    [4, 2, 1]
    """
    parts: list[int] = []
    for size in sorted(sizes, reverse=True):
        parts += [size] * (count // size)
        count %= size
    return parts


class TensorRtEngine:
    """Built TensorRT engines of one network, one for each batch size; 1 is always there."""

    name = 'tensorrt'

    def __init__(self, folder: Path, meta: EngineMeta):
        import torch
        import torch_tensorrt

        from .cuda_replay import CudaReplay

        self.score_name, self.precision = meta.score, meta.precision
        self.input_size = meta.input_size
        self.reason = ''
        self.device = meta.device
        self.description = f'tensorrt {meta.versions["tensorrt"]}, {self.device}'
        torch_tensorrt.runtime.set_cudagraphs_mode(True)
        self._replays = {}
        for count in meta.batch_sizes:
            module = load_program(torch_tensorrt.load, folder / model_file(count)).module()
            blank = torch.zeros(count, *self.input_size, 3, dtype=torch.uint8)
            with torch.inference_mode():
                self._replays[count] = CudaReplay(module, blank, record=False)

    def infer(self, image: NDArray[np.uint8]) -> Prediction:
        """Gives labels and score of a (H, W, 3) RGB image at `input_size`."""
        return self.infer_batch([image])[0]

    def infer_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        """Gives labels and score of each (H, W, 3) RGB image, in batches of the built sizes."""
        import torch

        batch = torch.from_numpy(stack_images(images, self.input_size))
        predictions = []
        parts = split_batch(len(batch), list(self._replays))
        for part in torch.split(batch, parts):
            with torch.inference_mode():
                outputs = self._replays[len(part)](part)
            # The graph's labels are int8, which is all that TensorRT casts to: the same bytes.
            outputs[LABELS] = outputs[LABELS].view(torch.uint8)
            predictions += split_outputs({name: out.numpy() for name, out in outputs.items()})
        return predictions

    def close(self) -> None:
        """Frees the engines."""
        import torch

        self._replays.clear()
        torch.cuda.empty_cache()
