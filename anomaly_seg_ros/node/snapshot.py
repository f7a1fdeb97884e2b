"""One frame with all that is needed to run it again: written by the node, read by a command."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timezone
import json
from pathlib import Path
import shutil
import tempfile
from typing import Any, BinaryIO
from zipfile import BadZipFile
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.checkpoint.calibrated import calibration, checked_fields
from anomaly_seg_ros.checkpoint.fields import (
    anything,
    Check,
    listed,
    mapped,
    number,
    or_none,
    text,
    whole,
)
from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.frame_fit import frame_shift
from anomaly_seg_ros.frames.camera_frame import CameraFrame
from anomaly_seg_ros.frames.images import read_image, read_pixels, write_image
from anomaly_seg_ros.frames.maps import Memory
from anomaly_seg_ros.frames.pipeline import Pipeline
from anomaly_seg_ros.frames.result import Result
from anomaly_seg_ros.frames.tracks import Tracks
from anomaly_seg_ros.prediction import Engine
from anomaly_seg_ros.provenance import code_version
from anomaly_seg_ros.whole_frame.health import CameraHealth

from .config import NodeConfig
from .node_pipeline import node_pipeline
from .regions import regions_text

FORMAT = 3
FACTS_FILE = 'snapshot.json'
IMAGE_FILE = 'image.png'
MEMORY_FILE = 'memory.npz'
IGNORED_FILE = 'ignored.png'
OUTPUTS = ('semantic_mask.png', 'anomaly_mask.png', 'score.npy')
"""What a replay compares; the score is the raw one, at the network's size."""

AGAIN = 'copy the snapshot again'
"""What a user can do where a part of it is lost."""

MOST_BYTES = 1 << 28
"""What the arrays of a file may unpack to: a packed one may claim more than memory holds."""

_TRACKS = tuple(row.name for row in fields(Tracks))
_HEALTH: dict[str, Check] = {'fault': text, 'reason': text, 'streak': whole(0), 'same': whole(0)}
_ENGINE: dict[str, Check] = {
    'name': text,
    'key': text,
    'score': text,
    'precision': text,
    'input_size': listed(whole(1), 2),
    'description': text,
}
FACTS: dict[str, Check] = {
    'calibration': calibration,
    'checkpoint': text,
    'engine': lambda key, value: checked_fields(key, value, _ENGINE, _ENGINE.keys()),
    'frame_shift': or_none(frame_shift),
    'health': lambda key, value: checked_fields(key, value, _HEALTH, _HEALTH.keys()),
    'parameters': mapped(anything),
    'regions': anything,
    'threshold': number('a number'),
}
"""What a replay reads of `snapshot.json`, and what each must be."""


@dataclass(frozen=True)
class Shot:
    """A frame that went all the way, and under what it did.

    Attributes:
        result: At the published size.
        frame: As the camera gave it.
        stamp: (seconds, nanoseconds) of its header.
        frame_id: Of its header.
        camera: Name of one of several; '' is the only one.
        config: The parameters that held.
        ignored: (h, w) true at the network's size where the image did not count, or None.
        checkpoint: As the camera had it, with its own calibration.
    """

    result: Result
    frame: CameraFrame
    stamp: tuple[int, int]
    frame_id: str
    camera: str
    config: NodeConfig
    ignored: NDArray[np.bool_] | None
    checkpoint: Checkpoint


