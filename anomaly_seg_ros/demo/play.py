"""Plays frames to a running node and collects what it publishes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import functools
import os
from pathlib import Path
import subprocess
import time
from typing import Any, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from anomaly_seg_ros.node import topics

from .film import Film
from .running_node import running_node

if TYPE_CHECKING:
    from anomaly_seg_ros.ros.frame_client import FrameClient

START_TIMEOUT_S = 120.0
FRAME_TIMEOUT_S = 10.0


class NodeStartError(RuntimeError):
    """The node that a demo started ended, or was not ready in time."""


def play(
    frames: Iterator[NDArray[np.uint8]], checkpoint: Path, engine: str, rate_hz: float, out: Path
) -> dict[str, Any]:
    """Sends every frame to a node and writes what comes back; gives the summary."""
    from anomaly_seg_ros.ros.frame_client import connected_client, pixels

    def show(number: int, images: Mapping[str, Any]) -> None:
        film.add(number, pixels(images[topics.OVERLAY]))

    namespace = f'/anomaly_seg_demo_{os.getpid()}'
    film = Film(out, rate_hz)
    try:
        with (
            connected_client(namespace, show) as client,
            running_node(namespace, checkpoint, engine) as process,
        ):
            wait_until_ready(client, process)
            sent = send_all(client, frames, rate_hz)
            client.spin_until(lambda: client.complete() >= sent, FRAME_TIMEOUT_S)
            # The node's own times come once a second.
            client.spin_until(lambda: _number(client.diagnostics, 'frames_processed') >= sent, 2.5)
            return summarise(client, sent)
    finally:
        film.close()


def wait_until_ready(client: FrameClient, process: subprocess.Popen[str]) -> None:
    """Waits until the node reads our camera topic.

    Raises:
        NodeStartError: The node ended or did not start in time; it has said why.
    """
    client.spin_until(
        lambda: client.node_is_ready() or process.poll() is not None,
        START_TIMEOUT_S,
    )
    if process.poll() is not None:
        raise NodeStartError(f'the node ended with status {process.returncode}; see its log above')
    if not client.node_is_ready():
        raise NodeStartError(f'the node was not ready within {START_TIMEOUT_S:.0f} s; see its log')


def send_all(client: FrameClient, frames: Iterator[NDArray[np.uint8]], rate_hz: float) -> int:
    """Sends the frames and gives their number.

    At most one each 1 / `rate_hz` seconds, and none before the last one has come back: a demo on a
    slow machine is slow, but whole. (On a vehicle the node skips to the newest frame instead.)
    """
    number = 0
    due = time.monotonic()
    for image in tqdm(frames, unit='frame', disable=None):
        client.spin_until(lambda: False, due - time.monotonic())
        client.spin_until(functools.partial(client.has_answered, number - 1), FRAME_TIMEOUT_S)
        client.send(number, image)
        number += 1
        due = max(due + 1 / rate_hz, time.monotonic())
    return number


def summarise(client: FrameClient, sent: int) -> dict[str, Any]:
    """Gives what `summary.json` holds; times in milliseconds, null where unknown."""
    latencies = [a.latency_ms for a in client.answers.values() if a.latency_ms is not None]
    percentiles = (
        np.percentile(latencies, (50, 95)).round(2).tolist() if latencies else (None,) * 2
    )
    engine = (client.label_info or {}).get('engine', {})
    network_ms = _number(client.diagnostics, 'inference_time_ms')
    return {
        'frames_sent': sent,
        'frames_received': client.complete(),
        'latency_ms': dict(zip(('p50', 'p95'), percentiles, strict=True)),
        'engine': engine.get('name'),
        'precision': engine.get('precision'),
        'network_ms': network_ms if network_ms > 0 else None,
    }


def _number(values: dict[str, str], key: str) -> float:
    try:
        return float(values[key])
    except (KeyError, ValueError):
        return -1.0
