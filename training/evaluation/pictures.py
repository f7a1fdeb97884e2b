"""The frames worth a look, drawn for people: image, truth, score and mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.frames.images import write_image
from anomaly_seg_ros.frames.overlay import (
    ANOMALY_COLOR,
    color_table,
    colorize,
    OUTLINE_COLOR,
)
from anomaly_seg_ros.frames.resizing import resize_ids
from training.results import FrameRow, Picture, PICTURES_FOLDER

from .frame import Bytes, Floats, Frame, FrameSource
from .processes import Processes
from .rows import frame_table
from .run import Evaluation

WORST, BEST = 6, 2
WIDTH = 640
INLIER_COLOR = (60, 60, 60)
IGNORE_COLOR = (0, 0, 0)


class ChosenFrame(NamedTuple):
    """A frame that is drawn for a score."""

    score: str
    number: int
    kind: str
    row: FrameRow


def choose(rows: Sequence[FrameRow]) -> list[tuple[str, int]]:
    """Gives (kind, index) of the worst frames and the best, worst first.

    By AP; by mIoU where no frame has an AP; by what is marked where there is neither. Frames
    without that value are left out, and no frame comes twice.
    """
    for key, sign in (('ap', 1.0), ('miou', 1.0), ('mask_share', -1.0)):
        known = [(sign * value, i) for i, value in _values(rows, key)]
        if known:
            break
    ranked = [index for _, index in sorted(known)]
    worst = ranked[:WORST]
    best = ranked[WORST:][::-1][:BEST]
    return [('worst', index) for index in worst] + [('best', index) for index in best]


def _values(rows: Sequence[FrameRow], key: str) -> list[tuple[int, float]]:
    return [(i, v) for i, row in enumerate(rows) if (v := getattr(row, key)) is not None]


def draw_pictures(
    source: FrameSource, evaluation: Evaluation, processes: Processes, out: Path
) -> list[Picture]:
    """Draws the chosen frames of all scores below `out`, each process its own frames.

    Returns:
        The list of all pictures, those of other processes included.
    """
    choices = []
    for score in source.scores:
        rows = frame_table(evaluation, score)
        choices += [ChosenFrame(score, i, kind, rows[i]) for kind, i in choose(rows)]
    (out / PICTURES_FOLDER).mkdir(parents=True, exist_ok=True)
    for index in sorted({choice.number for choice in choices}):
        if index in processes.indices(len(source)):
            frame = source.again(index)
            _draw_common(frame, source, out)
            for choice in choices:
                if choice.number == index:
                    _draw_score(frame, source, evaluation, choice, out)
    return [_entry(choice, source.has_images) for choice in choices]


def _paths(frame: str, score: str) -> dict[str, str]:
    """Gives the picture files of a frame; image and truth are the same for all scores."""
    return {
        'image': f'{PICTURES_FOLDER}/{frame}_image.jpg',
        'truth': f'{PICTURES_FOLDER}/{frame}_truth.png',
        'score_map': f'{PICTURES_FOLDER}/{frame}_{score}_score.png',
        'mask': f'{PICTURES_FOLDER}/{frame}_{score}_mask.png',
    }


def _entry(choice: ChosenFrame, has_image: bool) -> Picture:
    paths = _paths(choice.row.frame, choice.score)
    return Picture(
        score=choice.score,
        frame=choice.row.frame,
        kind=choice.kind,
        ap=choice.row.ap,
        miou=choice.row.miou,
        image=paths['image'] if has_image else None,
        truth=paths['truth'],
        score_map=paths['score_map'],
        mask=paths['mask'],
    )


def _draw_common(frame: Frame, source: FrameSource, out: Path) -> None:
    paths = _paths(frame.name, '')
    if frame.image is not None:
        write_image(out / paths['image'], _reduced(frame.image))
    if source.has_anomalies or frame.train_ids is None:
        picture = anomaly_picture(frame.truth == 1, frame.truth)
    else:
        picture = colorize(frame.train_ids, color_table(source.classes.colors))
    write_image(out / paths['truth'], _reduced(picture, labels=True))


def _draw_score(
    frame: Frame, source: FrameSource, evaluation: Evaluation, choice: ChosenFrame, out: Path
) -> None:
    paths = _paths(frame.name, choice.score)
    values = frame.scores[choice.score]
    heat = score_picture(values, score_range(evaluation, choice.score))
    write_image(out / paths['score_map'], _reduced(heat))
    limit = evaluation.limits[choice.score]
    marked = np.zeros(values.shape, np.bool_) if limit is None else values > limit.value
    if source.has_anomalies or frame.train_ids is None or frame.labels is None:
        picture = anomaly_picture(marked & (frame.truth != IGNORE), frame.truth)
        picture = outlined(_reduced(picture, labels=True), frame.truth == 1)
    else:
        picture = colorize(frame.labels, color_table(source.classes.colors))
        picture = outlined(_reduced(picture, labels=True), marked)
    write_image(out / paths['mask'], picture)


def anomaly_picture(marked: NDArray[np.bool_], truth: Bytes) -> Bytes:
    """Draws marked pixels in the colour of anomalies; ignored ones are black."""
    picture = np.empty((*truth.shape, 3), np.uint8)
    picture[:] = INLIER_COLOR
    picture[truth == IGNORE] = IGNORE_COLOR
    picture[marked] = ANOMALY_COLOR
    return picture


def outlined(picture: Bytes, mask: NDArray[np.bool_]) -> Bytes:
    """Draws the outline of a mask of any size into a picture."""
    small = resize_ids(mask.view(np.uint8), (picture.shape[0], picture.shape[1]))
    contours, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    drawn = np.ascontiguousarray(picture)
    cv2.drawContours(drawn, contours, -1, OUTLINE_COLOR, 1)
    return drawn


def score_range(evaluation: Evaluation, score: str) -> tuple[float, float]:
    """Gives the scores that are drawn darkest and brightest, the same for all frames.

    Half of the pixels score lower than the darkest, so that the colours are left to the others.
    """
    ranges = [found for key, found in evaluation.first.ranges.items() if key[1] == score]
    finite = np.array(ranges)[np.isfinite(ranges).all(axis=1)] if ranges else np.zeros((0, 2))
    if not finite.size:
        return 0.0, 1.0
    low, high = np.median(finite[:, 0]), np.quantile(finite[:, 1], 0.9)
    return float(low), float(max(high, low + 1e-6))


def score_picture(score: Floats, limits: tuple[float, float]) -> Bytes:
    """Draws a raw score from dark (low) to bright (high)."""
    low, high = limits
    values = np.nan_to_num(score.astype(np.float64), nan=high, posinf=high, neginf=low)
    grey = (255 * np.clip((values - low) / (high - low), 0, 1)).round().astype(np.uint8)
    bgr = cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO)
    picture: Bytes = np.ascontiguousarray(bgr[..., ::-1], np.uint8)
    return picture


def _reduced(picture: Bytes, labels: bool = False) -> Bytes:
    """Reduces a picture to `WIDTH` where it is wider; flat colours stay as they are."""
    height, width = picture.shape[:2]
    if width <= WIDTH:
        return picture
    reduced = max(1, round(height * WIDTH / width))
    if labels:
        return resize_ids(picture, (reduced, WIDTH))
    return cv2.resize(picture, (WIDTH, reduced), interpolation=cv2.INTER_AREA).astype(
        np.uint8, copy=False
    )
