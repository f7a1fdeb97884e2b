"""The section with the best and the worst frames, their pictures inside the page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from anomaly_seg_ros.frames.images import encode_image, read_image
from training.results import Picture, PICTURES_FOLDER

from .markup import join, Markup, tag
from .plots import place
from .runs import Run

MAX_WIDTH = 480
"""Of a picture in the page, pixels: twice what a column shows, for dense screens."""

SMALL = 24_000
"""Bytes up to which a file goes into the page as it is."""

MAX_FRAMES = 160
"""On the whole page: about 6 MB."""

PER_KIND = 3
MAX_SCORES = 10
NAMES = ('Image', 'Truth', 'Score', 'Mask')
CLASS_NAMES = ('Image', 'True classes', 'Score', 'Classes')
"""Of frames without anomalies: the mask is then an outline over the classes."""

MAGIC = {b'\x89PNG': 'image/png', b'\xff\xd8\xff': 'image/jpeg', b'RIFF': 'image/webp'}


class PictureStore:
    """Turns picture files into data URIs, each file once."""

    def __init__(self) -> None:
        self._found: dict[Path, str] = {}

    def uri(self, folder: Path, name: str) -> str:
        """Gives the picture `name` of a result folder as a data URI.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no image, or lies outside the folder.
        """
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise ValueError(f'{name!r} lies outside the result folder')
        if path not in self._found:
            self._found[path] = _data_uri(path)
        return self._found[path]


def _data_uri(path: Path) -> str:
    """Reads, shrinks if that pays, and encodes one picture."""
    image = read_image(path)
    data = path.read_bytes()
    kind = next((kind for magic, kind in MAGIC.items() if data.startswith(magic)), None)
    if kind is None or len(data) > SMALL:
        height, width = image.shape[:2]
        if width > MAX_WIDTH:
            size = (MAX_WIDTH, max(1, round(height * MAX_WIDTH / width)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        data = encode_image(image, '.webp', [cv2.IMWRITE_WEBP_QUALITY, 78])
        kind = 'image/webp'
    return f'data:{kind};base64,{b64encode(data).decode()}'


def frames_section(runs: Sequence[Run]) -> Markup:
    """Gives image, truth, score and mask of the frames that the results picked."""
    groups = [(run, score) for run in runs for score in shown_scores(run)]
    if not groups:
        return Markup()
    per_kind = max(1, min(PER_KIND, MAX_FRAMES // (2 * len(groups))))
    store = PictureStore()
    parts: list[Markup] = []
    for run in runs:
        scores = shown_scores(run)
        if scores:
            parts.append(tag('h3', join(dict.fromkeys(map(place, run.rows)), '; ')))
        for index, score in enumerate(scores):
            parts.append(_score_frames(run, score, per_kind, store, is_open=index == 0))
    return tag('section', tag('h2', 'Frames'), *parts, id='frames')


def shown_scores(run: Run) -> list[str]:
    """Gives the scores of a run that have frames, the best by AP first."""
    ap = {row.name('score'): row.number_of('ap') or 0 for row in run.rows}
    names = dict.fromkeys(picture.score for picture in run.pictures)
    return sorted(names, key=lambda name: -ap.get(name, 0))[:MAX_SCORES]


def _score_frames(
    run: Run, score: str, per_kind: int, store: PictureStore, is_open: bool
) -> Markup:
    """Gives the frames of one score, worst first."""
    mine = [picture for picture in run.pictures if picture.score == score]
    names = CLASS_NAMES if shows_classes(run, score) else NAMES
    parts: list[Markup] = []
    for kind in dict.fromkeys(picture.kind for picture in mine):
        of_kind = [picture for picture in mine if picture.kind == kind]
        parts.append(tag('h4', f'{kind.capitalize()} frames', class_=f'kind {_slug(kind)}'))
        parts += [_frame(picture, run.folder, store, names) for picture in of_kind[:per_kind]]
        if len(of_kind) > per_kind:
            left = f'{len(of_kind) - per_kind} more in {run.folder / PICTURES_FOLDER}'
            parts.append(tag('p', left, class_='hint'))
    summary = tag('summary', tag('b', score), tag('span', _count(len(mine)), class_='hint'))
    return tag('details', summary, *parts, open=is_open, class_='frames')


def shows_classes(run: Run, score: str) -> bool:
    """Says whether the pictures of a score show classes: where no anomalies are known."""
    values = [row.values for row in run.rows if row.name('score') == score]
    return any(v.get('base_rate', 0) is None and v.get('iou') is not None for v in values)


def _slug(kind: str) -> str:
    return kind if kind in ('worst', 'best') else ''


def _count(number: int) -> str:
    return f' {number} frame' if number == 1 else f' {number} frames'


def _frame(frame: Picture, folder: Path, store: PictureStore, names: Sequence[str]) -> Markup:
    """Gives one frame: its name, its numbers, and four pictures side by side."""
    values = (('AP', frame.ap), ('mIoU', frame.miou))
    words = [f'{name} {value * 100:.2f} %' for name, value in values if value is not None]
    caption = tag(
        'figcaption',
        tag('span', frame.frame, class_='name'),
        tag('span', ' · '.join(words) or 'no AP', class_='num'),
    )
    files = (frame.image, frame.truth, frame.score_map, frame.mask)
    cells = [
        picture_cell(f'{name} of {frame.frame}', name, file, folder, store)
        for name, file in zip(names, files, strict=True)
    ]
    return tag('figure', caption, tag('div', *cells, class_='row'), class_='frame')


def picture_cell(
    alt: str, name: str, file: str | None, folder: Path, store: PictureStore
) -> Markup:
    """Gives one picture, or says why there is none."""
    words = tag('span', name, class_='what')
    if file is None:
        return tag('div', tag('div', 'not recorded', class_='missing'), words)
    try:
        source = store.uri(folder, file)
    except FileNotFoundError:
        return tag('div', tag('div', f'missing: {file}', class_='missing'), words)
    except (ValueError, OSError):
        return tag('div', tag('div', f'cannot be read: {file}', class_='missing'), words)
    image = tag('img', src=source, alt=alt, decoding='async')
    return tag('div', tag('button', image, type='button', class_='zoom'), words)
