"""What breaks on a vehicle: it recovers or is one clear line, and nothing else suffers."""

from __future__ import annotations

from collections.abc import Callable
import json
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

pytest.importorskip('rclpy')

from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from anomaly_seg_ros.engines import open_engine
from anomaly_seg_ros.node import topics

pytestmark = [pytest.mark.ros, pytest.mark.timeout(180)]

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


def picture() -> Any:
    return np.zeros((24, 32, 3), np.uint8)


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if '[ERROR]' in line or '[FATAL]' in line]


@pytest.mark.parametrize('harm', ['deleted', 'corrupted', 'replaced'])
def test_a_checkpoint_that_changes_below_a_running_node(
    harm: str, rig: Any, image_message: Callable[..., Any], tmp_path: Path, capfd: Any
) -> None:
    """What runs, runs on; the next configure says what is wrong, and one behind it is fine."""
    node = rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    kept = shutil.copytree(rig.checkpoint, tmp_path / 'kept')
    meta = rig.checkpoint / 'meta.json'
    if harm == 'deleted':
        shutil.rmtree(rig.checkpoint)
    elif harm == 'corrupted':
        meta.write_bytes(meta.read_bytes()[:40])
    else:
        meta.write_text('{"format": 99}', encoding='utf-8')
    rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    rig.spin_until(rig.publisher.get_subscription_count)
    assert errors(capfd.readouterr().err) == []
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_cleanup() == SUCCESS
    assert node.trigger_configure() == FAILURE
    (said,) = errors(capfd.readouterr().err)
    assert str(rig.checkpoint) in said
    shutil.rmtree(rig.checkpoint, ignore_errors=True)
    shutil.copytree(kept, rig.checkpoint)
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS


@pytest.mark.slow
@pytest.mark.parametrize('harm', ['deleted', 'cut', 'overwritten', 'replaced'])
def test_an_engine_that_changes_below_a_running_node(
    harm: str,
    rig: Any,
    image_message: Callable[..., Any],
    exported_checkpoint: Path,
    tmp_path: Path,
    capfd: Any,
) -> None:
    """Nothing of a file may be read while frames come: one that is cut would kill the process."""
    engine = shutil.copytree(exported_checkpoint / 'engines/openvino', tmp_path / 'engine')
    rig.checkpoint, rig.open_engine = exported_checkpoint, open_engine
    node = rig.activate(engine_path=str(engine), engine='openvino', input_reliability='reliable')
    rig.connect(topics.SEMANTIC_MASK)
    (before,) = rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    kept = shutil.copytree(engine, tmp_path / 'kept')
    weights = engine / 'model.bin'
    if harm == 'deleted':
        shutil.rmtree(engine)
    elif harm == 'cut':
        os.truncate(weights, 100)
    elif harm == 'overwritten':
        weights.write_bytes(bytes(weights.stat().st_size))
    else:
        key = engine / 'engine.json'
        text = re.sub('"score": "[a-z_]+"', '"score": "msp"', key.read_text(encoding='utf-8'))
        key.write_text(text, encoding='utf-8')
    (after,) = rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    assert after.data == before.data
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    assert errors(capfd.readouterr().err) == []
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_cleanup() == SUCCESS
    assert node.trigger_configure() == FAILURE
    (said,) = errors(capfd.readouterr().err)
    assert str(engine) in said
    shutil.rmtree(engine, ignore_errors=True)
    shutil.copytree(kept, engine)
    assert node.trigger_configure() == SUCCESS


def test_a_camera_that_is_unplugged_and_back(rig: Any, image_message: Callable[..., Any]) -> None:
    node = rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    for _ in range(2):
        rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
        rig.user.destroy_publisher(rig.publisher)
        name = node.cameras[0].input.topic
        rig.spin_until(lambda: not node.count_publishers(name), 'the camera to be gone')  # noqa: B023
        rig.camera()
        rig.spin_until(rig.publisher.get_subscription_count, 'the camera to be read again')
    rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    statistics = node.cameras[0].statistics
    assert (statistics.count('received'), statistics.count('processed')) == (3, 3)