def write_snapshot(shot: Shot, engine: Engine, folder: Path) -> Path:
    """Writes a frame into a new folder, whole or not at all; gives the folder.

    Args:
        shot: The frame.
        engine: That ran the network.
        folder: Where snapshots go; made where it is missing.

    Raises:
        OSError: It cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = datetime.now(timezone.utc).strftime('%Y%m%dT%H%M%S_%fZ')
    target = folder / (f'{made}_{shot.camera}' if shot.camera else made)
    part = Path(tempfile.mkdtemp(prefix='.part_', dir=folder))
    try:
        _write(part, shot, engine)
        part.chmod(0o755)
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return target


def _write(folder: Path, shot: Shot, engine: Engine) -> None:
    result, checkpoint = shot.result, shot.checkpoint
    write_image(folder / IMAGE_FILE, shot.frame.rgb)
    _write_outputs(folder, result)
    before = result.maps.before
    arrays: dict[str, Any] = {name: getattr(before.tracks, name) for name in _TRACKS}
    if before.smoothed is not None:
        arrays['smoothed'] = before.smoothed
    if before.health.pixels is not None:
        arrays['pixels'] = before.health.pixels
    np.savez(folder / MEMORY_FILE, **arrays)
    if shot.ignored is not None:
        write_image(folder / IGNORED_FILE, np.where(shot.ignored, 255, 0).astype(np.uint8))
    seconds, nanoseconds = shot.stamp
    facts = {
        'format': FORMAT,
        'commit': code_version(),
        'camera': shot.camera,
        'stamp': {'sec': seconds, 'nanosec': nanoseconds},
        'frame_id': shot.frame_id,
        'parameters': asdict(shot.config),
        'checkpoint': str(checkpoint.folder.resolve()),
        'engine': {
            'name': engine.name,
            'key': checkpoint.score_key(engine.score_name),
            'score': engine.score_name,
            'precision': engine.precision,
            'input_size': list(engine.input_size),
            'description': engine.description,
        },
        'threshold': result.settings.threshold,
        'health': {name: getattr(before.health, name) for name in _HEALTH},
        'frame_shift': None if (own := checkpoint.meta.frame_shift()) is None else asdict(own),
        'calibration': list(checkpoint.meta.calibrations[engine.score_name].levels),
        'times_ms': result.times_ms,
        'regions': json.loads(regions_text(result)),
    }
    (folder / FACTS_FILE).write_text(json.dumps(facts, indent=1) + '\n', encoding='utf-8')


def _write_outputs(folder: Path, result: Result) -> None:
    labels, mask, score = OUTPUTS
    write_image(folder / labels, result.labels)
    write_image(folder / mask, result.mask)
    np.save(folder / score, result.prediction.score)


class Snapshot:
    """A folder that `write_snapshot` has made.

    Args:
        folder: Its path.

    Attributes:
        facts: What `snapshot.json` holds, as `FACTS` gives it.
        engine: What it says of the engine.
        config: The parameters that held.

    Raises:
        FileNotFoundError: It holds no snapshot.
        ValueError: The snapshot is of another version, or broken.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        path = folder / FACTS_FILE
        if not path.is_file():
            raise FileNotFoundError(f'no snapshot in {str(folder)!r}: {FACTS_FILE} is missing')
        try:
            facts = json.loads(path.read_text(encoding='utf-8'))
            known = facts['format'] == FORMAT
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f'{str(path)!r} is no snapshot: {error}') from None
        if not known:
            raise ValueError(f'{str(path)!r} has another format than {FORMAT}')
        if lost := {*FACTS} - {*facts}:
            what = ', '.join(sorted(lost))
            raise ValueError(f'{str(path)!r} is not whole: {what} is not there; {AGAIN}')
        try:
            self.facts = {name: check(name, facts[name]) for name, check in FACTS.items()}
            self.config = NodeConfig.from_mapping(self.facts['parameters'])
        except (ValueError, TypeError) as error:
            raise ValueError(f'{str(path)!r} is damaged: {error}; {AGAIN}') from None
        self.engine: Mapping[str, Any] = self.facts['engine']

    def pipeline(self, engine: Engine, checkpoint: Checkpoint) -> Pipeline:
        """Gives what the node had: threshold, calibration, ignored pixels, the frames before."""
        meta = checkpoint.meta
        score = engine.score_name
        shift = self.facts['frame_shift']
        shifts = {} if shift is None else {'': shift}
        calibrations = {**meta.calibrations, score: self.facts['calibration']}
        meta = replace(meta, calibrations=calibrations, frame_cameras=shifts)
        config = replace(self.config, threshold=self.threshold)
        pipeline = node_pipeline(engine, checkpoint.in_memory(meta), config)
        pipeline.restore(self._memory(), self._ignored())
        return pipeline

    @property
    def threshold(self) -> float:
        """That held, the checkpoint's own where none was given."""
        return float(self.facts['threshold'])

    def image(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB camera image."""
        return read_image(self.folder / IMAGE_FILE)

    def _memory(self) -> Memory:
        arrays = self._arrays(MEMORY_FILE, _TRACKS, ('smoothed', 'pixels'))
        values: dict[str, Any] = {name: arrays[name] for name in _TRACKS}
        smoothed, pixels = arrays.get('smoothed'), arrays.get('pixels')
        size = self.engine['input_size']
        fits = smoothed is None or smoothed.shape == size
        if not fits or not _is_of_one_picture(values, size):
            path = str(self.folder / MEMORY_FILE)
            raise ValueError(f'{path!r} is damaged (it does not fit together); {AGAIN}')
        values['next_id'] = int(values['next_id'])
        health = CameraHealth(**self.facts['health'], pixels=pixels)
        return Memory(Tracks(**values), smoothed, health)

    def _arrays(
        self, name: str, wanted: Collection[str], more: Collection[str] = ()
    ) -> dict[str, NDArray[Any]]:
        """Reads `wanted` arrays of a file, and `more` that it has; that of a `.npy` is called ''.

        Raises:
            FileNotFoundError: It is not there.
            ValueError: It is damaged, holds others or no numbers, or more than `MOST_BYTES`.
        """
        path = self.folder / name
        try:
            with path.open('rb') as file:
                # Mapped, a header that claims more than the file has asks for no memory.
                arrays: dict[str, Any] = (
                    {'': np.lib.format.open_memmap(path, mode='r')}
                    if path.suffix == '.npy'
                    else _unpacked(file, (*wanted, *more))
                )
            if not all(_is_of_numbers(array) for array in arrays.values()):
                raise ValueError('it holds what is no number')
        except (BadZipFile, zlib.error, ValueError, EOFError, MemoryError) as error:
            raise ValueError(f'{str(path)!r} is damaged ({error}); {AGAIN}') from None
        if lost := {*wanted} - {*arrays}:
            raise ValueError(f'{str(path)!r} holds no {", ".join(sorted(lost))}; {AGAIN}')
        return arrays

    def _ignored(self) -> NDArray[np.bool_] | None:
        path = self.folder / IGNORED_FILE
        return read_pixels(path, cv2.IMREAD_GRAYSCALE) != 0 if path.is_file() else None

    def differences(self, result: Result) -> dict[str, str]:
        """Gives output to how it differs from that of the snapshot, '' where it is the same.

        Args:
            result: Of the same image, at the published size.
        """
        labels, mask, score = OUTPUTS
        found = {
            labels: (read_pixels(self.folder / labels, cv2.IMREAD_UNCHANGED), result.labels),
            mask: (read_pixels(self.folder / mask, cv2.IMREAD_UNCHANGED), result.mask),
            score: (self._arrays(score, ('',))[''], result.prediction.score),
        }
        same = json.loads(regions_text(result)) == self.facts['regions']
        return {
            **{name: _difference(before, now) for name, (before, now) in found.items()},
            'regions': '' if same else 'others',
        }


def _unpacked(file: BinaryIO, wanted: Collection[str]) -> dict[str, Any]:
    """Gives those of the wanted arrays that an archive holds.

    Raises:
        ValueError: They are damaged, or all of it is more than `MOST_BYTES`.
        BadZipFile: It is no archive.
    """
    with np.lib.npyio.NpzFile(file, allow_pickle=False) as found:
        if sum(entry.file_size for entry in found.zip.infolist()) > MOST_BYTES:
            raise ValueError(f'it unpacks to more than {MOST_BYTES >> 20} MiB')
        return {name: found[name] for name in wanted if name in found}


def _is_of_numbers(array: Any) -> bool:
    """Tells whether it is an array, and of numbers; the archive gives other files as bytes."""
    return isinstance(array, np.ndarray) and array.dtype.kind in 'iuf'


def _is_of_one_picture(tracks: Mapping[str, NDArray[Any]], size: tuple[int, int]) -> bool:
    """Tells whether what is remembered of regions fits together and lies in a picture."""
    kinds = {name: (row.dtype.kind, row.ndim) for name, row in tracks.items()}
    if kinds != {**dict.fromkeys(_TRACKS, ('i', 1)), 'next_id': ('i', 0)}:
        return False
    per_region = {tracks[name].size for name in ('ids', 'histories', 'ages', 'raised')}
    starts, lengths, owners = (tracks[name] for name in ('starts', 'lengths', 'owners'))
    if len(per_region) > 1 or not starts.size == lengths.size == owners.size:
        return False
    pixels, regions = size[0] * size[1], tracks['ids'].size
    within = (starts >= 0) & (lengths > 0) & (lengths <= pixels) & (starts <= pixels - lengths)
    return bool((within & (owners >= 0) & (owners < regions)).all())


def _difference(before: NDArray[Any], now: NDArray[Any]) -> str:
    if before.shape != now.shape:
        return f'size {before.shape} before, {now.shape} now'
    share = float((before != now).mean())
    if not share:
        return ''
    gap = float(np.abs(before.astype(np.float64) - now.astype(np.float64)).max())
    return f'{share:.4%} of the values differ, by at most {gap:g}'
