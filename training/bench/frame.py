"""A camera frame all the way through the real pipeline, stage by stage, as the node does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
import time

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.demo.frame_source import open_frames
from anomaly_seg_ros.frames.image_message import Bytes, to_frame
from anomaly_seg_ros.frames.pipeline import Pipeline
from anomaly_seg_ros.frames.preprocess import to_input_size
from anomaly_seg_ros.frames.result import Result
from anomaly_seg_ros.node.outputs import stamped_text
from anomaly_seg_ros.node.regions import regions_text
from anomaly_seg_ros.prediction import Engine

from .timing import Stages, Work

IMAGES = 4
"""Different frames that take turns, so that no cache or branch learns one by heart."""

Image = NDArray[np.uint8]


@dataclass
class CameraMessage:
    """An image message as a camera sends it, without ROS; see `ImageMessage`."""

    height: int
    width: int
    step: int
    data: Bytes
    encoding: str = 'bgr8'
    is_bigendian: int = 0


def camera_images(source: str, size: tuple[int, int]) -> list[Image]:
    """Gives a few (H, W, 3) RGB frames of a source, enlarged or reduced to (height, width).

    Raises:
        FileNotFoundError: The source does not exist.
        ValueError: It holds no frame, or a broken one.
    """
    images = [to_input_size(image, size) for image in open_frames(source, IMAGES)]
    if not images:
        raise ValueError(f'source {source!r} holds no frame')
    return images


def message_of(image: Image) -> CameraMessage:
    """Gives the message of an RGB image."""
    data = cv2.cvtColor(image, cv2.COLOR_RGB2BGR).astype(np.uint8, copy=False).ravel()
    return CameraMessage(image.shape[0], image.shape[1], image.shape[1] * 3, data)


def network_work(engine: Engine, images: Sequence[Image]) -> Work:
    """Gives the bare engine on ready images of its size: what everything else is compared to."""
    ready = cycle([np.ascontiguousarray(to_input_size(i, engine.input_size)) for i in images])

    def work() -> None:
        engine.infer(next(ready))

    return work


def frame_work(
    pipeline: Pipeline, images: Sequence[Image], outputs: Callable[[Result, Laps], None]
) -> Work:
    """Gives a frame from the message on to these outputs."""
    messages = cycle([message_of(image) for image in images])

    def work() -> Stages:
        laps = Laps()
        result = pipeline(to_frame(next(messages)))
        laps.skip()
        laps.times_ms['resize'] = result.times_ms['preprocess']
        laps.times_ms['inference'] = result.times_ms['inference']
        outputs(result, laps)
        return laps.times_ms

    return work


class Laps:
    """A stop-watch: the time since the last lap goes to the stage that just ended."""

    def __init__(self) -> None:
        self.times_ms: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Ends a stage."""
        now = time.perf_counter()
        self.times_ms[stage] = (now - self._last) * 1e3
        self._last = now

    def skip(self) -> None:
        """Leaves out what has passed since the last lap: its stages are timed elsewhere."""
        self._last = time.perf_counter()


def network_outputs(result: Result, laps: Laps) -> None:
    """Labels, score and the list of regions at network size."""
    small = result.at(whole=False)
    _labels_and_score(small)
    laps.lap('calibrate')
    if result.calibrated:
        stamped_text(regions_text(small), 0, 0, '')
    laps.lap('regions')


def camera_outputs(result: Result, laps: Laps) -> None:
    """Labels and score at camera size."""
    _calibrate(result)
    laps.lap('calibrate')
    _labels_and_score(result)
    laps.lap('outputs')


def picture_outputs(result: Result, laps: Laps) -> None:
    """Everything that the node can publish, at camera size."""
    _calibrate(result)
    laps.lap('calibrate')
    _labels_and_score(result)
    if result.calibrated:
        _ = result.mask
    laps.lap('outputs')
    _ = result.color
    _ = result.overlay
    laps.lap('pictures')


def _calibrate(result: Result) -> None:
    """Calibrated score and threshold, at network size."""
    if result.calibrated:
        _ = result.anomalous_share


def _labels_and_score(result: Result) -> None:
    _ = result.labels
    _ = result.heat if result.calibrated else result.score


FRAMES: Mapping[str, Callable[[Result, Laps], None]] = {
    'frame': network_outputs,
    'frame_camera': camera_outputs,
    'pictures': picture_outputs,
}
"""What a whole frame may give, each compared with the bare network in the same run."""
