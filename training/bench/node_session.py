"""A running node and its camera: sends frames in different ways and keeps the latencies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass
from itertools import cycle
import os
from pathlib import Path
import random
from statistics import median
import subprocess
import tempfile
import time
from typing import Any, TYPE_CHECKING

import cv2

from anomaly_seg_ros.command_line.tool import ToolError
from anomaly_seg_ros.demo.play import FRAME_TIMEOUT_S, START_TIMEOUT_S
from anomaly_seg_ros.demo.running_node import running_node
from anomaly_seg_ros.frames.images import encode_image
from anomaly_seg_ros.node import topics
from anomaly_seg_ros.node.middleware_profile import shm_profile_environment
from anomaly_seg_ros.node.outputs import image_outputs

from .candidates import EngineCall
from .frame import Image
from .machine import ALLOCATORS, page_faults, process_memory_mb, variables

if TYPE_CHECKING:
    from anomaly_seg_ros.ros.frame_client import FrameClient

START_PERIOD_S = 0.05
WARM_UP = 5
STAGED = 20
STAGES = ('preprocess', 'inference', 'postprocess', 'publish', 'processing')


def isolate_ros() -> str:
    """Keeps our topics on this machine and away from everybody else's; before rclpy is imported.

    Returns:
        What the user should know about the shared-memory profile, or ''.
    """
    choice = shm_profile_environment()
    os.environ.update(choice.variables)
    os.environ.update(
        ROS_DOMAIN_ID=str(os.getpid() % 60 + 41), ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST'
    )
    os.environ.setdefault('ROS_LOG_DIR', tempfile.gettempdir())
    return choice.warning


@dataclass(frozen=True)
class NodeSetting:
    """How one of the nodes is run.

    Attributes:
        allocator: A key of `ALLOCATORS`.
        cameras: Names of those it has.
        transport: Of their images: 'raw', or 'compressed' for JPEG.
    """

    allocator: str = 'tuned'
    cameras: tuple[str, ...] = ('',)
    transport: str = 'raw'

    def parameters(self, call: EngineCall) -> dict[str, str]:
        """Gives the parameters of the node."""
        # The environment sets the allocator; the node must not set another.
        found = {'precision': call.precision, 'score': call.score, 'tune_allocator': 'false'}
        found['input_transport'] = self.transport
        if self.cameras != ('',):
            found['cameras'] = f'[{",".join(self.cameras)}]'
        return found | ({'engine_path': call.engine_path} if call.engine_path else {})

    def frames(self, images: Sequence[Image]) -> list[Image] | list[bytes]:
        """Gives camera images as they are sent."""
        if self.transport == 'raw':
            return list(images)
        return [encode_image(image, '.jpg', (cv2.IMWRITE_JPEG_QUALITY, 90)) for image in images]


@contextmanager
def running_session(
    call: EngineCall,
    images: Sequence[Image],
    outputs: Sequence[str],
    settings: Sequence[NodeSetting],
) -> Iterator[list[NodeSession]]:
    """Starts a node per setting, one after the other, each with its cameras.

    Args:
        call: What the nodes run.
        images: (H, W, 3) RGB camera frames, in turn.
        outputs: Topics to listen to.
        settings: Of each node.

    Raises:
        ToolError: A node ended, or did not start in time; it has said why.
    """
    from anomaly_seg_ros.ros.frame_client import connected_client, FrameClient

    with ExitStack() as stack:
        sessions: list[NodeSession] = []
        for number, setting in enumerate(settings):
            namespace = f'/anomaly_seg_bench_{os.getpid()}_{number}'
            options: dict[str, Any] = {
                'outputs': outputs,
                'cameras': setting.cameras,
                'compressed': setting.transport == 'compressed',
            }
            if number == 0:
                client = stack.enter_context(connected_client(namespace, **options))
            else:
                client = FrameClient(namespace, **options)
                stack.callback(client.close)
            began = time.monotonic()
            parameters = setting.parameters(call)
            with variables(ALLOCATORS[setting.allocator]):
                process = stack.enter_context(
                    running_node(namespace, Path(call.checkpoint), call.engine, parameters)
                )
            frames = setting.frames(images)
            sessions.append(NodeSession(client, process, frames, began, len(setting.cameras)))
        yield sessions


class NodeSession:
    """One node with its cameras; waits for its first mask.

    Args:
        client: The cameras, and who listens.
        process: Of the node.
        frames: As they are sent, in turn.
        began: `time.monotonic()` when the process was started.
        cameras: How many, which send in turn.

    Attributes:
        start_s: From the start of the process to the first mask, with a camera that runs all the
            time.

    Raises:
        ToolError: The node ended, or did not start in time; it has said why.
    """

    def __init__(
        self,
        client: FrameClient,
        process: subprocess.Popen[str],
        frames: Sequence[Image] | Sequence[bytes],
        began: float,
        cameras: int = 1,
    ):
        self._client = client
        self._process = process
        self._frames: cycle[Image | bytes] = cycle(frames)
        self._cameras = cameras
        self._number = 0
        self._at_a_rate: list[int] = []
        self._wait_for_first_mask(began)
        self.closed_loop(WARM_UP)

    def _wait_for_first_mask(self, began: float) -> None:
        client = self._client
        while not client.complete():
            if self._process.poll() is not None:
                raise ToolError('the node could not be started; its log above says why')
            if time.monotonic() - began > START_TIMEOUT_S:
                raise ToolError(f'the node gave no mask within {START_TIMEOUT_S:.0f} s')
            self._send()
            client.spin_until(lambda: client.complete() > 0, START_PERIOD_S)
        self.start_s = time.monotonic() - began

    def _send(self) -> int:
        self._client.send(self._number, next(self._frames), self._number % self._cameras)
        self._number += 1
        return self._number - 1

    def camera_publish_ms(self) -> float:
        """Gives the median time of the camera's own publish call, a part of every latency."""
        return median(self._client.publish_ms.values())

    def closed_loop(self, frames: int, period_s: float = 0.0) -> tuple[list[float], float]:
        """Sends each frame when the one before has come back, and not before the period is over.

        Returns:
            Latency of each frame in ms, image sent to mask received; and frames per second.

        Raises:
            ToolError: A frame did not come back.
        """
        client = self._client
        latencies = []
        began = due = time.monotonic()
        for _ in range(frames):
            client.spin_until(lambda: False, due - time.monotonic())
            due = max(due + period_s, time.monotonic())
            number = self._send()
            if not client.spin_until(lambda n=number: client.has_answered(n), FRAME_TIMEOUT_S):  # type: ignore[misc]
                raise ToolError(f'frame {number} did not come back in {FRAME_TIMEOUT_S:.0f} s')
            latency = client.answers[number].latency_ms
            assert latency is not None
            latencies.append(latency)
        return latencies, frames / (time.monotonic() - began)

    def open_loop(self, seconds: float, rate_hz: float) -> float:
        """Sends at a rate, whatever comes back; gives the frames per second that came back.

        The pauses differ, as cameras drift: in step with the engine one camera's frames would
        always come just before a pass begins, and another's just behind.

        Args:
            seconds: How long.
            rate_hz: Of all cameras together.
        """
        client = self._client
        before = client.complete()
        chance = random.Random(0)
        began = due = time.monotonic()
        while time.monotonic() - began < seconds:
            client.spin_until(lambda: False, due - time.monotonic())
            due += chance.uniform(0.5, 1.5) / rate_hz
            self._at_a_rate.append(self._send())
        client.spin_until(lambda: False, began + seconds - time.monotonic())
        achieved = (client.complete() - before) / (time.monotonic() - began)
        client.spin_until(lambda: False, 0.5)  # what is still under way
        return achieved

    def latencies_ms(self, camera: int) -> list[float]:
        """Gives those of a camera's frames that were sent at a rate and have come back so far."""
        answers = self._client.answers
        numbers = [n for n in self._at_a_rate if n % self._cameras == camera and n in answers]
        latencies = [answers[number].latency_ms for number in numbers]
        return [latency for latency in latencies if latency is not None]

    def stages_ms(self, period_s: float = 0.0) -> dict[str, float]:
        """Gives the node's own medians over some frames more, as its diagnostics tell them."""
        client = self._client
        self.closed_loop(STAGED, period_s)  # the node tells of the last seconds alone
        client.diagnostics.clear()
        client.spin_until(lambda: f'{STAGES[0]}_time_ms' in client.diagnostics, 3.0)
        found = {}
        for stage in STAGES:
            text = client.diagnostics.get(f'{stage}_time_ms', 'n/a')
            if text != 'n/a':
                found[stage] = float(text)
        return found

    def memory_mb(self) -> dict[str, float]:
        """Gives the node's resident memory."""
        return process_memory_mb(self._process.pid)

    def page_faults(self) -> int:
        """Gives the pages that the kernel has handed to the node so far."""
        return page_faults(self._process.pid)

    def engine(self) -> dict[str, str]:
        """Gives what the node says of its engine: 'name', 'precision', 'score'."""
        client = self._client
        client.spin_until(lambda: client.label_info is not None, 3.0)
        info = client.label_info or {}
        found: dict[str, str] = info.get('engine', {})
        return found


def output_topics(outputs: str) -> tuple[str, ...]:
    """Gives the topics that `--outputs` stands for."""
    return image_outputs() if outputs == 'all' else (topics.SEMANTIC_MASK,)
