"""The worker with cameras that are plain objects: two threads, one pass, no frame lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pytest

from anomaly_seg_ros.frames.pipeline import build_pipeline
from anomaly_seg_ros.frames.result import Prepared
from anomaly_seg_ros.node import handover as handover_module
from anomaly_seg_ros.node import worker as worker_module
from anomaly_seg_ros.node.handover import Handover
from anomaly_seg_ros.node.worker import Worker
from anomaly_seg_ros.prediction import Prediction

DEADLINE_S = 20.0


def image(number: int) -> NDArray[np.uint8]:
    """A picture whose label is its number, which `FakeEngine.seen` shows too."""
    return np.full((24, 32, 3), number, np.uint8)


class PlainCamera:
    """A camera without ROS: what the worker gives it lies in lists."""

    def __init__(self, pipeline: Any, name: str):
        self._pipeline = pipeline
        self.name = name
        self.labels: list[int] = []
        self.errors: list[str] = []
        self.discarded = 0
        self.preparing: set[int] = set()
        self.finishing: set[int] = set()
        self.prepare_s = 0.0
        self.unwanted: set[int] = set()
        self.unpublishable: set[int] = set()

    def prepare(self, message: NDArray[np.uint8]) -> Prepared | None:
        self.preparing.add(threading.get_ident())
        time.sleep(self.prepare_s)
        if int(message.flat[0]) in self.unwanted:
            return None
        prepared: Prepared = self._pipeline.prepare(message)
        return prepared

    def finish(self, message: Any, prepared: Prepared, prediction: Prediction) -> None:
        self.finishing.add(threading.get_ident())
        label = int(self._pipeline.finish(prepared, prediction).labels[0, 0])
        if label in self.unpublishable:
            raise RuntimeError('no subscriber has room')
        self.labels.append(label)

    def fail(self, error: Exception) -> None:
        self.errors.append(str(error))

    def discard(self) -> None:
        self.discarded += 1

    @property
    def dealt_with(self) -> int:
        return len(self.labels) + len(self.errors)


def wait(predicate: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not predicate():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.fixture
def engine(fake_engine: Any) -> Any:
    """Also notes the sizes of the passes and the threads they come from."""
    fake_engine.passes, fake_engine.threads = [], set()
    infer_batch = fake_engine.infer_batch

    def noted(images: Any) -> Any:
        fake_engine.passes.append(len(images))
        fake_engine.threads.add(threading.get_ident())
        return infer_batch(images)

    fake_engine.infer_batch = noted
    return fake_engine


@pytest.fixture
def cameras(engine: Any, make_fake_meta: Callable[..., Any]) -> list[PlainCamera]:
    meta = make_fake_meta()
    return [PlainCamera(build_pipeline(engine, meta), name) for name in ('front', 'left', 'rear')]


@contextmanager
def running(engine: Any, most: int) -> Iterator[Worker[Any]]:
    worker: Worker[Any] = Worker(engine, most)
    worker.start()
    try:
        yield worker
    finally:
        engine.gate.set()
        worker.stop()


@contextmanager
def all_waiting(engine: Any, cameras: list[PlainCamera], most: int = 3) -> Iterator[Worker[Any]]:
    """A worker that is busy with a frame of a fourth camera until the block is left."""
    with running(engine, most) as worker:
        busy = PlainCamera(cameras[0]._pipeline, 'busy')
        engine.gate.clear()
        worker.put(busy, image(0))
        wait(lambda: engine.seen == [0])
        yield worker
        engine.gate.set()
        wait(lambda: busy.labels == [0])


def test_what_waits_goes_through_in_one_pass(engine: Any, cameras: list[PlainCamera]) -> None:
    with all_waiting(engine, cameras) as worker:
        for number, camera in enumerate(cameras, 1):
            worker.put(camera, image(number))
        engine.gate.set()
        wait(lambda: all(camera.labels for camera in cameras))
    assert engine.passes == [1, 3]
    assert [camera.labels for camera in cameras] == [[1], [2], [3]]


def test_a_pass_takes_no_more_than_asked_and_the_longest_waiting_first(
    engine: Any, cameras: list[PlainCamera]
) -> None:
    front, left, rear = cameras
    with all_waiting(engine, cameras, most=2) as worker:
        worker.put(rear, image(1))
        worker.put(left, image(2))
        worker.put(front, image(3))
        assert worker.put(rear, image(4)) is True
        engine.gate.set()
        wait(lambda: all(camera.labels for camera in cameras))
    assert engine.passes == [1, 2, 1]
    assert engine.seen == [0, 4, 2, 3]


def test_one_camera_is_one_frame_a_pass(engine: Any, cameras: list[PlainCamera]) -> None:
    with running(engine, 1) as worker:
        for number in range(5):
            worker.put(cameras[0], image(number))
            wait(lambda number=number: len(cameras[0].labels) == number + 1)
    assert engine.passes == [1] * 5
    assert cameras[0].labels == [0, 1, 2, 3, 4]


def test_one_thread_prepares_and_another_has_the_engine(
    engine: Any, cameras: list[PlainCamera]
) -> None:
    with running(engine, 3) as worker:
        for number in range(20):
            for camera in cameras:
                worker.put(camera, image(number))
            time.sleep(0.001)
        wait(lambda: all(camera.labels[-1:] == [19 % 11] for camera in cameras))
    second = engine.threads | set().union(*(camera.finishing for camera in cameras))
    first = set().union(*(camera.preparing for camera in cameras))
    assert (len(first), len(second), len(first | second)) == (1, 1, 2)
    assert threading.get_ident() not in first | second


def test_the_next_image_is_prepared_while_one_is_inferred(
    engine: Any, cameras: list[PlainCamera]
) -> None:
    """As fast as the engine alone, and what goes in is no older than it must be."""
    (camera, *_), count = cameras, 16
    engine.latency_s, camera.prepare_s = 0.05, 0.02
    received = dropped = 0
    with running(engine, 1) as worker:
        wait(lambda: not worker.put(camera, image(0)))
        wait(lambda: camera.labels)
        began = time.monotonic()
        while len(camera.labels) < count + 1:
            dropped += worker.put(camera, image(0))
            received += 1
            time.sleep(0.005)
        each_s = (time.monotonic() - began) / count
    received += 1
    assert each_s < engine.latency_s + 0.6 * camera.prepare_s
    assert received == len(camera.labels) + dropped + camera.discarded


def test_what_is_prepared_is_no_older_than_it_must_be(
    engine: Any, cameras: list[PlainCamera]
) -> None:
    (camera, *_), ages_s = cameras, []
    engine.latency_s, camera.prepare_s = 0.1, 0.005
    sent: list[float] = []
    prepare = camera.prepare

    def noted(message: NDArray[np.uint8]) -> Prepared | None:
        ages_s.append(time.monotonic() - sent[-1])
        began.append(time.monotonic())
        return prepare(message)

    began: list[float] = []
    camera.prepare = noted  # type: ignore[method-assign]
    with running(engine, 1) as worker:
        while len(camera.labels) < 8:
            sent.append(time.monotonic())
            worker.put(camera, image(0))
            time.sleep(0.01)
    gaps = np.diff(began)
    assert np.median(ages_s) < 0.02
    assert np.median(gaps) > 0.09, 'prepared once a pass, not once an image'


def test_what_is_prepared_and_not_run_is_discarded(
    engine: Any, cameras: list[PlainCamera]
) -> None:
    front, left, _ = cameras
    with running(engine, 1) as worker:
        worker.put(front, image(1))
        wait(lambda: front.labels == [1])  # from now on a pass is known to be short
        engine.gate.clear()
        worker.put(front, image(2))
        wait(lambda: engine.seen == [1, 2])
        worker.put(left, image(3))
        wait(lambda: left.preparing)
        threading.Timer(0.1, engine.gate.set).start()
        worker.stop()
    assert (front.labels, left.labels, left.discarded) == ([1, 2], [], 1)
    assert engine.seen == [1, 2]


def test_one_bad_message_does_not_lose_the_others(engine: Any, cameras: list[PlainCamera]) -> None:
    front, left, rear = cameras
    with all_waiting(engine, cameras) as worker:
        worker.put(front, image(1))
        worker.put(left, np.zeros((5, 5), np.uint8))
        worker.put(rear, image(3))
        engine.gate.set()
        wait(lambda: all(camera.dealt_with for camera in cameras))
    assert (front.labels, rear.labels, left.labels) == ([1], [3], [])
    assert 'an image must be (H, W, 3)' in left.errors[0]
    assert engine.passes == [1, 2]


def test_one_frame_that_the_engine_refuses_does_not_lose_the_others(
    engine: Any, cameras: list[PlainCamera]
) -> None:
    infer = engine.infer

    def picky(pixels: NDArray[np.uint8]) -> Prediction:
        if pixels[0, 0, 2] == 2:
            raise RuntimeError('out of memory')
        prediction: Prediction = infer(pixels)
        return prediction

    engine.infer = picky
    front, left, rear = cameras
    with all_waiting(engine, cameras) as worker:
        for number, camera in enumerate(cameras, 1):
            worker.put(camera, image(number))
        engine.gate.set()
        wait(lambda: all(camera.dealt_with for camera in cameras))
        worker.put(left, image(5))
        wait(lambda: left.dealt_with == 2)
    assert (front.labels, left.labels, rear.labels) == ([1], [5], [3])
    assert left.errors == ['out of memory']
    assert (front.errors, rear.errors) == ([], [])
    assert engine.passes == [1, 3, 1, 1, 1, 1]


def test_one_camera_that_cannot_publish_does_not_stop_the_others(
    engine: Any, cameras: list[PlainCamera]
) -> None:
    cameras[0].unpublishable = {1}
    with all_waiting(engine, cameras) as worker:
        for number, camera in enumerate(cameras, 1):
            worker.put(camera, image(number))
        engine.gate.set()
        wait(lambda: all(camera.dealt_with for camera in cameras))
    assert [camera.labels for camera in cameras] == [[], [2], [3]]
    assert cameras[0].errors == ['no subscriber has room']


def test_a_frame_that_is_not_wanted_costs_no_pass(engine: Any, cameras: list[PlainCamera]) -> None:
    cameras[0].unwanted = {1}
    with running(engine, 3) as worker:
        worker.put(cameras[0], image(1))
        wait(lambda: cameras[0].preparing)
        worker.put(cameras[0], image(2))
        wait(lambda: cameras[0].labels)
    assert engine.seen == [2]


def test_each_frame_of_a_pass_is_timed_by_the_whole_pass(
    engine: Any, make_fake_meta: Callable[..., Any]
) -> None:
    taken: list[dict[str, float]] = []

    class Timed(PlainCamera):
        def finish(self, message: Any, prepared: Prepared, prediction: Prediction) -> None:
            taken.append(prepared.times_ms)

    pipeline = build_pipeline(engine, make_fake_meta())
    cameras: list[PlainCamera] = [Timed(pipeline, name) for name in ('front', 'left')]
    with all_waiting(engine, cameras, most=2) as worker:
        for camera in cameras:
            worker.put(camera, image(1))
        engine.latency_s = 0.02
        engine.gate.set()
        wait(lambda: len(taken) == 2)
    assert taken[0]['inference'] == taken[1]['inference'] >= 40


def test_what_waits_at_the_end_is_told_and_what_is_in_work_ends(
    engine: Any, cameras: list[PlainCamera]
) -> None:
    worker: Worker[Any] = Worker(engine, 1)
    worker.start()
    engine.gate.clear()
    worker.put(cameras[0], image(1))
    wait(lambda: engine.seen == [1])
    worker.put(cameras[0], image(2))
    worker.put(cameras[1], image(3))
    threading.Timer(0.1, engine.gate.set).start()
    worker.stop()
    assert cameras[0].labels == [1]
    assert [camera.discarded for camera in cameras] == [1, 1, 0]
    assert engine.seen == [1]
    assert worker.put(cameras[0], image(4)) is True, 'dropped'
    worker.stop()
    assert [camera.discarded for camera in cameras] == [1, 1, 0], 'told twice'


def test_a_worker_that_was_never_started_can_be_stopped(
    engine: Any, cameras: list[PlainCamera]
) -> None:
    worker: Worker[Any] = Worker(engine, 1)
    worker.put(cameras[0], image(1))
    worker.stop()
    assert cameras[0].discarded == 1


def test_a_frame_that_does_not_end_is_an_error(
    engine: Any, cameras: list[PlainCamera], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, 'END_S', 0.05)
    worker: Worker[Any] = Worker(engine, 1)
    worker.start()
    engine.gate.clear()
    worker.put(cameras[0], image(1))
    wait(lambda: engine.seen == [1])
    with pytest.raises(RuntimeError, match='a frame has not ended'):
        worker.stop()
    engine.gate.set()
    wait(lambda: cameras[0].labels)
    worker.stop()


def test_the_next_pass_is_due_by_how_many_are_in_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of a pass of two tells when one of three will end."""
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(handover_module, 'time', clock)
    handover: Handover[int] = Handover()
    handover.put([1, 2], 5.0)  # a fifth of it is new: 1 s to get ready
    handover.take()
    clock.now = 4.0  # 2 s for each of the two
    handover.put([3, 4, 5], 1.0)
    handover.take()
    # It ends at 4 + 3 x 2 = 10, and half as much again as getting ready takes is left for that.
    clock.now = 8.4
    waiting = threading.Thread(target=handover.wait_until_due, daemon=True)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    clock.now = 8.6
    waiting.join(DEADLINE_S)
    assert not waiting.is_alive()
