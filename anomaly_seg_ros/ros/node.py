"""The lifecycle node: camera images in; labels, anomaly score, mask and pictures out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import functools
import json
from pathlib import Path
import sys
import threading
import time
from typing import Any, NamedTuple

import cv2
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rcl_interfaces.msg import SetParametersResult
import rclpy
from rclpy.clock import Clock
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import String

from anomaly_seg_ros.checkpoint.folder import (
    CheckpointMeta,
    read_meta,
    resolve_checkpoint,
    weights_hash,
)
from anomaly_seg_ros.engines import open_engine
from anomaly_seg_ros.frames.image_message import to_frame
from anomaly_seg_ros.frames.pipeline import (
    build_pipeline,
    default_threshold,
    Pipeline,
    PipelineSettings,
    Result,
)
from anomaly_seg_ros.node import topics
from anomaly_seg_ros.node.config import NodeConfig
from anomaly_seg_ros.node.inbox import Mailbox
from anomaly_seg_ros.node.label_info import label_info
from anomaly_seg_ros.node.outputs import Output, OUTPUTS
from anomaly_seg_ros.node.statistics import FrameStatistics
from anomaly_seg_ros.prediction import Engine
from anomaly_seg_ros.process import picture_threads, tune_allocator
from anomaly_seg_ros.ros import diagnostics, parameters, qos
from anomaly_seg_ros.ros.compat import ClockType, NodeExecutor, SubscriptionEventCallbacks
from anomaly_seg_ros.ros.conversions import message_type, message_writer, Writer

WORKER_END_S = 10.0
"""How long a frame in work may take to end."""

THROTTLE_S = 5.0
"""Seconds between two log lines of the same kind."""

EngineOpener = Callable[..., Engine]


class Advertised(NamedTuple):
    """An output with its publisher and the message that is filled for each frame."""

    output: Output
    publisher: Any
    writer: Writer


Transition = Callable[['AnomalySegNode', LifecycleState], TransitionCallbackReturn]


def logged_transition(callback: Transition) -> Transition:
    """Logs what a transition raises: rclpy itself would swallow it without a word.

    What a user can mend (`ValueError`, `FileNotFoundError`, `ImportError`) is one error line and
    FAILURE; anything else is logged with its traceback and ERROR.
    """

    @functools.wraps(callback)
    def wrapper(node: AnomalySegNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return callback(node, state)
        except (ValueError, FileNotFoundError, ImportError) as error:
            node.get_logger().error(f'{callback.__name__}: {error}')
            return TransitionCallbackReturn.FAILURE
        except Exception:  # noqa: BLE001 - the boundary to rclpy, which would hide it
            import traceback

            node.get_logger().error(f'{callback.__name__} failed:\n{traceback.format_exc()}')
            return TransitionCallbackReturn.ERROR

    return wrapper


class AnomalySegNode(LifecycleNode):
    """One camera, one engine, one worker thread; the newest frame wins.

    Args:
        open_engine: Loads the engine on configure; tests hand in a fake.
        node_options: Passed to rclpy's node.

    Raises:
        ValueError: A parameter given at start-up does not fit.
    """

    def __init__(self, open_engine: EngineOpener = open_engine, **node_options: Any):
        super().__init__(topics.NODE_NAME, **node_options)
        parameters.declare(self)
        self.config = parameters.read(self)
        self._open_engine = open_engine
        self._engine: Engine | None = None
        self._pipeline: Pipeline | None = None
        self._meta: CheckpointMeta | None = None
        self._weights = ''
        self._configured = self.config
        self._outputs: dict[str, Advertised] = {}
        self._label_info: Any = None
        self._subscription: Any = None
        self._incompatible_qos = 0
        self._mailbox: Mailbox[Image] | None = None
        self._worker: threading.Thread | None = None
        self._active_since = time.monotonic()
        self.statistics = FrameStatistics()
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(
            DiagnosticArray, topics.DIAGNOSTICS, qos.output()
        )
        # A ROS-time timer would stand still under use_sim_time until /clock comes.
        self._second = self.create_timer(1.0, self._every_second, clock=self._steady)
        self._autostart = (
            self.create_timer(0.0, self._start_by_itself, clock=self._steady)
            if self.config.autostart
            else None
        )
        # After the declarations, because declaring calls it too.
        self.add_on_set_parameters_callback(self._set_parameters)

    # --- lifecycle ---------------------------------------------------------------------------

    def _start_by_itself(self) -> None:
        if self._autostart is None:
            return  # an executor may have had this timer's next call in its queue already
        self.destroy_timer(self._autostart)
        self._autostart = None
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    @logged_transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads and warms up the engine, makes the publishers, publishes the label info."""
        try:
            self._configure(self.config)
        except BaseException:
            self.release()
            raise
        return super().on_configure(state)

    def _configure(self, config: NodeConfig) -> None:
        checkpoint = resolve_checkpoint(config.checkpoint)
        self._configured = config
        self._meta = read_meta(checkpoint)
        self._weights = weights_hash(checkpoint)
        began = time.monotonic()
        engine = self._open_engine(
            checkpoint,
            config.engine,
            config.score or None,
            config.precision,
            Path(config.engine_path).expanduser() if config.engine_path else None,
        )
        self._engine = engine
        self.get_logger().info(engine.reason)
        if engine.score_name not in self._meta.calibrations:
            raise ValueError(
                f'score {engine.score_name!r} of checkpoint {config.checkpoint!r} has no '
                'calibration; run fit_score on it first'
            )
        self._pipeline = build_pipeline(engine, self._meta, self._settings(config))
        self._warm_up(engine)
        self.get_logger().info(
            f'engine {engine.name} in {engine.precision} ({engine.description}), score '
            f'{engine.score_name}, input {engine.input_size[0]}x{engine.input_size[1]}, ready '
            f'after {time.monotonic() - began:.1f} s'
        )
        self._make_outputs(config)
        # A plain publisher: what a lifecycle publisher gets while inactive never reaches late
        # joiners.
        self._label_info = self.create_publisher(String, topics.LABEL_INFO_JSON, qos.latched())
        self._publish_label_info()

    @logged_transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Starts the worker and subscribes to the camera."""
        self._mailbox = Mailbox()
        self._active_since = time.monotonic()
        self._worker = threading.Thread(target=self._work, args=(self._mailbox,), daemon=True)
        result = super().on_activate(state)
        self._worker.start()
        try:
            self._subscribe()
        except BaseException:
            self._stop_work()
            raise
        self.get_logger().info(f'reading {self.resolve_topic_name(topics.IMAGE)}')
        return result

    @logged_transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribes and lets the worker finish its frame."""
        self._stop_work()
        return super().on_deactivate(state)

    @logged_transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the engine and the publishers."""
        self.release()
        return TransitionCallbackReturn.SUCCESS

    @logged_transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops and frees everything, from any state."""
        self.release()
        return TransitionCallbackReturn.SUCCESS

    @logged_transition
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees everything, so that the node can be configured again."""
        self.release()
        return TransitionCallbackReturn.SUCCESS

    def release(self) -> None:
        """Stops the worker and frees engine and publishers; may be called again."""
        self._stop_work()
        for advertised in self._outputs.values():
            self.destroy_lifecycle_publisher(advertised.publisher)
        self._outputs.clear()
        if self._label_info is not None:
            self.destroy_publisher(self._label_info)
            self._label_info = None
        engine, self._engine, self._pipeline = self._engine, None, None
        if engine is not None:
            engine.close()

    def _stop_work(self) -> None:
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
            self._subscription = None
        if self._mailbox is not None:
            self._mailbox.close()
            self._mailbox = None
        if self._worker is not None:
            self._worker.join(WORKER_END_S)
            if self._worker.is_alive():
                raise RuntimeError(
                    f'a frame has not ended after {WORKER_END_S:.0f} s; engine and topics stay as '
                    'they are, because it may still use them'
                )
            self._worker = None

    def _warm_up(self, engine: Engine) -> None:
        for _ in range(2):
            engine.infer(np.zeros((*engine.input_size, 3), np.uint8))

    # --- topics --------------------------------------------------------------------------------

    def _make_outputs(self, config: NodeConfig) -> None:
        for topic, output in OUTPUTS.items():
            publisher = self.create_lifecycle_publisher(
                message_type(output.kind),
                topic,
                qos.output(),
                qos_overriding_options=qos.output_overrides(),
            )
            writer = message_writer(output.kind, output.encoding(config))
            self._outputs[topic] = Advertised(output, publisher, writer)

    def _publish_label_info(self) -> None:
        assert self._meta is not None
        assert self._engine is not None
        threshold = self._settings(self.config).threshold
        info = label_info(self._meta, self._engine, self._weights, threshold, self._configured)
        self._label_info.publish(String(data=json.dumps(info)))

    def _subscribe(self) -> None:
        topic = self.resolve_topic_name(topics.IMAGE)
        reliability = qos.choose_reliability(self, topic, self.config.input_reliability)
        self._subscription = self.create_subscription(
            Image,
            topics.IMAGE,
            self._receive,
            qos.image_input(reliability),
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible_qos),
            qos_overriding_options=qos.image_input_overrides(),
        )
        self._incompatible_qos = 0

    def _review_reliability(self) -> None:
        """Subscribes anew when the camera that is there now wants another reliability."""
        topic = self.resolve_topic_name(topics.IMAGE)
        wanted = qos.choose_reliability(self, topic, self.config.input_reliability)
        present = self._subscription.qos_profile.reliability
        if wanted == present or not self.count_publishers(topic):
            return
        self.destroy_subscription(self._subscription)
        self._subscribe()

    def _on_incompatible_qos(self, event: Any) -> None:
        self._incompatible_qos = event.total_count
        self.get_logger().warning(
            f'a publisher of {self.resolve_topic_name(topics.IMAGE)} offers incompatible QoS; set '
            'input_reliability to best_effort or auto',
            throttle_duration_sec=THROTTLE_S,
        )

    # --- frames --------------------------------------------------------------------------------

    def _receive(self, message: Image) -> None:
        """Stores the newest image for the worker; the executor stays free."""
        self.statistics.arrived()
        if self._mailbox is not None and self._mailbox.put(message):
            self.statistics.dropped('skipped')

    def _work(self, mailbox: Mailbox[Image]) -> None:
        """Takes the newest image, again and again, until the mailbox is closed."""
        while (message := mailbox.take()) is not None:
            self._try(message)

    def _try(self, message: Image) -> None:
        try:
            self._process(message)
        except ValueError as error:
            self._drop('failed', f'image dropped: {error}')
        except Exception as error:  # noqa: BLE001 - one frame must not end the thread
            # Publishing fails in many ways once the context is down; that is no error.
            if rclpy.ok(context=self.context):
                self._drop('failed', f'image dropped: {type(error).__name__}: {error}')

    def _drop(self, why: str, problem: str) -> None:
        self.statistics.dropped(why, problem)
        self.get_logger().error(problem, throttle_duration_sec=THROTTLE_S)

    def _process(self, message: Image) -> None:
        config, pipeline = self.config, self._pipeline
        if pipeline is None or self._is_too_old(message, config.max_age_s):
            return
        began = time.perf_counter()
        frame = to_frame(message)
        self.statistics.encoding = message.encoding
        self.statistics.size = (message.height, message.width)
        viewed = time.perf_counter()
        result = pipeline(frame)
        inferred = time.perf_counter()
        times_ms = self._publish(result, message, config)
        times_ms['preprocess'] = (viewed - began) * 1e3 + result.times_ms['preprocess']
        times_ms['inference'] = result.times_ms['inference']
        times_ms['postprocess'] += (inferred - viewed) * 1e3 - sum(result.times_ms.values())
        times_ms['processing'] = (time.perf_counter() - began) * 1e3
        self.statistics.done(times_ms)

    def _publish(self, result: Result, message: Image, config: NodeConfig) -> dict[str, float]:
        """Makes and publishes what somebody listens to; gives the times it took."""
        times_ms = {'postprocess': 0.0, 'publish': 0.0}
        result = result.at(config.output_resolution == 'input')
        for output, publisher, writer in self._outputs.values():
            if publisher.get_subscription_count() == 0:
                continue
            began = time.perf_counter()
            filled = writer.fill(output.content(result, self._configured), message.header)
            made = time.perf_counter()
            publisher.publish(filled)
            times_ms['postprocess'] += (made - began) * 1e3
            times_ms['publish'] += (time.perf_counter() - made) * 1e3
        self.statistics.anomalous_share = result.anomalous_share
        return times_ms

    def _is_too_old(self, message: Image, max_age_s: float) -> bool:
        if max_age_s <= 0:
            return False
        age = self.get_clock().now() - Time.from_msg(
            message.header.stamp, self.get_clock().clock_type
        )
        age_s = age.nanoseconds * 1e-9
        if age_s <= max_age_s:
            return False
        self._drop(
            'too_old',
            f'image dropped: its stamp is {age_s:.1f} s old, max_age_s is {max_age_s}; does the '
            'camera share the clock of this node?',
        )
        return True

    # --- parameters and diagnostics ------------------------------------------------------------

    def _settings(self, config: NodeConfig) -> PipelineSettings:
        threshold = config.threshold
        if threshold < 0 and self._meta is not None and self._engine is not None:
            threshold = default_threshold(self._meta, self._engine.score_name)
        return PipelineSettings(threshold, config.min_region_area, config.overlay_alpha)

    def _set_parameters(self, changes: Sequence[Parameter[Any]]) -> SetParametersResult:
        why, config = parameters.refusal(self.config, changes, self._mailbox is not None)
        if why:
            return SetParametersResult(successful=False, reason=why)
        # One reference each is replaced, so the worker never sees half a change.
        changed = config.threshold != self.config.threshold
        self.config = config
        if self._pipeline is not None:
            self._pipeline.settings = self._settings(config)
            if changed:
                self._publish_label_info()
        return SetParametersResult(successful=True)

    def _every_second(self) -> None:
        if self._subscription is not None:
            self._review_reliability()
        self._diagnostics.publish(
            diagnostics.array(self.get_clock().now().to_msg(), self._statuses())
        )

    def _statuses(self) -> list[Any]:
        name = self.get_fully_qualified_name().lstrip('/')
        frames = self.statistics
        threshold = self._settings(self.config).threshold if self._engine is not None else None
        statuses = [
            diagnostics.engine_status(name, self._engine, self._configured.checkpoint),
            diagnostics.inference_status(name, frames),
            diagnostics.anomaly_status(name, frames, threshold),
        ]
        if self._subscription is not None:
            statuses.insert(0, diagnostics.input_status(name, self._input_state(), frames))
        return statuses

    def _input_state(self) -> diagnostics.InputState:
        topic = self.resolve_topic_name(topics.IMAGE)
        since_active = time.monotonic() - self._active_since
        silence = self.statistics.silence_s()
        return diagnostics.InputState(
            topic=topic,
            reliability=self._subscription.qos_profile.reliability.name.lower(),
            publishers=self.count_publishers(topic),
            incompatible=self._incompatible_qos,
            waiting_s=since_active if silence is None else min(silence, since_active),
        )


def spin(node: AnomalySegNode) -> None:
    """Runs the node until ROS is shut down, then frees what it holds.

    In bounded slices: `executor.spin()` can miss an interrupt, because rclpy wakes the executor
    before it marks the context as shut down.
    """
    executor = NodeExecutor()
    executor.add_node(node)
    try:
        while rclpy.ok():
            executor.spin_once(timeout_sec=0.25)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        # Calls fail in many ways once the context is down; only before that it is an error.
        if rclpy.ok():
            raise
    finally:
        node.release()


def main(args: Sequence[str] | None = None) -> int:
    """The executable `anomaly_seg_node`."""
    cv2.setNumThreads(picture_threads())
    # Before DDS makes its threads, so before the parameter can be read where a file sets it.
    wanted = 'tune_allocator:=false' not in (sys.argv if args is None else args)
    tuned = wanted and tune_allocator()
    rclpy.init(args=list(args) if args is not None else None)
    try:
        node = AnomalySegNode()
        if tuned and not node.config.tune_allocator:
            tune_allocator(tuned=False)
    except ValueError as error:
        sys.stderr.write(f'anomaly_seg_node: {error}\n')
        rclpy.try_shutdown()
        return 2
    try:
        spin(node)
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
