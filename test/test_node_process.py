"""The executable as its own process: signals, big frames, and the same bytes as `predict`."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest

pytest.importorskip('rclpy')

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import String

from anomaly_seg_ros.frames.images import read_image, read_pixels
from anomaly_seg_ros.node import middleware_profile, topics

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(420)]

START_S = 90.0
"""For a process to import, load its engine and be discovered, on a loaded machine."""
EXIT_S = 20.0
CHECKPOINT = os.environ.get('ANOMALY_SEG_CHECKPOINT', 'default')
"""Of the test on CamVid; another one can be tried by the variable."""
FRAMES = 30


class NodeProcess:
    """`anomaly_seg_node` in a process of its own; stderr goes to a file."""

    def __init__(self, root: Path, log: Path, namespace: str, ignores_interrupt: bool = False):
        self.root, self.log, self.namespace = root, log, namespace
        self._ignores_interrupt = ignores_interrupt
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> NodeProcess:
        command = [sys.executable, '-m', 'anomaly_seg_ros.ros.start', '--ros-args']
        command += ['-r', f'__ns:={self.namespace}']
        for argument in arguments:
            command += ['-p', argument]
        if self._ignores_interrupt:  # as a shell does for what it runs in the background
            command = ['sh', '-c', 'trap "" INT; exec "$@"', 'sh', *command]
        with self.log.open('wb') as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.root,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def text(self) -> str:
        return self.log.read_text(encoding='utf-8', errors='replace')

    def alive(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f'the node ended:\n{self.text()}'
        return True

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, seconds: float = EXIT_S) -> int:
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f'the node did not end in {seconds:.0f} s:\n{self.text()}')

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def node(bench: Any, root: Path, tmp_path: Path) -> Iterator[NodeProcess]:
    process = NodeProcess(root, tmp_path / 'node.log', bench.namespace)
    yield process
    process.kill()


class Viewer:
    """A camera and a viewer in this process for the node in the other."""

    def __init__(self, bench: Any, node: NodeProcess, reliability: ReliabilityPolicy):
        self.bench, self.node = bench, node
        self.heard: dict[str, list[Any]] = {}
        self.infos: list[Any] = []
        self.sent = 0
        profile = QoSProfile(depth=1, reliability=reliability)
        self.camera = bench.user.create_publisher(Image, self.name(topics.IMAGE), profile)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        bench.user.create_subscription(
            String, self.name(topics.LABEL_INFO_JSON), self.infos.append, latched
        )

    def name(self, topic: str) -> str:
        return topics.resolve(topic, self.node.namespace)

    def listen(self, *outputs: str) -> None:
        for topic in outputs:
            self.heard[topic] = []
            self.bench.user.create_subscription(
                Image, self.name(topic), self.heard[topic].append, QoSProfile(depth=5)
            )
        self.wait_for(
            lambda: all(self.bench.user.count_publishers(self.name(topic)) for topic in outputs),
            f'publishers of {outputs}',
        )
        self.wait_for(self.camera.get_subscription_count, 'the node to read the camera')

    def wait_for(self, predicate: Callable[[], object], what: str) -> None:
        self.bench.spin_until(lambda: self.node.alive() and predicate(), what, START_S)

    def wait_until_active(self) -> dict[str, Any]:
        """Gives the label info."""
        self.wait_for(lambda: self.infos, 'the label info')
        self.wait_for(lambda: 'anomaly_seg]: reading ' in self.node.text(), 'it to be active')
        info: dict[str, Any] = json.loads(self.infos[-1].data)
        return info

    def ask(self, message: Image, repeat_s: float = 2.0) -> dict[str, Any]:
        """Sends until every output of this frame is there: a first frame may meet no reader."""
        answers: dict[str, Any] = {}

        def look() -> bool:
            for topic, messages in self.heard.items():
                for answer in messages:
                    if answer.header == message.header:
                        answers[topic] = answer
            return len(answers) == len(self.heard)

        for _ in range(int(START_S / repeat_s)):
            self.camera.publish(message)
            self.sent += 1
            end = self.bench.user.get_clock().now().nanoseconds + repeat_s * 1e9
            self.bench.spin_until(
                lambda end=end: (
                    self.node.alive()
                    and (look() or self.bench.user.get_clock().now().nanoseconds > end)
                )
            )
            if look():
                for messages in self.heard.values():
                    messages.clear()
                return answers
        pytest.fail(f'no answer on {set(self.heard) - set(answers)}:\n{self.node.text()}')


def message_of(image: NDArray[np.uint8], number: int, encoding: str = 'rgb8') -> Image:
    message = Image(
        height=image.shape[0], width=image.shape[1], encoding=encoding, step=image.shape[1] * 3
    )
    message.data = array('B', image.tobytes())
    message.header.frame_id = 'front_camera'
    message.header.stamp.sec, message.header.stamp.nanosec = 1_700_000_000 + number, 7 * number
    return message


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_active_node_cleanly(
    number: signal.Signals,
    bench: Any,
    node: NodeProcess,
    exported_checkpoint: Path,
) -> None:
    node.start(f'checkpoint:={exported_checkpoint}')
    viewer = Viewer(bench, node, ReliabilityPolicy.RELIABLE)
    viewer.wait_until_active()
    viewer.listen(topics.OVERLAY)
    viewer.ask(message_of(np.zeros((64, 96, 3), np.uint8), 1))
    node.send(number)
    node.send(signal.SIGINT)  # as launch repeats that of its terminal
    assert node.wait() == 0, node.text()
    assert 'Traceback' not in node.text()
    assert '[ERROR]' not in node.text()


def test_interrupt_ends_a_node_that_a_shell_started_in_the_background(
    bench: Any, root: Path, tmp_path: Path, exported_checkpoint: Path
) -> None:
    node = NodeProcess(root, tmp_path / 'node.log', bench.namespace, ignores_interrupt=True)
    try:
        node.start(f'checkpoint:={exported_checkpoint}')
        Viewer(bench, node, ReliabilityPolicy.RELIABLE).wait_until_active()
        node.send(signal.SIGINT)
        assert node.wait() == 0, node.text()
    finally:
        node.kill()


def test_a_node_that_cannot_be_configured_ends_with_1_if_that_is_asked_for(
    node: NodeProcess,
) -> None:
    node.start('checkpoint:=/no/such/folder', 'exit_on_failure:=true')
    assert node.wait(START_S) == 1, node.text()
    assert "no checkpoint folder '/no/such/folder'" in node.text()
    assert 'Traceback' not in node.text()


def test_a_node_that_cannot_be_configured_waits_and_ends_cleanly(
    bench: Any, node: NodeProcess
) -> None:
    node.start('checkpoint:=/no/such/folder')
    bench.spin_until(lambda: node.alive() and '[ERROR]' in node.text(), 'the error', START_S)
    # Later services prove that it lives on.
    client_name = f'{node.namespace}/{topics.NODE_NAME}/get_state'
    bench.spin_until(
        lambda: node.alive() and client_name in dict(bench.user.get_service_names_and_types()),
        'its services',
        START_S,
    )
    node.send(signal.SIGTERM)
    assert node.wait() == 0, node.text()
    assert "no checkpoint folder '/no/such/folder'" in node.text()


@pytest.mark.parametrize(
    ('argument', 'what'),
    [
        ('threshold:=1', 'parameter threshold is 1; it must be of type float; write 1.0'),
        ('engine:=onxx', "parameter engine is 'onxx'; choose one of: auto, tensorrt, "),
        ('overlay_alpha:=3.0', 'parameter overlay_alpha: '),
    ],
)
def test_wrong_parameters_are_one_line_and_exit_2(
    argument: str, what: str, node: NodeProcess
) -> None:
    node.start(argument)
    assert node.wait(START_S) == 2
    lines = node.text().strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f'anomaly_seg_node: {what}')


def test_full_hd_frames_cross_processes_by_best_effort(
    bench: Any, node: NodeProcess, exported_checkpoint: Path
) -> None:
    """6 MB a frame through shared memory, which takes the profile on the sender."""
    variables = (middleware_profile.PROFILE_VARIABLE, middleware_profile.OLD_PROFILE_VARIABLE)
    if not any(os.environ.get(name) for name in variables):
        pytest.skip(
            middleware_profile.shm_profile_environment().warning or 'no Fast DDS profile set'
        )
    node.start(f'checkpoint:={exported_checkpoint}', 'input_reliability:=best_effort')
    viewer = Viewer(bench, node, ReliabilityPolicy.BEST_EFFORT)
    viewer.wait_until_active()
    outputs = (topics.SEMANTIC_MASK, topics.ANOMALY_MASK, topics.OVERLAY)
    viewer.listen(*outputs)
    image = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    for number in range(5):
        image[0, 0] = number
        sent = message_of(image, number, 'bgr8')
        answers = viewer.ask(sent, repeat_s=5)
        for answer in answers.values():
            assert answer.header == sent.header
            assert (answer.height, answer.width) == (1080, 1920)
        assert len(answers[topics.OVERLAY].data) == 1080 * 1920 * 3
    # Without the profile one in many may come through by luck.
    assert viewer.sent <= 10
    node.send(signal.SIGINT)
    assert node.wait() == 0, node.text()


@pytest.mark.acceptance
def test_masks_of_camvid_are_byte_for_byte_those_of_predict(
    bench: Any,
    node: NodeProcess,
    camvid_test: list[Path],
    outwards: Callable[[], list[str]],
    root: Path,
    tmp_path: Path,
) -> None:
    """The main job: camera frames in over DDS, the masks of the checkpoint out, and no more."""
    paths = camvid_test[:: len(camvid_test) // FRAMES][:FRAMES]
    assert len(paths) == FRAMES
    node.start(f'checkpoint:={CHECKPOINT}', 'score_encoding:=32FC1', 'score_scale:=raw')
    viewer = Viewer(bench, node, ReliabilityPolicy.RELIABLE)
    engine = viewer.wait_until_active()['engine']
    outputs = (topics.SEMANTIC_MASK, topics.ANOMALY_MASK, topics.ANOMALY_SCORE)
    viewer.listen(*outputs)
    got = {}
    for number, path in enumerate(paths):
        sent = message_of(read_image(path), number)
        answers = viewer.ask(sent)
        for topic, answer in answers.items():
            assert answer.header == sent.header, (path.name, topic)
        got[path.stem] = answers
    node.send(signal.SIGINT)
    assert node.wait() == 0, node.text()

    out = tmp_path / 'predicted'
    command = [sys.executable, '-m', 'anomaly_seg_ros', 'predict', *map(str, paths)]
    command += ['--checkpoint', CHECKPOINT, '--save', 'labels,mask,score', '--out', str(out)]
    command += ['--engine', engine['name'], '--precision', engine['precision']]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    anomalous = classes = 0
    for stem, answers in got.items():
        labels = read_pixels(out / f'{stem}_labels.png', cv2.IMREAD_UNCHANGED)
        mask = read_pixels(out / f'{stem}_mask.png', cv2.IMREAD_UNCHANGED)
        score = np.load(out / f'{stem}_score.npy')
        assert labels.shape == (answers[outputs[0]].height, answers[outputs[0]].width)
        assert answers[topics.SEMANTIC_MASK].data.tobytes() == labels.tobytes(), stem
        assert answers[topics.ANOMALY_MASK].data.tobytes() == mask.tobytes(), stem
        assert answers[topics.ANOMALY_SCORE].data.tobytes() == score.tobytes(), stem
        anomalous += int(mask.any())
        classes = max(classes, np.unique(labels).size)
    # Blank masks would be equal too.
    assert anomalous > 0
    assert classes >= 5
    assert outwards() == []
