"""Which engine serves a checkpoint on this machine, from which folder, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.engines import AUTO, engine_module, ENGINES
from anomaly_seg_ros.process.gpu import has_gpu

from .code import graph_code
from .folder import (
    check_files,
    engine_folders,
    EngineMeta,
    ENGINES_FOLDER,
)
from .key import fits_precision, Here, misfit

if TYPE_CHECKING:
    from .facts import EngineModule

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What an engine is asked to be."""

    checkpoint: Checkpoint
    score: str
    precision: str
    input_size: tuple[int, int]

    def here(self, module: EngineModule) -> Here:
        """Gives what a folder of an engine is held against on this machine."""
        return Here(
            key=self.checkpoint.score_key(self.score),
            code=graph_code(self.checkpoint.meta.model, self.score),
            score=self.score,
            precision=self.precision,
            versions=module.versions(),
            device=module.device(),
        )


@dataclass(frozen=True)
class Choice:
    """An engine and why it was taken.

    Attributes:
        engine: A name of `ENGINES`.
        ready: The folder to load it from, with its key; None: to be built.
        reason: One line.
        warn: Whether something is wrong that a user should know of.
    """

    engine: str
    ready: tuple[Path, EngineMeta] | None
    reason: str
    warn: bool = False


CPU_ONLY = 'openvino'
GPU_IDLE = (
    'the NVIDIA GPU that is here is left idle: build an engine for it by anomaly_seg export '
    "--engine tensorrt, or take engine 'torch' where torch was installed with CUDA"
)


class LibraryError(ImportError):
    """A library is installed and cannot be loaded."""


def choose_engine(wanted: Wanted, engine: str = AUTO) -> Choice:
    """Picks the fastest engine that can run here, or how the named one comes to be; logs why.

    Raises:
        ImportError: Nothing can run here, or the named engine cannot; the text says what to do.
        FileNotFoundError: An engine was asked for that only export builds, and has not been.
        ValueError: What was built of it does not fit this machine or these weights.
    """
    refused: list[str] = []
    broken = False
    for name in ENGINES if engine == AUTO else (engine,):
        found = _consider(name, wanted)
        if isinstance(found, Choice):
            aside = ''.join(f'; {text}' for text in refused)
            choice = replace(found, reason=f'engine {name!r}: {found.reason}{aside}')
            idle = engine == AUTO and name == CPU_ONLY and has_gpu()
            if idle:
                choice = replace(choice, reason=f'{choice.reason}; {GPU_IDLE}')
            level = logging.WARNING if choice.warn or broken or idle else logging.INFO
            _logger.log(level, '%s', choice.reason)
            return choice
        if engine != AUTO:
            raise found
        broken |= isinstance(found, LibraryError)
        refused.append(f'not {name}: {found}')
    raise ImportError(f'no engine can run here: {"; ".join(refused)}')


def _consider(name: str, wanted: Wanted) -> Choice | Exception:
    """Gives how an engine would be opened, or why it cannot be."""
    facts = engine_module(name).FACTS
    try:
        check_installed(name)
        if wanted.precision not in facts.precisions:
            raise ValueError(
                f'engine {name!r} has no precision {wanted.precision!r}; '
                f'choose one of: {", ".join(facts.precisions)}'
            )
        check_classes(name, wanted)
        meant, why_not = meant_folders(name, wanted)
        if not meant and facts.to_build is None:
            return _unbuilt(name, wanted, why_not)  # not worth the seconds that loading takes
        module = loaded(name)
    except (ImportError, ValueError) as error:
        return error
    if meant:
        ready, why_not = _first_fit(module, meant, wanted)
        if ready is not None:
            return Choice(name, ready, f'ready in {ready[0].name!r}')
    return _to_be_built(name, wanted, why_not)


def check_installed(name: str) -> None:
    """Checks that the library of an engine is there.

    Raises:
        ImportError: It is not; the text holds the install line.
    """
    facts = engine_module(name).FACTS
    if not _installed(facts.library):
        raise ImportError(f'engine {name!r} needs {facts.library}; pip install {facts.install}')


def loaded(name: str) -> EngineModule:
    """Gives the module of an engine, its library loaded.

    Raises:
        ImportError: The library is not installed, or is and cannot be loaded.
    """
    check_installed(name)
    module = engine_module(name)
    try:
        module.versions()
    except Exception as error:  # a library may fail in any way when it is loaded
        if _interrupted(error):
            raise KeyboardInterrupt from error
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise LibraryError(f'engine {name!r} is installed and cannot be loaded: {why}') from error
    return module


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C lies behind an error: a library may give it out as an import that failed."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _installed(module: str) -> bool:
    return find_spec(module) is not None


