"""The engine folder: an exported graph beside `engine.json`, which says what it was made from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
import json
from pathlib import Path

FORMAT = 1
ENGINE_FILE = 'engine.json'
ENGINES_FOLDER = 'engines'


@dataclass(frozen=True, kw_only=True)
class EngineMeta:
    """The key of an exported engine.

    Attributes:
        engine: A key of `ENGINES`.
        score: The score compiled in.
        precision: Precision that was asked for at export.
        input_size: (height, width) of its images.
        weights: `weights_hash` of the checkpoint it was exported from.
        versions: Library name to version at export.
        commit: Commit of the code that exported it.
        format: Version of this layout.
    """

    engine: str
    score: str
    precision: str
    input_size: tuple[int, int]
    weights: str
    versions: dict[str, str]
    commit: str
    format: int = FORMAT


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
        return EngineMeta(**{**values, 'input_size': tuple(values['input_size'])})
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f'cannot use {str(path)!r}: {error}') from None


def find_engine_folder(
    checkpoint: Path, engine: str, score: str, precision: str, input_size: tuple[int, int]
) -> Path | None:
    """Gives the engine folder beside a checkpoint that was exported for just this, if any.

    Only the key is compared here; that the weights are the checkpoint's is checked on loading.
    """
    for path in sorted((checkpoint / ENGINES_FOLDER).glob(f'*/{ENGINE_FILE}')):
        meta = read_engine_meta(path.parent)
        wanted = (engine, score, input_size)
        if (meta.engine, meta.score, meta.input_size) == wanted and (
            precision in ('auto', meta.precision) or meta.precision == 'auto'
        ):
            return path.parent
    return None
