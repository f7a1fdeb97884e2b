"""One camera frame through resize, engine and calibration; what the node and every tool share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
import time

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.calibration import Calibration
from anomaly_seg_ros.checkpoint import CheckpointMeta
from anomaly_seg_ros.overlay import color_table, colorize, draw_overlay
from anomaly_seg_ros.postprocess import anomaly_mask, resize_linear, resize_nearest
from anomaly_seg_ros.prediction import Engine, Prediction
from anomaly_seg_ros.preprocess import to_input_size


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


class Result:
    """What is known of one frame; each output is computed when it is first asked for.

    All outputs have the size of the camera image.

    Args:
        image: (H, W, 3) RGB as the camera gave it.
        network_input: (h, w, 3), the same at the network's size.
        prediction: Of `network_input`.
        settings: That held when the frame came.
        min_area: Anomalous regions of fewer pixels of the network's size are dropped.
        shares: `Calibration.table()` of the score, or None.
        table: `color_table` of the classes.
        times_ms: Stage to milliseconds.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        network_input: NDArray[np.uint8],
        prediction: Prediction,
        settings: PipelineSettings,
        min_area: float,
        shares: NDArray[np.float32] | None,
        table: NDArray[np.uint8],
        times_ms: dict[str, float],
    ):
        self.image = image
        self.network_input = network_input
        self.prediction = prediction
        self.settings = settings
        self.times_ms = times_ms
        self._min_area = min_area
        self._shares = shares
        self._table = table
        self._size = (image.shape[0], image.shape[1])

    def at(self, whole: bool) -> Result:
        """Gives the same frame at camera size, or (`whole` False) at network size."""
        if whole or self._size == self.prediction.labels.shape:
            return self
        return self._at_network_size

    @cached_property
    def _at_network_size(self) -> Result:
        return Result(
            self.network_input,
            self.network_input,
            self.prediction,
            self.settings,
            self._min_area,
            self._shares,
            self._table,
            self.times_ms,
        )

    @cached_property
    def anomalous_share(self) -> float:
        """Share of pixels at or above the threshold, 0..1, before small regions are dropped."""
        return float((self._share >= self.settings.threshold).mean())

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """(H, W) train ids, 255 = unlabelled."""
        return resize_nearest(self.prediction.labels, self._size)

    @cached_property
    def score(self) -> NDArray[np.float32]:
        """(H, W) raw anomaly score."""
        return resize_linear(self.prediction.score, self._size)

    @cached_property
    def _share(self) -> NDArray[np.float32]:
        """Calibrated score at network size: one gather by the score's float16 bits."""
        if self._shares is None:
            raise ValueError('the score has no calibration; run fit_score on the checkpoint first')
        with np.errstate(over='ignore'):
            bits = self.prediction.score.astype(np.float16).view(np.uint16)
        return np.take(self._shares, bits)

    @property
    def calibrated(self) -> bool:
        """Whether the score has a calibration, which `share`, `heat` and `mask` need."""
        return self._shares is not None

    @cached_property
    def share(self) -> NDArray[np.float32]:
        """(H, W) calibrated score: the share of normal pixels that score lower, 0..1."""
        return resize_linear(self._share, self._size)

    @cached_property
    def heat(self) -> NDArray[np.uint8]:
        """(H, W) calibrated score times 255."""
        small = np.rint(self._share * np.float32(255)).astype(np.uint8)
        return resize_linear(small, self._size)

    @cached_property
    def mask(self) -> NDArray[np.uint8]:
        """(H, W) 255 where anomalous, else 0."""
        mask = anomaly_mask(self._share, self.settings.threshold, self._min_area)
        return resize_nearest(mask, self._size)

    @cached_property
    def color(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB class colours."""
        return colorize(self.labels, self._table)

    @cached_property
    def overlay(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB: image, class colours and, where calibrated, the anomalies."""
        heat, mask = (self.heat, self.mask) if self.calibrated else (None, None)
        return draw_overlay(self.image, self.color, self.settings.overlay_alpha, heat, mask)


class Pipeline:
    """Image in, `Result` out, through one engine.

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
        self._table = color_table(colors)
        self._shares = None if calibration is None else calibration.table()

    def __call__(self, image: NDArray[np.uint8]) -> Result:
        """Runs one frame.

        Args:
            image: (H, W, 3) RGB uint8 of any size.

        Raises:
            ValueError: Not an image, or a side of it is zero.
        """
        start = time.perf_counter()
        network_input = to_input_size(image, self.engine.input_size)
        resized = time.perf_counter()
        prediction = self.engine.infer(network_input)
        times_ms = {
            'preprocess': (resized - start) * 1e3,
            'inference': (time.perf_counter() - resized) * 1e3,
        }
        # Taken once: another thread may replace them while this frame is on its way.
        settings = self.settings
        scale = prediction.labels.size / (image.shape[0] * image.shape[1])
        return Result(
            image,
            network_input,
            prediction,
            settings,
            settings.min_region_area * scale,
            self._shares,
            self._table,
            times_ms,
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
