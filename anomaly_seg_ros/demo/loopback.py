"""Frames of a camera's size to a node of its own and back: what this machine needs for one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count
import os
from pathlib import Path

import numpy as np

from anomaly_seg_ros.node import topics

from .play import wait_until_ready
from .running_node import running_node

FRAMES = 12
WARM_UP = 2
PATIENCE_S = 10.0


def loopback_ms(size: tuple[int, int], checkpoint: Path) -> Iterator[float]:
    """Gives the latency of each frame, image published to mask received.

    Args:
        size: (height, width) of the frames.
        checkpoint: What the node runs.

    Raises:
        RuntimeError: The node did not start, or a frame did not come back.
    """
    from anomaly_seg_ros.ros.frame_client import connected_client

    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    namespace = f'/anomaly_seg_doctor_{os.getpid()}'
    with (
        connected_client(namespace, outputs=(topics.SEMANTIC_MASK,)) as client,
        running_node(namespace, checkpoint, 'auto', quiet=True, own_diagnostics=True) as process,
    ):
        wait_until_ready(client, process)
        for number in count():
            if number == FRAMES:
                return
            client.send(number, image)
            client.spin_until(partial(client.has_answered, number), PATIENCE_S)
            latency = client.answers[number].latency_ms if number in client.answers else None
            if latency is None:
                raise RuntimeError(f'frame {number} of {size[0]}x{size[1]} did not come back')
            if number >= WARM_UP:
                yield latency
