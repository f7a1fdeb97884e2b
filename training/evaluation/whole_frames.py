"""Frames judged as a whole: scores of normal and abnormal frames, by group, to rows and grids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import csv
from dataclasses import dataclass, field, replace
from pathlib import Path
import time

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.frames.images import write_image
from anomaly_seg_ros.frames.preprocess import to_input_size
from anomaly_seg_ros.prediction import Engine
from anomaly_seg_ros.whole_frame.methods import frame_judge, FrameJudge
from anomaly_seg_ros.whole_frame.picture import is_dark, is_same, thumbnail
from training.datasets import Dataset
from training.frame_level.corruptions import corrupt, FROZEN
from training.metrics.whole_frames import frame_metrics, WholeFrameMetrics
from training.results import (
    clear_results,
    FRAME_SCORES_FILE,
    GRID_FILES,
    ResultRow,
    write_results,
)

Image = NDArray[np.uint8]

NORMAL = 'normal'
THRESHOLD = 0.5
"""Frame score from which on a frame is out of domain."""
TILE = (120, 160)
"""(height, width) of a frame in a grid."""
TILES = 5
"""Frames of a row of a grid."""


@dataclass
class JudgedFrame:
    """One frame: its group, its frame score, and a small picture of it."""

    name: str
    group: str
    score: float
    tile: Image


@dataclass
class WholeFrames:
    """Judges frames group by group; `NORMAL` is the group of the good ones.

    What the cheap statistics see before the network, black and frozen frames, scores 1.

    Attributes:
        engine: Pools.
        judge: Of the checkpoint.
        frames: All that were judged.
        times_ms: Of each inference.
    """

    engine: Engine
    judge: FrameJudge
    frames: list[JudgedFrame] = field(default_factory=list)
    times_ms: list[float] = field(default_factory=list)

    @classmethod
    def open(cls, engine: Engine, checkpoint: Checkpoint) -> WholeFrames:
        """Gives it for a checkpoint.

        Raises:
            ValueError: It has no method for whole frames.
        """
        judge = frame_judge(checkpoint)
        if judge is None:
            raise ValueError(
                f'checkpoint {str(checkpoint.folder)!r} has no method for whole frames; run '
                'fit_score --score dfkde on it first'
            )
        return cls(engine, judge)

    def add(self, name: str, group: str, image: Image, before: Image | None = None) -> None:
        """Judges one frame; `before` is what the camera gave before it."""
        small: Image = to_input_size(image, self.engine.input_size)
        pixels = thumbnail(small)
        seen = None if before is None else thumbnail(to_input_size(before, small.shape[:2]))
        began = time.perf_counter()
        pooled = self.engine.infer(small).frame
        self.times_ms.append((time.perf_counter() - began) * 1e3)
        if pooled is None:
            raise ValueError(f'engine {self.engine.name!r} gives nothing of whole frames')
        unfit = is_dark(pixels) or is_same(pixels, seen)
        score = 1.0 if unfit else self.judge.score(pooled)
        tile = cv2.resize(image, TILE[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8)
        self.frames.append(JudgedFrame(name, group, score, tile))

    def add_all(self, dataset: Dataset, group: str, indices: Iterable[int]) -> None:
        """Judges frames of a dataset as they are."""
        for index in tqdm(list(indices), desc=group, unit='frame', disable=None):
            sample = dataset[index]
            self.add(sample.name, group, sample.image)

    def add_corrupted(
        self, dataset: Dataset, corruption: str, severity: int, indices: Iterable[int]
    ) -> None:
        """Judges frames of a dataset with a corruption, as a group of its name."""
        group = f'{corruption} {severity}'
        for index in tqdm(list(indices), desc=group, unit='frame', disable=None):
            sample = dataset[index]
            image = corrupt(sample.image, corruption, severity, sample.name)
            self.add(sample.name, group, image, sample.image if corruption == FROZEN else None)

    def scores(self, *groups: str) -> NDArray[np.float64]:
        """Gives the scores of some groups; of all but the normal ones without any name."""
        wanted = groups or self.groups
        return np.array([frame.score for frame in self.frames if frame.group in wanted])

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of abnormal frames, in order."""
        found = dict.fromkeys(frame.group for frame in self.frames)
        return tuple(group for group in found if group != NORMAL)

    def metrics(self, *groups: str) -> WholeFrameMetrics:
        """Measures some groups, or all, against the normal frames."""
        return frame_metrics(self.scores(NORMAL), self.scores(*groups), THRESHOLD)

    def rows(self, origin: ResultRow) -> list[ResultRow]:
        """Gives a row for each group, and one for all where there are several."""
        groups = self.groups
        wholes: list[tuple[tuple[str, ...], str]] = [((group,), group) for group in groups]
        if len(groups) != 1:
            wholes.append((groups, 'all'))
        return [self._row(names, title, origin) for names, title in wholes]

    def _row(self, groups: Sequence[str], title: str, origin: ResultRow) -> ResultRow:
        found = self.metrics(*groups) if groups else self.metrics()
        wanted = {NORMAL, *groups}
        return replace(
            origin,
            n_images=sum(frame.group in wanted for frame in self.frames),
            split=f'{origin.split}, {title}' if title else origin.split,
            extra={
                **origin.extra,
                'level': 'frame',
                'abnormal': title,
                'n_abnormal': int(self.scores(*groups).size) if groups else 0,
                'frame_auroc': found.auroc,
                'frame_ap': found.ap,
                'frame_f1': found.best_f1,
                'frame_f1_threshold': found.best_f1_threshold,
                'frame_shipped': {
                    'threshold': THRESHOLD,
                    'f1': found.f1,
                    'precision': found.precision,
                    'recall': found.recall,
                    'false_alarms_per_1000': found.false_alarms_per_1000,
                },
            },
        )

    def write(self, out: Path, rows: Sequence[ResultRow]) -> None:
        """Writes the scores, the grids of worst and best frames, and last the results."""
        out.mkdir(parents=True, exist_ok=True)
        clear_results(out)
        with (out / FRAME_SCORES_FILE).open('w', newline='', encoding='utf-8') as file:
            table = csv.writer(file)
            table.writerow(('frame', 'group', 'abnormal', 'score'))
            for frame in self.frames:
                table.writerow(
                    (frame.name, frame.group, int(frame.group != NORMAL), f'{frame.score:.6f}')
                )
        for kind, file_name in GRID_FILES.items():
            write_image(out / file_name, self.grid(worst=kind == 'worst'))
        write_results(out, rows)

    def grid(self, worst: bool) -> Image:
        """Gives a picture of two rows: normal frames, abnormal frames; mistaken ones or the best.

        The worst are the normal ones that score highest and the abnormal ones that score lowest.
        """
        rows = []
        for abnormal in (False, True):
            mine = [frame for frame in self.frames if (frame.group != NORMAL) == abnormal]
            mine.sort(key=lambda frame: frame.score, reverse=abnormal != worst)
            tiles = [_titled(frame) for frame in mine[:TILES]]
            blank = np.zeros((*TILE, 3), np.uint8)
            rows.append(np.hstack([*tiles, *[blank] * (TILES - len(tiles))]))
        grid: Image = np.vstack(rows)
        return grid


def _titled(frame: JudgedFrame) -> Image:
    """Gives the tile with its group and score written on it."""
    tile: Image = frame.tile.copy()
    text = f'{frame.group} {frame.score:.2f}'
    for color, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(tile, text, (3, TILE[0] - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, color, width)
    return tile
