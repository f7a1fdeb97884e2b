"""Fits a checkpoint to a camera by some of its ordinary frames: `anomaly_seg adapt`.

No labels are asked for, and no torch where an exported engine fits.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
import re
import shutil
import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from anomaly_seg_ros.adaptation.limits import LEAST, MOST
from anomaly_seg_ros.adaptation.normal_scores import calibrated_on
from anomaly_seg_ros.adaptation.ordinary_frames import CameraFit, OrdinaryFrames
from anomaly_seg_ros.bags.reader import BagReader, choose_topic, warn_of_problems
from anomaly_seg_ros.bags.storage import is_bag
from anomaly_seg_ros.checkpoint.calibrated import CameraCalibration
from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta, META_FILE
from anomaly_seg_ros.command_line.options import add_checkpoint, add_engine
from anomaly_seg_ros.engines import open_engine
from anomaly_seg_ros.frames.camera_frame import CameraFrame
from anomaly_seg_ros.frames.ignore_mask import read_ignored
from anomaly_seg_ros.frames.images import find_images, printable, read_image
from anomaly_seg_ros.frames.pipeline import default_threshold
from anomaly_seg_ros.frames.significant_bits import SignificantBits
from anomaly_seg_ros.frames.video import Video, video_begins
from anomaly_seg_ros.node.config import CAMERA_KEY, CAMERA_RULE
from anomaly_seg_ros.prediction import Engine
from anomaly_seg_ros.process.whole_file import check_replaceable, fresh_folder
from anomaly_seg_ros.whole_frame.methods import fit_camera, frame_judge, said_of_camera

SHOWN = 20
"""Frames that are left out and named on the terminal."""
TOO_UNSURE = 1.5
"""Times the promised share that the interval's upper end may be without a word."""


