"""The lifecycle node: parameters, engine, worker and cameras, through all its transitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
import rclpy
from rclpy.clock import Clock
from rclpy.exceptions import ParameterNotDeclaredException
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.engines import open_engine
from anomaly_seg_ros.node import topics, watchdog
from anomaly_seg_ros.node.build_watch import BuildWatch
from anomaly_seg_ros.node.calibration_file import check_calibrated
from anomaly_seg_ros.node.config import NodeConfig
from anomaly_seg_ros.node.node_pipeline import warm_up
from anomaly_seg_ros.node.worker import Worker
from anomaly_seg_ros.prediction import Engine
from anomaly_seg_ros.process.gpu import gpu_facts
from anomaly_seg_ros.process.stop_signals import raised_signals, stop_is_asked
from anomaly_seg_ros.ros import calibrator, diagnostics, parameters, qos

from .autostart import Autostart
from .bond import Bond
from .camera import Camera
from .camera_input import ImageInput
from .compat import ClockType, make_executor
from .log_bridge import logging_through
from .services import Services
from .transitions import logged_transition

EngineOpener = Callable[..., Engine]


class AnomalySegNode(LifecycleNode):
    """Cameras that share one engine and one worker; the newest frame of each wins.

    Args:
        open_engine: Loads the engine on configure; tests hand in a fake.
        node_options: Passed to rclpy's node.

    Raises:
        ValueError: A parameter given at start-up does not fit.
    """

    def __init__(
        self,
        open_engine: EngineOpener = open_engine,
        **node_options: Any,
    ):
        super().__init__(topics.NODE_NAME, **node_options)
        parameters.declare(self)
        self.config = self._configured = parameters.read(self)
        self.cameras: list[Camera] = []
        self._names = self.config.cameras
        self._open_engine = open_engine
        self._engine: Engine | None = None
        self._worker: Worker[ImageInput] | None = None
        self.problem = ''
        self._build = BuildWatch(self._publish_diagnostics, self._say, self._is_wanted)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(
            DiagnosticArray, topics.DIAGNOSTICS, qos.output()
        )
        # A ROS-time timer would stand still under use_sim_time until /clock comes.
        self._second = self.create_timer(1.0, self._every_second, clock=self._steady)
        calibrator.serve(self, self._names, self._calibrate)
        self._switches = Services(self, self._names, lambda: self.cameras)
        # Only who is led by a manager needs to tell it that it lives.
        self._bond = None if self.config.autostart else Bond(self, self._steady)
        self._autostart = (
            Autostart(self, self._steady, tries_again=not self.config.exit_on_failure)
            if self.config.autostart
            else None
        )
        # After the declarations, because declaring calls it too.
        self.add_on_set_parameters_callback(self._set_parameters)

    # --- lifecycle ---------------------------------------------------------------------------

    @logged_transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads and warms up the engine, makes the publishers, publishes the label info."""
        self.problem = ''
        try:
            self._configure(self.config)
        except BaseException:
            self.release()
            raise
        return super().on_configure(state)

    def _configure(self, config: NodeConfig) -> None:
        self._configured = config
        checkpoint = Checkpoint.open(config.checkpoint)
        keys = [topics.camera_key(name, self.get_namespace()) for name in self._names]
        score = config.score or checkpoint.meta.score
        check_calibrated(checkpoint, keys, score, config.calibration_file)
        began = time.monotonic()
        with self._build.watched() as on_build, raised_signals():
            engine = self._engine = self._open_engine(
                checkpoint,
                config.engine,
                config.score or None,
                config.precision,
                Path(config.engine_path).expanduser() if config.engine_path else None,
                on_build,
            )
        # Made anew, their statistics too: times of another engine would be none of this one's.
        self.cameras = [Camera(self, name, engine, checkpoint, config) for name in self._names]
        for camera in self.cameras:
            camera.pause(camera.name in self._switches.paused)
        with raised_signals():
            warm_up(engine, len(self.cameras))
        self.get_logger().info(
            f'engine {engine.name} in {engine.precision} ({engine.description}), score '
            f'{engine.score_name}, input {engine.input_size[0]}x{engine.input_size[1]}, ready '
            f'after {time.monotonic() - began:.1f} s'
        )
        for camera in self.cameras:
            camera.advertise()

    @logged_transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribes to the cameras and starts the worker."""
        assert self._engine is not None
        self.problem = ''
        self._worker = Worker(self._engine, len(self.cameras))
        try:
            for camera in self.cameras:
                camera.subscribe(self._worker.put)
            result = super().on_activate(state)
            self._worker.start()
        except BaseException:
            self._stop_work()
            super().on_deactivate(state)
            raise
        if self._bond is not None:
            self._bond.start()
        known = [name for camera in self.cameras for name in camera.input.names]
        for name in parameters.unused_overrides(self, known):
            self.get_logger().warning(f'parameter {name} is of no topic of this node')
        read = ', '.join(camera.input.topic for camera in self.cameras)
        self.get_logger().info(f'reading {read}')
        return result

    @logged_transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribes and lets the worker finish its frames."""
        self._stop_work()
        self.get_logger().info('deactivated: no camera is read')
        return super().on_deactivate(state)

    @logged_transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the engine and the publishers."""
        self.release()
        self.get_logger().info('cleaned up: the engine is freed')
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
        for camera in self.cameras:
            camera.close()
        self.cameras = []
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def _stop_work(self) -> None:
        if self._bond is not None:
            self._bond.stop()
        for camera in self.cameras:
            camera.calibrator.cancel('the node is not active any more')
            camera.unsubscribe()
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def gave_up(self) -> bool:
        """Whether it could not start and is not to try again."""
        return self._autostart is not None and self._autostart.gave_up

    # --- parameters and diagnostics ------------------------------------------------------------

    def set_parameters_atomically(
        self, parameter_list: list[Parameter[Any]]
    ) -> SetParametersResult:
        """Sets them as every node does, and says of an unknown name which one may be meant.

        What does not fit is said here first: rclpy says of a wrong type neither the name of the
        parameter nor a way out.
        """
        why, _ = parameters.refusal(self.config, parameter_list, self._worker is not None)
        if why:
            return SetParametersResult(successful=False, reason=why)
        try:
            return super().set_parameters_atomically(parameter_list)
        except ParameterNotDeclaredException:
            why = parameters.unknown(self, (change.name for change in parameter_list))
            return SetParametersResult(successful=False, reason=why)

    def _set_parameters(self, changes: Sequence[Parameter[Any]]) -> SetParametersResult:
        why, config = parameters.refusal(self.config, changes, self._worker is not None)
        if why:
            return SetParametersResult(successful=False, reason=why)
        self.config = config
        for camera in self.cameras:
            camera.change(config.in_force(self._configured))
        return SetParametersResult(successful=True)

    def _calibrate(self, name: str, answer: Any) -> None:
        if self._worker is None:
            answer.set_result((False, 'the node is not active, so no frame comes'))
            return
        (camera,) = (camera for camera in self.cameras if camera.name == name)
        camera.calibrate(self.config.calibration_frames, answer)

    def _every_second(self) -> None:
        for camera in self.cameras:
            camera.calibrator.review()
            camera.input.review()
        self._publish_diagnostics()

    def _is_wanted(self) -> bool:
        return bool(self.context.ok()) and not stop_is_asked()

    def _say(self, text: str) -> None:
        self.get_logger().info(text)

    def _publish_diagnostics(self) -> None:
        statuses = [status for camera in self.cameras for status in camera.statuses()]
        start = watchdog.StartState(
            self.problem,
            None if self._autostart is None else self._autostart.next_try_s(),
            self._build.text,
            self._build.seconds,
        )
        checkpoint = self._configured.checkpoint
        statuses.append(watchdog.engine_status(self._engine, checkpoint, start))
        statuses.append(watchdog.gpu_status(gpu_facts()))
        name = self.get_fully_qualified_name().lstrip('/')
        device = '' if self._engine is None else self._engine.device
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(diagnostics.array(name, device, stamp, statuses))


def spin(node: AnomalySegNode) -> None:
    """Runs the node until a signal comes or ROS is shut down, then frees what it holds.

    In bounded slices: a signal does not wake the executor.

    Raises:
        ValueError: This version of rclpy has no such executor.
    """
    executor = make_executor(node.config.executor)
    executor.add_node(node)
    try:
        with logging_through(node.get_logger()):
            while rclpy.ok() and not node.gave_up() and not stop_is_asked():
                executor.spin_once(timeout_sec=0.25)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        # Calls fail in many ways once the context is down; only before that it is an error.
        if rclpy.ok():
            raise
    finally:
        node.release()
