"""What is known of one frame at the size that is published."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.prediction import Prediction
from anomaly_seg_ros.whole_frame.health import CameraHealth

from .camera_frame import CameraFrame
from .images import encode_image
from .label_tables import LabelTables
from .maps import Maps, PipelineSettings
from .overlay import colorize, draw_overlay
from .resizing import nearest_places, resize_ids, resize_linear

JPEG_QUALITY = 90


@dataclass(frozen=True)
class Prepared:
    """A frame that is ready for the engine.

    Attributes:
        frame: As the camera gave it.
        network_input: (h, w, 3) RGB, the same at the network's size.
        began: When its way began, by `time.perf_counter`.
        times_ms: Stage to milliseconds, the one record of the frame's way: whoever does a stage
            writes it here, and the `Result` goes on with it.
    """

    frame: CameraFrame
    network_input: NDArray[np.uint8]
    began: float
    times_ms: dict[str, float]


class Listed(NamedTuple):
    """The anomalous regions of a frame by columns: no object is made of each of them.

    Attributes:
        ids: Stay while the regions move on over the frames.
        x: First columns.
        y: First rows.
        widths: In columns.
        heights: In rows.
        areas: Pixels.
        scores: Mean calibrated scores, 0..1.
        seen: In how many of the last frames each was there, this one included.
    """

    ids: list[int]
    x: list[int]
    y: list[int]
    widths: list[int]
    heights: list[int]
    areas: list[int]
    scores: list[float]
    seen: list[int]


class Result:
    """What is known of one frame; each output is computed when it is first asked for.

    Outputs have the size of the camera image; those of `at(False)` that of the network.

    Args:
        prepared: The frame, also at the network's size.
        maps: What the network says of it.
        tables: Of the classes.

    Attributes:
        maps: All of it at the network's size.
        size: (H, W).
        times_ms: Stage to milliseconds, as far as the frame has come.
    """

    def __init__(self, prepared: Prepared, maps: Maps, tables: LabelTables):
        self._prepared = prepared
        self.network_input = prepared.network_input
        self.maps = maps
        self.times_ms = prepared.times_ms
        self._tables = tables
        self.size = prepared.frame.size

    def at(self, whole: bool) -> Result:
        """Gives the same frame at camera size, or (`whole` False) at network size."""
        if whole or self.size == self.prediction.labels.shape:
            return self
        small = replace(self._prepared, frame=CameraFrame(self.network_input))
        return Result(small, self.maps, self._tables)

    @property
    def prediction(self) -> Prediction:
        """What the network said, at its size."""
        return self.maps.prediction

    @property
    def settings(self) -> PipelineSettings:
        """Those that held when the frame came."""
        return self.maps.settings

    @property
    def image(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB camera image."""
        return self._prepared.frame.rgb

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """(H, W) train ids, 255 = unlabelled."""
        return resize_ids(self.prediction.labels, self.size)

    @cached_property
    def score(self) -> NDArray[np.float32]:
        """(H, W) raw anomaly score."""
        score = self.prediction.score.astype(np.float32, copy=False)
        resized = resize_linear(score, self.size)
        if self.maps.ignored is not None and self.size != score.shape:
            # What an ignored pixel scores is no score to be mixed with its neighbours'.
            mixed = resize_linear(self.maps.ignored.astype(np.float32), self.size) > 0
            resized[mixed] = resize_ids(score, self.size)[mixed]
        return resized

    @property
    def calibrated(self) -> bool:
        """Whether the score has a calibration, which `share`, `heat` and `mask` need."""
        return self.maps.calibrated

    @property
    def anomalous_share(self) -> float:
        """Share of pixels at or above the threshold, 0..1, before any region is dropped."""
        return self.maps.anomalous_share

    @property
    def frame_score(self) -> float:
        """How anomalous the frame is as a whole, 0..1; see `Maps.frame_score`."""
        return self.maps.frame_score

    @property
    def health(self) -> CameraHealth:
        """Whether the camera is fit, this frame included; where frames follow each other."""
        return self.maps.health

    @cached_property
    def share(self) -> NDArray[np.float32]:
        """(H, W) calibrated score: the share of normal pixels that score lower, 0..1."""
        return resize_linear(self.maps.share, self.size)

    @cached_property
    def heat(self) -> NDArray[np.uint8]:
        """(H, W) calibrated score times 255."""
        return resize_linear(self.maps.heat, self.size)

    @cached_property
    def mask(self) -> NDArray[np.uint8]:
        """(H, W) 255 where anomalous, else 0."""
        return resize_ids(self.maps.mask, self.size)

    @cached_property
    def open_set(self) -> NDArray[np.uint8]:
        """(H, W) train ids, the one behind the last class where anomalous, 255 = unlabelled."""
        ids = self.prediction.labels.copy()
        ids[self.maps.mask != 0] = self._tables.anomaly
        return resize_ids(ids, self.size)

    @cached_property
    def static(self) -> NDArray[np.uint8]:
        """(H, W) 255 where the class stays in its place and nothing is anomalous, else 0."""
        return resize_ids(self._tables.static[self.prediction.labels] & ~self.maps.mask, self.size)

    @cached_property
    def regions(self) -> Listed:
        """The anomalous regions, by size times score, the largest first."""
        found = self.maps.anomalies
        rows, columns = self.size
        height, width = self.maps.above.shape
        scale = columns / width, rows / height
        boxes = found.boxes.T.astype(np.intp)
        boxes[2:] += boxes[:2]
        # From the first of the camera's pixels that shows one of the region to behind the last.
        for axis, places in enumerate(
            (nearest_places(width, columns), nearest_places(height, rows))
        ):
            boxes[axis::2] = np.searchsorted(places, boxes[axis::2])
        # Where the camera's are the larger ones, a small region may lie between their centres.
        boxes[:2] = np.minimum(boxes[:2], [[columns - 1], [rows - 1]])
        boxes[2:] = np.maximum(boxes[2:] - boxes[:2], 1)
        x, y, widths, heights = boxes.tolist()
        areas = np.rint(found.areas * (scale[0] * scale[1])).clip(1).astype(np.intp).tolist()
        return Listed(
            found.ids.tolist(),
            x,
            y,
            widths,
            heights,
            areas,
            np.round(found.scores, 6).tolist(),
            found.seen.tolist(),
        )

    @cached_property
    def color(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB class colours."""
        return colorize(self.labels, self._tables.colors)

    @cached_property
    def overlay(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB: image, class colours and, where calibrated, the anomalies."""
        heat, mask = (self.maps.heat, self.maps.mask) if self.calibrated else (None, None)
        colors = colorize(self.prediction.labels, self._tables.colors)
        return draw_overlay(self.image, colors, self.settings.overlay_alpha, heat, mask)

    @cached_property
    def overlay_jpeg(self) -> bytes:
        """The overlay as a JPEG file."""
        return encode_image(self.overlay, '.jpg', (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
