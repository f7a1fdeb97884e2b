"""Which engines are compared, and how each is got ready for a checkpoint and a size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
import json
from pathlib import Path
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from anomaly_seg_ros.checkpoint.folder import Checkpoint, WEIGHTS_FILE
from anomaly_seg_ros.checkpoint.meta import write_meta
from anomaly_seg_ros.engines import ENGINES, open_engine, precisions
from anomaly_seg_ros.engines.choice import is_ready, Wanted
from anomaly_seg_ros.engines.export import exported
from anomaly_seg_ros.engines.folder import ENGINES_FOLDER

from .machine import ended

if TYPE_CHECKING:
    from anomaly_seg_ros.prediction import Engine


@dataclass(frozen=True)
class Candidate:
    """An engine and the precision asked of it."""

    engine: str
    precision: str

    @property
    def label(self) -> str:
        """The candidate as it is typed."""
        return self.engine if self.precision == 'auto' else f'{self.engine}:{self.precision}'


@dataclass(frozen=True)
class EngineCall:
    """The arguments of `open_engine`, so that other processes can open the very same engine."""

    checkpoint: str
    engine: str
    score: str
    precision: str
    engine_path: str | None = None

    def open(self) -> Engine:
        """Opens the engine; raises as `open_engine`."""
        path = Path(self.engine_path) if self.engine_path else None
        checkpoint = Checkpoint.open(self.checkpoint)
        return open_engine(checkpoint, self.engine, self.score, self.precision, path)

    def to_json(self) -> str:
        """Gives the call as text for a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> EngineCall:
        """Reads what `to_json` gave."""
        return cls(**json.loads(text))


def parse_candidates(text: str, precision: str = 'auto') -> list[Candidate]:
    """Reads 'ENGINE[:PRECISION],...'.

    Args:
        text: As typed.
        precision: Of engines that name none.

    Raises:
        ValueError: An engine or precision is unknown, or one stands there twice.
    """
    found: list[Candidate] = []
    for part in text.split(','):
        engine, _, asked = part.strip().partition(':')
        candidate = Candidate(engine, asked or precision)
        if engine not in ('auto', *ENGINES):
            raise ValueError(
                f'unknown engine {engine!r}; choose one of: auto, {", ".join(ENGINES)}'
            )
        if candidate.precision not in precisions():
            raise ValueError(
                f'unknown precision {candidate.precision!r}; choose one of: '
                f'{", ".join(precisions())}'
            )
        if candidate in found:
            raise ValueError(f'engine {candidate.label!r} stands twice in {text!r}; name it once')
        found.append(candidate)
    return found


@contextmanager
def sized_checkpoint(checkpoint: Checkpoint, size: tuple[int, int]) -> Iterator[Checkpoint]:
    """Gives a checkpoint for images of `size`: itself, or a thin copy of it.

    The copy has its own `meta.json` and links to the weights and the ready engines.
    """
    if checkpoint.meta.input_size == size:
        yield checkpoint
        return
    with tempfile.TemporaryDirectory(prefix='anomaly_seg_bench_') as folder:
        copy = Path(folder) / checkpoint.folder.name
        copy.mkdir()
        write_meta(copy, replace(checkpoint.meta, input_size=size))
        for name in (WEIGHTS_FILE, ENGINES_FOLDER):
            if (checkpoint.folder / name).exists():
                (copy / name).symlink_to((checkpoint.folder / name).resolve())
        yield Checkpoint.open(copy)


def prepare(
    candidate: Candidate,
    checkpoint: Checkpoint,
    score: str,
    work: Path,
    calibration: Path | None = None,
) -> EngineCall:
    """Makes the engine folder where one is needed and none lies ready.

    By the command `export` in a process of its own: neither torch nor the memory of an export
    gets into the processes that measure.

    Args:
        candidate: What to prepare.
        checkpoint: From `sized_checkpoint`.
        score: A key of `SCORES`.
        work: Folder for engines made here.
        calibration: Frames on which int8 ranges are measured.

    Raises:
        ImportError: The export failed; the text is its last line.
    """
    size = checkpoint.meta.input_size
    call = EngineCall(str(checkpoint.folder), candidate.engine, score, candidate.precision)
    if candidate.engine not in exported():
        return call
    # A folder made for 'auto' has half-precision weights: no measure of a named precision.
    wanted = Wanted(checkpoint, score, candidate.precision, size)
    if candidate.precision == 'auto' and is_ready(candidate.engine, wanted):
        return call
    out = work / f'{candidate.label.replace(":", "-")}-{score}-{size[0]}x{size[1]}'
    command = [sys.executable, '-m', 'anomaly_seg_ros', 'export']
    command += [
        '--checkpoint',
        call.checkpoint,
        '--score',
        score,
        '--engine',
        candidate.engine,
        '--size',
        f'{size[0]}x{size[1]}',
    ]
    command += ['--precision', candidate.precision, '--out', str(out)]
    if calibration is not None and candidate.precision == 'int8':
        command += ['--calibration', str(calibration)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        killed = result.returncode < 0
        said = '' if killed else last_line(result.stderr).removeprefix('anomaly_seg export: ')
        how = f'export of {candidate.label!r} {ended(result.returncode)}'
        raise ImportError(said or how)
    return replace(call, engine_path=str(out))


def last_line(text: str) -> str:
    r"""Gives the last line that says what is wrong, which is the error in a traceback too.

    >>> last_line('INFO: it begins\nno such engine\nINFO: it ends\n')
    'no such engine'
    """
    lines = (line.strip() for line in reversed(text.splitlines()))
    return next((line for line in lines if line and not line.startswith(('INFO:', 'WARN'))), '')
