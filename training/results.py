"""The result folder: what `evaluate`, `bag` and `benchmark` write and `report` reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import csv
from dataclasses import asdict, dataclass, field, fields
import json
import math
from pathlib import Path
import shlex
import shutil
import sys
from typing import Any

import numpy as np

from anomaly_seg_ros.process.whole_file import whole_file

FORMAT = 1
RESULTS_FILE = 'results.json'
FRAMES_FILE = 'frames.csv'
CURVES_FILE = 'curves.json'
PICTURES_FILE = 'pictures.json'
PICTURES_FOLDER = 'pictures'
FRAME_SCORES_FILE = 'frame_scores.csv'
GRID_FILES = {'worst': 'grid_worst.png', 'best': 'grid_best.png'}
BESIDE = (FRAMES_FILE, CURVES_FILE, PICTURES_FILE, FRAME_SCORES_FILE, *GRID_FILES.values())
"""What may lie beside the results and `PICTURES_FOLDER`."""
MAX_POINTS = 512
"""Points that a curve in `curves.json` has at most."""

Json = dict[str, Any]


@dataclass(kw_only=True)
class ResultRow:
    """One measured score; fractions in 0..1, None where undefined.

    Attributes:
        iou: IoU of each class, in the order of `extra['class_names']`.
        latency_ms: 'p50' and 'p95' of one inference.
        peak_mb: Peak memory of the process (of the GPU where one is used), in MiB.
        command: The command line as typed.
        commit: Commit of the code that measured.
        extra: Further keys of the row in `results.json`.
    """

    dataset: str | None = None
    split: str | None = None
    model: str | None = None
    checkpoint: str | None = None
    score: str | None = None
    engine: str | None = None
    precision: str | None = None
    input_size: tuple[int, int] | None = None
    n_images: int | None = None
    n_pixels: int | None = None
    ap: float | None = None
    auroc: float | None = None
    fpr95: float | None = None
    best_f1: float | None = None
    best_f1_threshold: float | None = None
    siou_gt: float | None = None
    ppv: float | None = None
    f1_mean: float | None = None
    miou: float | None = None
    iou: list[float | None] | None = None
    open_miou: float | None = None
    ece: float | None = None
    nll: float | None = None
    temperature: float | None = None
    latency_ms: dict[str, float] | None = None
    peak_mb: float | None = None
    command: str | None = None
    commit: str | None = None
    extra: Json = field(default_factory=dict)

    def to_json(self) -> Json:
        """Gives the row as it stands in `results.json`."""
        values = asdict(self)
        extra = values.pop('extra')
        return {**values, **extra}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ResultRow:
        """Takes a row of `results.json`; keys that are not in the contract go to `extra`.

        Raises:
            ValueError: A key of the contract is missing.
        """
        if missing := [key for key in KEYS if key not in values]:
            raise ValueError(f'key {missing[0]!r} is missing in a row')
        known = {key: values[key] for key in KEYS}
        if known['input_size'] is not None:
            known['input_size'] = tuple(known['input_size'])
        return cls(**known, extra={key: values[key] for key in values if key not in KEYS})


KEYS = tuple(f.name for f in fields(ResultRow) if f.name != 'extra')
"""The keys that every row has."""


@dataclass(frozen=True, kw_only=True)
class FrameRow:
    """One line of the per-frame table; None where undefined.

    Attributes:
        mask_share: Share of the labelled pixels that the row's mask threshold marks.
        score_p999: 99.9th percentile of the scores of the labelled pixels.
    """

    score: str
    frame: str
    n_pixels: int
    n_anomaly: int | None = None
    ap: float | None = None
    auroc: float | None = None
    fpr95: float | None = None
    miou: float | None = None
    mask_share: float | None = None
    score_p999: float | None = None


FRAME_KEYS = tuple(f.name for f in fields(FrameRow))


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One frame that is worth a look; paths are relative to the result folder.

    Attributes:
        kind: 'worst' or 'best'.
        ap: AP of the frame, None where the set has no anomalies.
        miou: mIoU of the frame, where class labels are known.
        image: None where only score maps were given.
    """

    score: str
    frame: str
    kind: str
    ap: float | None
    miou: float | None
    image: str | None
    truth: str
    score_map: str
    mask: str


def typed_command() -> str:
    """Gives the running command as it was typed."""
    return shlex.join(['anomaly_seg', *sys.argv[1:]])


