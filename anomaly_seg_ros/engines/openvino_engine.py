"""OpenVINO on the CPU: the fastest engine where there is no GPU, and it needs no torch to run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
import sys
from typing import Any, TYPE_CHECKING
import warnings

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.prediction import check_outputs, Prediction, split_outputs, stack_images
from anomaly_seg_ros.process.path_errors import system_errors
from anomaly_seg_ros.process.signal_stack import kept_signal_stack

from .facts import EngineFacts
from .folder import EngineMeta, ExportRequest

if TYPE_CHECKING:
    from .scored_model import ScoredModel

# Else the converter, which `import openvino` brings, forks this process with all its threads, once
# more for each model, to post to a public analytics host. Without this module it takes a stand-in.
sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]

FACTS = EngineFacts(
    library='openvino',
    install='openvino==2026.4.1',
    precisions=('auto', 'bf16', 'fp32', 'int8'),
)

MODEL_FILE = 'model.xml'
_HINTS = {'fp32': 'f32', 'bf16': 'bf16'}
_NAMES = {'f32': 'fp32', 'float32': 'fp32', 'bf16': 'bf16', 'bfloat16': 'bf16'}


def versions() -> dict[str, str]:
    """Gives what an exported graph depends on."""
    import openvino as ov

    return {'openvino': str(ov.__version__)}


@kept_signal_stack()
def load_cpu() -> Any:
    """Gives an OpenVINO core with its CPU plugin loaded."""
    import openvino as ov

    core = ov.Core()
    core.get_versions('CPU')
    return core


def device() -> str:
    """Gives the CPU's name."""
    from openvino import properties

    return str(load_cpu().get_property('CPU', properties.device.full_name)).strip()


def runs(precision: str) -> bool:
    """Whether this CPU can run a graph that was exported for a precision."""
    return precision != 'bf16' or _has_bf16()


def _has_bf16() -> bool:
    from openvino import properties

    return 'BF16' in load_cpu().get_property('CPU', properties.device.capabilities)


def convert(scored: ScoredModel, input_size: tuple[int, int]) -> Any:
    """Turns the torch module into an OpenVINO model for images of `input_size`, any number."""
    import openvino as ov
    import torch

    from .graph import export_graph, output_names

    program = export_graph(scored.spell(torch.uint8), input_size)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)  # of torch about itself
        model = ov.convert_model(program)
    model.reshape((-1, *input_size, 3))
    model.inputs[0].get_tensor().set_names({'image'})
    for output, name in zip(model.outputs, output_names(program), strict=True):
        output.get_tensor().set_names({name})
    return model


def export(request: ExportRequest, folder: Path) -> str:
    """Writes the model into a folder and gives the precision it was made for.

    Weights are stored in half precision, but for 'fp32', which keeps them whole.

    Raises:
        ImportError: 'int8' without NNCF.
        ValueError: The score does not fit, or 'int8' without frames to calibrate on.
    """
    import openvino as ov

    from .scored_model import load_scored_model

    scored = load_scored_model(request.checkpoint, request.score)
    model = convert(scored, request.input_size)
    if request.precision == 'int8':
        from .quantization import quantize

        model = quantize(model, request.calibration, request.input_size)
    path = folder / MODEL_FILE
    with system_errors(path, RuntimeError):
        ov.save_model(model, path, compress_to_fp16=request.precision != 'fp32')
    return request.precision


def load(folder: Path, meta: EngineMeta, precision: str, threads: int) -> OpenVinoEngine:
    """Loads an exported model.

    Raises:
        ValueError: A file is broken, or the CPU lacks the precision.
    """
    asked = precision if meta.precision == 'auto' else meta.precision
    return OpenVinoEngine(folder / MODEL_FILE, meta.score, asked, threads)


def build(
    checkpoint: Checkpoint, score: str, precision: str, input_size: tuple[int, int], threads: int
) -> OpenVinoEngine:
    """Converts a checkpoint in memory, its weights in float32.

    Raises:
        ValueError: The score does not fit, or the CPU lacks the precision.
    """
    from .scored_model import load_scored_model

    if precision == 'int8':
        raise ValueError(
            "precision 'int8' needs frames to calibrate on: anomaly_seg export --engine openvino "
            '--precision int8 --calibration DIR'
        )
    precision = cpu_precision(precision)  # refused now, not after the conversion
    model = convert(load_scored_model(checkpoint, score), input_size)
    return OpenVinoEngine(model, score, precision, threads)