class NamedFrame(NamedTuple):
    """A frame, or why it cannot be read.

    Attributes:
        name: What people know it by.
        scene: Folder that it is of.
        frame: None where it cannot be read.
        problem: Why.
    """

    name: str
    scene: str
    frame: CameraFrame | None
    problem: str = ''


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg adapt` takes."""
    parser.add_argument(
        'frames',
        type=Path,
        metavar='FRAMES|BAG',
        help=f'folder of ordinary images, at any depth, a video, or a bag; {LEAST} to {MOST} are '
        'used, evenly spaced',
    )
    parser.add_argument('--topic', help='image topic of a bag; default: the only one')
    add_checkpoint(parser)
    parser.add_argument(
        '--camera',
        default='',
        metavar='NAME',
        help='one of several cameras of a node, or the namespace of its own node, as car/left; '
        'default: the calibration of all that have none of their own',
    )
    parser.add_argument(
        '--ignore-mask',
        default='',
        metavar='IMAGE',
        help="image of the pixels that do not count (not black), as the node's ignore_mask",
    )
    add_engine(parser)
    parser.add_argument(
        '--false-positive-rate',
        type=float,
        default=0.01,
        help='share of normal pixels that may lie at or above the threshold; default: %(default)s',
    )
    parser.add_argument('--out', type=Path, required=True, help='folder of the new checkpoint')


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg adapt`."""
    rate = args.false_positive_rate
    if not 0 < rate < 1:
        raise ValueError(f'false-positive rate {rate} must lie between 0 and 1')
    if args.camera and not re.fullmatch(CAMERA_KEY, args.camera):
        raise ValueError(
            f'camera {args.camera!r} cannot be one of a node; {CAMERA_RULE}, or the namespace of '
            'the node, as car/left'
        )
    check_replaceable(args.out, META_FILE)
    checkpoint = Checkpoint.open(args.checkpoint)
    total, frames = open_frames(args.frames, args.topic)
    engine = open_engine(checkpoint, args.engine, args.score, args.precision)
    ignored = read_ignored(args.ignore_mask, args.camera, engine.input_size)
    counted = np.s_[:] if ignored is None else ~ignored
    found = collect(engine, frames, total, counted)
    engine.close()
    score = engine.score_name
    meta = checkpoint.meta.of_camera(args.camera)
    before = default_threshold(meta, score)
    threshold = 1 - rate
    fit = found.fit(threshold, meta.calibrations.get(score), before)
    say(fit, threshold)
    with fresh_folder(args.out, META_FILE) as folder:
        shutil.copytree(checkpoint.folder, folder, dirs_exist_ok=True)
        fitted = fitted_meta(checkpoint.meta, args, engine, fit, threshold)
        fitted |= fitted_frames(checkpoint, args, fit)
        Checkpoint.open(folder).with_meta(**fitted)
    print(f'wrote {args.out}')
    return 0


def open_frames(path: Path, topic: str | None) -> tuple[int, Iterator[NamedFrame]]:
    """Gives how many frames will come, at most `MOST`, and the frames, evenly spaced.

    Raises:
        FileNotFoundError: There is no such folder, video or bag, or no image in it.
        ValueError: The bag has no or several image topics, or the images are too few.
    """
    if path.exists() and is_bag(path):
        return _bag_frames(path, topic)
    if topic is not None:
        raise ValueError(f'--topic is for bags, and {str(path)!r} is none')
    if video_begins(path):
        return _video_frames(path)
    images = find_images([path], below=True)
    chosen = images[:: _step(len(images), f'{str(path)!r} holds {len(images)} images')]
    return len(chosen), _image_frames(path, chosen)


def _step(count: int | None, held: str) -> int:
    """Gives of how many frames one is taken.

    Args:
        count: How many there are; None where that is not known.
        held: The same as a sentence, for the error text.

    Raises:
        ValueError: They are too few.
    """
    if count is not None and count < LEAST:
        raise ValueError(f'{held}; a camera is known by {LEAST} to {MOST}')
    return -(-(count or 1) // MOST)


def _image_frames(root: Path, images: list[Path]) -> Iterator[NamedFrame]:
    bits: defaultdict[Path, SignificantBits] = defaultdict(SignificantBits)
    for path in images:
        inside = path.relative_to(root)
        name, scene = printable(str(inside)), printable(str(inside.parent))
        try:
            frame = CameraFrame(read_image(path, bits[path.parent]))
        except (OSError, ValueError) as error:
            yield NamedFrame(name, scene, None, f'cannot be read: {error}')
            continue
        yield NamedFrame(name, '' if scene == '.' else scene, frame)


def _video_frames(path: Path) -> tuple[int, Iterator[NamedFrame]]:
    video = Video(path)
    step = _step(video.count or None, f'{str(path)!r} holds {video.count} frames')
    frames = (
        NamedFrame(f'at {frame.time_s:.2f} s', '', CameraFrame(frame.image))
        for frame in islice(video.frames(step), MOST)
    )
    return -(-video.count // step) or MOST, frames


def _bag_frames(path: Path, topic: str | None) -> tuple[int, Iterator[NamedFrame]]:
    with BagReader(path) as reader:
        chosen = choose_topic(reader.topics, topic, path)
        count = reader.count(chosen)
    step = _step(count, f'bag {str(path)!r} holds {count} messages on {chosen}')

    def frames() -> Iterator[NamedFrame]:
        with BagReader(path) as reader:
            for image in islice(reader.images(chosen), 0, step * MOST, step):
                name = f'message {image.number}'
                try:
                    yield NamedFrame(name, '', image.frame())
                except ValueError as error:
                    yield NamedFrame(name, '', None, f'cannot be read: {error}')
            warn_of_problems(reader)

    return -(-count // step) if count else MOST, frames()


def collect(
    engine: Engine, frames: Iterator[NamedFrame], total: int, counted: Any
) -> OrdinaryFrames:
    """Runs all frames through the engine; `counted` is an index of the pixels that count."""
    found = OrdinaryFrames(total)
    sizes: set[tuple[int, int]] = set()
    for name, scene, frame, problem in tqdm(frames, total=total, unit='frame', disable=None):
        if frame is None:
            found.leave_out(name, problem)
            continue
        sizes.add(frame.size)
        image: NDArray[np.uint8] = frame.rgb_at(engine.input_size)
        prediction = engine.infer(image)
        found.add(name, image, prediction.score[counted], scene, prediction.frame)
    if len(sizes) > 1:
        print(
            f'warning: the frames have {len(sizes)} sizes; fit one camera at a time (--camera)',
            file=sys.stderr,
        )
    return found


def say(fit: CameraFit, threshold: float) -> None:
    """Says what was found."""
    promised = 1 - threshold
    print(f'{fit.normal.frames} of {fit.seen} frames are used')
    for name, why in islice(fit.left_out.items(), SHOWN):
        print(f'  left out: {name} {why}')
    if (more := len(fit.left_out) - SHOWN) > 0:
        print(f'  and {more} more')
    print(
        'false-alarm share with its 95 % interval over '
        f'{fit.normal.promise.parts} parts, each left out in turn:'
    )
    print(f'  before {fit.before or "unknown: the score had no calibration"}')
    print(f'  after {fit.normal.promise}, promised {100 * promised:.2f} %')
    if fit.unlike:
        print(
            f'warning: {fit.unlike} of {fit.seen} frames score unlike the others; are all of them '
            'ordinary, and of one camera?',
            file=sys.stderr,
        )
    if (high := fit.normal.promise.high) > TOO_UNSURE * promised:
        print(
            f'warning: on other frames it may be {100 * high:.1f} %; give more '
            'frames, of several drives, each in a folder of its own',
            file=sys.stderr,
        )


def fitted_frames(
    checkpoint: Checkpoint, args: argparse.Namespace, fit: CameraFit
) -> dict[str, Any]:
    """Gives what changes for whole frames, and says it; nothing without a method for them."""
    shifts = checkpoint.meta.frame_cameras
    judge = frame_judge(checkpoint.in_memory(replace(checkpoint.meta, frame_cameras={})))
    if judge is None or fit.pooled is None:
        return {}
    own = fit_camera(judge, fit.pooled, judge.threshold, printable(str(args.frames)))
    before = frame_judge(checkpoint.in_memory(checkpoint.meta.of_camera(args.camera)))
    assert before is not None
    print(said_of_camera(before, judge, fit.pooled))
    return {'frame_cameras': {**shifts, args.camera: own}}


def fitted_meta(
    meta: CheckpointMeta,
    args: argparse.Namespace,
    engine: Engine,
    fit: CameraFit,
    threshold: float,
) -> dict[str, Any]:
    """Gives the fields of the meta data that change, provenance among them."""
    score, source = engine.score_name, printable(str(args.frames))
    own = CameraCalibration(
        fit.normal.calibration,
        threshold,
        calibrated_on(fit.normal, source, args.topic or 'ordinary frames'),
    )
    about = {
        'camera': args.camera,
        'score': score,
        'frames': source,
        'seen': fit.seen,
        'used': fit.normal.frames,
        'left_out': dict(islice(fit.left_out.items(), SHOWN)),
        'engine': f'{engine.name} {engine.precision}',
        'before': None if fit.before is None else asdict(fit.before),
        'after': asdict(fit.normal.promise),
        'promised': round(1 - threshold, 6),
        'commit': own.calibrated_on.commit,
    }
    earlier = [
        entry
        for entry in meta.training.get('adapted', [])
        if (entry.get('camera'), entry.get('score')) != (args.camera, score)
    ]
    changes: dict[str, Any] = {'training': {**meta.training, 'adapted': [*earlier, about]}}
    if args.camera:
        kept = meta.cameras.get(args.camera, {})
        return {**changes, 'cameras': {**meta.cameras, args.camera: {**kept, score: own}}}
    common = meta.with_calibrations({score: own})
    return {
        **changes,
        'calibrations': common.calibrations,
        'thresholds': common.thresholds,
        'calibrated_on': common.calibrated_on,
    }
