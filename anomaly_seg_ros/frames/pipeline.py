"""One camera frame through resize, engine and calibration; what the node and every tool share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
import time

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.calibration import Calibration, CalibrationTable, score_bits
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.frames.camera_frame import CameraFrame
from anomaly_seg_ros.frames.images import encode_image
from anomaly_seg_ros.frames.nearest import resize_ids
from anomaly_seg_ros.frames.overlay import color_table, colorize, draw_overlay
from anomaly_seg_ros.frames.postprocess import drop_small_regions, resize_linear
from anomaly_seg_ros.prediction import Engine, Prediction

JPEG_QUALITY = 90


@dataclass(frozen=True)
class PipelineSettings:
    """What may change between two frames.

    Attributes:
        threshold: Calibrated score (0..1) at or above which a pixel is anomalous.
        min_region_area: Regions of fewer pixels of the camera image are dropped.
        overlay_alpha: Share of the class colours in the overlay, 0..1.
    """

    threshold: float
    min_region_area: int = 0
    overlay_alpha: float = 0.45


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


def run_engine(engine: Engine, frames: Sequence[Prepared]) -> list[Prediction]:
    """Gives the predictions of frames, of one camera or of several, in one pass.

    The pass is the 'inference' of each of them.
    """
    began = time.perf_counter()
    predictions = engine.infer_batch([frame.network_input for frame in frames])
    took_ms = (time.perf_counter() - began) * 1e3
    for frame in frames:
        frame.times_ms['inference'] = took_ms
    return predictions


class Result:
    """What is known of one frame; each output is computed when it is first asked for.

    All outputs have the size of the camera image.

    Args:
        prepared: The frame, also at the network's size.
        prediction: Of its network input.
        settings: That held when the frame came.
        min_area: Anomalous regions of fewer pixels of the network's size are dropped.
        calibration: Of the score, or None.
        colors: `color_table` of the classes.

    Attributes:
        times_ms: Stage to milliseconds, as far as the frame has come.
    """

    def __init__(
        self,
        prepared: Prepared,
        prediction: Prediction,
        settings: PipelineSettings,
        min_area: float,
        calibration: CalibrationTable | None,
        colors: NDArray[np.uint8],
    ):
        self._prepared = prepared
        self.network_input = prepared.network_input
        self.prediction = prediction
        self.settings = settings
        self.times_ms = prepared.times_ms
        self._min_area = min_area
        self._calibration = calibration
        self._colors = colors
        self._size = prepared.frame.size

    def at(self, whole: bool) -> Result:
        """Gives the same frame at camera size, or (`whole` False) at network size."""
        if whole or self._size == self.prediction.labels.shape:
            return self
        return Result(
            replace(self._prepared, frame=CameraFrame(self.network_input)),
            self.prediction,
            self.settings,
            self._min_area,
            self._calibration,
            self._colors,
        )

    @property
    def image(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB camera image."""
        return self._prepared.frame.rgb

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """(H, W) train ids, 255 = unlabelled."""
        return resize_ids(self.prediction.labels, self._size)

    @cached_property
    def score(self) -> NDArray[np.float32]:
        """(H, W) raw anomaly score."""
        return resize_linear(self.prediction.score.astype(np.float32, copy=False), self._size)

    @property
    def calibrated(self) -> bool:
        """Whether the score has a calibration, which `share`, `heat` and `mask` need."""
        return self._calibration is not None

    @cached_property
    def _bits(self) -> NDArray[np.uint16]:
        return score_bits(self.prediction.score)

    @property
    def _table(self) -> CalibrationTable:
        if self._calibration is None:
            raise ValueError('the score has no calibration; run fit_score on the checkpoint first')
        return self._calibration

    @cached_property
    def _small_heat(self) -> NDArray[np.uint8]:
        return self._table.heat(self._bits)

    @cached_property
    def _above(self) -> NDArray[np.uint8]:
        """(h, w) 255 where the calibrated score is at or above the threshold."""
        return self._table.above(self._bits, self.settings.threshold)

    @cached_property
    def _small_mask(self) -> NDArray[np.uint8]:
        if self._min_area <= 1:
            return self._above
        return drop_small_regions(self._above.copy(), self._min_area)

    @cached_property
    def anomalous_share(self) -> float:
        """Share of pixels at or above the threshold, 0..1, before small regions are dropped."""
        return cv2.countNonZero(self._above) / self._above.size

    @cached_property
    def share(self) -> NDArray[np.float32]:
        """(H, W) calibrated score: the share of normal pixels that score lower, 0..1."""
        return resize_linear(self._table.share(self._bits), self._size)

    @cached_property
    def heat(self) -> NDArray[np.uint8]:
        """(H, W) calibrated score times 255."""
        return resize_linear(self._small_heat, self._size)

    @cached_property
    def mask(self) -> NDArray[np.uint8]:
        """(H, W) 255 where anomalous, else 0."""
        return resize_ids(self._small_mask, self._size)

    @cached_property
    def color(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB class colours."""
        return colorize(self.labels, self._colors)

    @cached_property
    def overlay(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB: image, class colours and, where calibrated, the anomalies."""
        heat, mask = (self._small_heat, self._small_mask) if self.calibrated else (None, None)
        colors = colorize(self.prediction.labels, self._colors)
        return draw_overlay(self.image, colors, self.settings.overlay_alpha, heat, mask)

    @cached_property
    def overlay_jpeg(self) -> bytes:
        """The overlay as a JPEG file."""
        return encode_image(self.overlay, '.jpg', (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))


class Pipeline:
    """Image in, `Result` out: `prepare`, the engine, `finish`.

    Args:
        engine: Any engine.
        colors: RGB of each class.
        calibration: Of the engine's score; None where it has not been fitted.
        settings: May be replaced between frames, from any thread.
    """

    def __init__(
        self,
        engine: Engine,
        colors: Sequence[Sequence[int]],
        calibration: Calibration | None,
        settings: PipelineSettings,
    ):
        self.engine = engine
        self.settings = settings
        self._colors = color_table(colors)
        self._calibration = None if calibration is None else calibration.table()

    def __call__(self, image: NDArray[np.uint8] | CameraFrame) -> Result:
        """Takes one frame all the way; arguments and errors as of `prepare`."""
        prepared = self.prepare(image)
        (prediction,) = run_engine(self.engine, [prepared])
        return self.finish(prepared, prediction)

    def prepare(
        self, image: NDArray[np.uint8] | CameraFrame, began: float | None = None
    ) -> Prepared:
        """Gives what the engine needs of a frame.

        Args:
            image: (H, W, 3) RGB uint8 of any size, or a frame in its camera's encoding.
            began: When its way began, by `time.perf_counter`; None for now.

        Raises:
            ValueError: Not an image, or a side of it is zero.
        """
        began = time.perf_counter() if began is None else began
        frame = image if isinstance(image, CameraFrame) else CameraFrame(image)
        network_input = frame.rgb_at(self.engine.input_size)
        times_ms = {'preprocess': (time.perf_counter() - began) * 1e3}
        return Prepared(frame, network_input, began, times_ms)

    def finish(self, prepared: Prepared, prediction: Prediction) -> Result:
        """Gives the result of a frame, with the settings that hold now."""
        settings = self.settings
        height, width = prepared.frame.size
        scale = prediction.labels.size / (height * width)
        return Result(
            prepared,
            prediction,
            settings,
            settings.min_region_area * scale,
            self._calibration,
            self._colors,
        )


def build_pipeline(
    engine: Engine, meta: CheckpointMeta, settings: PipelineSettings | None = None
) -> Pipeline:
    """Gives the pipeline of a checkpoint with the calibration and threshold it carries."""
    calibration = meta.calibrations.get(engine.score_name)
    if settings is None:
        settings = PipelineSettings(default_threshold(meta, engine.score_name))
    return Pipeline(engine, meta.class_colors, calibration, settings)


def default_threshold(meta: CheckpointMeta, score: str) -> float:
    """Gives the checkpoint's threshold for a score; 0.99 where it carries none."""
    return meta.thresholds.get(score, 0.99)