CUDA = RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total of ...')


def test_no_memory_for_a_frame_costs_that_frame(
    rig: Any, image_message: Callable[..., Any], capfd: Any
) -> None:
    node = rig.activate()
    rig.connect(topics.SEMANTIC_MASK)
    rig.engine.fault = CUDA
    for _ in range(3):
        rig.send(image_message(picture()))
        rig.settle()
    rig.engine.fault = None
    rig.answer(image_message(picture()), topics.SEMANTIC_MASK)
    assert node.cameras[0].statistics.count('failed') == 3
    (said,) = errors(capfd.readouterr().err)
    assert 'CUDA out of memory' in said


def test_no_memory_for_the_engine_is_one_line_and_can_be_mended(rig: Any, capfd: Any) -> None:
    node = rig.start()
    rig.open_fault = CUDA
    assert node.trigger_configure() == FAILURE
    text = capfd.readouterr().err
    (said,) = errors(text)
    assert 'out of memory; end other programs, or take smaller images or another engine' in said
    assert 'Traceback' not in text
    rig.open_fault = None
    assert node.trigger_configure() == SUCCESS


# --- the process ---------------------------------------------------------------------------------

NODE = [sys.executable, '-m', 'anomaly_seg_ros.ros.start', '--ros-args', '-r']
START_S = 60.0


def until_active(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + START_S
    while ': reading ' not in (text := log.read_text(encoding='utf-8', errors='replace')):
        assert process.poll() is None, text
        assert time.monotonic() < end, text
        time.sleep(0.05)
    return text


@pytest.mark.slow
def test_a_killed_node_comes_back(
    bench: Any,
    root: Path,
    tmp_path: Path,
    exported_checkpoint: Path,
    image_message: Callable[..., Any],
) -> None:
    """What a killed one leaves, in shared memory and in the graph, is not in the way."""
    namespace = f'__ns:={bench.namespace}'
    command = [*NODE, namespace, '-p', f'checkpoint:={exported_checkpoint}']
    command += ['--enclave', '/cars/front']
    mask, image = (
        topics.resolve(n, bench.namespace) for n in (topics.SEMANTIC_MASK, topics.IMAGE)
    )
    heard: list[Image] = []
    publisher = bench.user.create_publisher(Image, image, 1)
    bench.user.create_subscription(Image, mask, heard.append, 1)
    message = image_message(picture())
    node = ('anomaly_seg', bench.namespace, '/cars/front')
    for number in range(2):
        log = tmp_path / f'{number}.log'
        with log.open('wb') as out:
            process = subprocess.Popen(
                command, cwd=root, stdout=out, stderr=out, start_new_session=True
            )
        try:
            until_active(process, log)
            bench.spin_until(
                lambda: node in bench.user.get_node_names_and_namespaces_with_enclaves(),
                'the node with its enclave',
            )
            bench.spin_until(publisher.get_subscription_count, 'the node to listen')
            heard.clear()
            bench.spin_until(lambda: heard or publisher.publish(message), 'a mask')
        finally:
            process.kill()
            process.wait()


ENCLOSED = 'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"'


@pytest.mark.slow
@pytest.mark.parametrize('size', ['256k', '64m'])
def test_a_small_shared_memory(size: str, root: Path, tmp_path: Path) -> None:
    """As in a container: masks come, by the network where the segment finds no room.

    Camera, node and listener are those of the demo, each in that memory.
    """
    shell = ['unshare', '-m', 'sh', '-c', ENCLOSED.format(size=size), 'sh']
    if subprocess.run([*shell, 'true'], capture_output=True, check=False).returncode:
        pytest.skip('no mount of our own may be made here')
    frames = ['--frames', '4', '--rate', '2', '--out', str(tmp_path)]
    done = subprocess.run(
        [*shell, sys.executable, '-m', 'anomaly_seg_ros', 'demo', *frames],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / 'summary.json').read_text(encoding='utf-8'))
    assert (summary['frames_sent'], summary['frames_received']) == (4, 4)
    assert 'Traceback' not in done.stderr


