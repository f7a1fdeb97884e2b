"""The node over real DDS in one process, with an engine whose answers are known by heart."""

from __future__ import annotations

from array import array
import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
import json
import logging
from pathlib import Path
import re
import sys
import threading
import time
import types
from typing import Any
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Log
from rcl_interfaces.srv import SetParameters
import rclpy
from rclpy.event_handler import QoSSubscriptionEventType
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from anomaly_seg_ros.bags.reader import TYPESTORE
from anomaly_seg_ros.checkpoint.calibrated import CalibratedOn, CameraCalibration
from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.engines.building import BuildNotice, TIMES_FILE
from anomaly_seg_ros.frames.images import encode_image, read_image, read_pixels, write_image
from anomaly_seg_ros.frames.maps import PipelineSettings
from anomaly_seg_ros.frames.pipeline import build_pipeline
from anomaly_seg_ros.node import build_watch, input_watch, topics, watchdog
from anomaly_seg_ros.node.config import DYNAMIC, parameters, READ_ONLY
from anomaly_seg_ros.node.statistics import UNPROCESSED
from anomaly_seg_ros.node.watchdog import INACTIVE
from anomaly_seg_ros.ros import autostart
from anomaly_seg_ros.ros.camera import THROTTLE_S
from anomaly_seg_ros.ros.camera_info import misfit, rescaled
from anomaly_seg_ros.ros.camera_input import REMEMBERED
from anomaly_seg_ros.ros.compat import SubscriptionEventCallbacks, UnsupportedEventTypeError
from anomaly_seg_ros.ros.conversions import ImageWriter
from anomaly_seg_ros.ros.log_bridge import logging_through
from anomaly_seg_ros.ros.node import AnomalySegNode

pytestmark = [pytest.mark.ros, pytest.mark.timeout(180)]

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE
ERROR = TransitionCallbackReturn.ERROR
MASKS = (topics.SEMANTIC_MASK, topics.ANOMALY_MASK, topics.ANOMALY_SCORE)
PICTURES = (topics.SEMANTIC_COLOR, topics.OVERLAY)
OUTPUTS = (*MASKS, *PICTURES)


def picture(mark: int = 0, height: int = 24, width: int = 32) -> NDArray[np.uint8]:
    """Road (3), cars (8) below; anomalous to the right; blue tells pictures apart."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = 3
    image[height // 2 :, :, 0] = 8
    image[:, width // 2 :, 1] = 255
    image[..., 2] = mark
    return image


def pixels(message: Any) -> NDArray[Any]:
    """What a consumer reads out of an output."""
    kind, channels = {
        'mono8': (np.uint8, 1),
        '32FC1': (np.float32, 1),
        'bgr8': (np.uint8, 3),
    }[message.encoding]
    assert message.step == message.width * channels * np.dtype(kind).itemsize
    array = np.frombuffer(message.data, kind)
    return array.reshape((message.height, message.width, channels)).squeeze(
        2 if channels == 1 else ()
    )


def state(node: AnomalySegNode) -> str:
    label: str = node._state_machine.current_state[1]
    return label


class Refusal:
    """Raises when called, and counts that."""

    def __init__(self, fault: Exception) -> None:
        self.fault, self.calls = fault, 0

    def __call__(self, *_: Any, **__: Any) -> None:
        self.calls += 1
        raise self.fault


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if '[ERROR]' in line or '[FATAL]' in line]


def set_parameter(node: AnomalySegNode, **values: Any) -> Any:
    """Gives the result of setting one parameter."""
    ((name, value),) = values.items()
    return node.set_parameters([Parameter(name, value=value)])[0]


def next_status(rig: Any, task: str, until: Callable[[Any], object] = lambda _: True) -> Any:
    """Waits for a diagnostic of a task, and for what it must say."""
    if '/diagnostics' not in rig.heard:
        rig.listen(topics.DIAGNOSTICS, kind=DiagnosticArray)
    heard = rig.heard[topics.DIAGNOSTICS]
    heard.clear()
    full_name = f'{rig.namespace.lstrip("/")}/anomaly_seg: {task}'
    found: list[Any] = []

    def look() -> bool:
        for statuses in heard:
            found.extend(s for s in statuses.status if s.name == full_name and until(s))
        heard.clear()
        return bool(found)

    rig.spin_until(look, f'a diagnostic of {task}')
    return found[-1]


@contextmanager
def other_process(namespace: str) -> Iterator[Any]:
    """A node that ROS takes for one of another process: there a topic may have another type."""
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node('other', namespace=namespace, context=context)
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def values(status: Any) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


# --- lifecycle -----------------------------------------------------------------------------------


def test_starts_by_itself(rig: Any) -> None:
    node = rig.start(autostart=True)
    assert state(node) == 'unconfigured'
    rig.spin_until(lambda: state(node) == 'active')
    assert len(rig.opened) == 1


def test_waits_for_an_outside_manager(rig: Any) -> None:
    node = rig.start(autostart=False)
    next_status(rig, 'engine', lambda s: s.message == 'not configured')
    assert state(node) == 'unconfigured'
    assert rig.opened == []


def test_an_outside_manager_drives_it_by_services(rig: Any) -> None:
    node = rig.start()
    name = node.get_fully_qualified_name()
    change = rig.user.create_client(ChangeState, f'{name}/change_state')
    get = rig.user.create_client(GetState, f'{name}/get_state')
    rig.spin_until(change.service_is_ready)
    rig.spin_until(get.service_is_ready)

    def call(client: Any, request: Any) -> Any:
        future = client.call_async(request)
        rig.spin_until(future.done, 'an answer')
        return future.result()

    for transition, label in (
        (Transition.TRANSITION_CONFIGURE, 'inactive'),
        (Transition.TRANSITION_ACTIVATE, 'active'),
        (Transition.TRANSITION_DEACTIVATE, 'inactive'),
        (Transition.TRANSITION_CLEANUP, 'unconfigured'),
        (Transition.TRANSITION_UNCONFIGURED_SHUTDOWN, 'finalized'),
    ):
        request = ChangeState.Request()
        request.transition.id = transition
        assert call(change, request).success
        assert call(get, GetState.Request()).current_state.label == label


def test_a_managed_node_says_that_it_lives(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `bond_core` has it; PyPI has no `bond`, so its message is a plain one here."""
    sent: list[Any] = []
    status = types.SimpleNamespace

    def message(**fields: Any) -> Any:
        return status(header=status(stamp=None), **fields)

    monkeypatch.setitem(sys.modules, 'bond', types.ModuleType('bond'))
    monkeypatch.setitem(sys.modules, 'bond.msg', status(Status=message))
    node = rig.start()
    create = node.create_publisher

    def create_publisher(kind: Any, topic: str, *args: Any, **more: Any) -> Any:
        if topic != 'bond':
            return create(kind, topic, *args, **more)
        assert kind is message
        return status(publish=sent.append, handle=None)

    monkeypatch.setattr(node, 'create_publisher', create_publisher)
    monkeypatch.setattr(node, 'destroy_publisher', lambda publisher: True)
    assert node.trigger_configure() == SUCCESS
    assert sent == []
    assert node.trigger_activate() == SUCCESS
    rig.spin_until(lambda: len(sent) >= 3, 'three beats')
    assert {(beat.id, beat.active) for beat in sent} == {('anomaly_seg', True)}
    assert len({beat.instance_id for beat in sent}) == 1
    assert sent[0].heartbeat_timeout == 4.0
    assert node.trigger_deactivate() == SUCCESS
    assert (sent[-1].active, len([beat for beat in sent if not beat.active])) == (False, 1)
    beats = len(sent)
    began = time.monotonic()
    rig.spin_until(lambda: time.monotonic() - began > 0.3)
    assert len(sent) == beats


def test_subscribes_only_while_active_and_keeps_the_engine(rig: Any) -> None:
    node = rig.start()
    image = rig.name(topics.IMAGE)
    assert node.trigger_configure() == SUCCESS
    assert len(rig.engine.seen) >= 1, 'warmed up'
    assert node.count_subscribers(image) == 0
    assert node.trigger_activate() == SUCCESS
    rig.spin_until(lambda: rig.user.count_subscribers(image) == 1)
    assert node.trigger_deactivate() == SUCCESS
    rig.spin_until(lambda: rig.user.count_subscribers(image) == 0)
    assert rig.engine.closed == 0
    assert node.trigger_cleanup() == SUCCESS
    assert rig.engine.closed == 1
    assert len(rig.opened) == 1


def test_works_again_after_deactivate_and_after_cleanup(
    rig: Any, image_message: Callable[..., Any]
) -> None:
    node = rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    for turn in range(3):
        (mask,) = rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
        assert pixels(mask)[0, 0] == 3
        assert node.trigger_deactivate() == SUCCESS
        if turn:
            assert node.trigger_cleanup() == SUCCESS
            assert node.trigger_configure() == SUCCESS
        assert node.trigger_activate() == SUCCESS
        rig.spin_until(
            lambda: (
                rig.publisher.get_subscription_count()
                and node.cameras[0]
                .outputs[topics.SEMANTIC_MASK]
                .publisher.get_subscription_count()
            ),
            'everyone to match again',
        )
    assert len(rig.opened) == 3
    assert rig.engine.closed == 2


@pytest.mark.parametrize('steps', [0, 1, 2, 3])
def test_shuts_down_from_every_state(steps: int, rig: Any) -> None:
    node = rig.start()
    transitions = (node.trigger_configure, node.trigger_activate, node.trigger_deactivate)
    for transition in transitions[:steps]:
        assert transition() == SUCCESS
    assert node.trigger_shutdown() == SUCCESS
    assert state(node) == 'finalized'
    assert rig.engine.closed == (1 if steps else 0)
    assert node._worker is None
    node.release()
    assert rig.engine.closed == (1 if steps else 0), 'closed twice'


def test_a_transition_that_the_state_forbids_changes_nothing(rig: Any) -> None:
    node = rig.start()

    def attempt(trigger: Callable[[], Any]) -> Any:
        try:
            return trigger()
        except Exception as error:  # noqa: BLE001 - Jazzy raises, Kilted gives ERROR
            return type(error).__name__

    assert attempt(node.trigger_activate) in (ERROR, 'RCLError')
    assert state(node) == 'unconfigured'
    assert node.trigger_configure() == SUCCESS
    assert attempt(node.trigger_configure) in (ERROR, 'RCLError')
    assert state(node) == 'inactive'
    assert len(rig.opened) == 1


def test_a_missing_checkpoint_is_one_line_and_can_be_mended(rig: Any, capfd: Any) -> None:
    node = rig.start(checkpoint='/no/such/folder')
    assert node.trigger_configure() == FAILURE
    assert state(node) == 'unconfigured'
    lines = errors(capfd.readouterr().err)
    assert len(lines) == 1
    assert "no checkpoint folder '/no/such/folder'" in lines[0]
    assert 'import_weights' in lines[0]
    assert set_parameter(node, checkpoint=str(rig.checkpoint)).successful
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS


def test_a_missing_checkpoint_does_not_end_a_node_that_starts_by_itself(
    rig: Any, capfd: Any
) -> None:
    node = rig.start(autostart=True, checkpoint='/no/such/folder')
    status = next_status(rig, 'engine')
    assert status.level == DiagnosticStatus.ERROR
    assert status.message.startswith("not configured: no checkpoint folder '/no/such/folder'")
    assert re.search(r'; next try in [012] s$', status.message)
    assert state(node) == 'unconfigured'
    assert not node.gave_up()
    assert len(errors(capfd.readouterr().err)) == 1


def test_autostart_tries_again_after_pauses_that_grow(
    rig: Any, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autostart, 'FIRST_PAUSE_S', 0.05)
    monkeypatch.setattr(autostart, 'LONGEST_PAUSE_S', 0.1)
    rig.open_fault = RuntimeError('the device is gone')
    node = rig.start(autostart=True)
    began = time.monotonic()
    rig.spin_until(lambda: len(rig.opened) == 4, 'four tries')
    assert time.monotonic() - began >= 0.05 + 0.1 + 0.1
    status = next_status(rig, 'engine')
    assert status.message.startswith('not configured: RuntimeError: the device is gone; next try')
    rig.open_fault = None
    rig.spin_until(lambda: state(node) == 'active', 'the node to start after all')
    assert next_status(rig, 'engine').level == DiagnosticStatus.OK
    assert 'it could not start by itself; next try in 0 s' in capfd.readouterr().err
    tries = len(rig.opened)
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_cleanup() == SUCCESS
    began = time.monotonic()
    rig.spin_until(lambda: time.monotonic() - began > 0.3)
    assert len(rig.opened) == tries, 'once it runs, it is left to others'