def check_classes(name: str, wanted: Wanted) -> None:
    """Checks that an engine's labels can hold the ids of all classes.

    Raises:
        ValueError: They cannot.
    """
    most = engine_module(name).FACTS.most_classes
    if (count := len(wanted.checkpoint.meta.class_names)) > most:
        raise ValueError(
            f'engine {name!r} gives ids of at most {most} classes, the checkpoint has {count}; '
            'choose another engine'
        )


def _to_be_built(name: str, wanted: Wanted, why_not: str) -> Choice | Exception:
    """Gives how an engine without a fitting folder comes to be, or why it cannot.

    Args:
        name: The engine.
        wanted: What it is asked to be.
        why_not: Why the folder that comes nearest does not fit; empty where there is none.
    """
    facts = engine_module(name).FACTS
    if facts.to_build is None:
        return _unbuilt(name, wanted, why_not)
    for needed, install in facts.to_build.items():
        if not _installed(needed):
            at = str(wanted.checkpoint.folder / ENGINES_FOLDER)
            none = (
                f'{at!r} holds none ready for score {wanted.score!r} and precision '
                f'{wanted.precision!r}'
            )
            return ImportError(
                f'engine {name!r} needs {needed} to be built, because {why_not or none}; '
                f'pip install {install}'
            )
    if not facts.exports:
        return Choice(name, None, 'runs the checkpoint itself')
    if why_not:
        return Choice(name, None, f'made anew from the checkpoint, because {why_not}', warn=True)
    return Choice(name, None, 'made from the checkpoint; export once to skip this')


def _unbuilt(name: str, wanted: Wanted, why_not: str) -> Exception:
    """Gives why there is none of an engine that only export builds."""
    if why_not:
        return ValueError(why_not)
    return FileNotFoundError(
        f'none built beside the checkpoint {str(wanted.checkpoint.folder)!r} for score '
        f'{wanted.score!r}; anomaly_seg export --engine {name} builds one'
    )


def meant_folders(name: str, wanted: Wanted) -> tuple[list[tuple[Path, EngineMeta]], str]:
    """Gives the folders beside the checkpoint that were exported for this, the best first.

    Without any, the text says what is wrong with one that is named after the engine.
    """
    facts = engine_module(name).FACTS
    meant, why_not = [], ''
    for folder, meta in engine_folders(wanted.checkpoint.folder) if facts.exports else ():
        if isinstance(meta, str):
            why_not = why_not or (meta if folder.name.startswith(name) else '')
        elif meta.engine == name and _is_meant(meta, wanted, facts.precisions):
            meant.append((folder, meta))

    def preference(found: tuple[Path, EngineMeta]) -> tuple[bool, int]:
        made = found[1].precision
        return made != wanted.precision, facts.precisions.index(made)

    return sorted(meant, key=preference), '' if meant else why_not


def _is_meant(meta: EngineMeta, wanted: Wanted, known: tuple[str, ...]) -> bool:
    """Whether a folder was exported for this; what costs accuracy only if asked for."""
    if meta.precision not in known or (meta.precision == 'int8' and wanted.precision != 'int8'):
        return False
    return (meta.score, meta.input_size) == (wanted.score, wanted.input_size) and fits_precision(
        meta.precision, wanted.precision
    )


def _first_fit(
    module: EngineModule, meant: list[tuple[Path, EngineMeta]], wanted: Wanted
) -> tuple[tuple[Path, EngineMeta] | None, str]:
    """Gives the first folder that fits here and is whole, or else why the last does not."""
    here, why = wanted.here(module), ''
    for folder, meta in meant:
        if problem := misfit(meta, here, module):
            why = f'engine {str(folder)!r} {problem}'
            continue
        try:
            check_files(folder, meta)
        except (ValueError, FileNotFoundError) as error:
            why = str(error)
            continue
        return (folder, meta), ''
    return None, why


def is_ready(name: str, wanted: Wanted) -> bool:
    """Whether a folder beside the checkpoint can be loaded here as it is."""
    try:
        meant, _ = meant_folders(name, wanted)
        return bool(meant) and _first_fit(loaded(name), meant, wanted)[0] is not None
    except ImportError:
        return False
