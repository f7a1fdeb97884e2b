"""OpenVINO on the CPU: the fastest engine where there is no GPU, and it needs no torch to run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

try:
    import openvino as ov
    from openvino import properties
except ImportError as error:
    raise ImportError(f"engine 'openvino' needs: pip install openvino ({error})") from None

from anomaly_seg_ros.checkpoint import refuse_lfs_pointer
from anomaly_seg_ros.prediction import check_engine_input, Prediction

if TYPE_CHECKING:
    from anomaly_seg_ros.engines.scored_model import ScoredModel

MODEL_FILE = 'model.xml'
WEIGHTS_FILE = 'model.bin'
_HINTS = {'fp32': 'f32', 'bf16': 'bf16'}
_NAMES = {'f32': 'fp32', 'float32': 'fp32', 'bf16': 'bf16', 'bfloat16': 'bf16'}
LABELS, SCORE = 0, 1


def versions() -> dict[str, str]:
    """Gives what an exported graph depends on."""
    return {'openvino': str(ov.__version__)}


def convert(scored: ScoredModel, input_size: tuple[int, int]) -> Any:
    """Turns the torch module into an OpenVINO model for one image of `input_size`."""
    import torch

    example = torch.zeros(1, *input_size, 3, dtype=torch.uint8)
    with torch.inference_mode():
        program = torch.export.export(scored, (example,))
    model = ov.convert_model(program)
    model.reshape((1, *input_size, 3))
    model.inputs[0].get_tensor().set_names({'image'})
    for output, name in zip(model.outputs, ('labels', 'score'), strict=True):
        output.get_tensor().set_names({name})
    return model


def save(model: Any, folder: Path) -> None:
    """Writes an OpenVINO model with its weights in half precision."""
    ov.save_model(model, folder / MODEL_FILE, compress_to_fp16=True)


def cpu_precision(asked: str) -> str:
    """Gives what to compute in: 'auto' is bf16 where the CPU has it in hardware, else fp32.

    Raises:
        ValueError: A precision that OpenVINO has not on this CPU.
    """
    capabilities = ov.Core().get_property('CPU', properties.device.capabilities)
    fast = 'BF16' in capabilities
    if asked == 'auto':
        return 'bf16' if fast else 'fp32'
    if asked not in _HINTS or (asked == 'bf16' and not fast):
        available = 'auto, fp32, bf16' if fast else 'auto, fp32'
        raise ValueError(
            f"engine 'openvino' has no precision {asked!r} on this CPU; choose one of: {available}"
        )
    return asked


def _check_files(model: Path) -> None:
    for path in (model, model.with_name(WEIGHTS_FILE)):
        if not path.is_file():
            raise FileNotFoundError(f'engine folder has no {str(path)!r}; export again')
        refuse_lfs_pointer(path)


class OpenVinoEngine:
    """A compiled OpenVINO model on the CPU.

    Args:
        model: Path of a saved model, or what `convert` gave.
        score: The score compiled in.
        precision: 'auto', 'fp32' or 'bf16'.
        threads: Threads of one inference.

    Raises:
        FileNotFoundError: The model's file or its weights are missing.
        ValueError: A file is broken, or the CPU lacks the precision.
    """

    name = 'openvino'

    def __init__(self, model: Any, score: str, precision: str, threads: int):
        core = ov.Core()
        options = {
            properties.hint.inference_precision: _HINTS[cpu_precision(precision)],
            properties.hint.performance_mode: properties.hint.PerformanceMode.LATENCY,
            properties.inference_num_threads: threads,
        }
        if isinstance(model, Path):
            _check_files(model)
        try:
            read = core.read_model(model) if isinstance(model, Path) else model
            self._compiled = core.compile_model(read, 'CPU', options)
        except RuntimeError as error:
            first = str(error).strip().splitlines()[-1]
            name = str(model) if isinstance(model, Path) else 'the converted checkpoint'
            raise ValueError(
                f'OpenVINO cannot load {name!r}: {first}; is it truncated? export again'
            ) from None
        self._request = self._compiled.create_infer_request()
        self.score_name = score
        _, height, width, _ = self._compiled.inputs[0].get_shape()
        self.input_size = (int(height), int(width))
        used = self._compiled.get_property(properties.hint.inference_precision)
        self.precision = _NAMES[used.get_type_name()]
        cpu = core.get_property('CPU', properties.device.full_name)
        self.description = f'openvino {ov.__version__}, {cpu}, {threads} threads'

    def infer(self, image: NDArray[np.uint8]) -> Prediction:
        """Gives labels and score of a (H, W, 3) RGB image at `input_size`."""
        check_engine_input(image, self.input_size)
        batch = np.ascontiguousarray(image)[None]
        result = self._request.infer([batch], share_inputs=True, share_outputs=True)
        # The request owns what it gives and overwrites it on the next frame: copy.
        return Prediction(result[LABELS][0].copy(), result[SCORE][0].astype(np.float32))

    def close(self) -> None:
        """Frees the compiled model."""
        del self._request, self._compiled