READ_ONLY = 'mount -t tmpfs tmpfs {logs} && mount -o remount,bind,ro / / && exec "$@"'


@pytest.mark.slow
def test_a_read_only_file_system(
    bench: Any,
    root: Path,
    tmp_path: Path,
    exported_checkpoint: Path,
    image_message: Callable[..., Any],
) -> None:
    """The node works; what would be written is one clear answer. Only logs have a place."""
    logs = tmp_path / 'logs'
    logs.mkdir()
    shell = ['unshare', '-m', 'sh', '-c', READ_ONLY.format(logs=logs), 'sh']
    touched = [*shell, 'touch', str(tmp_path / 'x')]
    said = subprocess.run(touched, capture_output=True, text=True, check=False).stderr
    if 'Read-only' not in said:
        pytest.skip('no mount of our own may be made here')
    mask, image = (
        topics.resolve(n, bench.namespace) for n in (topics.SEMANTIC_MASK, topics.IMAGE)
    )
    heard: list[Image] = []
    publisher = bench.user.create_publisher(Image, image, 1)
    bench.user.create_subscription(Image, mask, heard.append, 1)
    snapshot = bench.user.create_client(Trigger, topics.resolve(topics.SNAPSHOT, bench.namespace))
    log = tmp_path / 'node.log'
    with log.open('wb') as out:
        process = subprocess.Popen(
            [*shell, *NODE, f'__ns:={bench.namespace}', '-p', f'checkpoint:={exported_checkpoint}',
             '-p', f'snapshot_dir:={tmp_path}'],
            cwd=root, stdout=out, stderr=out, start_new_session=True,
            env=os.environ | {'ROS_LOG_DIR': str(logs), 'HOME': str(tmp_path)},
        )  # fmt: skip
    try:
        until_active(process, log)
        bench.spin_until(publisher.get_subscription_count, 'the node to listen')

        def mask_comes() -> bool:
            publisher.publish(image_message(picture()))
            bench.executor.spin_once(timeout_sec=0.1)
            return bool(heard)

        bench.spin_until(mask_comes, 'a mask')
        bench.spin_until(snapshot.service_is_ready, 'the service')
        answer = snapshot.call_async(Trigger.Request())
        bench.spin_until(answer.done, 'the answer')
        assert not answer.result().success
        assert answer.result().message.startswith('cannot write below snapshot_dir')
        assert 'Read-only file system' in answer.result().message
        heard.clear()
        bench.spin_until(mask_comes, 'a mask behind it')
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert 'Traceback' not in log.read_text(encoding='utf-8')
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize('keys', [False, True])
def test_what_a_secured_ros_refuses_is_one_line(keys: bool, root: Path, tmp_path: Path) -> None:
    """SROS 2: the enclave is taken from the arguments; without its keys there is no node.

    With keys neither on the wheels of PyPI, whose Fast DDS is built without security.
    """
    if keys:
        (tmp_path / 'enclaves' / 'cars' / 'front').mkdir(parents=True)
    secured = {
        'ROS_SECURITY_ENABLE': 'true',
        'ROS_SECURITY_STRATEGY': 'Enforce',
        'ROS_SECURITY_KEYSTORE': str(tmp_path),
    }
    done = subprocess.run(
        [*NODE, '__ns:=/secured', '--enclave', '/cars/front'],
        cwd=root, env=os.environ | secured, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith('anomaly_seg_node: ROS does not start: ')
    words = ('security libraries', 'unset ROS_SECURITY_ENABLE') if keys else (
        'SECURITY ERROR', 'enclaves/cars/front', 'ros2 security create_enclave',
    )  # fmt: skip
    assert all(word in line for word in words)
