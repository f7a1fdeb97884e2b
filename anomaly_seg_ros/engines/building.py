"""What is said before an engine is built, which takes long, and how long it took the last time."""

from __future__ import annotations

from dataclasses import dataclass
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly_seg_ros.process.whole_file import whole_file

from .folder import ENGINES_FOLDER

if TYPE_CHECKING:
    from .choice import Wanted

TIMES_FILE = 'build_seconds.json'
"""Beside the engine folders of a checkpoint: what was built here to the seconds it took."""

_logger = logging.getLogger(__name__)
_logger.setLevel(logging.INFO)  # commands show warnings alone, but nobody waits in silence gladly


@dataclass(frozen=True)
class BuildNotice:
    """That an engine is about to be built.

    Attributes:
        folder: Of the checkpoint that it is built from.
        what: Engine, score, precision, size and device.
        text: One line for the user.
    """

    folder: Path
    what: str
    text: str

    def keep(self, seconds: float) -> None:
        """Writes down how long it took; where that cannot be written, it stays unknown."""
        times = _times(self.folder) | {self.what: round(seconds, 1)}
        path = self.folder / ENGINES_FOLDER / TIMES_FILE
        try:
            path.parent.mkdir(exist_ok=True)
            with whole_file(path) as part:
                part.write_text(json.dumps(times, indent=1) + '\n', encoding='utf-8')
        except OSError as error:
            _logger.debug('%s', error)


def announce(engine: str, device: str, wanted: Wanted) -> BuildNotice:
    """Logs that an engine is about to be built, with how long it took the last time.

    Raises:
        ValueError: It cannot be, for the checkpoint or the score: then nothing was logged.
    """
    from .scored_model import load_scored_model

    load_scored_model(wanted.checkpoint, wanted.score)
    folder, (height, width) = wanted.checkpoint.folder, wanted.input_size
    what = f'{engine} {wanted.score} {wanted.precision} {height}x{width} {device}'
    last_s = _times(folder).get(what)
    how_long = 'takes seconds to minutes' if last_s is None else f'took {last_s:.0f} s last time'
    notice = BuildNotice(
        folder, what, f'engine {engine!r} is being built from the checkpoint; that {how_long}'
    )
    _logger.info(notice.text)
    return notice


def _times(folder: Path) -> dict[str, float]:
    """Reads what is known; what cannot be read is not known."""
    try:
        values = json.loads((folder / ENGINES_FOLDER / TIMES_FILE).read_text(encoding='utf-8'))
        return {str(what): float(seconds) for what, seconds in values.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
