"""The engine folder: an exported graph beside `engine.json`, which says what it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
import json
from pathlib import Path

from anomaly_seg_ros.checkpoint.digests import file_sha256, refuse_lfs_pointer
from anomaly_seg_ros.checkpoint.fields import Check, listed, mapped, matching, name, text, whole
from anomaly_seg_ros.checkpoint.folder import Checkpoint

FORMAT = 5
ENGINE_FILE = 'engine.json'
ENGINES_FOLDER = 'engines'


@dataclass(frozen=True, kw_only=True)
class EngineMeta:
    """The key of an exported engine; `key.misfit` says which of it is binding.

    Attributes:
        engine: A name of `ENGINES`.
        score: The score compiled in.
        precision: Precision that it was exported for; 'auto' is decided where it runs.
        input_size: (height, width) of its images.
        batch_sizes: The batch sizes that it was built for; empty where it takes any.
        key: `score_key` of the checkpoint it was exported from.
        code: `graph_code` of the network and the score.
        files: Name of each file of the folder but this one to the sha256 of its bytes.
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
    code: str
    files: dict[str, str]
    versions: dict[str, str]
    device: str
    commit: str
    format: int = FORMAT

    def __post_init__(self) -> None:
        for field, check in _CHECKS.items():
            object.__setattr__(self, field, check(field, getattr(self, field)))


_sha256 = matching('[0-9a-f]{64}', '64 digits of 0..9 and a..f')
_CHECKS: dict[str, Check] = {
    'engine': name,
    'score': name,
    'precision': name,
    'input_size': listed(whole(1), 2),
    'batch_sizes': listed(whole(1)),
    'key': _sha256,
    'code': _sha256,
    'files': mapped(_sha256, name),
    'versions': mapped(text),
    'device': text,
    'commit': text,
    'format': whole(FORMAT, FORMAT),
}


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What an engine is to be made of.

    Attributes:
        checkpoint: What it is to serve.
        score: A key of `SCORES`.
        precision: One of `precisions()` that the engine has.
        input_size: (height, width) of the images.
        batch_sizes: For engines that are built for fixed sizes, 1 among them.
        calibration: Folder of frames that int8 ranges are measured on.
        replaces: An engine folder whose place the new one will take, if there is one.
    """

    checkpoint: Checkpoint
    score: str
    precision: str
    input_size: tuple[int, int]
    batch_sizes: tuple[int, ...] = ()
    calibration: Path | None = None
    replaces: Path | None = None


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
        if not isinstance(values, dict):
            raise ValueError('it holds no JSON object')
        if values.get('format') != FORMAT:
            raise ValueError(f'format {values.get("format")!r} is not {FORMAT}')
        if unknown := sorted(values.keys() ^ {f.name for f in fields(EngineMeta)}):
            raise ValueError(f'keys {unknown} are missing or unknown')
        return EngineMeta(**values)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'cannot use {str(path)!r}: {error}; export it again') from None


def engine_folders(folder: Path) -> Iterator[tuple[Path, EngineMeta | str]]:
    """Gives the engine folders in a checkpoint folder, by name, with the key or what is wrong.

    Hidden ones are none.
    """
    for path in sorted((folder / ENGINES_FOLDER).glob(f'[!.]*/{ENGINE_FILE}')):
        try:
            yield path.parent, read_engine_meta(path.parent)
        except (ValueError, OSError) as error:  # noqa: PERF203 - a few folders
            yield path.parent, str(error)


def sums_of(folder: Path) -> dict[str, str]:
    """Gives the sha256 of each file of an engine folder but `engine.json`, by its path there."""
    paths = sorted(path for path in folder.rglob('*') if path.is_file())
    paths = [path for path in paths if path != folder / ENGINE_FILE]
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in paths}


def check_files(folder: Path, meta: EngineMeta) -> None:
    """Refuses an engine folder whose files are not as export wrote them, before a library does.

    Raises:
        FileNotFoundError: One is missing.
        ValueError: One has been changed, or is a git-lfs pointer.
    """
    for file, written in meta.files.items():
        path = folder / file
        if not path.is_file():
            raise FileNotFoundError(f'engine folder has no {str(path)!r}; export again')
        refuse_lfs_pointer(path)
        if (found := file_sha256(path)) != written:
            raise ValueError(
                f'{str(path)!r} has been changed since it was exported (sha256 {found[:12]}, '
                f'then {written[:12]}); export again'
            )
