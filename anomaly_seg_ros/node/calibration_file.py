"""The file that keeps the calibrations of a node's cameras over its restarts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from anomaly_seg_ros.checkpoint.calibrated import camera_calibration, CameraCalibration
from anomaly_seg_ros.checkpoint.fields import or_none, text
from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.frame_fit import frame_shift, FrameShift
from anomaly_seg_ros.process.path_errors import explain
from anomaly_seg_ros.process.whole_file import whole_file
from anomaly_seg_ros.registry import check_name
from anomaly_seg_ros.scores import SCORES

FORMAT = 1
FRAME = 'frame'

WEIGHTS = 'frame_weights'
"""Of which weights file, the fit to whole frames in it, the camera's frames were judged by."""

Kept = tuple[str, CameraCalibration, FrameShift | None, str]
"""The key of the network, the calibration of the score, what whole frames look like, `WEIGHTS`."""


def camera_checkpoint(
    checkpoint: Checkpoint, camera: str, score: str, file: str
) -> tuple[Checkpoint, str]:
    """Gives the checkpoint as a camera has it, and a word on the file where it is not used.

    Args:
        checkpoint: What the node runs; its `cameras` come first.
        camera: As `topics.camera_key` calls it.
        score: The score that the engine gives.
        file: Path of the file, which need not be there yet; '' for none.

    Raises:
        ValueError: The file is there and cannot be read, or is not one of ours.
    """
    checkpoint = checkpoint.in_memory(checkpoint.meta.of_camera(camera))
    cameras = _read(Path(file).expanduser()) if file else {}
    entry = cameras.get(camera, {}).get(score)
    if entry is None:
        return checkpoint, _other_cameras(cameras, camera, file)
    key, own, shift, weights = entry
    if key != checkpoint.score_key(score):
        return checkpoint, (
            f'calibration_file {file!r} was made with another network or other options of '
            f'{score!r} and is left alone; call ~/calibrate anew'
        )
    meta = checkpoint.meta.with_calibrations({score: own})
    if shift is None:
        return checkpoint.in_memory(meta), ''
    if weights != meta.weights_sha256:
        return checkpoint.in_memory(meta), (
            f'what calibration_file {file!r} says of whole frames was found with another fit of '
            'the checkpoint and is left alone; call ~/calibrate anew'
        )
    return checkpoint.in_memory(replace(meta, frame_cameras={'': shift})), ''


def check_calibrated(
    checkpoint: Checkpoint, cameras: Iterable[str], score: str, file: str
) -> None:
    """Checks that each camera has a calibration, without which it has no masks.

    It needs no engine, which may take long to be built.

    Args:
        checkpoint: As of `camera_checkpoint`; so are the others.
        cameras: All of them.
        score: The score that the engine will give.
        file: See there.

    Raises:
        ValueError: A camera has none, or the file or the score cannot be used.
    """
    check_name('score', SCORES, score)
    for camera in cameras:
        camera_checkpoint(checkpoint, camera, score, file)[0].meta.calibration_of(score)


def _other_cameras(known: Collection[str], camera: str, file: str) -> str:
    """Gives a word on a file that knows other cameras alone; they may share it, or be this one."""
    if not known or camera in known:
        return ''
    names = ', '.join(repr(name) for name in sorted(known))
    return (
        f'calibration_file {file!r} holds no camera {camera!r} but {names}; call ~/calibrate once '
        'on this one'
    )


def keep(
    checkpoint: Checkpoint,
    camera: str,
    score: str,
    own: CameraCalibration,
    file: str,
    shift: FrameShift | None = None,
) -> None:
    """Puts the calibration of a camera into the file, at once; the other cameras' stay.

    Args:
        checkpoint: What the node runs.
        camera: As `topics.camera_key` calls it.
        score: That is calibrated.
        own: Its calibration.
        file: Path of the file.
        shift: What the camera's frames look like as a whole, where that is known.

    Raises:
        OSError: It cannot be written.
        ValueError: What is there cannot be read, or is not one of ours.
    """
    path = Path(file).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone_in(path.parent):
        cameras = {
            name: {own_score: _entry(*found) for own_score, found in scores.items()}
            for name, scores in _read(path).items()
        }
        cameras.setdefault(camera, {})[score] = _entry(
            checkpoint.score_key(score), own, shift, checkpoint.meta.weights_sha256
        )
        content = json.dumps({'format': FORMAT, 'cameras': cameras}, indent=1)
        with whole_file(path) as part:
            part.write_text(f'{content}\n', encoding='utf-8')


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Waits for other nodes that keep a calibration in the folder at this moment.

    Where the file system knows no locks on folders, as some of a network, nobody waits.
    """
    opened = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _entry(
    key: str, own: CameraCalibration, shift: FrameShift | None, weights: str
) -> dict[str, Any]:
    whole = {} if shift is None else {FRAME: asdict(shift), WEIGHTS: weights}
    return {'key': key, **own.to_json(), **whole}


def _read(path: Path) -> dict[str, dict[str, Kept]]:
    """Gives camera to score to what is kept of it; nothing of no file."""
    try:
        if not path.exists():
            return {}
        values = json.loads(path.read_text(encoding='utf-8'))
        if not isinstance(values, dict) or values.get('format') != FORMAT:
            raise ValueError(f'it holds no JSON object of format {FORMAT}')
        return {
            camera: {score: _parsed(f'{camera}.{score}', entry) for score, entry in own.items()}
            for camera, own in values['cameras'].items()
        }
    except OSError as error:
        raise ValueError(f'cannot use calibration_file {explain(error, None)}') from None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(
            f'cannot use calibration_file {str(path)!r}: {error}; remove it and call ~/calibrate'
        ) from None


def _parsed(name: str, entry: dict[str, Any]) -> Kept:
    rest = {key: value for key, value in entry.items() if key not in ('key', FRAME, WEIGHTS)}
    shift = or_none(frame_shift)(f'{name}.{FRAME}', entry.get(FRAME))
    weights = text(f'{name}.{WEIGHTS}', entry.get(WEIGHTS, ''))
    return text(f'{name}.key', entry['key']), camera_calibration(name, rest), shift, weights
