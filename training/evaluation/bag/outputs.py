"""What `anomaly_seg bag` writes for each frame: the node's topics, and a line of the timeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import csv
from pathlib import Path
import shutil
from types import TracebackType
from typing import NamedTuple, TextIO

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.bags.reader import BagImage, RAW, TEXT
from anomaly_seg_ros.bags.storage import METADATA
from anomaly_seg_ros.bags.writer import BagWriter, Stamp
from anomaly_seg_ros.frames.pipeline import Result
from anomaly_seg_ros.node import topics
from training.results import CURVES_FILE, FRAMES_FILE, PICTURES_FILE, PICTURES_FOLDER, RESULTS_FILE

FRAME_SCORE_RULE = (
    'mean calibrated score of all pixels at the size of the network: about 0.5 on frames like '
    'those of the calibration, towards 1 for another domain or a failing camera; small objects '
    'show in mask_share and regions'
)


class Output(NamedTuple):
    """A picture that the node gives: its topic, its encoding, and where it comes from."""

    topic: str
    encoding: str
    picture: Callable[[Result], NDArray[np.uint8]]


OUTPUTS = {
    'semantic_mask': Output(topics.SEMANTIC_MASK, 'mono8', lambda result: result.labels),
    'anomaly_score': Output(topics.ANOMALY_SCORE, 'mono8', lambda result: result.heat),
    'anomaly_mask': Output(topics.ANOMALY_MASK, 'mono8', lambda result: result.mask),
    'semantic_color': Output(topics.SEMANTIC_COLOR, 'bgr8', lambda result: result.color),
    'overlay': Output(topics.OVERLAY, 'bgr8', lambda result: result.overlay),
}
DEFAULT_OUTPUTS = ('semantic_mask', 'anomaly_score', 'anomaly_mask', 'overlay')


def parse_outputs(text: str) -> tuple[str, ...]:
    """Reads a list such as 'semantic_mask,overlay'.

    Raises:
        ValueError: An unknown output, or none.
    """
    outputs = tuple(dict.fromkeys(part.strip() for part in text.split(',') if part.strip()))
    for output in outputs:
        if output not in OUTPUTS:
            raise ValueError(f'unknown output {output!r}; choose of: {", ".join(OUTPUTS)}')
    if not outputs:
        raise ValueError(f'nothing to save; choose of: {", ".join(OUTPUTS)}')
    return outputs


class OutputBag:
    """The node's topics, under the names that they have without a namespace.

    Args:
        path: Folder of the bag, which must not exist.
        outputs: Keys of `OUTPUTS`.
        label_info: Text of the latched topic that explains ids and scores.
    """

    def __init__(self, path: Path, outputs: Sequence[str], label_info: str):
        self._outputs = [OUTPUTS[name] for name in outputs]
        self._label_info = label_info
        self._info_topic = topics.resolve(topics.LABEL_INFO_JSON)
        self._explained = False
        self._bag = BagWriter(path, packed=True)
        self._bag.add_topic(self._info_topic, TEXT, latched=True)
        for output in self._outputs:
            self._bag.add_topic(topics.resolve(output.topic), RAW)

    def add(self, image: BagImage, result: Result) -> None:
        """Writes the outputs of a frame with the times of its input."""
        assert image.stamp is not None
        if not self._explained:
            self._bag.add_text(self._info_topic, image.log_time, self._label_info)
            self._explained = True
        at = Stamp(image.log_time, image.stamp, image.frame_id)
        for topic, encoding, picture in self._outputs:
            self._bag.add_image(topics.resolve(topic), at, picture(result), encoding)

    def __enter__(self) -> OutputBag:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # In any case: without its index a bag is a broken one for others.
        self._bag.close()


def clear_output_bag(path: Path) -> None:
    """Removes the bag that an earlier run has left.

    Raises:
        ValueError: Something else is there.
    """
    if not path.exists():
        return
    ours = {METADATA, f'{path.name}.mcap'}
    if not path.is_dir() or {file.name for file in path.iterdir()} - ours:
        raise ValueError(f'{str(path)!r} is no bag of an earlier run; choose another --out')
    shutil.rmtree(path)


def clear_metrics(out: Path) -> None:
    """Removes the metrics that an earlier run has left."""
    for name in (RESULTS_FILE, FRAMES_FILE, CURVES_FILE, PICTURES_FILE):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / PICTURES_FOLDER, ignore_errors=True)


class Moment(NamedTuple):
    """One line of `timeline.csv`; a broken message has only its number and problem.

    Attributes:
        stamp: Header stamp in nanoseconds.
        frame_score: By `FRAME_SCORE_RULE`.
        mask_share: Share of the pixels that the published mask marks.
        regions: 8-connected regions of the published mask.
        number: Place of the message on its topic, from 0.
        log_time: When it was recorded, in nanoseconds.
        name: Source file, where the bag tells it.
        problem: Why there are no numbers.
    """

    stamp: int | None
    frame_score: float | None
    mask_share: float | None
    regions: int | None
    number: int
    log_time: int
    name: str
    problem: str


def moment(image: BagImage, name: str, result: Result) -> Moment:
    """Gives the line of a frame."""
    return Moment(
        stamp=image.stamp,
        frame_score=round(frame_score(result.at(False).share), 6),
        mask_share=round(float((result.mask != 0).mean()), 6),
        regions=cv2.connectedComponents(result.mask, connectivity=8)[0] - 1,
        number=image.number,
        log_time=image.log_time,
        name=name,
        problem='',
    )


def broken_moment(image: BagImage, name: str, problem: str) -> Moment:
    """Gives the line of a message that cannot be used."""
    return Moment(image.stamp, None, None, None, image.number, image.log_time, name, problem)


def frame_score(share: NDArray[np.float32]) -> float:
    """Gives how anomalous a frame is as a whole, 0..1, from its (H, W) calibrated score.

    >>> frame_score(np.float32([[0, 0.5], [1, 1]]))
    0.625
    """
    return float(share.mean(dtype=np.float64))


class Timeline:
    """Writes `timeline.csv` line by line, so that a stopped run keeps what it has done."""

    def __init__(self, file: TextIO):
        self._file = file
        self._writer = csv.writer(file)
        self._writer.writerow(Moment._fields)

    def add(self, line: Moment) -> None:
        """Writes a line."""
        self._writer.writerow(['' if value is None else value for value in line])
        self._file.flush()
