"""ONNX Runtime on the CPU or, as onnxruntime-gpu, on a GPU; its file serves other runtimes."""

from __future__ import annotations

from collections.abc import Sequence
import logging
import os
from pathlib import Path
import tempfile
from typing import Any
import warnings

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.prediction import check_outputs, Prediction, split_outputs, stack_images

from .facts import EngineFacts, TORCH
from .folder import EngineMeta, ExportRequest

# Else its wheel gives this device a number, kept in the home folder, and posts to its makers what
# is run here; it reads the variable when it is imported.
os.environ['ORT_DISABLE_TELEMETRY'] = '1'

_logger = logging.getLogger(__name__)

FACTS = EngineFacts(
    library='onnxruntime',
    install='onnxruntime==1.31.1',
    to_build={**TORCH, 'onnxscript': 'onnx==1.23.2 onnxscript==0.7.2'},
    precisions=('auto', 'fp16', 'fp32'),
)

MODEL_FILE = 'model.onnx'
OPSET = 18
_CUDA = 'CUDAExecutionProvider'


def versions() -> dict[str, str]:
    """Gives what an exported graph depends on."""
    import onnxruntime as ort

    return {'onnxruntime': str(ort.__version__)}


def device() -> str:
    """Gives the kind of device that it runs on."""
    import onnxruntime as ort

    return 'CUDA' if _CUDA in ort.get_available_providers() else 'CPU'


def runs(precision: str) -> bool:
    """Whether this device can run a graph that was exported for a precision: each can."""
    return True


def export(request: ExportRequest, folder: Path) -> str:
    """Writes the model into a folder and gives the precision it was made for.

    Raises:
        ImportError: onnx or onnxscript is not installed.
        ValueError: The score does not fit, or the engine has no such precision.
    """
    import torch
    from torch.nn.attention import sdpa_kernel, SDPBackend

    from .graph import export_graph, output_names
    from .scored_model import load_scored_model

    half = request.precision == 'fp16'
    scored = load_scored_model(request.checkpoint, request.score)
    program = export_graph(scored.spell(torch.uint8, half), request.input_size)
    logging.getLogger('torch.onnx').setLevel(logging.ERROR)  # it asks for torchvision
    try:
        # Its converter takes attentions apart, and must not count on the layout that a fused
        # kernel gives its output: Swin's views of it would not hold.
        with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            # Of its own code, about its own names.
            warnings.simplefilter('ignore', FutureWarning)
            torch.onnx.export(
                program,
                f=folder / MODEL_FILE,
                dynamo=True,
                opset_version=OPSET,
                input_names=['image'],
                output_names=output_names(program),
                external_data=False,
                verbose=False,
            )
    except ImportError as error:
        raise ImportError(
            f'export to ONNX needs: pip install onnx==1.23.2 onnxscript==0.7.2 ({error})'
        ) from None
    return 'fp16' if half else 'fp32'


def load(folder: Path, meta: EngineMeta, precision: str, threads: int) -> OnnxEngine:
    """Loads an exported model; its precision is that of the file.

    Raises:
        ValueError: The file is broken.
    """
    return OnnxEngine(folder / MODEL_FILE, meta.score, meta.precision, threads)


def build(
    checkpoint: Checkpoint, score: str, precision: str, input_size: tuple[int, int], threads: int
) -> OnnxEngine:
    """Converts a checkpoint; nothing of it stays on disk.

    Raises:
        ImportError: onnx or onnxscript is not installed.
        ValueError: The score does not fit.
    """
    request = ExportRequest(
        checkpoint=checkpoint, score=score, precision=precision, input_size=input_size
    )
    with tempfile.TemporaryDirectory() as work:
        made = export(request, Path(work))
        return OnnxEngine(Path(work) / MODEL_FILE, score, made, threads)


class OnnxEngine:
    """An ONNX model; the weights of 'fp16' are halves, which a CPU computes in float32.

    Outputs are new arrays at each call, which the runtime gives away: nothing is copied here.

    Args:
        model: Path of the model, read whole.
        score: The score compiled in.
        precision: 'fp32' or 'fp16', that of the graph.
        threads: Threads of one inference on the CPU.

    Raises:
        ValueError: The file is broken.
    """

    name = 'onnx'

    def __init__(self, model: Path, score: str, precision: str, threads: int):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that spin take the cores from the middleware and other processes.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        # An export has all weights in its file; others would be taken of the working folder.
        options.add_session_config_entry(
            'session.model_external_initializers_file_folder_path', os.devnull
        )
        options.log_severity_level = 3
        wants_cuda = device() == 'CUDA'
        if wants_cuda and hasattr(ort, 'preload_dlls'):
            ort.preload_dlls()  # of the wheels of CUDA, which nobody else has loaded
        exact = {'use_tf32': '0'} if precision == 'fp32' else {}
        providers: list[Any] = [(_CUDA, exact)] if wants_cuda else []
        try:
            self._session = ort.InferenceSession(
                model.read_bytes(), options, [*providers, 'CPUExecutionProvider']
            )
            self._names = [output.name for output in self._session.get_outputs()]
            check_outputs(self._names)
        except Exception as error:  # noqa: BLE001 - its errors share no base but Exception
            first = str(error).strip().splitlines()[-1]
            raise ValueError(
                f'ONNX Runtime cannot load {str(model)!r}: {first}; is it truncated? export again'
            ) from None
        _, height, width, _ = self._session.get_inputs()[0].shape
        self.input_size = (int(height), int(width))
        self.score_name, self.precision, self.reason = score, precision, ''
        self.device = self._session.get_providers()[0].removesuffix('ExecutionProvider')
        if wants_cuda and self.device != 'CUDA':
            _logger.warning('ONNX Runtime was built for CUDA and cannot load it; the CPU runs')
        self.description = f'onnxruntime {ort.__version__}, {self.device}, {threads} threads'

    def infer(self, image: NDArray[np.uint8]) -> Prediction:
        """Gives labels and score of a (H, W, 3) RGB image at `input_size`."""
        return self.infer_batch([image])[0]

    def infer_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        """Gives labels and score of each (H, W, 3) RGB image at `input_size`."""
        batch = stack_images(images, self.input_size)
        outputs = self._session.run(self._names, {'image': batch})
        return split_outputs(dict(zip(self._names, outputs, strict=True)))

    def close(self) -> None:
        """Frees the session."""
        del self._session
