"""Which engine serves a checkpoint on this machine, from which folder, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
import logging
from pathlib import Path

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.engines import engine_module, EngineModule, ENGINES
from anomaly_seg_ros.engines.folder import engine_folders, EngineMeta, ENGINES_FOLDER
from anomaly_seg_ros.engines.key import fits_precision, Here, misfit

_logger = logging.getLogger(__name__)

_LIBRARY = {
    'tensorrt': 'torch_tensorrt',
    'openvino': 'openvino',
    'onnx': 'onnxruntime',
    'torch': 'torch',
}
_NEEDED_TO_BUILD = {'openvino': ('torch',), 'onnx': ('torch', 'onnxscript'), 'torch': ('torch',)}
"""What turns a checkpoint into an engine; 'tensorrt' is never built but by export."""


@dataclass(frozen=True)
class Wanted:
    """What an engine is asked to be."""

    checkpoint: Checkpoint
    score: str
    precision: str
    input_size: tuple[int, int]

    def here(self, versions: dict[str, str], device: str) -> Here:
        """Gives what a folder is held against."""
        return Here(
            key=self.checkpoint.score_key(self.score),
            score=self.score,
            precision=self.precision,
            versions=versions,
            device=device,
        )


@dataclass(frozen=True)
class Choice:
    """An engine, the folder to load it from (None: to be built) and the reason, one line."""

    engine: str
    folder: Path | None
    reason: str
    warn: bool = False


def choose_engine(wanted: Wanted, engine: str = 'auto') -> Choice:
    """Picks the fastest engine that can run here, or how the named one comes to be; logs why.

    Raises:
        ImportError: Nothing can run here, or the named engine cannot; the text says what to do.
        FileNotFoundError: TensorRT was asked for and has not been built.
        ValueError: What was built of TensorRT does not fit this machine or these weights.
    """
    refused: list[str] = []
    for name in ENGINES if engine == 'auto' else (engine,):
        found = _consider(name, wanted)
        if isinstance(found, Choice):
            aside = ''.join(f'; {text}' for text in refused)
            choice = replace(found, reason=f'engine {name!r}: {found.reason}{aside}')
            _logger.log(logging.WARNING if choice.warn else logging.INFO, '%s', choice.reason)
            return choice
        if engine != 'auto':
            raise found
        refused.append(f'not {name}: {found}')
    raise ImportError(f'no engine can run here: {"; ".join(refused)}')


def _consider(name: str, wanted: Wanted) -> Choice | Exception:
    """Gives how an engine would be opened, or why it cannot be."""
    if not _installed(_LIBRARY[name]):
        return _missing(name, '')
    folder: Path | None = None
    why_not = ''
    if name != 'torch':
        try:
            folder, why_not = ready_folder(name, wanted)
        except (ImportError, OSError) as error:
            return ImportError(f'engine {name!r} is installed and cannot be loaded: {error}')
    if name != 'tensorrt' and wanted.precision not in (known := engine_module(name).PRECISIONS):
        return ValueError(
            f'engine {name!r} has no precision {wanted.precision!r}; '
            f'choose one of: {", ".join(known)}'
        )
    if folder is not None:
        return Choice(name, folder, f'ready in {folder.name!r}')
    return _to_be_built(name, wanted, why_not)


def _to_be_built(name: str, wanted: Wanted, why_not: str) -> Choice | Exception:
    """Gives how an engine without a fitting folder comes to be, or why it cannot.

    Args:
        name: The engine.
        wanted: What it is asked to be.
        why_not: Why the folder that comes nearest does not fit; empty where there is none.
    """
    if name == 'tensorrt':
        if why_not:
            return ValueError(why_not)
        return FileNotFoundError(
            f'none built beside the checkpoint {str(wanted.checkpoint.folder)!r} for score '
            f'{wanted.score!r}; anomaly_seg export --engine tensorrt builds one'
        )
    if not all(map(_installed, _NEEDED_TO_BUILD[name])):
        at = str(wanted.checkpoint.folder / ENGINES_FOLDER)
        none = f'{at!r} holds none ready for score {wanted.score!r} and precision '
        return _missing(name, f' to be built, because {why_not or none + repr(wanted.precision)}')
    if name == 'torch':
        return Choice(name, None, 'runs the checkpoint itself')
    if why_not:
        return Choice(name, None, f'made anew from the checkpoint, because {why_not}', warn=True)
    return Choice(name, None, 'made from the checkpoint; export once to skip this')


def _missing(name: str, why: str) -> ImportError:
    install = {
        'tensorrt': '--extra-index-url https://pypi.nvidia.com -r config/requirements/gpu.txt',
        'openvino': 'openvino==2026.4.1',
        'onnx': 'onnxruntime==1.31.1',
        'torch': 'torch==2.13.0 safetensors',
    }
    if _installed(_LIBRARY[name]):
        needed = next(part for part in _NEEDED_TO_BUILD[name] if not _installed(part))
        line = install['torch'] if needed == 'torch' else 'onnx==1.23.2 onnxscript==0.7.2'
        return ImportError(f'engine {name!r} needs {needed}{why}; pip install {line}')
    return ImportError(f'engine {name!r} needs {_LIBRARY[name]}; pip install {install[name]}')


def _installed(module: str) -> bool:
    return find_spec(module) is not None


def ready_folder(name: str, wanted: Wanted) -> tuple[Path | None, str]:
    """Gives the folder beside the checkpoint that fits, or else why the nearest one does not."""
    candidates = [
        (folder, meta)
        for folder, meta in engine_folders(wanted.checkpoint.folder)
        if isinstance(meta, EngineMeta) and meta.engine == name and _is_meant(meta, wanted)
    ]
    if not candidates:
        return None, _unreadable(name, wanted)
    candidates.sort(key=lambda found: _preference(found[1].precision, wanted.precision))
    why = ''
    module = engine_module(name)
    here = wanted.here(module.versions(), module.device())
    for folder, meta in candidates:
        if (problem := misfit(meta, here) or misfit_here(module, meta)) is None:
            return folder, ''
        why = f'engine {str(folder)!r} {problem}'
    return None, why


def _unreadable(name: str, wanted: Wanted) -> str:
    """Gives what is wrong with a folder that is named after the engine; '' without such."""
    return next(
        (
            meta
            for folder, meta in engine_folders(wanted.checkpoint.folder)
            if isinstance(meta, str) and folder.name.startswith(name)
        ),
        '',
    )


def misfit_here(module: EngineModule, meta: EngineMeta) -> str | None:
    """Gives why this machine cannot run what an engine folder holds; None if it can."""
    if module.runs(meta.precision):
        return None
    return f'was exported for precision {meta.precision!r}, which this device does not have'


def _preference(made: str, asked: str) -> tuple[bool, int]:
    """Orders folders: just what was asked for, then what the device may choose, then by speed."""
    return made != asked, ('auto', 'bf16', 'fp16', 'fp32', 'int8').index(made)


def _is_meant(meta: EngineMeta, wanted: Wanted) -> bool:
    """Whether a folder was exported for this; what costs accuracy only if asked for."""
    if meta.precision == 'int8' and wanted.precision != 'int8':
        return False
    return (meta.score, meta.input_size) == (wanted.score, wanted.input_size) and fits_precision(
        meta.precision, wanted.precision
    )
