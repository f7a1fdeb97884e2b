"""The engine folder: an exported graph beside `engine.json`, which says what it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
import json
from pathlib import Path

from anomaly_seg_ros.checkpoint.digests import refuse_lfs_pointer
from anomaly_seg_ros.checkpoint.folder import Checkpoint

FORMAT = 5
ENGINE_FILE = 'engine.json'
ENGINES_FOLDER = 'engines'


@dataclass(frozen=True, kw_only=True)
class EngineMeta:
    """The key of an exported engine; `engine_key.misfit` says which of it is binding.

    Attributes:
        engine: A name of `ENGINES`.
        score: The score compiled in.
        precision: Precision that it was exported for; 'auto' is decided where it runs.
        input_size: (height, width) of its images.
        batch_sizes: The batch sizes that it was built for; empty where it takes any.
        key: `score_key` of the checkpoint it was exported from.
        versions: Library name to version at export.
        device: What it was exported on: CPU, or GPU with capability and driver.
        commit: Commit of the code that exported it.
        format: Version of this layout.
    """

    engine: str
    score: str
    precision: str
    input_size: tuple[int, int]
    batch_sizes: tuple[int, ...] = ()
    key: str
    versions: dict[str, str]
    device: str
    commit: str
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What an engine is to be made of.

    Attributes:
        checkpoint: What it is to serve.
        score: A key of `SCORES`.
        precision: One of `PRECISIONS`.
        input_size: (height, width) of the images.
        batch_sizes: For engines that are built for fixed sizes.
        calibration: Folder of frames that int8 ranges are measured on.
        timing_cache: File that keeps kernel timings from one TensorRT build to the next.
    """

    checkpoint: Checkpoint
    score: str
    precision: str
    input_size: tuple[int, int]
    batch_sizes: tuple[int, ...] = ()
    calibration: Path | None = None
    timing_cache: Path | None = None


def write_engine_meta(folder: Path, meta: EngineMeta) -> None:
    """Writes `engine.json`."""
    text = json.dumps(asdict(meta), indent=1) + '\n'
    (folder / ENGINE_FILE).write_text(text, encoding='utf-8')


def read_engine_meta(folder: Path) -> EngineMeta:
    """Reads `engine.json`.

    Raises:
        FileNotFoundError: The folder or the file is missing.
        ValueError: It is not one of ours.
    """
    path = folder / ENGINE_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f'{str(folder)!r} is no engine folder: it has no {ENGINE_FILE}; make one with export'
        )
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
        if values.get('format') != FORMAT:
            raise ValueError(f'format {values.get("format")!r} is not {FORMAT}; export it again')
        if unknown := sorted(values.keys() ^ {f.name for f in fields(EngineMeta)}):
            raise ValueError(f'keys {unknown} are missing or unknown; export it again')
        sizes = {key: tuple(values[key]) for key in ('input_size', 'batch_sizes')}
        return EngineMeta(**{**values, **sizes})
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f'cannot use {str(path)!r}: {error}') from None


def engine_folders(folder: Path) -> Iterator[tuple[Path, EngineMeta | str]]:
    """Gives the engine folders in a checkpoint folder, by name, with the key or what is wrong."""
    for path in sorted((folder / ENGINES_FOLDER).glob(f'*/{ENGINE_FILE}')):
        try:
            yield path.parent, read_engine_meta(path.parent)
        except ValueError as error:  # noqa: PERF203 - a few folders
            yield path.parent, str(error)


def check_files(*paths: Path) -> None:
    """Refuses files that are missing or not fetched.

    Raises:
        FileNotFoundError: One is missing.
        ValueError: One is a git-lfs pointer.
    """
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f'engine folder has no {str(path)!r}; export again')
        refuse_lfs_pointer(path)