def clear_results(out: Path) -> None:
    """Removes what an earlier run has written to a result folder, so that nothing is mixed.

    A folder without results is left alone: its `pictures` may be somebody's.
    """
    if not (out / RESULTS_FILE).is_file():
        return
    for name in (RESULTS_FILE, *BESIDE):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / PICTURES_FOLDER, ignore_errors=True)


def write_results(out: Path, rows: Sequence[ResultRow]) -> None:
    """Writes `results.json` below `out`, which is made if missing."""
    _write_json(out / RESULTS_FILE, {'rows': [row.to_json() for row in rows]})


def read_results(folder: Path) -> list[ResultRow]:
    """Reads `results.json`.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is not one of ours; the text names the file and the key.
    """
    path = folder / RESULTS_FILE
    rows = _read_json(path, 'rows')
    try:
        return [ResultRow.from_json(row) for row in rows]
    except (ValueError, TypeError) as error:
        raise ValueError(f'cannot use {str(path)!r}: {error}') from None


def write_frames(out: Path, rows: Sequence[FrameRow]) -> None:
    """Writes `frames.csv`; undefined values are empty."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / FRAMES_FILE).open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, FRAME_KEYS)
        writer.writeheader()
        for row in rows:
            values = asdict(row)
            writer.writerow({key: '' if v is None else v for key, v in values.items()})


def read_frames(folder: Path) -> list[FrameRow]:
    """Reads `frames.csv`.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is not one of ours.
    """
    path = folder / FRAMES_FILE
    with path.open(newline='', encoding='utf-8') as file:
        reader = csv.DictReader(file)
        if missing := [key for key in FRAME_KEYS if key not in (reader.fieldnames or ())]:
            raise ValueError(f'cannot use {str(path)!r}: column {missing[0]!r} is missing')
        try:
            return [_frame_row(line) for line in reader]
        except (ValueError, TypeError) as error:
            raise ValueError(
                f'cannot use {str(path)!r}, line {reader.line_num}: {error}'
            ) from None


def _frame_row(line: Mapping[str, str]) -> FrameRow:
    names = {'score': line['score'], 'frame': line['frame']}
    counts = {key: int(line[key]) for key in ('n_pixels', 'n_anomaly') if line[key]}
    rates = {key: float(line[key]) for key in FRAME_KEYS[4:] if line[key]}
    return FrameRow(**names, **counts, **rates)  # type: ignore[arg-type]


def write_curves(out: Path, curves: Sequence[Json]) -> None:
    """Writes `curves.json`; each entry has score, pr, roc, reliability, reliability_before."""
    _write_json(out / CURVES_FILE, {'curves': list(curves)})


def read_curves(folder: Path) -> list[Json]:
    """Reads `curves.json`; errors as `read_results`."""
    curves: list[Json] = _read_json(folder / CURVES_FILE, 'curves')
    return curves


def write_pictures(out: Path, pictures: Sequence[Picture]) -> None:
    """Writes `pictures.json`, the list of the pictures below `out`."""
    _write_json(out / PICTURES_FILE, {'pictures': [asdict(picture) for picture in pictures]})


def read_pictures(folder: Path) -> list[Picture]:
    """Reads `pictures.json`; errors as `read_results`."""
    path = folder / PICTURES_FILE
    try:
        return [Picture(**values) for values in _read_json(path, 'pictures')]
    except TypeError as error:
        raise ValueError(f'cannot use {str(path)!r}: {error}') from None


def _write_json(path: Path, content: Json) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_plain({'format': FORMAT, **content}), indent=1, allow_nan=False)
    with whole_file(path) as part:
        part.write_text(text + '\n', encoding='utf-8')


def _read_json(path: Path, key: str) -> list[Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f'no {str(path)!r}; give a folder that evaluate, bag --labels or benchmark has '
            'written, or that of a training run with at least one epoch'
        )
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        if not isinstance(content, dict):
            raise ValueError('it holds no JSON object')
        if content.get('format') != FORMAT:
            raise ValueError(f'format {content.get("format")!r} is not {FORMAT}')
        if not isinstance(content.get(key), list):
            raise ValueError(f'key {key!r} is missing or no list')
        entries: list[Any] = content[key]
        return entries
    except (ValueError, RecursionError) as error:
        raise ValueError(f'cannot use {str(path)!r}: {error}') from None


def _plain(value: Any) -> Any:
    """Gives what JSON can hold: NumPy values as Python's, NaN and infinity as null."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
