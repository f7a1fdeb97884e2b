"""The engines, by public name, and how one is opened for a checkpoint."""

from __future__ import annotations

from importlib import import_module
import logging
from typing import cast, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anomaly_seg_ros.checkpoint.folder import Checkpoint
    from anomaly_seg_ros.prediction import Engine

    from .building import BuildNotice
    from .choice import Wanted
    from .facts import EngineModule

_logger = logging.getLogger(__name__)

ENGINES = {
    'tensorrt': 'anomaly_seg_ros.engines.tensorrt_engine',
    'openvino': 'anomaly_seg_ros.engines.openvino_engine',
    'onnx': 'anomaly_seg_ros.engines.onnx_engine',
    'torch': 'anomaly_seg_ros.engines.torch_engine',
}
"""What can be asked for by name, and its module; 'auto' takes the first that can run here."""

AUTO = 'auto'


def engine_module(name: str) -> EngineModule:
    """Gives the module of an engine, without its library.

    Raises:
        ValueError: Unknown name.
    """
    if name not in ENGINES:
        raise ValueError(f'unknown engine {name!r}; choose one of: {AUTO}, {", ".join(ENGINES)}')
    return cast('EngineModule', import_module(ENGINES[name]))


def precisions() -> tuple[str, ...]:
    """Gives all that can be asked for, 'auto' first; each engine has some of them."""
    found = [part for name in ENGINES for part in engine_module(name).FACTS.precisions]
    return tuple(dict.fromkeys((AUTO, *found)))


def open_engine(
    checkpoint: Checkpoint,
    engine: str = AUTO,
    score: str | None = None,
    precision: str = AUTO,
    engine_path: Path | None = None,
    on_build: Callable[[BuildNotice], None] | None = None,
) -> Engine:
    """Loads or builds the engine for a checkpoint.

    A folder that is named must fit. One that lies beside the checkpoint and does not fit this
    machine or these weights, or has been changed since it was exported, is passed over with a
    warning, and the engine is made anew in memory where torch is installed; some are only ever
    built by export. The engine's `reason` says what was taken and why.

    Args:
        checkpoint: What it serves.
        engine: A name of `ENGINES`, or 'auto' for the best that can run here.
        score: A key of `SCORES`; None for the checkpoint's own.
        precision: One of `precisions()`; 'auto' leaves it to the engine.
        engine_path: An engine folder made by export, instead of looking beside the checkpoint.
        on_build: Called before an engine is built, which takes long; the log says it too.

    Raises:
        FileNotFoundError: A folder or a file in it is missing.
        ImportError: The engine's library is not installed; the text holds the install line.
        ValueError: Unknown names, or an engine folder that does not fit the checkpoint.
    """
    from anomaly_seg_ros.process.cores import inference_threads
    from anomaly_seg_ros.registry import check_name
    from anomaly_seg_ros.scores import SCORES

    from .building import announce
    from .choice import choose_engine, Wanted

    if engine != AUTO:
        engine_module(engine)
    if precision not in (known := precisions()):
        raise ValueError(f'unknown precision {precision!r}; choose one of: {", ".join(known)}')
    score = score or checkpoint.meta.score
    check_name('score', SCORES, score)
    wanted = Wanted(checkpoint, score, precision, checkpoint.meta.input_size)
    if engine_path is not None:
        return _open_path(engine_path, wanted, engine)
    choice = choose_engine(wanted, engine)
    module, threads = engine_module(choice.engine), inference_threads()
    if choice.ready is not None:
        made = module.load(*choice.ready, precision, threads)
    else:
        if module.FACTS.exports:  # else it runs the checkpoint itself
            notice = announce(choice.engine, module.device(), wanted)
            if on_build is not None:
                on_build(notice)
        made = module.build(checkpoint, score, precision, wanted.input_size, threads)
    made.reason = choice.reason
    return made


def _open_path(folder: Path, wanted: Wanted, engine: str) -> Engine:
    from anomaly_seg_ros.process.cores import inference_threads

    from .choice import check_classes, loaded
    from .folder import check_files, read_engine_meta
    from .key import misfit

    meta = read_engine_meta(folder)
    if engine not in (AUTO, meta.engine) or meta.engine not in ENGINES:
        raise ValueError(f'{str(folder)!r} holds engine {meta.engine!r}, not {engine!r}')
    check_classes(meta.engine, wanted)
    module = loaded(meta.engine)
    if why := misfit(meta, wanted.here(module), module):
        raise ValueError(f'engine {str(folder)!r} {why}')
    check_files(folder, meta)
    made = module.load(folder, meta, wanted.precision, inference_threads())
    made.reason = f'engine {meta.engine!r}: the folder {str(folder)!r} was asked for'
    _logger.info(made.reason)
    return made