def cpu_precision(asked: str) -> str:
    """Gives what to compute in: 'auto' is bf16 where the CPU has it in hardware, else fp32.

    Raises:
        ValueError: A precision that OpenVINO has not on this CPU.
    """
    fast = _has_bf16()
    if asked == 'auto':
        return 'bf16' if fast else 'fp32'
    if asked not in _HINTS or (asked == 'bf16' and not fast):
        available = 'auto, fp32, bf16' if fast else 'auto, fp32'
        raise ValueError(
            f"engine 'openvino' has no precision {asked!r} on this CPU; choose one of: {available}"
        )
    return asked


class OpenVinoEngine:
    """An OpenVINO model on the CPU, compiled once for each batch size that is asked for.

    A graph of fixed size is faster than one of any size, and compiling takes 0.2 s.

    Args:
        model: Path of a saved model, or what `convert` gave.
        score: The score compiled in.
        precision: 'auto', 'fp32', 'bf16', or 'int8' for a quantised model, whose other layers
            compute as 'auto' does.
        threads: Threads of one inference.

    Raises:
        ValueError: A file is broken, or the CPU lacks the precision.
    """

    name = 'openvino'

    def __init__(self, model: Any, score: str, precision: str, threads: int):
        import openvino as ov
        from openvino import properties

        self._core = load_cpu()
        rest = cpu_precision('auto' if precision == 'int8' else precision)
        self._options = {
            properties.hint.inference_precision: _HINTS[rest],
            properties.hint.performance_mode: properties.hint.PerformanceMode.LATENCY,
            properties.inference_num_threads: threads,
        }
        self._requests: dict[int, Any] = {}
        self.reason = ''
        try:
            # Read whole: a mapped file that is cut below a running node would kill it (SIGBUS).
            whole = {properties.enable_mmap: False}
            self._model = (
                self._core.read_model(model, config=whole) if isinstance(model, Path) else model
            )
            self._names = [output.get_any_name() for output in self._model.outputs]
            check_outputs(self._names)
            shape = self._model.inputs[0].get_partial_shape()
            self.input_size = (shape[1].get_length(), shape[2].get_length())
            self._requests[1] = self._compile(1)
        except (RuntimeError, ValueError) as error:
            first = str(error).strip().splitlines()[-1]
            name = str(model) if isinstance(model, Path) else 'the converted checkpoint'
            raise ValueError(
                f'OpenVINO cannot load {name!r}: {first}; is it truncated? export again'
            ) from None
        self.score_name = score
        used = (
            self._requests[1]
            .get_compiled_model()
            .get_property(properties.hint.inference_precision)
        )
        computes = _NAMES[used.get_type_name()]
        self.precision = 'int8' if precision == 'int8' else computes
        others = f', the rest in {computes}' if precision == 'int8' else ''
        self.device = device()
        self.description = f'openvino {ov.__version__}, {self.device}, {threads} threads{others}'

    def _compile(self, count: int) -> Any:
        model = self._model.clone()
        model.reshape((count, *self.input_size, 3))
        return self._core.compile_model(model, 'CPU', self._options).create_infer_request()

    def infer(self, image: NDArray[np.uint8]) -> Prediction:
        """Gives labels and score of a (H, W, 3) RGB image at `input_size`."""
        return self.infer_batch([image])[0]

    def infer_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        """Gives labels and score of each (H, W, 3) RGB image at `input_size`."""
        batch = stack_images(images, self.input_size)
        count = len(batch)
        if count not in self._requests:
            self._requests[count] = self._compile(count)
        result = self._requests[count].infer([batch], share_inputs=True, share_outputs=True)
        # The request owns what it gives and overwrites it on the next frame. A copy of both maps
        # at 360x480 takes 0.03 ms.
        return split_outputs({name: result[name].copy() for name in self._names})

    def close(self) -> None:
        """Frees the compiled models."""
        self._requests.clear()
        del self._model
