"""The engines, by public name, and the choice among them."""

from __future__ import annotations

from importlib.util import find_spec
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly_seg_ros.checkpoint import read_meta, weights_hash
from anomaly_seg_ros.engines.engine_folder import (
    ENGINES_FOLDER,
    find_engine_folder,
    read_engine_meta,
)

if TYPE_CHECKING:
    from anomaly_seg_ros.prediction import Engine

_logger = logging.getLogger(__name__)

ENGINES = ('openvino', 'torch')
"""What can be asked for by name; 'auto' takes the first that can run here."""

PRECISIONS = ('auto', 'fp32', 'bf16', 'fp16')


def default_threads() -> int:
    """Threads of one inference: all cores, but one is left to the middleware above two."""
    cores = len(os.sched_getaffinity(0))
    return cores if cores <= 2 else cores - 1


def open_engine(
    checkpoint: Path,
    engine: str = 'auto',
    score: str | None = None,
    precision: str = 'auto',
    engine_path: Path | None = None,
) -> Engine:
    """Loads or builds the engine for a checkpoint.

    Args:
        checkpoint: A checkpoint folder.
        engine: A name of `ENGINES`, or 'auto' for the best that can run here.
        score: A key of `SCORES`; None for the checkpoint's own.
        precision: One of `PRECISIONS`; 'auto' leaves it to the engine.
        engine_path: An engine folder made by export, instead of looking beside the checkpoint.

    Raises:
        FileNotFoundError: A folder or a file in it is missing.
        ImportError: The engine's library is not installed; the text holds the install line.
        ValueError: Unknown names, or an engine folder that does not fit the checkpoint.
    """
    if engine not in ('auto', *ENGINES):
        raise ValueError(f'unknown engine {engine!r}; choose one of: auto, {", ".join(ENGINES)}')
    if precision not in PRECISIONS:
        raise ValueError(
            f'unknown precision {precision!r}; choose one of: {", ".join(PRECISIONS)}'
        )
    meta = read_meta(checkpoint)
    score = score or meta.score
    _check_score(score)
    if engine_path is not None:
        return _load_folder(engine_path, checkpoint, engine, score, precision)
    ready = None
    if engine != 'torch':
        ready = find_engine_folder(checkpoint, 'openvino', score, precision, meta.input_size)
    chosen = choose_engine(ready is not None, score) if engine == 'auto' else engine
    if chosen == 'openvino' and ready is not None:
        return _load_folder(ready, checkpoint, chosen, score, precision)
    if not _installed('torch'):
        why = ''
        if chosen == 'openvino':
            why = (
                f' to be built, because {str(checkpoint / ENGINES_FOLDER)!r} holds none ready '
                f'for score {score!r} and precision {precision!r}'
            )
        raise ImportError(
            f'engine {chosen!r} needs torch{why}; pip install torch==2.13.0 safetensors'
        )
    return _build(chosen, checkpoint, score, precision, meta.input_size)


def _check_score(score: str) -> None:
    from anomaly_seg_ros.scores import SCORES

    if score not in SCORES:
        raise ValueError(f'unknown score {score!r}; choose one of: {", ".join(sorted(SCORES))}')


def _installed(module: str) -> bool:
    return find_spec(module) is not None


def choose_engine(ready: bool, score: str) -> str:
    """Picks the fastest engine that can run here, and logs why.

    Args:
        ready: Whether an exported OpenVINO engine lies beside the checkpoint.
        score: The score it is for, for the log.
    """
    if _installed('openvino') or not _installed('torch'):
        how = (
            'ready engine' if ready else 'converted from the checkpoint; export once to skip this'
        )
        _logger.info("engine 'openvino' for score %r (%s)", score, how)
        return 'openvino'
    _logger.info("engine 'torch' for score %r: openvino is not installed", score)
    return 'torch'


def _load_folder(
    folder: Path, checkpoint: Path, engine: str, score: str, precision: str
) -> Engine:
    meta = read_engine_meta(folder)
    if engine not in ('auto', meta.engine) or meta.engine not in ENGINES:
        raise ValueError(f'{str(folder)!r} holds engine {meta.engine!r}, not {engine!r}')
    if meta.score != score:
        raise ValueError(
            f'engine {str(folder)!r} was exported with score {meta.score!r}, not {score!r}; '
            f'ask for {meta.score!r} or export again'
        )
    if precision != 'auto' and meta.precision not in ('auto', precision):
        raise ValueError(
            f'engine {str(folder)!r} was exported for precision {meta.precision!r}, '
            f'not {precision!r}'
        )
    if (here := weights_hash(checkpoint)) != meta.weights:
        raise ValueError(
            f'engine {str(folder)!r} was exported from weights {meta.weights[:12]}, checkpoint '
            f'{str(checkpoint)!r} has {here[:12]}; run export again'
        )
    from anomaly_seg_ros.engines.openvino_engine import MODEL_FILE, OpenVinoEngine

    asked = precision if meta.precision == 'auto' else meta.precision
    return OpenVinoEngine(folder / MODEL_FILE, score, asked, default_threads())


def _build(
    engine: str, checkpoint: Path, score: str, precision: str, input_size: tuple[int, int]
) -> Engine:
    if engine == 'torch':
        from anomaly_seg_ros.engines.torch_engine import TorchEngine

        return TorchEngine(checkpoint, score, precision, input_size, default_threads())
    from anomaly_seg_ros.engines.openvino_engine import convert, cpu_precision, OpenVinoEngine
    from anomaly_seg_ros.engines.scored_model import load_scored_model

    precision = cpu_precision(precision)  # refused now, not after the conversion
    model = convert(load_scored_model(checkpoint, score), input_size)
    return OpenVinoEngine(model, score, precision, default_threads())
