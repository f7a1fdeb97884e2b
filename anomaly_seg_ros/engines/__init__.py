"""The engines, by public name, and how one is opened for a checkpoint."""

from __future__ import annotations

from importlib import import_module
import logging
from pathlib import Path
from typing import cast, Protocol, TYPE_CHECKING

from anomaly_seg_ros.engines.folder import EngineMeta, ExportRequest, read_engine_meta
from anomaly_seg_ros.process import inference_threads

if TYPE_CHECKING:
    from anomaly_seg_ros.checkpoint.folder import Checkpoint
    from anomaly_seg_ros.engines.choice import Wanted
    from anomaly_seg_ros.prediction import Engine

_logger = logging.getLogger(__name__)

ENGINES = ('tensorrt', 'openvino', 'onnx', 'torch')
"""What can be asked for by name; 'auto' takes the first that can run here."""

PRECISIONS = ('auto', 'fp32', 'bf16', 'fp16', 'int8')


class EngineModule(Protocol):
    """What each `<name>_engine.py` has; 'torch' exports nothing, 'tensorrt' builds by export."""

    PRECISIONS: tuple[str, ...]

    def versions(self) -> dict[str, str]:
        """Gives the library versions that an exported graph depends on."""
        ...

    def device(self) -> str:
        """Gives the device that it would run on."""
        ...

    def runs(self, precision: str) -> bool:
        """Whether this device can run a graph that was exported for a precision."""
        ...

    def export(self, request: ExportRequest, folder: Path) -> str:
        """Writes the graph into a folder and gives the precision it was made for."""
        ...

    def load(self, folder: Path, meta: EngineMeta, precision: str, threads: int) -> Engine:
        """Loads what `export` wrote."""
        ...

    def build(
        self,
        checkpoint: Checkpoint,
        score: str,
        precision: str,
        input_size: tuple[int, int],
        threads: int,
    ) -> Engine:
        """Makes the engine from a checkpoint, leaving nothing on disk."""
        ...


def engine_module(name: str) -> EngineModule:
    """Gives the module of an engine.

    Raises:
        ImportError: Its library is not installed; the text holds the install line.
        ValueError: Unknown name.
    """
    if name not in ENGINES:
        raise ValueError(f'unknown engine {name!r}; choose one of: auto, {", ".join(ENGINES)}')
    return cast('EngineModule', import_module(f'anomaly_seg_ros.engines.{name}_engine'))


def open_engine(
    checkpoint: Checkpoint,
    engine: str = 'auto',
    score: str | None = None,
    precision: str = 'auto',
    engine_path: Path | None = None,
) -> Engine:
    """Loads or builds the engine for a checkpoint.

    A folder that is named must fit. One that lies beside the checkpoint and does not fit this
    machine or these weights is passed over with a warning, and the engine is made anew in memory
    where torch is installed; TensorRT is only ever built by export. The engine's `reason` says
    what was taken and why.

    Args:
        checkpoint: What it serves.
        engine: A name of `ENGINES`, or 'auto' for the best that can run here.
        score: A key of `SCORES`; None for the checkpoint's own.
        precision: One of `PRECISIONS`; 'auto' leaves it to the engine.
        engine_path: An engine folder made by export, instead of looking beside the checkpoint.

    Raises:
        FileNotFoundError: A folder or a file in it is missing.
        ImportError: The engine's library is not installed; the text holds the install line.
        ValueError: Unknown names, or an engine folder that does not fit the checkpoint.
    """
    from anomaly_seg_ros.engines.choice import choose_engine, Wanted

    if engine not in ('auto', *ENGINES):
        raise ValueError(f'unknown engine {engine!r}; choose one of: auto, {", ".join(ENGINES)}')
    if precision not in PRECISIONS:
        raise ValueError(
            f'unknown precision {precision!r}; choose one of: {", ".join(PRECISIONS)}'
        )
    score = score or checkpoint.meta.score
    _check_score(score)
    wanted = Wanted(checkpoint, score, precision, checkpoint.meta.input_size)
    if engine_path is not None:
        return _open_path(engine_path, wanted, engine)
    choice = choose_engine(wanted, engine)
    module = engine_module(choice.engine)
    if choice.folder is not None:
        made = module.load(
            choice.folder, read_engine_meta(choice.folder), precision, inference_threads()
        )
    else:
        made = module.build(checkpoint, score, precision, wanted.input_size, inference_threads())
    made.reason = choice.reason
    return made


def _check_score(score: str) -> None:
    from anomaly_seg_ros.scores import SCORES

    if score not in SCORES:
        raise ValueError(f'unknown score {score!r}; choose one of: {", ".join(sorted(SCORES))}')


def _open_path(folder: Path, wanted: Wanted, engine: str) -> Engine:
    from anomaly_seg_ros.engines.choice import misfit_here
    from anomaly_seg_ros.engines.key import misfit

    meta = read_engine_meta(folder)
    if engine not in ('auto', meta.engine) or meta.engine not in ENGINES[:-1]:
        raise ValueError(f'{str(folder)!r} holds engine {meta.engine!r}, not {engine!r}')
    module = engine_module(meta.engine)
    here = wanted.here(module.versions(), module.device())
    if why := misfit(meta, here) or misfit_here(module, meta):
        raise ValueError(f'engine {str(folder)!r} {why}')
    made = module.load(folder, meta, wanted.precision, inference_threads())
    made.reason = f'engine {meta.engine!r}: the folder {str(folder)!r} was asked for'
    _logger.info(made.reason)
    return made
