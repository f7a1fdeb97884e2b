"""Odd and malformed messages and parameters: the node lives, counts each and keeps its memory.

`make fuzz` sends 10,000 of each kind, `make test` a hundred.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
import os
from pathlib import Path
import random
import sys
import time
from typing import Any

import numpy as np
import pytest

pytest.importorskip('rclpy')

from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from anomaly_seg_ros.frames.images import encode_image
from anomaly_seg_ros.node import topics
from anomaly_seg_ros.node.config import parameters
from anomaly_seg_ros.node.statistics import UNPROCESSED
from anomaly_seg_ros.ros.camera import THROTTLE_S

LONG = bool(os.environ.get('ANOMALY_SEG_LONG'))
COUNT = 10_000 if LONG else 120
pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(1800 if LONG else 180)]

ENCODINGS = (
    'rgb8', 'bgr8', 'rgba8', 'mono8', 'mono16', '16UC1', '32FC1', 'bayer_rggb8', 'yuv422',
    'nv12', 'nv21', 'rgb16', '', '\x00', 'RGB8', 'ünïcode', '../../etc/passwd', 'x' * 5000,
)  # fmt: skip
SIZES = (0, 1, 2, 3, 23, 24, 32, 33, 65_536, 2**31, 2**32 - 1)
FORMATS = (
    '', 'jpeg', 'png', 'rgb8; jpeg compressed bgr8', '16UC1; compressedDepth png',
    'bayer_rggb8; png compressed ', '; ; ;', 'h264', 'ü' * 300,
)  # fmt: skip


def odd_header(chance: random.Random, header: Any) -> None:
    header.stamp.sec = chance.choice((0, 1, -1, 2**31 - 1, -(2**31), int(time.time())))
    header.stamp.nanosec = chance.choice((0, 999_999_999, 10**9, 2**32 - 1))
    header.frame_id = chance.choice(('', 'camera', '../../../tmp/x', '/etc/passwd', 'x' * 2000))


def odd_image(chance: random.Random) -> Image:
    message = Image(
        height=chance.choice(SIZES),
        width=chance.choice(SIZES),
        encoding=chance.choice(ENCODINGS),
        step=chance.choice((0, 1, 31, 32, 96, 97, 128, 2**32 - 1)),
        is_bigendian=chance.choice((0, 1, 255)),
    )
    if chance.random() < 0.5:  # nearly right
        message.height, message.width, message.step = 24, 32, chance.choice((96, 97, 95, 64))
        message.encoding = chance.choice(('rgb8', 'mono8', 'mono16', 'nv12'))
    size = chance.choice((0, 1, 95, 24 * 96, 24 * 97, 4096))
    message.data = array('B', chance.randbytes(size))
    odd_header(chance, message.header)
    return message


def odd_compressed(chance: random.Random) -> CompressedImage:
    pixels = np.frombuffer(chance.randbytes(24 * 32 * 3), np.uint8).reshape(24, 32, 3)
    data = bytearray(encode_image(pixels, chance.choice(('.png', '.jpg'))))
    for _ in range(chance.choice((0, 0, 1, 8))):
        data[chance.randrange(len(data))] = chance.randrange(256)
    if chance.random() < 0.3:
        data = data[: chance.randrange(len(data))]
    message = CompressedImage(format=chance.choice(FORMATS), data=array('B', bytes(data)))
    odd_header(chance, message.header)
    return message


def odd_camera_info(chance: random.Random) -> CameraInfo:
    numbers = (0.0, 1.0, -1.0, 1e308, float('nan'), float('inf'))
    message = CameraInfo(
        height=chance.choice(SIZES),
        width=chance.choice(SIZES),
        distortion_model=chance.choice(('', 'plumb_bob', 'x' * 3000)),
        d=array('d', [chance.choice(numbers) for _ in range(chance.choice((0, 5, 500)))]),
        k=np.array([chance.choice(numbers) for _ in range(9)]),
        binning_x=chance.choice((0, 1, 2**32 - 1)),
    )
    odd_header(chance, message.header)
    return message


def odd_values(chance: random.Random) -> Iterator[Parameter]:
    names = [row.name for row in parameters()]
    for _ in range(chance.choice((1, 1, 3))):
        name = chance.choice((*names, 'no_such', '', 'qos_overrides./x.y', 'a' * 300))
        value = chance.choice((True, 0, -1, 2**62, 0.5, -1e300, float('nan'), '', 'auto', 'ü'))
        yield Parameter(name, value=value)


def resident_mb() -> float:
    pages = int(Path('/proc/self/statm').read_text(encoding='utf-8').split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 2**20


def fuzz(rig: Any, send: Callable[[int], None], capfd: Any) -> None:
    """Sends odd things; looks at memory and log behind a warm-up."""
    began = time.monotonic()
    lines, before = 0, 0.0
    for number in range(COUNT):
        send(number)
        if number == COUNT // 4:
            before = resident_mb()
        if number % 100 == 0:
            lines += count_errors(capfd)
    rig.settle()
    lines += count_errors(capfd)
    statistics = rig.node.cameras[0].statistics
    ends = sum(statistics.count(what) for what in ('processed', *UNPROCESSED))
    assert statistics.count('received') == ends
    assert statistics.count('failed') > COUNT / 10
    # One line of a kind in five seconds; a transition, a stamp or an info may have its own.
    kinds = 4
    assert lines <= kinds * (1 + (time.monotonic() - began) / THROTTLE_S)
    assert resident_mb() - before < 24


def count_errors(capfd: Any) -> int:
    text = capfd.readouterr()
    assert 'Traceback' not in text.err + text.out
    return sum('[ERROR]' in line or '[WARN]' in line for line in text.err.splitlines())


def still_works(rig: Any, image_message: Callable[..., Any]) -> None:
    rig.answer(image_message(np.zeros((24, 32, 3), np.uint8)), topics.SEMANTIC_MASK)


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_odd_images_and_parameters(
    rig: Any, image_message: Callable[..., Any], capfd: Any
) -> None:
    # At the network's size every info is scaled, and only where somebody listens.
    rig.activate(input_reliability='reliable', output_resolution='network')
    rig.connect(topics.SEMANTIC_MASK, topics.OVERLAY)
    rig.listen(topics.CAMERA_INFO_OUT, kind=CameraInfo)
    infos = rig.user.create_publisher(CameraInfo, rig.name(topics.CAMERA_INFO), 1)
    setter = rig.user.create_client(SetParameters, rig.name('~/set_parameters'))
    rig.spin_until(setter.service_is_ready, 'the service')
    chance = random.Random(0)
    kept = [Parameter(row.name, value=getattr(rig.node.config, row.name)) for row in parameters()]

    def change(values: Sequence[Parameter]) -> None:
        asked = SetParameters.Request(parameters=[value.to_parameter_msg() for value in values])
        answer = setter.call_async(asked)
        rig.spin_until(answer.done, 'the answer')
        assert all(result.successful or result.reason for result in answer.result().results)

    def send(number: int) -> None:
        rig.send(odd_image(chance))
        rig.settle()
        infos.publish(odd_camera_info(chance))
        change(list(odd_values(chance)))
        if number % 50 == 49:  # or most images would be too old
            change(kept)

    fuzz(rig, send, capfd)
    change(kept)
    still_works(rig, image_message)


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_odd_compressed_images(rig: Any, image_message: Callable[..., Any], capfd: Any) -> None:
    rig.activate(input_transport='compressed', input_reliability='reliable')
    rig.connect(topics.SEMANTIC_MASK, topic=rig.name('image/compressed'), kind=CompressedImage)
    chance = random.Random(1)

    def send(number: int) -> None:
        rig.send(odd_compressed(chance))
        rig.settle()

    fuzz(rig, send, capfd)
    whole = CompressedImage(header=image_message(np.zeros((24, 32, 3), np.uint8)).header)
    whole.data = array('B', encode_image(np.zeros((24, 32, 3), np.uint8), '.png'))
    rig.answer(whole, topics.SEMANTIC_MASK)
