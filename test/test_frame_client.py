"""The demo's camera and viewer: what it hands on, and that it keeps no picture for long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import gc
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pytest

pytest.importorskip('rclpy')

from sensor_msgs.msg import Image
from std_msgs.msg import Header

from anomaly_seg_ros.node import topics
from anomaly_seg_ros.node.outputs import image_outputs, usual_outputs
from anomaly_seg_ros.ros.frame_client import connected_client, FRAME_ID, FrameClient, KEPT

pytestmark = [pytest.mark.ros, pytest.mark.timeout(180)]

OUTPUTS = image_outputs(usual_outputs())


def picture(number: int) -> NDArray[np.uint8]:
    """Road (3), anomalous to the right."""
    image = np.zeros((24, 32, 3), np.uint8)
    image[..., 0], image[:, 16:, 1], image[..., 2] = 3, 255, number
    return image


def kept_pictures() -> int:
    """Messages of ours that somebody still holds, large or not."""
    gc.collect()
    found = (thing for thing in gc.get_objects() if type(thing) is Image)
    return sum(image.header.frame_id == FRAME_ID and len(image.data) > 0 for image in found)


class Heard:
    """Keeps of each frame only the numbers that a test looks at."""

    def __init__(self) -> None:
        self.frames: list[int] = []
        self.topics: set[str] = set()
        self.anomalous: list[int] = []

    def __call__(self, number: int, images: Mapping[str, Any]) -> None:
        self.frames.append(number)
        self.topics |= set(images)
        self.anomalous.append(bytes(images[topics.ANOMALY_MASK].data).count(255))


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def client(ros: None, rig: Any, heard: Heard) -> Iterator[FrameClient]:
    """A client of the rig's node, spun together with it."""
    result = FrameClient(rig.namespace, heard)
    rig.activate()
    yield result
    result.close()


def turn(rig: Any, client: FrameClient, done: Any) -> None:
    def both() -> bool:
        client.spin_until(lambda: True, 0.0)
        client.spin_until(done, 0.01)
        return bool(done())

    rig.spin_until(both, 'the client')


def play(rig: Any, client: FrameClient, numbers: range) -> None:
    for number in numbers:
        client.send(number, picture(number))
        turn(rig, client, lambda number=number: client.has_answered(number))


def test_every_frame_is_handed_on_whole_and_then_let_go(
    rig: Any, client: FrameClient, heard: Heard
) -> None:
    turn(rig, client, client.node_is_ready)
    play(rig, client, range(1))
    reused = kept_pictures()  # one of each topic, filled anew for every frame
    play(rig, client, range(1, 40))
    assert kept_pictures() <= reused + 1
    assert heard.frames == list(range(40))
    assert heard.topics == set(OUTPUTS)
    assert heard.anomalous == [24 * 16] * 40
    assert client.complete() == 40
    latencies = [client.answers[number].latency_ms for number in range(40)]
    assert all(latency is not None and latency > 0 for latency in latencies)


def message(client: FrameClient, number: int) -> Image:
    """An output of a frame that was sent."""
    sec, nanosec = next(stamp for stamp, (sent, _) in client._sent.items() if sent == number)
    header = Header(frame_id=FRAME_ID)
    header.stamp.sec, header.stamp.nanosec = sec, nanosec
    return Image(header=header, height=1, width=1, step=1, encoding='mono8', data=[number])


def test_frames_that_never_become_whole_do_not_pile_up(ros: None, heard: Heard) -> None:
    client = FrameClient('/nobody', heard)
    try:
        receive = {topic: client._receiver(topic) for topic in OUTPUTS}
        before = kept_pictures()
        for number in range(30):
            client.send(number, picture(number))
            for topic in OUTPUTS[:-1]:
                receive[topic](message(client, number))
        assert kept_pictures() - before <= (KEPT + 1) * len(OUTPUTS)
        assert (heard.frames, client.complete()) == ([], 0)
        # The newest of them can still become whole; an old one counts, without its pictures.
        for number in (29, 0):
            receive[OUTPUTS[-1]](message(client, number))
        assert heard.frames == [29]
        assert client.complete() == 2
    finally:
        client.close()


def test_without_a_taker_no_picture_is_kept(ros: None) -> None:
    client = FrameClient('/nobody')
    try:
        before = kept_pictures()
        for number in range(10):
            client.send(number, picture(number))
            for topic in OUTPUTS:
                client._receiver(topic)(message(client, number))
        assert kept_pictures() <= before + 1
        assert client.complete() == 10
    finally:
        client.close()


def test_where_ros_does_not_start_the_client_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('ROS_DOMAIN_ID', 'abc')
    with pytest.raises(ValueError, match="ROS_DOMAIN_ID is 'abc'"), connected_client('/nowhere'):
        pass
