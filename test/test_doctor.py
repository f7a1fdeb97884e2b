"""What the doctor says of a machine and of a camera topic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import importlib
import importlib.util
import logging
from pathlib import Path
import shutil
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.commands import doctor
from anomaly_seg_ros.doctor import machine
from anomaly_seg_ros.doctor.findings import BAD, DOUBTFUL, Observation, verdict
from anomaly_seg_ros.frames.images import encode_image
from anomaly_seg_ros.node import middleware_profile

MIB = 2**20


def test_the_verdict_names_the_worst_first_and_the_next_step() -> None:
    fine, slow = Observation('a', 'x'), Observation('b', 'y', DOUBTFUL, 'do this')
    bad = Observation('c', 'z', BAD)
    assert verdict([fine]) == 'ready: start the node'
    assert verdict([fine, slow]) == 'ready, but: b: y; next: do this'
    assert verdict([fine, slow, bad]) == 'not ready: c: z'


def test_a_topic_without_a_name_is_wrong_usage(capsys: Any) -> None:
    """As of a variable of the shell that is not set."""
    assert main(['doctor', '--topic', '']) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("--topic is ''; write the name of a topic, or leave --topic out")


def test_the_machine_is_looked_at_as_a_whole() -> None:
    level = logging.getLogger('anomaly_seg_ros.engines').level
    found = {one.what: one for one in machine.machine(Checkpoint.open('default'))}
    assert {'machine', 'allocator', 'torch', 'openvino', 'onnx', 'tensorrt', 'engine'} == set(
        found
    )
    assert 'usable cores' in found['machine'].text
    assert 'openvino 20' in found['openvino'].text
    assert 'key ' in found['engine'].text
    assert found['engine'].state != BAD
    # The node of the same process goes on to say what it chooses.
    assert logging.getLogger('anomaly_seg_ros.engines').level == level


def test_a_checkpoint_that_nothing_can_run(
    monkeypatch: pytest.MonkeyPatch, fake_checkpoint: Path
) -> None:
    def none(*_: object) -> None:
        raise ImportError('no engine can run here: not openvino')

    monkeypatch.setattr(machine, 'choose_engine', none)
    found = [one for one in machine.machine(Checkpoint.open(fake_checkpoint)) if one.state == BAD]
    assert [one.what for one in found] == ['engine']


@pytest.mark.parametrize(('free', 'state'), [(500, 'good'), (40, DOUBTFUL)])
def test_shared_memory_of_a_container(
    free: int, state: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = SimpleNamespace(total=512 * MIB, free=free * MIB)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage)
    monkeypatch.setattr(middleware_profile, 'SHARED_MEMORY', tmp_path)
    found = {one.what: one for one in machine.middleware({'ROS_DISTRO': 'jazzy'})}
    assert found['shm'].state == state
    assert 'jazzy; ROS_DISTRO=jazzy' in found['ros'].text


def test_without_ros_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(doctor, 'find_spec', lambda name: None if name == 'rclpy' else find(name))
    assert main(['doctor']) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == (
        'not ready: rclpy: not found; next: source the setup file of ROS and that of the workspace'
    )


@contextmanager
def playing(camera: Any, message: Any) -> Iterator[None]:
    """Publishes a message ten times a second, stamped where it has a stamp."""
    over = threading.Event()
    stamp = message.header.stamp

    def play() -> None:
        while not over.wait(0.1):
            if stamp.sec:
                stamp.sec, stamp.nanosec = divmod(time.time_ns(), 10**9)
            camera.publish(message)

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


LOOK = """
import sys
from anomaly_seg_ros.commands import doctor
from anomaly_seg_ros.doctor.findings import verdict

def look():
    print(f'size {(yield from doctor.camera(sys.argv[1]))}')