def test_autostart_tries_a_failed_activate_again(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autostart, 'FIRST_PAUSE_S', 0.05)
    node = rig.start(autostart=True)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, 'start', refuse := Refusal(ValueError('no thread')))
        rig.spin_until(lambda: refuse.calls, 'the first try')
        assert state(node) == 'inactive'
        assert next_status(rig, 'engine').message.startswith('not active: no thread')
    rig.spin_until(lambda: state(node) == 'active', 'the second try')
    assert len(rig.opened) == 1


def test_autostart_leaves_a_node_that_somebody_else_drives(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autostart, 'FIRST_PAUSE_S', 0.5)
    node = rig.start(autostart=True, checkpoint='/no/such/folder')
    rig.spin_until(lambda: node.problem, 'the first try')
    assert set_parameter(node, checkpoint=str(rig.checkpoint)).successful
    assert node.trigger_configure() == SUCCESS
    began = time.monotonic()
    rig.spin_until(lambda: time.monotonic() - began > 0.8)
    assert state(node) == 'inactive'


def test_exit_on_failure_gives_up_at_the_first_try(rig: Any, capfd: Any) -> None:
    node = rig.start(autostart=True, exit_on_failure=True, checkpoint='/no/such/folder')
    rig.spin_until(node.gave_up, 'the first try')
    assert 'it ends, because exit_on_failure is set' in capfd.readouterr().err


@pytest.mark.parametrize(
    'fault', [ValueError('no such precision'), ImportError('pip install openvino')]
)
def test_what_a_user_can_mend_is_one_line(fault: Exception, rig: Any, capfd: Any) -> None:
    rig.open_fault = fault
    node = rig.start()
    assert node.trigger_configure() == FAILURE
    err = capfd.readouterr().err
    assert len(errors(err)) == 1
    assert str(fault) in errors(err)[0]
    assert 'Traceback' not in err
    rig.open_fault = None
    assert node.trigger_configure() == SUCCESS


