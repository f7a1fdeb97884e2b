"""One camera of the node: its input, what is made of its images, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
import time
from typing import Any

import rclpy
from rclpy.lifecycle import LifecycleNode

from anomaly_seg_ros.adaptation.normal_scores import calibrated_on
from anomaly_seg_ros.checkpoint.calibrated import CameraCalibration
from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.frames.ignore_mask import read_mask
from anomaly_seg_ros.frames.pipeline import default_threshold
from anomaly_seg_ros.frames.result import Prepared, Result
from anomaly_seg_ros.frames.significant_bits import SignificantBits
from anomaly_seg_ros.node import input_watch, topics, watchdog
from anomaly_seg_ros.node.calibration_file import camera_checkpoint, keep
from anomaly_seg_ros.node.config import NodeConfig
from anomaly_seg_ros.node.label_info import latched_contents
from anomaly_seg_ros.node.live_calibration import LiveCalibration, said
from anomaly_seg_ros.node.node_pipeline import node_pipeline, pipeline_settings
from anomaly_seg_ros.node.snapshot import Shot, write_snapshot
from anomaly_seg_ros.node.stamp_watch import StampWatch
from anomaly_seg_ros.node.statistics import FrameStatistics
from anomaly_seg_ros.prediction import Engine, Prediction
from anomaly_seg_ros.process.path_errors import explain
from anomaly_seg_ros.whole_frame.methods import fit_camera, FrameJudge, said_of_camera

from .calibrator import Calibrator
from .camera_input import (
    CameraInput,
    frame_of,
    ImageInput,
    SELDOM_S,
    stamp_s,
    THROTTLE_S,
)
from .publications import Publications

MOST_SIZES = 8
"""Sizes of images for which the log says what the ignore mask does; later ones go unsaid."""

NO_FRAMES = f'{watchdog.PAUSED}, so no frame comes; call that with true, then ~/calibrate'
"""Why a camera that is paused is not calibrated."""


class Camera:
    """Owns all that there is once a camera, from configure to cleanup; the engine is shared.

    Publishers are made and destroyed by the executor's thread; `prepare` is called by one of the
    worker's, `finish` by the other, `fail` by both. What several read is replaced by one
    reference.

    Args:
        node: Where it belongs.
        name: Of one of several cameras; '' is the only one.
        engine: What runs its images.
        checkpoint: What the engine serves.
        config: The parameters at configure.

    Raises:
        ValueError: The score has no calibration.
    """

    def __init__(
        self,
        node: LifecycleNode,
        name: str,
        engine: Engine,
        checkpoint: Checkpoint,
        config: NodeConfig,
    ):
        self.name = name
        self.statistics = FrameStatistics()
        self._publications = Publications(node, name, config, self._on_listener)
        self.outputs = self._publications.outputs
        self.input = CameraInput(
            node, name, config, self.statistics, self._receive, lambda: not self._is_idle()
        )
        self._node = node
        self._engine = engine
        self._key = topics.camera_key(name, node.get_namespace())
        self._checkpoint, note = camera_checkpoint(
            checkpoint, self._key, engine.score_name, config.calibration_file
        )
        self._config = config
        self._ignore_mask = read_mask(config.ignore_mask, self._key)
        self._ignored_sizes: set[tuple[int, int]] = set()
        self._pipeline = node_pipeline(engine, self._checkpoint, config, self._ignore_mask)
        self._paused = self._silent = False
        self._silence_said = -SELDOM_S
        self._shot: Shot | None = None
        self.calibrator = Calibrator(self._adopt)
        self._put: Callable[[Camera, ImageInput], bool]
        self._stamps = StampWatch()
        self._bits = SignificantBits(config.significant_bits)
        self._encodings: set[str] = set()
        self._prefix = f'{name}: ' if name else ''
        if note:
            node.get_logger().warning(f'{self._prefix}{note}')

    # --- what a transition of the node does ----------------------------------------------------

    def advertise(self) -> None:
        """Makes the publishers and publishes the label info."""
        self._publications.make()
        self._publish_label_info()

    def subscribe(self, put: Callable[[Camera, ImageInput], bool]) -> None:
        """Reads the camera from now on.

        Args:
            put: Takes each image; tells whether another one was dropped for it.
        """
        self._put = put
        self._publications.camera_info.subscribe()
        self.input.start()

    def unsubscribe(self) -> None:
        """Reads the camera no longer; may be called again."""
        self._publications.camera_info.unsubscribe()
        self.input.stop()

    def close(self) -> None:
        """Destroys everything; nothing may be in work any more."""
        self.unsubscribe()
        self._publications.close()

    def change(self, config: NodeConfig) -> None:
        """Takes new values of the dynamic parameters, from the next frame on."""
        before = self._pipeline.settings.threshold
        self._config = config
        self._pipeline.settings = pipeline_settings(self._engine, self._checkpoint.meta, config)
        if self._pipeline.settings.threshold != before:
            self._publish_label_info()

    def _publish_label_info(self) -> None:
        threshold = self._pipeline.settings.threshold
        contents = latched_contents(self._checkpoint, self._engine, threshold, self._config)
        self._publications.explain(contents)

    # --- input ---------------------------------------------------------------------------------

    def _on_listener(self, event: Any) -> None:
        """Subscribes at once for who comes; for who leaves the timer is early enough."""
        if event.current_count_change > 0 and self.input.subscription is None:
            self.input.review()

    def _receive(self, message: ImageInput) -> None:
        """Hands the newest image to the worker; the executor stays free."""
        self.statistics.arrived()
        if self._is_idle():
            self.statistics.dropped('idle')
        elif self._put(self, message):
            self.statistics.dropped('skipped')

    def _is_idle(self) -> bool:
        """Whether images are left alone: somebody asks for that, or nobody listens."""
        return self._paused or (
            self._config.idle_without_listeners
            and not self.calibrator.at_work
            and not self._publications.wanted()
        )

    # --- frames, in the worker's threads -------------------------------------------------------

    def prepare(self, message: ImageInput) -> Prepared | None:
        """Gives what the engine needs of an image; None where its stamp is too old.

        Raises:
            ValueError: The message is no image that can be read.
        """
        if self._is_left(message, self._config.max_age_s):
            return None
        began = time.perf_counter()
        frame = frame_of(message, self._bits)
        self._note_encoding(frame.encoding)
        self.statistics.size = frame.size
        self._note_ignored(frame.size)
        return self._pipeline.prepare(frame, began)

    def _note_ignored(self, size: tuple[int, int]) -> None:
        """Says what the ignore mask does to images of a size that is new."""
        sizes = self._ignored_sizes
        if self._ignore_mask is not None and size not in sizes and len(sizes) < MOST_SIZES:
            sizes.add(size)
            text, fits = self._ignore_mask.said(size)
            log = self._node.get_logger()
            (log.info if fits else log.warning)(f'{self._prefix}{text}')

    def _note_encoding(self, encoding: str) -> None:
        """Says each encoding once, with the significant bits that were found in 16-bit images."""
        self.statistics.encoding = encoding
        if encoding not in self._encodings:
            self._encodings.add(encoding)
            self._node.get_logger().info(f'{self._prefix}encoding {encoding}')

    def finish(self, message: ImageInput, prepared: Prepared, prediction: Prediction) -> None:
        """Makes and publishes what somebody listens to."""
        began = time.perf_counter()
        config = self._config
        result = self._pipeline.finish(prepared, prediction, stamp_s(message))
        result = result.at(config.output_resolution == 'input')
        size = prepared.frame.size
        published_ms = self._publications.publish(result, message.header, size, config)
        self._keep(result, prepared, message.header)
        # Last what no listener waits for.
        alarms, share = result.maps.anomalies.delays.size, result.anomalous_share
        judged, health = result.maps.judged, result.health
        ended = time.perf_counter()
        result.times_ms['publish'] = published_ms
        result.times_ms['postprocess'] = (ended - began) * 1e3 - published_ms
        result.times_ms['processing'] = (ended - prepared.began) * 1e3
        self.statistics.done(result.times_ms, share, alarms, judged, health)
        if self.calibrator.at_work:
            score = self._pipeline.counted(prediction.score)
            self.calibrator.take(prepared.network_input, score, prediction.frame)

    def _keep(self, result: Result, prepared: Prepared, header: Any) -> None:
        """Keeps the frame for a snapshot, with what it was made under."""
        stamp = (header.stamp.sec, header.stamp.nanosec)
        self._shot = Shot(
            result,
            prepared.frame,
            stamp,
            header.frame_id,
            self.name,
            self._config,
            self._pipeline.ignored,
            self._checkpoint,
        )

    def snapshot(self) -> Path:
        """Writes the last frame that was processed; gives the folder.

        Raises:
            ValueError: None was processed yet, or it cannot be written.
        """
        shot = self._shot
        if shot is None:
            raise ValueError('no image has been processed yet; listen to an output')
        folder = Path(self._config.snapshot_dir).expanduser()
        try:
            return write_snapshot(shot, self._engine, folder)
        except OSError as error:
            raise ValueError(
                f'cannot write below snapshot_dir {str(folder)!r}: {error.strerror or error}; '
                'make room there or set another one'
            ) from None

    def pause(self, paused: bool) -> None:
        """Leaves images alone from now on, or not any more."""
        self._paused = paused
        if paused:
            self.calibrator.cancel(NO_FRAMES)
        self.input.review()

    def calibrate(self, frames: int, answer: Any) -> None:
        """Takes the next frames as ordinary, and sets in the future `answer` what came of it."""
        if self._paused:
            answer.set_result((False, NO_FRAMES))
            return
        self.calibrator.begin(frames, answer)
        self.input.review()  # it wants images now, though nobody may listen

    def _adopt(self, work: LiveCalibration) -> str:
        """Fits the calibration to the frames that have come, and works with it from now on."""
        meta, score = self._checkpoint.meta, self._engine.score_name
        threshold = self._pipeline.settings.threshold
        fit = work.fit(threshold, meta.calibrations[score])
        own = CameraCalibration(
            fit.normal.calibration,
            default_threshold(meta, score),
            calibrated_on(fit.normal, self.input.topic, 'live'),
        )
        meta = meta.with_calibrations({score: own})
        judge, shift, text = self._pipeline.judge, None, said(fit, threshold)
        if judge is not None and fit.pooled is not None and meta.frame is not None:
            plain = FrameJudge(judge.method, judge.name, meta.frame.threshold)
            shift = fit_camera(plain, fit.pooled, plain.threshold, self.input.topic)
            meta = replace(meta, frame_cameras={'': shift})
            self._pipeline.judge = plain.of_camera(shift)
            text = f'{text}; {said_of_camera(judge, plain, fit.pooled)}'
        self._checkpoint = self._checkpoint.in_memory(meta)
        self._pipeline.recalibrate(own.calibration)
        self._publish_label_info()
        file = self._config.calibration_file
        if not file:
            return f'{text}; in force until cleanup: calibration_file is empty'
        try:
            keep(self._checkpoint, self._key, score, own, file, shift)
        except (OSError, ValueError) as error:
            why = explain(error, None) if isinstance(error, OSError) else str(error)
            raise ValueError(f'{text}; in force until cleanup, not kept: {why}') from None
        return f'{text}; kept in {file!r}'

    def fail(self, error: Exception) -> None:
        """Counts and reports a frame that was lost."""
        if isinstance(error, ValueError):
            self._drop('failed', f'image dropped: {error}')
        elif rclpy.ok(context=self._node.context):
            self._drop('failed', f'image dropped: {type(error).__name__}: {error}')
        else:  # publishing fails in many ways once the context is down; that is no error
            self.statistics.dropped('failed')

    def discard(self) -> None:
        """Counts an image that waited when the node was deactivated."""
        self.statistics.dropped('discarded')

    def _drop(self, why: str, problem: str) -> None:
        self.statistics.dropped(why, problem)
        log = self._node.get_logger()
        log.error(f'{self._prefix}{watchdog.cut(problem)}', throttle_duration_sec=THROTTLE_S)

    def _is_left(self, message: ImageInput, max_age_s: float) -> bool:
        """Whether an image is not to be processed because of its stamp; says what is wrong."""
        now_s = self._node.get_clock().now().nanoseconds * 1e-9
        found = self._stamps.look(stamp_s(message), now_s, max_age_s)
        self.statistics.aged(found.age_s)
        if found.back_s:
            self.statistics.stamps_back()
            self._node.get_logger().info(
                f'{self._prefix}stamps went back by {found.back_s:.1f} s: a bag began again, or '
                'the clock of the camera was set',
                throttle_duration_sec=THROTTLE_S,
            )
        if found.left:
            self._drop(found.left, found.problem)
        elif found.problem:
            self.statistics.strange(found.problem)
        return bool(found.left)

    # --- diagnostics ---------------------------------------------------------------------------

    def statuses(self) -> Iterator[watchdog.Status]:
        """Gives what is said of this camera; of its input only while the node is active."""
        frames, threshold = self.statistics, self._pipeline.settings.threshold
        found = [
            watchdog.inference_status(frames, self._work_state()),
            watchdog.anomaly_status(frames, threshold),
            watchdog.output_status(frames, threshold),
            watchdog.health_status(frames),
        ]
        if self.input.active:
            state = replace(self.input.state(), paused=self._paused)
            found.insert(0, input_watch.input_status(state, frames))
            self._note_silence(state, found[0].message)
        for status in found:
            yield replace(status, task=f'{self.name} {status.task}'.lstrip())

    def _note_silence(self, state: input_watch.InputState, why: str) -> None:
        """Logs once that images stay away, with the cause, and once that they come again.

        Seldom, of a camera that is slower than that.
        """
        if state.idle:
            return
        log, now = self._node.get_logger(), time.monotonic()
        if state.waiting_s > input_watch.INPUT_TIMEOUT_S:
            if not self._silent and now - self._silence_said > SELDOM_S:
                self._silent, self._silence_said = True, now
                log.warning(f'{self._prefix}{why}')
        elif self._silent and state.came:
            self._silent = False
            log.info(f'{self._prefix}images arrive again')

    def _work_state(self) -> watchdog.WorkState:
        return watchdog.WorkState(
            active=self.input.active,
            idle=self._is_idle(),
            waiting_s=min(self.input.since_s('processed'), self.input.since_s('idle')),
            paused=self._paused,
        )
