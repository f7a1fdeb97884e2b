"""One camera frame through resize, engine and calibration; what the node and every tool share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
import time

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.calibration import Calibration
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.classes import dynamic_ids, IGNORE
from anomaly_seg_ros.prediction import Engine, Prediction, Score
from anomaly_seg_ros.whole_frame.methods import FrameJudge

from .camera_frame import CameraFrame
from .label_tables import LabelTables
from .maps import Maps, Memory, PipelineSettings
from .result import Prepared, Result

BACK_S, GAP_S = 1.0, 5.0
"""Seconds. A stamp so far before that of the last frame, or behind it, begins another scene; a
smaller step back is frames out of order."""
USUAL_STEPS = 3
"""Steps of a slow camera that are no gap."""

LEAST_SCORE = float(np.finfo(np.float16).min)
"""What an ignored pixel scores."""


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


class Pipeline:
    """Image in, `Result` out: `prepare`, the engine, `finish`.

    Args:
        engine: Any engine.
        tables: Of the classes.
        calibration: Of the engine's score; None where it has not been fitted.
        settings: May be replaced between frames, from any thread.
        remembers: Whether frames follow each other, so that regions keep their ids; else each is
            alone.
        ignored: (h, w) true at the network's size where the image shall not count, the own bonnet
            for instance; None for nowhere.
        judge: Of whole frames; None where the checkpoint has no method for them.
    """

    def __init__(
        self,
        engine: Engine,
        tables: LabelTables,
        calibration: Calibration | None,
        settings: PipelineSettings,
        remembers: bool = False,
        ignored: NDArray[np.bool_] | None = None,
        judge: FrameJudge | None = None,
    ):
        self.engine = engine
        self.settings = settings
        self._tables = tables
        self._calibration = None if calibration is None else calibration.table()
        self._remembers = remembers
        self._left: Callable[[], Memory] = Memory
        self._taken_s: float | None = None
        self._step_s = 0.0
        self.ignored = ignored
        self.judge = judge

    def restore(self, memory: Memory, ignored: NDArray[np.bool_] | None) -> None:
        """Takes the next frame as the one that came after `memory`, with these pixels ignored."""
        self._left, self.ignored = lambda: memory, ignored

    def recalibrate(self, calibration: Calibration) -> None:
        """Takes another calibration, from the next frame on; from any thread."""
        self._calibration = calibration.table()

    def __call__(
        self, image: NDArray[np.uint8] | CameraFrame, taken_s: float | None = None
    ) -> Result:
        """Takes one frame all the way; as `prepare` and `finish`."""
        prepared = self.prepare(image)
        (prediction,) = run_engine(self.engine, [prepared])
        return self.finish(prepared, prediction, taken_s)

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

    def finish(
        self, prepared: Prepared, prediction: Prediction, taken_s: float | None = None
    ) -> Result:
        """Gives the result of a frame, with the settings that hold now.

        Args:
            prepared: The frame.
            prediction: Of it.
            taken_s: Its stamp in seconds; what the frames before left is forgotten where it does
                not follow on theirs. None: it does.
        """
        settings = self.settings
        before = self._left()
        if not self._follows(taken_s):
            before = before.begun_anew()
        height, width = prepared.frame.size
        scale = prediction.labels.size / (height * width)
        if self.ignored is not None:
            prediction = self._without_ignored(prediction, self.ignored)
        min_area = settings.min_region_area * scale
        maps = Maps(
            prediction,
            settings,
            min_area,
            self._calibration,
            before,
            self.judge,
            prepared.network_input if self._remembers else None,
            self.ignored,
        )
        if self._remembers:
            # What it leaves is found when it is needed: first it goes out.
            self._left = lambda: maps.anomalies.memory
        return Result(prepared, maps, self._tables)

    def _follows(self, taken_s: float | None) -> bool:
        """Whether a frame shows the scene of the one before, by its stamp."""
        before, self._taken_s = self._taken_s, taken_s
        if taken_s is None or before is None:
            return True
        step, usual = taken_s - before, self._step_s
        self._step_s = max(step, 0.0)
        return -BACK_S <= step <= max(GAP_S, USUAL_STEPS * usual)

    def counted(self, score: Score) -> Score:
        """Gives the scores of the pixels that are not ignored, of an (h, w) score, in a row."""
        return score.ravel() if self.ignored is None else score[~self.ignored]

    def _without_ignored(self, prediction: Prediction, ignored: NDArray[np.bool_]) -> Prediction:
        """Gives a prediction that says of ignored pixels: no class, nothing anomalous."""
        labels, score = prediction.labels.copy(), prediction.score.copy()
        # Calibrated it is 0 whatever the calibration, and raw it stays finite.
        labels[ignored], score[ignored] = IGNORE, LEAST_SCORE
        return replace(prediction, labels=labels, score=score)


def build_pipeline(
    engine: Engine,
    meta: CheckpointMeta,
    settings: PipelineSettings | None = None,
    remembers: bool = False,
    ignored: NDArray[np.bool_] | None = None,
    judge: FrameJudge | None = None,
) -> Pipeline:
    """Gives the pipeline of a checkpoint with the calibration and threshold it carries."""
    calibration = meta.calibrations.get(engine.score_name)
    if settings is None:
        settings = PipelineSettings(default_threshold(meta, engine.score_name))
    tables = LabelTables(meta.class_colors, dynamic_ids(meta.class_names, meta.dynamic_classes))
    return Pipeline(engine, tables, calibration, settings, remembers, ignored, judge)


def default_threshold(meta: CheckpointMeta, score: str) -> float:
    """Gives the checkpoint's threshold for a score; 0.99 where it carries none."""
    return meta.thresholds.get(score, 0.99)