def test_an_engine_that_is_being_built_is_said_before(
    rig: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(build_watch, 'BEAT_S', 0.05)
    monkeypatch.setattr(build_watch, 'BEATS_OF_A_LINE', 1)
    rig.notice = BuildNotice(rig.checkpoint, 'fake', 'engine is being built; that takes 12 s')
    node = rig.start()
    rig.listen(topics.DIAGNOSTICS, kind=DiagnosticArray)
    rig.spin_until(lambda: rig.user.count_publishers(topics.DIAGNOSTICS))
    rig.heard[topics.DIAGNOSTICS].clear()
    said: list[str] = []
    node._build._say = said.append
    rig.while_building = lambda: rig.spin_until(lambda: len(said) >= 2, 'two beats')
    assert node.trigger_configure() == SUCCESS
    (engine,) = {
        status.message[:-12]
        for array in rig.heard[topics.DIAGNOSTICS]
        for status in array.status
        if status.name.endswith('anomaly_seg: engine')
    }
    assert engine == 'engine is being built; that takes 12 s'
    assert said[0] == 'engine is being built; that takes 12 s; 0 s so far'
    status = next_status(rig, 'engine', lambda s: s.message == 'fake in fp32')
    assert float(values(status)['build_s']) >= 0.1
    times = json.loads((rig.checkpoint / 'engines' / TIMES_FILE).read_text())
    assert times == {'fake': pytest.approx(float(values(status)['build_s']), abs=0.1)}


def test_nothing_is_built_for_a_node_that_a_signal_has_ended(rig: Any) -> None:
    rig.notice = BuildNotice(rig.checkpoint, 'fake', 'engine is being built')
    node = rig.start()
    node._build._is_wanted = lambda: False  # a library swallowed the signal at its import
    assert node.trigger_configure() == ERROR
    assert node.problem == ''
    assert not (rig.checkpoint / 'engines' / TIMES_FILE).exists()


def test_any_other_fault_is_logged_with_its_traceback(rig: Any, capfd: Any) -> None:
    rig.open_fault = RuntimeError('the device is gone')
    node = rig.start()
    assert node.trigger_configure() == ERROR
    assert state(node) == 'unconfigured'
    err = capfd.readouterr().err
    assert 'Traceback' in err
    assert 'RuntimeError: the device is gone' in err
    assert 'open_engine' in err
    rig.open_fault = None
    assert node.trigger_configure() == SUCCESS


def test_a_failed_configure_keeps_nothing(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError('the engine cannot run')

    monkeypatch.setattr('anomaly_seg_ros.ros.node.warm_up', fail)
    node = rig.start()
    assert node.trigger_configure() == FAILURE
    assert rig.engine.closed == 1
    assert node._engine is None
    assert node.cameras == []
    node.trigger_configure()
    assert rig.engine.closed == 2


def test_an_uncalibrated_score_names_the_way_out(rig: Any, capfd: Any) -> None:
    Checkpoint.open(rig.checkpoint).with_meta(calibrations={})
    assert rig.start().trigger_configure() == FAILURE
    (line,) = errors(capfd.readouterr().err)
    assert "score 'max_logit'" in line
    assert 'run fit_score' in line
    assert rig.engine.closed == 0, 'none is opened, which may take long'


@pytest.mark.parametrize(
    ('known', 'outcome'), [(('front', 'left'), SUCCESS), (('front',), FAILURE)]
)
def test_cameras_may_have_the_only_calibrations(
    rig: Any, known: tuple[str, ...], outcome: Any
) -> None:
    checkpoint = Checkpoint.open(rig.checkpoint)
    score = checkpoint.meta.score
    own = CameraCalibration(
        checkpoint.meta.calibrations[score], 0.9, CalibratedOn('a', 'b', 1, 'c')
    )
    checkpoint.with_meta(calibrations={}, cameras={name: {score: own} for name in known})
    assert rig.start(cameras=['front', 'left']).trigger_configure() == outcome
    assert rig.engine.closed == 0


def test_an_unknown_score_lists_the_known(rig: Any, capfd: Any) -> None:
    assert rig.start(score='max_logits').trigger_configure() == FAILURE
    (line,) = errors(capfd.readouterr().err)
    assert "unknown score 'max_logits'" in line


def test_a_failed_activate_keeps_nothing_running(
    rig: Any, monkeypatch: pytest.MonkeyPatch, image_message: Callable[..., Any]
) -> None:
    node = rig.start()
    assert node.trigger_configure() == SUCCESS
    with monkeypatch.context() as patch:
        patch.setattr(node, 'create_subscription', lambda *_, **__: [][0])
        assert node.trigger_activate() == ERROR
    assert node._worker is None
    assert state(node) == 'unconfigured'
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    rig.connect(topics.SEMANTIC_MASK)
    rig.answer(image_message(picture()), topics.SEMANTIC_MASK)


@pytest.mark.parametrize('fault', [ValueError('no such policy'), RuntimeError('no thread')])
def test_a_failed_activate_leaves_no_publisher_active(
    fault: Exception, rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = rig.start()
    assert node.trigger_configure() == SUCCESS
    publishers = [output.publisher for output in node.cameras[0].outputs.values()]

    refuse = Refusal(fault)
    for place, name in ((node, 'create_subscription'), (threading.Thread, 'start')):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, refuse)
            result = node.trigger_activate()
        assert result == (FAILURE if isinstance(fault, ValueError) else ERROR)
        assert not any(publisher.is_activated for publisher in publishers)
        assert node.count_subscribers(rig.name(topics.IMAGE)) == 0
        if state(node) == 'unconfigured':
            assert node.trigger_configure() == SUCCESS
            publishers = [output.publisher for output in node.cameras[0].outputs.values()]
    assert node.trigger_activate() == SUCCESS
    assert len(publishers) == len(node.cameras[0].outputs)
    assert all(publisher.is_activated for publisher in publishers)


def test_engine_gets_what_the_parameters_say(rig: Any, tmp_path: Path) -> None:
    node = rig.start(engine='openvino', precision='fp32', engine_path=str(tmp_path))
    assert node.trigger_configure() == SUCCESS
    assert rig.opened == [(Checkpoint.open(rig.checkpoint), 'openvino', None, 'fp32', tmp_path)]


# --- what comes out ------------------------------------------------------------------------------


@pytest.mark.parametrize('size', [(24, 32), (48, 64), (50, 70)])
def test_outputs_are_those_of_the_pipeline_with_the_cameras_header(
    size: tuple[int, int], rig: Any, image_message: Callable[..., Any]
) -> None:
    rig.activate()
    rig.connect(*OUTPUTS)
    for mark in (1, 2):
        image = picture(mark, *size)
        sent = image_message(image)
        answers = dict(zip(OUTPUTS, rig.answer(sent, *OUTPUTS), strict=True))
        for topic, answer in answers.items():
            assert answer.header == sent.header, topic
        expected = build_pipeline(rig.engine, Checkpoint.open(rig.checkpoint).meta)(image)
        assert (pixels(answers[topics.SEMANTIC_MASK]) == expected.labels).all()
        assert (pixels(answers[topics.ANOMALY_MASK]) == expected.mask).all()
        assert (pixels(answers[topics.ANOMALY_SCORE]) == expected.heat).all()
        assert (pixels(answers[topics.SEMANTIC_COLOR])[..., ::-1] == expected.color).all()
        assert (pixels(answers[topics.OVERLAY])[..., ::-1] == expected.overlay).all()
        assert {answer.encoding for answer in answers.values()} == {'mono8', 'bgr8'}


def test_outputs_by_hand(rig: Any, image_message: Callable[..., Any]) -> None:
    rig.activate()
    rig.connect(*OUTPUTS)
    answers = rig.answer(image_message(picture()), *OUTPUTS)
    labels, mask, score, color, _ = map(pixels, answers)
    assert [labels[0, 0], labels[23, 31]] == [3, 8]
    assert [mask[0, 0], mask[0, 31]] == [0, 255]
    assert [score[0, 0], score[0, 31]] == [0, 255]
    assert color[0, 0].tolist() == [128, 64, 128]  # road, as blue, green, red
    assert color[23, 0].tolist() == [128, 0, 64]  # car


@pytest.mark.parametrize('scale', ['calibrated', 'raw'])
def test_scores_as_floats(scale: str, rig: Any, image_message: Callable[..., Any]) -> None:
    rig.activate(score_encoding='32FC1', score_scale=scale)
    rig.connect(topics.ANOMALY_SCORE)
    image = picture()
    image[..., 1] = np.arange(24 * 32).reshape(24, 32) % 256
    (answer,) = rig.answer(image_message(image), topics.ANOMALY_SCORE)
    assert answer.encoding == '32FC1'
    expected = build_pipeline(rig.engine, Checkpoint.open(rig.checkpoint).meta)(image)
    assert (pixels(answer) == (expected.score if scale == 'raw' else expected.share)).all()
    low, high = (-5, 5) if scale == 'raw' else (0, 1)
    assert pixels(answer).min() == low
    assert pixels(answer).max() == high


def test_bytes_are_the_floats_times_255(rig: Any, image_message: Callable[..., Any]) -> None:
    node = rig.activate()
    rig.connect(topics.ANOMALY_SCORE)
    image = picture(0, 50, 70)
    image[..., 1] = np.linspace(0, 255, 70)
    sent = image_message(image)
    (as_bytes,) = rig.answer(sent, topics.ANOMALY_SCORE)
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_cleanup() == SUCCESS
    assert set_parameter(node, score_encoding='32FC1').successful
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    rig.listen(topics.ANOMALY_SCORE)
    rig.spin_until(rig.publisher.get_subscription_count)
    (as_floats,) = rig.answer(sent, topics.ANOMALY_SCORE)
    gap = np.abs(pixels(as_bytes) / 255 - pixels(as_floats))
    assert gap.max() < 1.5 / 255


def test_network_resolution(rig: Any, image_message: Callable[..., Any]) -> None:
    node = rig.activate(output_resolution='network')
    rig.connect(*OUTPUTS)
    image = picture(0, 48, 64)
    answers = rig.answer(image_message(image), *OUTPUTS)
    assert {(answer.height, answer.width) for answer in answers} == {(24, 32)}
    expected = build_pipeline(rig.engine, Checkpoint.open(rig.checkpoint).meta)(image).at(
        whole=False
    )
    assert (pixels(answers[0]) == expected.labels).all()
    assert (pixels(answers[4])[..., ::-1] == expected.overlay).all()
    assert set_parameter(node, output_resolution='input').successful
    answers = rig.answer(image_message(image), *OUTPUTS)
    assert {(answer.height, answer.width) for answer in answers} == {(48, 64)}


def test_masks_for_other_stacks(rig: Any, image_message: Callable[..., Any]) -> None:
    node = rig.activate()
    outputs = (topics.CONFIDENCE, topics.OPEN_SET_MASK, topics.STATIC_MASK)
    rig.connect(*outputs, topics.ANOMALY_SCORE)
    *answers, score = rig.answer(image_message(picture()), *outputs, topics.ANOMALY_SCORE)
    confidence, open_set, static = map(pixels, answers)
    assert (confidence == 255 - pixels(score)).all()
    assert [open_set[0, 0], open_set[23, 0], open_set[0, 31]] == [3, 8, 11]
    assert [static[0, 0], static[23, 0], static[0, 31]] == [255, 0, 0]  # road, car, anomaly
    assert set_parameter(node, static_mask_inverted=True).successful
    # As Nav2's semantic_segmentation_layer reads them, and pairs them by stamp and size.
    got: dict[str, list[Any]] = {topics.OPEN_SET_MASK: [], topics.CONFIDENCE: []}
    kind = type(image_message(picture()))
    sensor_data = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
    for topic, heard in got.items():
        rig.user.create_subscription(kind, rig.name(topic), heard.append, sensor_data)
        publisher = node.cameras[0].outputs[topic].publisher
        rig.spin_until(lambda publisher=publisher: publisher.get_subscription_count() == 2)
    (turned,) = rig.answer(image_message(picture()), topics.STATIC_MASK)
    rig.spin_until(lambda: all(got.values()))
    first, second = (heard[0] for heard in got.values())
    assert first.header == second.header == turned.header
    assert {(m.height, m.width, m.encoding) for m in (first, second)} == {(24, 32, 'mono8')}
    assert (pixels(turned) == 255 - static).all()


def test_the_bag_holds_what_the_node_publishes(
    rig: Any,
    image_message: Callable[..., Any],
    make: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Masks, regions and ids; read by `rosbags` alone."""
    images = []
    for step in range(4):
        image = picture(step, 48, 64)
        image[..., 1] = 0
        image[10:20, 4 + 3 * step : 16 + 3 * step, 1] = 255
        image[30:40, 40:50, 1] = 255 * (step % 2)
        images.append(image)
    monkeypatch.setattr('training.commands.bag.open_engine', lambda *args: rig.engine)
    argv = ['bag', str(make(images)), '--checkpoint', str(rig.checkpoint)]
    assert main([*argv, '--out', str(tmp_path / 'out')]) == 0
    with Reader(tmp_path / 'out' / 'bag') as reader:
        found: dict[str, list[Any]] = {}
        for connection, _, data in reader.messages():
            message = TYPESTORE.deserialize_cdr(data, connection.msgtype)
            found.setdefault(connection.topic.replace('/anomaly_seg/', '~/'), []).append(message)
    rig.activate()
    rig.connect(*MASKS)
    rig.listen(topics.REGIONS_JSON, kind=String)
    for number, image in enumerate(images):
        sent = image_message(image)
        stamp = found[topics.SEMANTIC_MASK][number].header.stamp
        sent.header.stamp.sec, sent.header.stamp.nanosec = stamp.sec, stamp.nanosec
        sent.header.frame_id = found[topics.SEMANTIC_MASK][number].header.frame_id
        for topic, answer in zip(MASKS, rig.answer(sent, *MASKS), strict=True):
            assert bytes(answer.data) == found[topic][number].data.tobytes()
    rig.spin_until(lambda: len(rig.heard[topics.REGIONS_JSON]) == 4)
    texts = [message.data for message in rig.heard[topics.REGIONS_JSON]]
    assert texts == [message.data for message in found[topics.REGIONS_JSON]]
    regions = [json.loads(text)['regions'] for text in texts]
    assert [[(r['id'], r['seen']) for r in each] for each in regions] == [
        [(1, 1)],
        [(1, 2), (2, 1)],
        [(1, 3)],
        [(1, 4), (2, 2)],
    ]
    assert regions[3][0]['box'] == {'x': 14, 'y': 10, 'width': 10, 'height': 10}
    assert topics.DETECTIONS not in rig.node.cameras[0].outputs, 'vision_msgs is not here'


def ask(rig: Any, service: str, kind: Any = Trigger, **request: Any) -> Any:
    """Gives the answer of a service."""
    client = rig.user.create_client(kind, rig.name(service))
    rig.spin_until(client.service_is_ready)
    future = client.call_async(kind.Request(**request))
    rig.spin_until(future.done, f'an answer of {service}')
    return future.result()


def test_it_can_be_paused_and_counts_from_zero(
    rig: Any, image_message: Callable[..., Any]
) -> None:
    node = rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    answer = ask(rig, topics.ENABLE, SetBool, data=False)
    assert (answer.success, answer.message) == (True, 'paused until it is enabled again')
    rig.spin_until(lambda: not rig.publisher.get_subscription_count(), 'the camera to be left')
    status = next_status(rig, 'inference')
    assert (status.level, status.message) == (DiagnosticStatus.WARN, watchdog.PAUSED)
    assert next_status(rig, 'input').message == watchdog.PAUSED
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_cleanup() == SUCCESS
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    assert node.cameras[0].input.subscription is None, 'a pause outlasts a configure'
    assert ask(rig, topics.ENABLE, SetBool, data=True).success
    rig.spin_until(rig.publisher.get_subscription_count)
    rig.spin_until(node.cameras[0].outputs[topics.SEMANTIC_MASK].publisher.get_subscription_count)
    rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    assert counts(node)['processed'] == 1
    assert ask(rig, topics.RESET_STATISTICS).success
    assert not any(counts(node).values())
    rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    assert counts(node)['processed'] == counts(node)['received'] == 1


def test_a_snapshot_is_run_again(
    rig: Any,
    image_message: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: Any,
) -> None:
    own = np.repeat(np.uint8([0] * 40 + [255] * 8), 64).reshape(48, 64)
    write_image(tmp_path / 'own.png', own)
    node = rig.activate(
        snapshot_dir=str(tmp_path / 'shots'),
        persistence='2/3',
        smoothing=0.25,
        min_region_area=3,
        ignore_mask=str(tmp_path / 'own.png'),
    )
    rig.connect(topics.ANOMALY_MASK, topics.SEMANTIC_MASK)
    answer = ask(rig, topics.SNAPSHOT)
    assert not answer.success
    assert 'no image has been processed yet' in answer.message
    for step in range(3):
        image = picture(step, 48, 64)
        image[..., 1] = 0
        image[10:20, 4 + step : 16 + step, 1] = 255
        mask, labels = rig.answer(
            image_message(image[..., ::-1].copy(), 'bgr8'),
            topics.ANOMALY_MASK,
            topics.SEMANTIC_MASK,
        )
    assert (pixels(labels)[40:] == 255).all()
    answer = ask(rig, topics.SNAPSHOT)
    assert answer.success, answer.message
    (folder,) = (tmp_path / 'shots').iterdir()
    assert str(folder) in answer.message
    assert (read_image(folder / 'image.png') == image).all()
    assert pixels(mask).any()
    assert (read_pixels(folder / 'anomaly_mask.png', -1) == pixels(mask)).all()
    facts = json.loads((folder / 'snapshot.json').read_text(encoding='utf-8'))
    assert facts['frame_id'] == 'front_camera'
    assert facts['parameters']['persistence'] == '2/3'
    assert facts['engine']['key'] == Checkpoint.open(rig.checkpoint).score_key('max_logit')

    # It needs neither the node nor the ignore mask, and finds what has changed.
    (tmp_path / 'own.png').unlink()
    command = 'anomaly_seg_ros.commands.replay_snapshot.open_engine'
    monkeypatch.setattr(command, lambda *args: rig.engine)
    assert main(['replay_snapshot', str(folder)]) == 0
    said = capsys.readouterr().out
    assert said.count('the same') == 4, said
    other = read_pixels(folder / 'anomaly_mask.png', -1)
    other[0, 0] = 255
    write_image(folder / 'anomaly_mask.png', other)
    assert main(['replay_snapshot', str(folder)]) == 1
    said = capsys.readouterr().out
    assert 'anomaly_mask.png: 0.0326% of the values differ, by at most 255' in said
    assert main(['replay_snapshot', str(tmp_path)]) == 2
    assert 'no snapshot in' in capsys.readouterr().err
    for name, content in (
        ('memory.npz', (folder / 'memory.npz').read_bytes()[:200]),
        ('memory.npz', b'text'),
        ('score.npy', (folder / 'score.npy').read_bytes()[:-9]),
        ('snapshot.json', json.dumps({k: v for k, v in facts.items() if k != 'health'}).encode()),
    ):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        assert main(['replay_snapshot', str(folder)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{name}' is" in line
        assert line.endswith('copy the snapshot again')
        (folder / name).write_bytes(whole)

    memory = dict(np.load(folder / 'memory.npz'))
    arrays = [
        ({'next_id': np.array([1, 2])}, 'does not fit together'),
        ({'starts': memory['starts'] + 24 * 32}, 'does not fit together'),
        ({'lengths': memory['lengths'][1:]}, 'does not fit together'),
        ({'smoothed': np.zeros((3, 3), np.float32)}, 'does not fit together'),
        ({'ids': np.array(['x'])}, 'holds what is no number'),
        ({'more': np.zeros(1 << 26)}, 'unpacks to more than 256 MiB'),
    ]
    whole = (folder / 'memory.npz').read_bytes()
    for change, why in arrays:
        np.savez_compressed(folder / 'memory.npz', **memory | change)
        assert main(['replay_snapshot', str(folder)]) == 2
        assert f"memory.npz' is damaged (it {why})" in capsys.readouterr().err
    (folder / 'memory.npz').write_bytes(whole)
    for change in (
        {'health': 5},
        {'health': {**facts['health'], 'streak': 'x'}},
        {'engine': 5},
        {'engine': {**facts['engine'], 'input_size': 5}},
        {'threshold': None},
        {'calibration': 5},
        {'frame_shift': 5},
        {'parameters': 5},
    ):
        (folder / 'snapshot.json').write_text(json.dumps({**facts, **change}))
        assert main(['replay_snapshot', str(folder)]) == 2
        assert f"snapshot.json' is damaged: {next(iter(change))}" in capsys.readouterr().err
    (folder / 'snapshot.json').write_text('[' * 200_000)
    assert main(['replay_snapshot', str(folder)]) == 2
    assert "snapshot.json' is no snapshot: maximum recursion" in capsys.readouterr().err
    (folder / 'snapshot.json').write_text(json.dumps(facts))
    score = (folder / 'score.npy').read_bytes()
    claim = b'(999999, 99999), }'
    (folder / 'score.npy').write_bytes(score.replace(b'(24, 32), }'.ljust(len(claim)), claim))
    assert main(['replay_snapshot', str(folder)]) == 2
    assert "score.npy' is damaged (" in capsys.readouterr().err
    (folder / 'score.npy').write_bytes(score)

    # The engine is the folder that the node had, and one of another size is no comparison.
    asked = []
    other_size = copy(rig.engine)
    other_size.input_size = (48, 64)
    monkeypatch.setattr(command, lambda *args: asked.append(args[4:]) or other_size)
    facts['parameters']['engine_path'] = str(tmp_path)
    (folder / 'snapshot.json').write_text(json.dumps(facts))
    assert main(['replay_snapshot', str(folder)]) == 2
    assert asked == [(tmp_path,)]
    said = capsys.readouterr().err
    assert 'the snapshot was made at 24x32, and this engine is of 48x64; export one with' in said

    # A full disk, or a folder that is not ours: one line, and nothing is left.
    assert set_parameter(node, snapshot_dir='/proc/none').successful
    rig.answer(image_message(image), topics.ANOMALY_MASK)
    answer = ask(rig, topics.SNAPSHOT)
    assert not answer.success
    assert '/proc/none' in answer.message
    assert set_parameter(node, snapshot_dir=str(tmp_path / 'shots')).successful

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('anomaly_seg_ros.node.snapshot.np.savez', full)
    answer = ask(rig, topics.SNAPSHOT)
    assert (answer.success, 'No space left' in answer.message) == (False, True)
    assert list((tmp_path / 'shots').iterdir()) == [folder]


def test_no_path_of_a_message_reaches_the_file_system(
    rig: Any, image_message: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / 'folder'
    folder.mkdir()
    rig.activate(snapshot_dir=str(folder / 'shots'))
    rig.connect(topics.SEMANTIC_MASK)
    (folder / 'of_others').write_text('kept', encoding='utf-8')
    for name in ('../of_others', str(folder / 'of_others'), '..', '/'):
        message = image_message(picture())
        message.header.frame_id = name
        rig.answer(message, topics.SEMANTIC_MASK)
        answer = ask(rig, topics.SNAPSHOT)
        assert answer.success, answer.message
    assert sorted(path.name for path in folder.iterdir()) == ['of_others', 'shots']
    assert (folder / 'of_others').read_text(encoding='utf-8') == 'kept'
    assert len(list((folder / 'shots').iterdir())) == 4


def test_camera_info_is_handed_on_at_the_published_size(
    rig: Any, image_message: Callable[..., Any]
) -> None:
    from sensor_msgs.msg import CameraInfo

    node = rig.activate(output_resolution='network')
    rig.connect()
    rig.listen(topics.CAMERA_INFO_OUT, kind=CameraInfo)
    relay = node.cameras[0]._publications.camera_info
    rig.spin_until(relay.wanted)
    driver = rig.user.create_publisher(CameraInfo, rig.name(topics.CAMERA_INFO), 1)
    # Half of the sensor, binned by two: 64x48 of it make an image of 32x24.
    info = CameraInfo(height=96, width=128, binning_x=2, binning_y=2, distortion_model='plumb_bob')
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 40, 20, 64, 48
    info.k = [100.0, 0.0, 70.0, 0.0, 110.0, 50.0, 0.0, 0.0, 1.0]
    info.p = [100.0, 0.0, 70.0, -8.0, 0.0, 110.0, 50.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    info.d = [0.1, 0.2, 0.3, 0.4, 0.5]
    sent = image_message(picture())
    rig.send(sent)
    rig.spin_until(driver.get_subscription_count)
    driver.publish(info)
    rig.spin_until(lambda: relay._newest is not None)
    assert not rig.heard[topics.CAMERA_INFO_OUT], 'nothing came that could be handed on'
    (found,) = rig.answer(sent, topics.CAMERA_INFO_OUT)
    assert (found.height, found.width, found.binning_x, found.roi.width) == (24, 32, 0, 0)
    assert found.k.tolist() == [50, 0, 15, 0, 55, 15, 0, 0, 1]
    assert found.p.tolist() == [50, 0, 15, -4, 0, 55, 15, 0, 0, 0, 1, 0]
    assert (list(found.d), found.distortion_model) == ([0.1, 0.2, 0.3, 0.4, 0.5], 'plumb_bob')
    # Enlarged fourfold, of a driver that says no size.
    larger = rescaled(CameraInfo(k=info.k), sent.header, (192, 512))
    assert larger.k.tolist() == info.k.tolist()
    larger = rescaled(CameraInfo(height=96, width=128, k=info.k), sent.header, (192, 512))
    assert larger.k.tolist() == [400, 0, 280, 0, 220, 100, 0, 0, 1]
    # 64x48 as the roi says, whatever the size of the image; who says nothing is believed.
    for size in ((24, 32), (480, 640)):
        assert misfit(info, size) == ''
    assert misfit(CameraInfo(), (480, 640)) == ''
    binned = CameraInfo(height=1080, width=1920, binning_x=2, binning_y=1)
    assert misfit(binned, (1080, 960)) == ''
    assert misfit(CameraInfo(height=1080, width=1920), (480, 640)) == (
        'the calibration is of 1080x1920, and the images are 480x640, another shape; where the '
        'driver crops it must say so in roi'
    )


def test_numbers_of_a_frame_and_runs_of_its_mask(
    rig: Any, image_message: Callable[..., Any]
) -> None:
    from std_msgs.msg import Float32

    rig.activate()
    rig.connect(topics.ANOMALY_MASK)
    rig.listen(topics.RLE_MASK, kind=String)
    rig.listen(topics.FRAME_SCORE, kind=Float32)
    sent = image_message(picture())
    (mask,) = rig.answer(sent, topics.ANOMALY_MASK)
    rig.spin_until(lambda: rig.heard[topics.RLE_MASK] and rig.heard[topics.FRAME_SCORE])
    runs = json.loads(rig.heard[topics.RLE_MASK][0].data)
    stamp = sent.header.stamp
    assert runs['stamp'] == {'sec': stamp.sec, 'nanosec': stamp.nanosec}
    assert runs['frame_id'] == 'front_camera'
    counts = np.frombuffer(zlib.decompress(base64.b64decode(runs['runs'])), '<u4')
    unpacked = np.repeat(np.arange(len(counts)) % 2 * 255, counts)
    unpacked = unpacked.reshape(runs['height'], runs['width'])
    assert (unpacked == pixels(mask)).all()
    assert rig.heard[topics.FRAME_SCORE][0].data == pytest.approx(0.5, abs=0.01)


def test_compressed_images_of_a_topic_with_a_name_of_its_own(
    rig: Any, image_message: Callable[..., Any]
) -> None:
    """Not that of image_transport."""
    name = rig.name('image')
    camera = rig.user.create_publisher(CompressedImage, name, 1)
    node = rig.activate(input_transport='compressed')
    rig.listen(topics.SEMANTIC_MASK)
    rig.spin_until(camera.get_subscription_count)
    assert node.cameras[0].input.topic == name
    sent = CompressedImage(header=image_message(picture()).header, format='png')
    sent.data = array('B', encode_image(picture(), '.png'))
    camera.publish(sent)
    rig.spin_until(lambda: rig.heard[topics.SEMANTIC_MASK])
    # One that has the usual name wins, also where it comes later.
    usual = rig.user.create_publisher(CompressedImage, f'{name}/compressed', 1)
    rig.spin_until(usual.get_subscription_count)
    assert node.cameras[0].input.topic == f'{name}/compressed'


def test_what_is_said_of_a_topic_that_may_be_read_later_is_checked_at_once(rig: Any) -> None:
    depth = f'qos_overrides.{rig.name("image")}.subscription.depth'
    node = rig.start(input_transport='compressed', **{depth: -1})
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == FAILURE
    assert node.problem.startswith(f'parameter {depth} is -1')


def remapped_node(rig: Any, camera: str) -> AnomalySegNode:
    """Gives an active node whose image is remapped to another topic."""
    node = rig.add(
        AnomalySegNode(
            rig.open_engine,
            namespace=rig.namespace,
            parameter_overrides=[
                Parameter('checkpoint', value=str(rig.checkpoint)),
                Parameter('autostart', value=False),
            ],
            cli_args=['--ros-args', '-r', f'image:={camera}'],
        )
    )
    rig.node = node
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    return node


def test_a_calibration_that_nobody_publishes_is_named(
    rig: Any, image_message: Callable[..., Any], capfd: Any
) -> None:
    from sensor_msgs.msg import CameraInfo

    camera = f'{rig.namespace}/cam/image_raw'
    node = remapped_node(rig, camera)
    rig.camera(topic=camera)
    rig.listen(topics.SEMANTIC_MASK)
    rig.listen(topics.CAMERA_INFO_OUT, kind=CameraInfo)
    rig.spin_until(rig.publisher.get_subscription_count)
    rig.spin_until(node.cameras[0]._publications.camera_info.wanted)
    driver = rig.user.create_publisher(CameraInfo, rig.name('cam/camera_info'), 1)
    rig.spin_until(lambda: node.count_publishers(driver.topic_name))
    rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    rig.spin_until(lambda: counts(node)['processed'] == 1)
    said = capfd.readouterr().err
    assert f'nobody publishes {rig.name("camera_info")}, so that ~/camera_info stays' in said
    assert f'empty; remap camera_info to {driver.topic_name}' in said


def test_compressed_images_come_in_and_go_out(
    rig: Any, image_message: Callable[..., Any], capfd: Any
) -> None:
    rig.activate(input_transport='compressed')
    rig.connect(topics.SEMANTIC_MASK, topic=rig.name('image/compressed'), kind=CompressedImage)
    rig.listen(topics.OVERLAY_COMPRESSED, kind=CompressedImage)
    image = picture()
    sent = CompressedImage(header=image_message(image).header, format='bgr8; png compressed bgr8')
    sent.data = array('B', encode_image(image, '.png'))
    mask, overlay = rig.answer(sent, topics.SEMANTIC_MASK, topics.OVERLAY_COMPRESSED)
    expected = build_pipeline(rig.engine, Checkpoint.open(rig.checkpoint).meta)(image)
    assert (pixels(mask) == expected.labels).all()
    assert overlay.format == 'bgr8; jpeg compressed bgr8'
    shown = cv2.imdecode(np.frombuffer(overlay.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(shown.astype(int) - expected.overlay).mean() < 8
    # What the text says must be true of the bytes, and depth is no picture.
    sent.format = 'jpeg'
    rig.send(sent)
    rig.settle()
    sent.format = '16UC1; compressedDepth png'
    rig.send(sent)
    rig.settle()
    assert counts(rig.node)['failed'] == 2
    assert rig.node.cameras[0].statistics.size == (24, 32)
    assert "format is 'jpeg', but the data are png" in capfd.readouterr().err


def test_nothing_is_made_for_nobody(
    rig: Any, monkeypatch: pytest.MonkeyPatch, image_message: Callable[..., Any]
) -> None:
    made: list[str] = []
    fill = ImageWriter.fill

    def counted(writer: Any, image: Any, header: Any) -> Any:
        message = fill(writer, image, header)
        made.append(f'{message.encoding} {len(image.shape)}')
        return message

    monkeypatch.setattr(ImageWriter, 'fill', counted)
    node = rig.activate()
    rig.connect()
    published: list[str] = []

    def spy(topic: str, publisher: Any) -> None:
        publish = publisher.publish

        def spied(message: Any) -> None:
            published.append(topic)
            publish(message)

        monkeypatch.setattr(publisher, 'publish', spied)

    for topic, output in node.cameras[0].outputs.items():
        spy(topic, output.publisher)
    rig.send(image_message(picture()))
    rig.settle()
    assert node.cameras[0].statistics.count('processed') == 1
    assert made == published == []
    rig.listen(topics.OVERLAY)
    rig.answer(image_message(picture()), topics.OVERLAY)
    assert made == ['bgr8 3']
    assert published == [topics.OVERLAY]
    rig.deafen(topics.OVERLAY)
    rig.send(image_message(picture()))
    rig.settle()
    assert published == [topics.OVERLAY]


def test_it_is_idle_until_somebody_listens(rig: Any, image_message: Callable[..., Any]) -> None:
    """No subscription and no inference for nobody; the first image behind a match is processed."""
    node = rig.activate(idle_without_listeners=True)
    camera = node.cameras[0]
    rig.camera()
    # Neither is made of images.
    rig.listen(topics.LABEL_INFO_JSON, kind=String, latched=True)
    status = next_status(rig, 'inference')
    assert (status.level, status.message) == (DiagnosticStatus.OK, watchdog.IDLE)
    status = next_status(rig, 'input', lambda s: values(s)['publishers'] == '1')
    assert (status.level, status.message) == (DiagnosticStatus.OK, watchdog.IDLE)
    assert camera.input.subscription is None
    assert rig.publisher.get_subscription_count() == 0
    for mark, topic in ((3, topics.OVERLAY), (4, topics.SEMANTIC_MASK)):
        rig.listen(topic)
        rig.spin_until(rig.publisher.get_subscription_count, 'the node to read the camera')
        rig.answer(image_message(picture(mark)), topic)
        assert rig.engine.seen.pop() == mark
        rig.deafen(topic)
        if camera.input.subscription is not None:  # until the second is over
            rig.send(image_message(picture()))
            rig.settle()
        assert rig.engine.seen == []
        rig.spin_until(lambda: camera.input.subscription is None, 'it to leave the camera alone')
        rig.spin_until(lambda: not rig.publisher.get_subscription_count())
    assert set_parameter(node, idle_without_listeners=False).successful
    rig.spin_until(rig.publisher.get_subscription_count, 'the node to read the camera again')
    rig.send(image_message(picture(5)))
    rig.settle()
    assert rig.engine.seen == [5]
    found = counts(node)
    assert found['processed'] == 3
    assert found['received'] == found['processed'] + found['idle']


def test_an_idle_node_says_what_would_keep_images_away(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_watch, 'INPUT_TIMEOUT_S', 0.2)
    rig.activate(idle_without_listeners=True)
    status = next_status(rig, 'input', lambda s: s.level == DiagnosticStatus.WARN)
    assert status.message.startswith('nobody publishes ')


def test_listeners_of_both_kinds_are_served(rig: Any, image_message: Callable[..., Any]) -> None:
    rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    got: list[Any] = []
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    kind = type(image_message(picture()))
    rig.user.create_subscription(kind, rig.name(topics.SEMANTIC_MASK), got.append, best_effort)
    publisher = rig.node.cameras[0].outputs[topics.SEMANTIC_MASK].publisher
    rig.spin_until(lambda: publisher.get_subscription_count() == 2)
    rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    rig.spin_until(lambda: got)


# --- the newest frame wins -----------------------------------------------------------------------


def test_newest_frame_wins(rig: Any, image_message: Callable[..., Any]) -> None:
    node = rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    rig.engine.gate.clear()
    sent = [image_message(picture(mark)) for mark in (1, 2, 3, 4)]
    rig.send(sent[0])
    rig.spin_until(lambda: rig.engine.seen == [1], 'the engine to begin')
    for message in sent[1:]:
        rig.send(message)
    rig.engine.gate.set()
    heard = rig.heard[topics.SEMANTIC_MASK]
    rig.spin_until(lambda: len(heard) == 2)
    rig.settle()
    assert rig.engine.seen == [1, 4]
    assert [message.header for message in heard] == [sent[0].header, sent[3].header]
    assert node.cameras[0].statistics.count('skipped') == 2
    assert node.cameras[0].statistics.count('received') == 4
    status = next_status(rig, 'input', lambda s: values(s)['frames_received'] == '4')
    assert values(status)['frames_skipped'] == '2'


def test_depth_of_the_input_is_one(rig: Any) -> None:
    node = rig.activate()
    assert node.cameras[0].input.subscription.qos_profile.depth == 1


def test_a_slow_engine_leaves_the_node_responsive(
    rig: Any, image_message: Callable[..., Any]
) -> None:
    node = rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    rig.engine.gate.clear()
    rig.send(image_message(picture(7)))
    rig.spin_until(lambda: rig.engine.seen == [7])
    next_status(rig, 'inference')
    assert set_parameter(node, threshold=0.5).successful
    rig.engine.gate.set()
    rig.settle()


def test_deactivating_waits_for_the_frame_in_work(
    rig: Any, image_message: Callable[..., Any]
) -> None:
    node = rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    rig.engine.latency_s = 0.3
    rig.send(image_message(picture(7)))
    rig.spin_until(lambda: rig.engine.seen == [7])
    assert node.trigger_deactivate() == SUCCESS
    assert node.cameras[0].statistics.count('processed') == 1
    rig.spin_until(lambda: rig.heard[topics.SEMANTIC_MASK])


def counts(node: AnomalySegNode) -> dict[str, int]:
    names = ('received', 'processed', *UNPROCESSED)
    return {name: node.cameras[0].statistics.count(name) for name in names}


def test_a_frame_that_waits_at_deactivate_is_counted(
    rig: Any, image_message: Callable[..., Any]
) -> None:
    node = rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    rig.engine.gate.clear()
    rig.send(image_message(picture(7)))
    rig.spin_until(lambda: rig.engine.seen == [7], 'the engine to begin')
    rig.send(image_message(picture(8)))
    rig.send(image_message(picture(9)))
    threading.Timer(0.2, rig.engine.gate.set).start()
    assert node.trigger_deactivate() == SUCCESS
    assert rig.engine.seen == [7]
    assert counts(node) == {
        'received': 3,
        'processed': 1,
        'idle': 0,
        'skipped': 1,
        'too_old': 0,
        'failed': 0,
        'discarded': 1,
    }
    assert node.trigger_activate() == SUCCESS
    status = next_status(rig, 'input', lambda s: values(s)['frames_received'] == '3')
    assert values(status)['frames_discarded'] == '1'


def test_every_frame_is_accounted_for(rig: Any, image_message: Callable[..., Any]) -> None:
    node = rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    for encoding in ('rgb8', 'rgb12'):
        rig.send(image_message(picture(), encoding))
        rig.settle()
    for turn in range(4):
        rig.engine.latency_s = 0.002 * turn
        for number in range(12):
            image = image_message(picture(), 'rgb8' if number % 4 else 'rgb12')
            rig.publisher.publish(image)
            rig.executor.spin_once(timeout_sec=0.002)
        assert node.trigger_deactivate() == SUCCESS
        total = counts(node)
        assert total.pop('received') == sum(total.values())
        assert node.trigger_activate() == SUCCESS
        rig.spin_until(rig.publisher.get_subscription_count)
    assert total['processed'] > 0
    assert total['failed'] > 0


def test_the_engine_is_called_by_one_thread(
    rig: Any, image_message: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engines are not safe between threads."""
    node = rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    infer, threads = rig.engine.infer, set()

    def noted(image: NDArray[np.uint8]) -> Any:
        threads.add(threading.get_ident())
        return infer(image)

    monkeypatch.setattr(rig.engine, 'infer', noted)
    for _ in range(5):
        rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
        assert set_parameter(node, threshold=0.5).successful
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_it_says_that_most_frames_are_skipped(
    rig: Any, image_message: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    rig.engine.latency_s = 0.1

    def overrun(_: Any = None) -> None:
        for _ in range(6):
            rig.send(image_message(picture()))

    def skipping(status: Any) -> bool:
        overrun()
        return 'were skipped' in status.message

    overrun()
    status = next_status(rig, 'input', skipping)
    assert status.level == DiagnosticStatus.WARN
    share = re.match(r'(\d+) % of the images of the last 5 s were skipped', status.message)
    assert share is not None
    assert 50 < int(share[1]) < 100

    def good(status: Any) -> bool:
        rig.settle()
        rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
        return bool(status.level == DiagnosticStatus.OK)

    monkeypatch.setattr('anomaly_seg_ros.node.statistics.RECENT_S', 1.0)
    rig.engine.latency_s = 0.0
    next_status(rig, 'input', good)


def test_statistics_do_not_outlive_their_engine(
    rig: Any, image_message: Callable[..., Any]
) -> None:
    node = rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    rig.engine.latency_s = 0.2
    rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    slow = next_status(rig, 'inference', lambda s: values(s)['frames_processed'] == '1')
    assert float(values(slow)['inference_time_ms']) >= 200
    # The same engine goes on counting.
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    next_status(rig, 'inference', lambda s: values(s)['frames_processed'] == '1')
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_cleanup() == SUCCESS
    rig.engine.latency_s = 0.0
    assert set_parameter(node, engine='onnx').successful
    assert node.trigger_configure() == SUCCESS
    status = next_status(rig, 'inference', lambda s: values(s)['frames_processed'] == '0')
    assert (status.level, status.message) == (DiagnosticStatus.WARN, INACTIVE)
    assert values(status)['inference_time_ms'] == 'n/a'
    assert node.trigger_activate() == SUCCESS
    rig.spin_until(rig.publisher.get_subscription_count)
    rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    fast = next_status(rig, 'inference', lambda s: values(s)['frames_processed'] == '1')
    assert float(values(fast)['inference_time_ms']) < 200


def test_an_image_that_comes_by_two_subscriptions_is_taken_once(
    rig: Any, image_message: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = rig.activate().cameras[0].input
    taken: list[Any] = []
    monkeypatch.setattr(reader, '_receive', taken.append)
    first, second = image_message(picture()), image_message(picture())
    now = reader._turn
    reader._former = reader._make_subscription()
    for turn, message in ((now - 1, first), (now, first), (now, second)):
        reader._hear(turn, message)
    assert taken == [first, second]
    reader._former = reader._make_subscription()
    late = image_message(picture())
    for turn in (now, now - 1):
        reader._hear(turn, late)
    assert taken == [first, second, late]
    reader._former = reader._make_subscription()
    for _ in range(3 * REMEMBERED):  # the next one never brings any
        reader._hear(now - 1, image_message(picture()))
    assert len(reader._came_by) == REMEMBERED


def test_two_cameras_are_a_matter_of_a_list(
    rig: Any, image_message: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One engine and one worker for both; each has its topics, its frames and its statistics."""
    node = rig.start(cameras=['front', 'left'])
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    assert len(rig.opened) == 1
    passes: list[int] = []
    infer_batch = rig.engine.infer_batch

    def noted(images: Any) -> Any:
        passes.append(len(images))
        return infer_batch(images)

    monkeypatch.setattr(rig.engine, 'infer_batch', noted)
    senders, heard = [], {}
    for name in ('front', 'left'):
        senders.append(rig.camera(topic=rig.name(f'{name}/image')))
        heard[name] = []
        topic = rig.name(f'~/{name}/semantic_mask')
        kind = type(image_message(picture()))
        rig.user.create_subscription(kind, topic, heard[name].append, QoSProfile(depth=4))
        rig.listen(f'~/{name}/label_info_json', kind=String, latched=True)
    rig.spin_until(
        lambda: (
            all(sender.get_subscription_count() for sender in senders)
            and all(
                camera.outputs[topics.SEMANTIC_MASK].publisher.get_subscription_count()
                for camera in node.cameras
            )
        ),
        'both cameras to match',
    )
    rig.spin_until(lambda: rig.heard['~/left/label_info_json'], 'its label info')
    rig.engine.gate.clear()
    rig.engine.seen.clear()
    sent = [image_message(picture(mark)) for mark in (1, 2, 3)]
    received = [camera.statistics for camera in node.cameras]
    senders[0].publish(sent[0])
    rig.spin_until(lambda: rig.engine.seen == [1], 'the engine to begin')
    for sender, message in zip(senders, sent[1:], strict=True):
        sender.publish(message)
    rig.spin_until(lambda: [s.count('received') for s in received] == [2, 1], 'both images')
    rig.engine.gate.set()
    rig.spin_until(lambda: (len(heard['front']), len(heard['left'])) == (2, 1), 'three masks')
    assert passes == [1, 2]
    assert [mask.header for mask in heard['front']] == [sent[0].header, sent[1].header]
    assert heard['left'][0].header == sent[2].header
    status = next_status(rig, 'left input', lambda s: values(s)['frames_received'] == '1')
    assert values(status)['topic'] == rig.name('left/image')
    status = next_status(rig, 'front inference', lambda s: values(s)['frames_processed'] == '2')
    assert node.trigger_deactivate() == SUCCESS
    assert [s.count('processed') for s in received] == [2, 1]


def test_two_nodes_and_three_cameras(rig: Any, image_message: Callable[..., Any]) -> None:
    """Each mask is of its own camera; both nodes go on while the other one is cleaned up."""
    first = rig.start(cameras=['front', 'left'])
    second = AnomalySegNode(
        rig.open_engine,
        namespace=f'{rig.namespace}/rear',
        parameter_overrides=[
            Parameter('checkpoint', value=str(rig.checkpoint)),
            Parameter('autostart', value=False),
        ],
    )
    rig.add(second)
    places = {'front': 'front', 'left': 'left', 'rear': ''}
    for node in (first, second):
        assert node.trigger_configure() == SUCCESS
        assert node.trigger_activate() == SUCCESS
    kind = type(image_message(picture()))
    senders, heard = {}, {name: [] for name in places}
    for name, camera in places.items():
        space = rig.namespace if camera else f'{rig.namespace}/rear'
        mask = topics.resolve(topics.of_camera(topics.SEMANTIC_MASK, camera), space)
        image = topics.resolve(topics.of_camera(topics.IMAGE, camera), space)
        rig.user.create_subscription(kind, mask, heard[name].append, QoSProfile(depth=10))
        senders[name] = rig.user.create_publisher(kind, image, QoSProfile(depth=1))
    cameras = dict(zip(places, (*first.cameras, *second.cameras), strict=True))
    rig.spin_until(
        lambda: all(
            sender.get_subscription_count()
            and cameras[name].outputs[topics.SEMANTIC_MASK].publisher.get_subscription_count()
            for name, sender in senders.items()
        ),
        'all cameras to match',
    )

    def round_of(names: tuple[str, ...], label: int) -> None:
        sent = {}
        for offset, name in enumerate(names):
            image = picture()
            image[..., 0] = label + offset
            sent[name] = image_message(image)
            senders[name].publish(sent[name])
        rig.spin_until(
            lambda: all(
                heard[name] and heard[name][-1].header == sent[name].header for name in names
            ),
            f'the masks of {names}',
        )
        for offset, name in enumerate(names):
            assert set(bytes(heard[name][-1].data)) == {label + offset}

    for label in (0, 1, 2):
        round_of(('front', 'left', 'rear'), label)
    assert second.trigger_deactivate() == SUCCESS
    round_of(('front', 'left'), 5)
    assert len(heard['rear']) == 3
    received = [cameras[name].statistics.count('received') for name in places]
    rig.spin_until(
        lambda: received == [cameras[name].statistics.count('processed') for name in places]
    )
    assert received == [4, 4, 3]


# --- bad input -----------------------------------------------------------------------------------


def broken(message: Any, **fields: Any) -> Any:
    for name, value in fields.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ('fields', 'what'),
    [
        ({'encoding': 'rgb12'}, "unknown encoding 'rgb12'; choose one of: rgb8"),
        ({'height': 240}, 'data holds 2304 bytes; 240 rows of step 96 need 23040'),
        ({'height': 0}, 'the image has no pixels: 0 rows, 32 columns'),
        ({'width': 0}, 'the image has no pixels: 24 rows, 0 columns'),
        ({'step': 5}, "step is 5; 32 pixels of 'rgb8' need 96 bytes a row"),
    ],
)
def test_a_bad_message_is_one_line_and_a_diagnostic_and_nothing_dies(
    fields: dict[str, Any],
    what: str,
    rig: Any,
    image_message: Callable[..., Any],
    capfd: Any,
) -> None:
    node = rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    capfd.readouterr()
    for _ in range(5):
        rig.send(broken(image_message(picture()), **fields))
        rig.settle()
    assert node.cameras[0].statistics.count('failed') == 5
    status = next_status(rig, 'input', lambda s: what in s.message)
    assert status.level == DiagnosticStatus.ERROR
    assert status.message.endswith('(100 % of the images of the last 5 s)')
    assert values(status)['frames_failed'] == '5'
    lines = errors(capfd.readouterr().err)
    assert 1 <= len(lines) <= 2, 'throttled'  # two if the machine stood still for THROTTLE_S
    assert f'image dropped: {what}' in lines[0]
    (mask,) = rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    assert pixels(mask)[0, 0] == 3


def test_throttling_is_long_against_a_camera() -> None:
    assert THROTTLE_S >= 5


def test_what_comes_from_outside_is_cut(
    rig: Any, image_message: Callable[..., Any], capfd: Any
) -> None:
    rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    message = image_message(picture())
    message.header.frame_id = 'f' * 100_000
    rig.answer(message, topics.SEMANTIC_MASK)
    rig.engine.fault = RuntimeError('r' * 100_000)
    rig.send(image_message(picture()))
    fault = next_status(rig, 'input', lambda s: 'RuntimeError' in s.message)
    rig.send(broken(image_message(picture()), encoding='e' * 100_000))
    problem = next_status(rig, 'input', lambda s: 'unknown encoding' in s.message)
    for status in (problem, fault):
        assert len(status.message) < 800
        assert all(len(value) < 800 for value in values(status).values())
    err = capfd.readouterr().err
    assert 'RuntimeError' in err
    assert max(map(len, err.splitlines())) < 800


def test_warnings_of_engines_reach_rosout(rig: Any, capfd: Any) -> None:
    node = rig.start()
    rig.heard['/rosout'] = []
    profile = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    rig.user.create_subscription(Log, '/rosout', rig.heard['/rosout'].append, profile)
    rig.spin_until(lambda: rig.user.count_publishers('/rosout'))
    with logging_through(node.get_logger()):
        logging.getLogger('anomaly_seg_ros.engines.choice').warning('made %s', 'anew')
        logging.getLogger('anomaly_seg_ros.engines.choice').info('ready')
        logging.getLogger('anomaly_seg_ros.engines.choice').error('gone')
        logging.getLogger('openvino').warning('slow')
        logging.getLogger('openvino').info('chatter')
    logging.getLogger('anomaly_seg_ros.engines.choice').warning('after the node')
    name = node.get_logger().name

    def said() -> list[tuple[int, str]]:
        return [(log.level, log.msg) for log in rig.heard['/rosout'] if log.name == name]

    rig.spin_until(lambda: len(said()) >= 4, 'four lines')
    assert said()[-4:] == [(30, 'made anew'), (20, 'ready'), (40, 'gone'), (30, 'openvino: slow')]


def test_a_problem_leaves_the_diagnostics_again(
    rig: Any, image_message: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from anomaly_seg_ros.node import statistics as frame_statistics

    monkeypatch.setattr(frame_statistics, 'RECENT_S', 1.0)
    rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    rig.send(broken(image_message(picture()), encoding='rgb12'))
    next_status(rig, 'input', lambda s: s.level == DiagnosticStatus.WARN)

    def good(status: Any) -> bool:
        rig.send(image_message(picture()))
        return bool(status.level == DiagnosticStatus.OK and status.message == 'images arrive')

    next_status(rig, 'input', good)


def test_padded_and_grey_images_go_through(rig: Any, image_message: Callable[..., Any]) -> None:
    rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    image = picture(0, 30, 41)
    plain, padded = (
        pixels(rig.answer(image_message(image, 'rgb8', padding), topics.SEMANTIC_MASK)[0])
        for padding in (0, 21)
    )
    assert (plain == padded).all()
    grey = np.full((24, 32), 14, np.uint8)
    (mask,) = rig.answer(image_message(grey, 'mono8'), topics.SEMANTIC_MASK)
    assert (pixels(mask) == 3).all()


@pytest.mark.parametrize(('given', 'bits', 'label'), [(0, 12, 3), (16, 16, 0)])
def test_significant_bits_are_found_or_given_and_said(
    given: int,
    bits: int,
    label: int,
    rig: Any,
    image_message: Callable[..., Any],
    capfd: Any,
) -> None:
    rig.activate(significant_bits=given)
    rig.connect(topics.SEMANTIC_MASK)
    grey = np.full((24, 32), 14 << 4, '<u2')
    grey[-1] = 4095
    for _ in range(2):
        (mask,) = rig.answer(image_message(grey, 'mono16'), topics.SEMANTIC_MASK)
        assert pixels(mask)[0, 0] == label
    said = f'mono16, {bits} significant bits'
    next_status(rig, 'input', lambda s: values(s)['encoding'] == said)
    assert capfd.readouterr().err.count(f'encoding {said}') == 1


def test_the_size_and_encoding_may_change_while_it_runs(
    rig: Any, image_message: Callable[..., Any]
) -> None:
    rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    for size, encoding in (((24, 32), 'rgb8'), ((48, 64), 'bgr8'), ((12, 20), 'rgb8')):
        image = picture(0, *size)
        message = image_message(image[..., ::-1] if encoding == 'bgr8' else image, encoding)
        (mask,) = rig.answer(message, topics.SEMANTIC_MASK)
        assert (mask.height, mask.width) == size
        assert pixels(mask)[0, 0] == 3
    status = next_status(rig, 'input', lambda s: values(s)['size'] == '12x20')
    assert values(status)['encoding'] == 'rgb8'


def test_an_engine_that_fails_does_not_end_the_node(
    rig: Any, image_message: Callable[..., Any], capfd: Any
) -> None:
    rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    rig.engine.fault = RuntimeError('out of memory')
    rig.send(image_message(picture()))
    rig.settle()
    next_status(rig, 'input', lambda s: 'RuntimeError: out of memory' in s.message)
    assert 'image dropped: RuntimeError: out of memory' in capfd.readouterr().err
    rig.engine.fault = None
    rig.answer(image_message(picture()), topics.SEMANTIC_MASK)


def test_old_frames_are_skipped(rig: Any, image_message: Callable[..., Any], capfd: Any) -> None:
    node = rig.activate(max_age_s=2.0)
    rig.connect(topics.SEMANTIC_MASK)
    stale = image_message(picture())
    stale.header.stamp.sec -= 60
    rig.send(stale)
    rig.settle()
    assert node.cameras[0].statistics.count('too_old') == 1
    status = next_status(rig, 'input', lambda s: 'max_age_s is 2.0' in s.message)
    assert values(status)['frames_too_old'] == '1'
    assert len(errors(capfd.readouterr().err)) == 1
    fresh = image_message(picture())
    fresh.header.stamp = node.get_clock().now().to_msg()
    rig.answer(fresh, topics.SEMANTIC_MASK)
    assert set_parameter(node, max_age_s=0.0).successful
    rig.answer(stale, topics.SEMANTIC_MASK)
    assert rig.engine.seen == [0, 0]


# --- parameters ----------------------------------------------------------------------------------


def test_a_number_of_the_wrong_kind_is_named_with_the_way_out(rig: Any) -> None:
    """`ros2 param set ... threshold 1` sends a whole number."""
    node = rig.activate()
    # As the service does, for one or several.
    answer = node.set_parameters_atomically([Parameter('threshold', value=1)])
    assert not answer.successful
    assert answer.reason == 'parameter threshold is 1; it must be of type float; write 1.0'
    assert not set_parameter(node, snapshot_dir='').successful
    assert set_parameter(node, threshold=1.0).successful
    answer = node.set_parameters_atomically([Parameter('cameras', value=['front'])])
    assert answer.reason == 'cameras is read-only; set it where the node is started'


def test_every_row_of_the_table_is_declared_with_its_meaning(rig: Any) -> None:
    node = rig.start()
    for row in parameters():
        described: Any = node.describe_parameter(row.name)
        assert row.help in described.description
        assert described.read_only == (row.effect == READ_ONLY)
        if row.choices:
            assert ', '.join(row.choices) in described.additional_constraints
        if row.range is not None:
            limits = next(iter((*described.floating_point_range, *described.integer_range)))
            assert (limits.from_value, limits.to_value) == row.range


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('overlay_alpha', 1.5),
        ('overlay_alpha', 'much'),
        ('overlay_alpha', 1),
        ('threshold', 2.0),
        ('threshold', float('nan')),
        ('min_region_area', -1),
        ('min_region_area', 1.0),
        ('output_resolution', 'half'),
        ('score_scale', 'raw'),  # with mono8
        ('autostart', True),
        ('input_reliability', 'reliable'),
        ('max_age_s', -1.0),
    ],
)
def test_values_that_do_not_fit_are_refused_with_a_reason(name: str, value: Any, rig: Any) -> None:
    node = rig.start()
    before = node.get_parameter(name).value
    result = set_parameter(node, **{name: value})
    assert not result.successful
    assert result.reason
    assert node.get_parameter(name).value == before
    assert getattr(node.config, name) == before


@pytest.mark.parametrize(
    ('values', 'what'),
    [
        ({'threshold': 1}, 'parameter threshold is 1; it must be of type float; write 1.0'),
        ({'overlay_alpha': 7.0}, 'parameter overlay_alpha: .*7.0'),
        ({'engine': 'onxx'}, "parameter engine is 'onxx'; choose one of: auto"),
        ({'score_scale': 'raw'}, 'set score_encoding to 32FC1'),
        ({'min_region_area': 'big'}, "parameter min_region_area is 'big'; it must be of type int"),
    ],
)
def test_start_up_values_that_do_not_fit(values: dict[str, Any], what: str, rig: Any) -> None:
    with pytest.raises(ValueError, match=what):
        rig.start(**values)


def test_parameters_that_nobody_has_are_an_error_that_helps(rig: Any) -> None:
    wrong = "unknown parameter 'treshold'; did you mean 'threshold'.; unknown parameter 'a.b'$"
    with pytest.raises(ValueError, match=wrong):
        rig.start(**{'treshold': 0.5, 'a.b': 1, 'overlay_alpha': 0.3})


def test_parameters_of_ros_itself_are_no_error(rig: Any, capfd: Any) -> None:
    image = rig.name(topics.IMAGE)
    rig.activate(
        **{
            'use_sim_time': False,
            'start_type_description_service': False,
            f'qos_overrides.{image}.subscription.depth': 3,
            f'qos_overrides.{image}s.subscription.depth': 3,
        }
    )
    said = [line for line in capfd.readouterr().err.splitlines() if 'qos_overrides' in line]
    assert len(said) == 1
    assert f'qos_overrides.{image}s.subscription.depth is of no topic of this node' in said[0]


def test_dynamic_parameters_hold_from_the_next_frame_on(
    rig: Any, image_message: Callable[..., Any]
) -> None:
    node = rig.activate()
    rig.connect(topics.ANOMALY_MASK, topics.OVERLAY)
    image = picture()
    image[..., 1] = 128  # half of normal pixels score lower
    image[:4, :4, 1] = 255

    def masked() -> int:
        (mask,) = rig.answer(image_message(image), topics.ANOMALY_MASK)
        return int((pixels(mask) == 255).sum())

    assert masked() == 16
    assert set_parameter(node, threshold=0.4).successful
    assert masked() == 24 * 32
    assert set_parameter(node, threshold=-1.0).successful
    assert masked() == 16
    assert set_parameter(node, min_region_area=17).successful
    assert masked() == 0
    assert set_parameter(node, min_region_area=16).successful
    assert masked() == 16
    image[..., 1] = 0
    for alpha in (0.0, 0.5, 1.0):
        assert set_parameter(node, overlay_alpha=alpha).successful
        (overlay,) = rig.answer(image_message(image), topics.OVERLAY)
        settings = PipelineSettings(0.9, 0, alpha)
        expected = build_pipeline(rig.engine, Checkpoint.open(rig.checkpoint).meta, settings)(
            image
        )
        assert (pixels(overlay)[..., ::-1] == expected.overlay).all()
    assert (pixels(overlay)[0, 0] == (128, 64, 128)).all()


def test_configure_time_parameters_are_refused_while_active(rig: Any) -> None:
    node = rig.activate()
    for row in parameters():
        others: dict[str, Any] = {'score_encoding': '32FC1', 'engine': 'torch'}
        others |= {'precision': 'fp32', 'significant_bits': 12}
        value = others.get(row.name, 'x' if isinstance(row.default, str) else row.default)
        if row.effect in (DYNAMIC, READ_ONLY) or (row.choices and value not in row.choices):
            continue
        result = set_parameter(node, **{row.name: value})
        assert not result.successful, row.name
        assert 'deactivate' in result.reason
    assert set_parameter(node, engine='auto').successful, 'no change'
    assert node.trigger_deactivate() == SUCCESS
    assert set_parameter(node, engine='torch').successful


def test_a_change_while_inactive_waits_for_the_next_configure(
    rig: Any, image_message: Callable[..., Any]
) -> None:
    node = rig.activate()
    rig.connect(topics.ANOMALY_SCORE)
    assert node.trigger_deactivate() == SUCCESS
    assert set_parameter(node, score_encoding='32FC1').successful
    assert node.trigger_activate() == SUCCESS
    rig.spin_until(rig.publisher.get_subscription_count)
    (answer,) = rig.answer(image_message(picture()), topics.ANOMALY_SCORE)
    assert answer.encoding == 'mono8'


def test_a_batch_is_taken_whole_or_not_at_all(rig: Any) -> None:
    node = rig.activate()
    changes = [Parameter('overlay_alpha', value=0.1), Parameter('engine', value='torch')]
    assert not node.set_parameters_atomically(changes).successful
    assert node.config.overlay_alpha == 0.45
    pair = [
        Parameter('score_scale', value='raw'),
        Parameter('score_encoding', value='32FC1'),
    ]
    assert node.trigger_deactivate() == SUCCESS
    assert node.set_parameters_atomically(pair).successful


def test_an_unknown_parameter_is_named_with_the_one_that_may_be_meant(rig: Any) -> None:
    node = rig.start()
    wanted = [Parameter('thresold', value=0.9).to_parameter_msg()]
    (result,) = ask(rig, '~/set_parameters', SetParameters, parameters=wanted).results
    assert not result.successful
    assert result.reason == "unknown parameter 'thresold'; did you mean 'threshold'?"
    several = [Parameter('threshold', value=0.9), Parameter('nothing_like_it', value=1)]
    result = node.set_parameters_atomically(several)
    assert result.reason == "unknown parameter 'nothing_like_it'"
    assert node.config.threshold == -1.0


def test_parameters_of_others_are_none_of_our_business(rig: Any) -> None:
    node = rig.start()
    assert set_parameter(node, use_sim_time=True).successful


# --- label info ----------------------------------------------------------------------------------


def test_label_info_reaches_late_joiners(rig: Any) -> None:
    rig.activate(score_encoding='32FC1')
    rig.listen(topics.LABEL_INFO_JSON, kind=String, latched=True)
    heard = rig.heard[topics.LABEL_INFO_JSON]
    rig.spin_until(lambda: heard, 'the latched message')
    info = json.loads(heard[0].data)
    assert info['schema'] == 1
    assert info['classes'][3] == {'id': 3, 'name': 'road', 'color': [128, 64, 128]}
    assert len(info['classes']) == 11
    assert info['unlabelled_id'] == 255
    score = info['score']
    assert (score['name'], score['threshold'], score['encoding']) == ('max_logit', 0.9, '32FC1')
    assert score['value'] == 'pixel'
    assert score['false_positive_rate'] == 0.1
    assert len(score['calibration']['shares']) == len(score['calibration']['raw_scores']) == 257
    checkpoint = Checkpoint.open(rig.checkpoint)
    assert info['model']['weights_sha256'] == checkpoint.weights_sha256
    assert info['engine'] == {
        'name': 'fake',
        'key': checkpoint.score_key('max_logit'),
        'precision': 'fp32',
        'input_size': [24, 32],
        'description': 'fake engine',
    }


def test_label_info_follows_the_threshold(rig: Any) -> None:
    node = rig.activate()
    assert set_parameter(node, threshold=0.75).successful
    assert set_parameter(node, overlay_alpha=0.1).successful
    rig.listen(topics.LABEL_INFO_JSON, kind=String, latched=True)
    heard = rig.heard[topics.LABEL_INFO_JSON]
    rig.spin_until(lambda: heard)
    assert json.loads(heard[-1].data)['score']['threshold'] == 0.75


# --- diagnostics and quality of service ----------------------------------------------------------


def test_diagnostics_of_a_running_node(rig: Any, image_message: Callable[..., Any]) -> None:
    rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    before = next_status(rig, 'inference')
    assert before.message == 'no frame processed yet'
    assert values(before)['processing_time_ms'] == 'n/a'
    for _ in range(3):
        rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    status = next_status(rig, 'inference', lambda s: s.message == 'processing')
    assert status.level == DiagnosticStatus.OK
    assert values(status)['frames_processed'] == '3'
    stages = ('preprocess', 'inference', 'postprocess', 'publish')
    times = {stage: float(values(status)[f'{stage}_time_ms']) for stage in stages}
    assert all(value >= 0 for value in times.values())
    assert float(values(status)['processing_time_ms']) > 0
    anomaly = values(next_status(rig, 'anomaly'))
    assert anomaly == {'anomalous_share': '0.500', 'threshold': '0.900', 'alarms': '1'}
    engine = next_status(rig, 'engine')
    assert engine.message == 'fake in fp32'
    assert values(engine)['checkpoint'] == str(rig.checkpoint)
    assert values(engine)['input_size'] == '24x32'
    got = values(next_status(rig, 'input'))
    assert got['topic'] == rig.name(topics.IMAGE)
    assert (got['publishers'], got['size'], got['encoding']) == ('1', '24x32', 'rgb8')
    assert float(got['rate_hz']) > 0


def test_diagnostics_name_the_device_of_the_engine(rig: Any) -> None:
    node = rig.start()
    assert next_status(rig, 'engine').hardware_id == ''
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    for task in ('engine', 'gpu', 'input', 'inference', 'anomaly'):
        status = next_status(rig, task, lambda s: s.hardware_id)
        assert status.hardware_id == 'GPU of paper'


def test_diagnostics_do_not_need_a_clock(rig: Any) -> None:
    """Under use_sim_time and before /clock, ROS time stands still at 0."""
    node = rig.activate(use_sim_time=True)
    assert node.get_clock().now().nanoseconds == 0
    rig.listen(topics.DIAGNOSTICS, kind=DiagnosticArray)
    heard = rig.heard[topics.DIAGNOSTICS]
    rig.spin_until(lambda: len(heard) >= 3)


def test_frames_go_through_before_the_clock(rig: Any, image_message: Callable[..., Any]) -> None:
    rig.activate(use_sim_time=True, max_age_s=1.0)
    rig.connect(topics.SEMANTIC_MASK)
    rig.answer(image_message(picture()), topics.SEMANTIC_MASK)


def test_diagnostics_come_every_second(rig: Any) -> None:
    node = rig.start()
    assert node._second.timer_period_ns == 10**9


def test_nobody_publishes(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_watch, 'INPUT_TIMEOUT_S', 0.2)
    rig.activate()
    image = rig.name(topics.IMAGE)
    status = next_status(rig, 'input', lambda s: s.level == DiagnosticStatus.WARN)
    assert status.message == (
        f'nobody publishes {image}; remap image to the camera topic, or start the camera with the '
        'ROS_DOMAIN_ID of this node'
    )
    # There are images elsewhere: most likely that is the camera.
    raw = rig.camera(topic=rig.name('camera/image_raw'))
    status = next_status(rig, 'input', lambda s: 'image_raw' in s.message)
    assert status.message == (
        f'nobody publishes {image}; remap image to one that has images: {raw.topic_name}'
    )
    # Something else is on the topic.
    with other_process(rig.namespace) as other:
        other.create_publisher(CompressedImage, image, 1)
        status = next_status(rig, 'input', lambda s: 'carries' in s.message)
        kinds = 'sensor_msgs/msg/CompressedImage, and sensor_msgs/msg/Image is read'
        assert f'{image} carries {kinds}; set input_transport to comp' in status.message
    with other_process(rig.namespace) as other:
        other.create_publisher(CompressedImage, f'{image}/compressed', 1)
        words = f'nobody publishes {image}; set input_transport to compressed'
        next_status(rig, 'input', lambda s: words in s.message)
    # A camera that says nothing is another matter.
    rig.camera(reliable=False)
    status = next_status(rig, 'input', lambda s: 'has a publisher' in s.message)
    assert 'config/fastdds_shm.xml' in status.message


def test_a_camera_that_goes_and_comes_is_in_the_log(
    rig: Any, image_message: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setattr(input_watch, 'INPUT_TIMEOUT_S', 0.2)
    rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    rig.user.destroy_publisher(rig.publisher)
    gone = f'the publisher of {rig.name("image")} has gone; start the camera driver again'
    for _ in range(2):
        next_status(rig, 'input', lambda s: s.message == gone)
    rig.camera()
    rig.spin_until(rig.publisher.get_subscription_count)
    monkeypatch.setattr(input_watch, 'INPUT_TIMEOUT_S', 60.0)
    rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    next_status(rig, 'input', lambda s: s.message == 'images arrive')
    log = capfd.readouterr().err
    assert log.count(gone) == 1, 'once, not every second'
    assert log.count('images arrive again') == 1


def test_it_waits_for_the_first_image_after_each_activate(
    rig: Any, image_message: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_watch, 'INPUT_TIMEOUT_S', 60.0)
    node = rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    for _ in range(2):
        waiting = next_status(rig, 'input')
        assert (waiting.level, waiting.message) == (
            DiagnosticStatus.OK,
            'waits for the first image',
        )
        rig.send(image_message(picture()))
        next_status(rig, 'input', lambda s: s.message == 'images arrive')
        assert ask(rig, topics.RESET_STATISTICS).success
        status = next_status(rig, 'input', lambda s: values(s)['frames_received'] == '0')
        assert status.message == 'images arrive'
        assert node.trigger_deactivate() == SUCCESS
        assert node.trigger_activate() == SUCCESS
        rig.spin_until(rig.publisher.get_subscription_count, 'the camera to match')


def test_nobody_publishes_for_one_of_several_cameras(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_watch, 'INPUT_TIMEOUT_S', 0.2)
    node = rig.start(cameras=['front', 'left'])
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    rig.camera(topic=rig.name('front/image'))
    left = rig.name('left/image')
    next_status(rig, 'front input', lambda s: values(s)['publishers'] == '1')
    status = next_status(rig, 'left input', lambda s: s.level == DiagnosticStatus.WARN)
    assert status.message == (
        f'nobody publishes {left}; remap left/image to the camera topic, or start the camera with '
        'the ROS_DOMAIN_ID of this node'
    )
    other = rig.camera(topic=rig.name('camera/image_raw')).topic_name
    status = next_status(rig, 'left input', lambda s: 'image_raw' in s.message)
    assert status.message == (
        f'nobody publishes {left}; remap left/image to one that has images: {other}'
    )


def test_strange_stamps_are_said_and_the_images_processed(
    rig: Any, image_message: Callable[..., Any], capfd: Any
) -> None:
    node = rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    rig.listen(topics.REGIONS_JSON, kind=String)
    first, second = image_message(picture()), image_message(picture())
    first.header.stamp.sec -= 2
    rig.answer(second, topics.SEMANTIC_MASK)
    rig.answer(first, topics.SEMANTIC_MASK)
    status = next_status(rig, 'input', lambda s: values(s)['stamps_back'] == '1')
    assert status.level == DiagnosticStatus.OK
    assert float(values(status)['age_s']) == pytest.approx(2, abs=0.5)
    assert 'stamps went back by 2.0 s: a bag began again, or the clock' in capfd.readouterr().err
    rig.spin_until(lambda: len(rig.heard[topics.REGIONS_JSON]) == 2)
    regions = [json.loads(message.data)['regions'] for message in rig.heard[topics.REGIONS_JSON]]
    assert [region['seen'] for (region,) in regions] == [1, 1], 'nothing is remembered over it'
    for _ in range(2):
        rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
        first.header.stamp.sec -= 1
        rig.answer(first, topics.SEMANTIC_MASK)
    status = next_status(rig, 'input', lambda s: values(s)['stamps_back'] == '3')
    assert status.level == DiagnosticStatus.WARN
    assert 'stamps of images go back again and again: two cameras on one topic' in status.message
    ahead = image_message(picture())
    ahead.header.stamp.sec = int(node.get_clock().now().nanoseconds * 1e-9) + 3600
    rig.answer(ahead, topics.SEMANTIC_MASK)
    status = next_status(rig, 'input', lambda s: 'ahead of the clock' in s.message)
    assert status.level == DiagnosticStatus.WARN


def test_lost_images_are_counted_and_said(rig: Any) -> None:
    node = rig.activate()
    camera = node.cameras[0]
    lost = QoSSubscriptionEventType.RCL_SUBSCRIPTION_MESSAGE_LOST
    handlers = {h.event_type: h for h in camera.input.subscription.event_handlers}
    handlers[lost].callback(types.SimpleNamespace(total_count=40, total_count_change=34))
    status = next_status(rig, 'input', lambda s: 'were lost on the way' in s.message)
    assert status.level == DiagnosticStatus.ERROR
    assert (values(status)['frames_lost'], values(status)['lost_share']) == ('34', '1.000')


def test_a_middleware_that_does_not_count_lost_images(
    rig: Any, image_message: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[set[str]] = []

    def callbacks(**events: Any) -> Any:
        asked.append(set(events))
        if 'message_lost' in events:
            raise UnsupportedEventTypeError('as rmw would say')
        return SubscriptionEventCallbacks(**events)

    monkeypatch.setattr('anomaly_seg_ros.ros.camera_input.SubscriptionEventCallbacks', callbacks)
    rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    assert asked[0] == {'incompatible_qos', 'message_lost'}
    assert asked[1] == {'incompatible_qos'}


def test_an_output_that_cannot_be_trusted_is_an_error(
    rig: Any, image_message: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, 'JUDGED_S', 0.3)
    rig.activate()
    rig.connect()
    strange = picture()
    strange[:, 5:, 1] = 255

    def show(_: Any) -> bool:
        rig.send(image_message(strange))
        return bool(_.message.startswith('the output cannot be trusted: 84 % of the picture'))

    status = next_status(rig, 'output', show)
    assert status.level == DiagnosticStatus.ERROR
    assert values(status)['trusted'] == 'False'


def test_incompatible_qos_is_reported_while_it_lasts_with_the_way_out(
    rig: Any, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setattr(input_watch, 'INPUT_TIMEOUT_S', 0.2)
    rig.activate(input_reliability='reliable')
    rig.camera(reliable=False)
    status = next_status(rig, 'input', lambda s: values(s)['incompatible_qos'] != '0')
    assert status.level == DiagnosticStatus.WARN
    assert 'set input_reliability to best_effort or auto' in status.message
    assert values(status)['reliability'] == 'reliable'
    assert rig.publisher.get_subscription_count() == 0
    assert 'offers incompatible QoS; set input_reliability' in capfd.readouterr().err
    # With that camera gone it is no cause of anything any more.
    rig.user.destroy_publisher(rig.publisher)
    rig.camera()
    rig.spin_until(rig.publisher.get_subscription_count)
    status = next_status(rig, 'input', lambda s: 'although' in s.message)
    assert values(status)['incompatible_qos'] == '0'


def test_auto_reads_any_camera_that_comes(
    rig: Any, image_message: Callable[..., Any], capfd: Any
) -> None:
    node = rig.activate()
    rig.listen(topics.SEMANTIC_MASK)
    assert (
        node.cameras[0].input.subscription.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    )
    # A reliable camera: the node becomes reliable too.
    first = rig.camera(reliable=True)
    rig.spin_until(
        lambda: (
            node.cameras[0].input.subscription.qos_profile.reliability
            == ReliabilityPolicy.RELIABLE
        ),
        'the upgrade',
    )
    rig.spin_until(first.get_subscription_count)
    rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    status = next_status(rig, 'input', lambda s: values(s)['reliability'] == 'reliable')
    assert values(status)['incompatible_qos'] == '0'
    # It is replaced by one that is not: back again.
    rig.user.destroy_publisher(first)
    second = rig.camera(reliable=False)
    rig.spin_until(second.get_subscription_count, 'the way back')
    assert (
        node.cameras[0].input.subscription.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    )
    rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    status = next_status(rig, 'input', lambda s: values(s)['reliability'] == 'best_effort')
    assert values(status)['incompatible_qos'] == '0'
    # Nobody is told to set what is set.
    assert 'set input_reliability' not in capfd.readouterr().err


def test_no_image_is_lost_or_taken_twice_while_the_reliability_changes(
    rig: Any, image_message: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [ReliabilityPolicy.BEST_EFFORT]
    monkeypatch.setattr('anomaly_seg_ros.ros.qos.choose_reliability', lambda *_: chosen[0])
    camera = rig.activate().cameras[0]
    rig.connect()
    rig.send(image_message(picture()))
    # One is on its way when another subscription is made, and one comes by both of them.
    chosen[0] = ReliabilityPolicy.RELIABLE
    rig.publisher.publish(image_message(picture()))
    camera.input.review()
    rig.spin_until(lambda: camera.statistics.count('received') == 2, 'the one on its way')
    rig.spin_until(lambda: rig.publisher.get_subscription_count() == 2, 'both to match')
    rig.send(image_message(picture()))
    rig.spin_until(lambda: rig.publisher.get_subscription_count() == 1, 'the first to be gone')
    rig.send(image_message(picture()))
    assert camera.statistics.count('received') == 4
    assert camera.input.subscription.qos_profile.reliability == ReliabilityPolicy.RELIABLE


@pytest.mark.parametrize('asked', ['best_effort', 'reliable'])
def test_the_reliability_that_is_asked_for_stays(asked: str, rig: Any) -> None:
    node = rig.activate(input_reliability=asked)
    rig.camera(reliable=True)
    rig.spin_until(rig.publisher.get_subscription_count)
    next_status(rig, 'input', lambda s: values(s)['publishers'] == '1')
    assert values(next_status(rig, 'input'))['reliability'] == asked
    assert node.cameras[0].input.subscription.qos_profile.reliability.name.lower() == asked


def test_quality_of_service_can_be_overridden(rig: Any, image_message: Callable[..., Any]) -> None:
    image, mask = rig.name(topics.IMAGE), rig.name(topics.SEMANTIC_MASK)
    overrides = {
        f'qos_overrides.{image}.subscription.depth': 3,
        f'qos_overrides.{mask}.publisher.reliability': 'best_effort',
    }
    node = rig.activate(**overrides)
    assert node.cameras[0].input.subscription.qos_profile.depth == 3
    (info,) = node.get_publishers_info_by_topic(mask)
    assert info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    # Only what was named.
    for topic in (*OUTPUTS[1:], topics.LABEL_INFO_JSON):
        (info,) = node.get_publishers_info_by_topic(rig.name(topic))
        assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE, topic
    # They survive a new subscription and new publishers.
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_cleanup() == SUCCESS
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    assert node.cameras[0].input.subscription.qos_profile.depth == 3


def test_an_override_that_makes_no_sense_is_an_error_and_no_hang(rig: Any, capfd: Any) -> None:
    image = rig.name(topics.IMAGE)
    node = rig.start(**{f'qos_overrides.{image}.subscription.history': 'sometimes'})
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() != SUCCESS
    assert state(node) in ('inactive', 'unconfigured')
    assert node._worker is None
    assert 'history' in capfd.readouterr().err


@pytest.mark.parametrize(
    ('name', 'value', 'way_out'),
    [
        ('~/overlay.publisher.reliability', 'sloppy', 'choose one of: .*reliable, best_effort'),
        ('~/overlay.publisher.depth', -3, 'write a whole number from 0 to 2147483647'),
        ('~/camera_info.publisher.history', 'unknown', 'choose one of: .*keep_last, keep_all'),
        ('image.subscription.depth', 'deep', 'write a whole number'),
        ('image.subscription.depth', 2**31, 'write a whole number'),
        ('image.subscription.history', True, 'choose one of: '),
    ],
)
def test_an_override_that_does_not_exist_is_one_line_with_what_it_may_be(
    name: str, value: Any, way_out: str, rig: Any, capfd: Any
) -> None:
    topic, _, policy = name.partition('.')
    parameter = f'qos_overrides.{rig.name(topic)}.{policy}'
    node = rig.start(**{parameter: value})
    if node.trigger_configure() == SUCCESS:
        assert node.trigger_activate() == FAILURE
    assert state(node) == ('inactive' if topic == 'image' else 'unconfigured')
    assert re.match(re.escape(f'parameter {parameter} is {value!r}; ') + way_out, node.problem)
    (line,) = errors(capfd.readouterr().err)
    assert node.problem in line


def test_the_image_can_be_remapped(rig: Any, image_message: Callable[..., Any]) -> None:
    camera = f'{rig.namespace}/camera/image_raw'
    remapped_node(rig, camera)
    rig.camera(topic=camera)
    rig.listen(topics.SEMANTIC_MASK)
    rig.spin_until(rig.publisher.get_subscription_count)
    rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    assert values(next_status(rig, 'input'))['topic'] == camera