print(verdict(list(look())))
"""


def look(topic: str, root: Path) -> list[str]:
    """Gives the size and the verdict that the doctor has of a topic, each in a line."""
    done = subprocess.run(
        [sys.executable, '-c', LOOK, topic],
        cwd=root, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.ros
@pytest.mark.slow
def test_a_camera_whose_images_the_node_drops_is_bad(
    bench: Any, image_message: Any, root: Path
) -> None:
    from sensor_msgs.msg import CompressedImage, Image

    topic = f'{bench.namespace}/camera/image_raw'
    depth = image_message(np.zeros((72, 96, 1), np.float32), '32FC1')
    with playing(bench.user.create_publisher(Image, topic, 1), depth):
        size, said = look(topic, root)
    assert size == 'size None'
    assert said.startswith(f"not ready: topic: {topic}: image dropped: unknown encoding '32FC1'")
    topic = f'{topic}/compressed'
    camera = bench.user.create_publisher(CompressedImage, topic, 1)
    with playing(camera, CompressedImage(format='jpeg', data=b'garbage')):
        size, said = look(topic, root)
    assert size == 'size None'
    assert said.startswith(f'not ready: topic: {topic}: image dropped: cannot decode 7 bytes')
    assert 'the node needs input_transport: compressed' in said
    # It is never stamped, which the node says and takes the images all the same.
    data = encode_image(np.zeros((72, 96, 3), np.uint8), '.png')
    with playing(camera, CompressedImage(format='png', data=data)):
        size, said = look(topic, root)
    assert size == 'size (72, 96)'
    assert said.startswith(f'ready, but: topic: {topic}: images carry no stamp (0)')
    message = CompressedImage(format='png', data=data, header=depth.header)
    of_another_name = bench.user.create_publisher(
        CompressedImage, f'{bench.namespace}/camera/jpeg', 1
    )
    for sender in (camera, of_another_name):
        with playing(sender, message):
            assert look(sender.topic_name, root) == [
                'size (72, 96)',
                'ready: write input_transport: compressed into a file and launch with '
                'params_file:=FILE',
            ]
    second = bench.user.create_publisher(CompressedImage, topic, 1)
    with playing(second, message):
        _, said = look(topic, root)
    many = f'2 send {topic}, and are taken for one camera'
    assert said == f'ready, but: publishers: {many}; next: leave one of them'


@pytest.mark.ros
@pytest.mark.slow
def test_a_name_that_is_none_is_one_line(root: Path) -> None:
    pytest.importorskip('rclpy')
    for topic in ('bad topic', '/9cam', 'a//b'):
        size, said = look(topic, root)
        assert size == 'size None'
        assert said.startswith('not ready: topic: ROS does not start: '), said
        assert f'image:={topic}' in said
        assert said.endswith('next: write the name of a topic')


@pytest.mark.ros
@pytest.mark.slow
def test_a_camera_and_a_frame_there_and_back(bench: Any, image_message: Any, root: Path) -> None:
    from sensor_msgs.msg import Image

    topic = f'{bench.namespace}/camera/image_raw'
    camera = bench.user.create_publisher(Image, topic, 1)
    message = image_message(np.zeros((72, 96, 3), np.uint8))
    array = importlib.import_module('diagnostic_msgs.msg').DiagnosticArray
    heard = []
    bench.user.create_subscription(array, '/diagnostics', heard.append, 10)
    with playing(camera, message):
        done = subprocess.run(
            [sys.executable, '-m', 'anomaly_seg_ros', 'doctor', '--topic', topic],
            cwd=root, capture_output=True, text=True, check=False, timeout=100,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = {line[10:21].strip(): line for line in done.stdout.splitlines() if line[:1] in 'gdb'}
    assert 'sensor_msgs/msg/Image, reliable, volatile' in lines['publisher']
    assert 'images arrive' in lines['topic']
    assert '72x96, rgb8' in lines['topic']
    assert '72x96 to the mask in' in lines['loopback']
    assert done.stdout.splitlines()[-1].startswith('ready')
    until = time.monotonic() + 1
    bench.spin_until(lambda: time.monotonic() > until, 'what waits to be taken')
    names = [status.name for message in heard for status in message.status]
    assert not [name for name in names if 'doctor' in name], "a try-out is none of the vehicle's"
