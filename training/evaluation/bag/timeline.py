"""What `anomaly_seg bag` says of each frame: the lines of `timeline.csv`."""

from __future__ import annotations

import csv
from typing import NamedTuple, TextIO

from anomaly_seg_ros.bags.reader import BagImage
from anomaly_seg_ros.frames.result import Result
from anomaly_seg_ros.whole_frame.methods import FrameJudge

MEAN_RULE = (
    'mean calibrated score of all pixels at the size of the network: about 0.5 on frames like '
    'those of the calibration, towards 1 for another domain or a failing camera; small objects '
    'show in mask_share and regions'
)


def frame_score_rule(judge: FrameJudge | None) -> str:
    """Says how the frame score is made."""
    if judge is None:
        return MEAN_RULE
    return (
        f'method {judge.name}: 0.5 at the threshold from which on a frame is out of domain, '
        'towards 1 for another domain or a failing camera; unfit says why the camera is unfit'
    )


class TimelineRow(NamedTuple):
    """One line of `timeline.csv`; a broken message has only its number and problem.

    Attributes:
        stamp: Header stamp in nanoseconds.
        frame_score: By `frame_score_rule`.
        mask_share: Share of the pixels that the published mask marks.
        regions: 8-connected regions of the mask at the network's size.
        alarms: Those regions that count for the first time.
        unfit: Why the camera is unfit; empty while it is fit.
        number: Place of the message on its topic, from 0.
        log_time: When it was recorded, in nanoseconds.
        name: Source file, where the bag tells it.
        problem: Why there are no numbers.
    """

    stamp: int | None
    frame_score: float | None
    mask_share: float | None
    regions: int | None
    alarms: int | None
    unfit: str | None
    number: int
    log_time: int
    name: str
    problem: str


def frame_row(image: BagImage, name: str, result: Result) -> TimelineRow:
    """Gives the line of a frame."""
    return TimelineRow(
        stamp=image.stamp,
        frame_score=round(result.frame_score, 6),
        mask_share=round(float((result.mask != 0).mean()), 6),
        regions=result.maps.anomalies.total,
        alarms=result.maps.anomalies.delays.size,
        unfit=result.health.reason,
        number=image.number,
        log_time=image.log_time,
        name=name,
        problem='',
    )


def broken_row(image: BagImage, name: str, problem: str) -> TimelineRow:
    """Gives the line of a message that cannot be used."""
    return TimelineRow(
        image.stamp, None, None, None, None, None, image.number, image.log_time, name, problem
    )


class Timeline:
    """Writes `timeline.csv` line by line, so that a stopped run keeps what it has done."""

    def __init__(self, file: TextIO):
        self._file = file
        self._writer = csv.writer(file)
        self._writer.writerow(TimelineRow._fields)

    def add(self, line: TimelineRow) -> None:
        """Writes a line."""
        self._writer.writerow(['' if value is None else value for value in line])
        self._file.flush()
