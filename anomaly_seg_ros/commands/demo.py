"""The main job, shown: camera frames in over DDS, masks and overlays out: `anomaly_seg demo`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import functools
import json
import os
from pathlib import Path
import subprocess
import sys
import time
from typing import Any, TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from anomaly_seg_ros.checkpoint.folder import Checkpoint, DEFAULT
from anomaly_seg_ros.demo.frame_source import open_frames, SYNTHETIC
from anomaly_seg_ros.demo.running_node import running_node
from anomaly_seg_ros.node.launch_support import shm_profile_environment

if TYPE_CHECKING:
    from anomaly_seg_ros.ros.frame_client import Answer, FrameClient

START_TIMEOUT_S = 120.0
FRAME_TIMEOUT_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg demo` takes."""
    parser.add_argument(
        '--source', default=SYNTHETIC, help=f"'{SYNTHETIC}', an image folder, or a bag"
    )
    parser.add_argument('--frames', type=int, help='at most so many')
    parser.add_argument(
        '--rate', type=float, default=10.0, metavar='HZ', help='highest rate of the frames'
    )
    parser.add_argument('--checkpoint', default=DEFAULT, help="folder, or 'default'")
    parser.add_argument('--engine', default='auto', help='auto, tensorrt, openvino, onnx or torch')
    parser.add_argument(
        '--out', type=Path, default=Path('out/demo'), help='folder for the results'
    )


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg demo`."""
    if args.rate <= 0:
        raise ValueError(f'rate is {args.rate}; it must be above 0')
    frames = open_frames(args.source, args.frames)
    checkpoint = Checkpoint.open(args.checkpoint)  # says what is wrong before a node is started
    choice = shm_profile_environment()
    if choice.warning:
        print(f'anomaly_seg demo: {choice.warning}', file=sys.stderr)
    # Both sides need the profile, and nobody outside of this machine should see the demo.
    os.environ.update(choice.variables)
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    args.out.mkdir(parents=True, exist_ok=True)
    for old in args.out.glob('overlay_*.png'):
        old.unlink()
    summary = run(frames, checkpoint.folder, args.engine, args.rate, args.out)
    (args.out / 'summary.json').write_text(json.dumps(summary, indent=1) + '\n', encoding='utf-8')
    latency = summary['latency_ms']
    print(
        f'{summary["frames_received"]} of {summary["frames_sent"]} frames came back, '
        f'p50 {latency["p50"]} ms, engine {summary["engine"]}; look at {args.out / "demo.mp4"} '
        f'and {args.out}/overlay_*.png'
    )
    return 0 if summary['frames_received'] else 1


def run(
    frames: Iterator[NDArray[np.uint8]], checkpoint: Path, engine: str, rate_hz: float, out: Path
) -> dict[str, Any]:
    """Sends every frame to a node and writes what comes back; gives the summary."""
    from anomaly_seg_ros.ros.frame_client import connected_client

    namespace = f'/anomaly_seg_demo_{os.getpid()}'
    film = Film(out, rate_hz)
    try:
        with (
            running_node(namespace, checkpoint, engine) as process,
            connected_client(namespace, film.add) as client,
        ):
            wait_until_ready(client, process)
            sent = play(client, frames, rate_hz)
            client.spin_until(lambda: client.complete() >= sent, FRAME_TIMEOUT_S)
            # The node's own times come once a second.
            client.spin_until(lambda: _number(client.diagnostics, 'frames_processed') >= sent, 2.5)
            return summarise(client, sent)
    finally:
        film.close()


def wait_until_ready(client: FrameClient, process: subprocess.Popen[str]) -> None:
    """Waits until the node reads our camera topic.

    Raises:
        RuntimeError: The node ended or did not start in time; it has said why.
    """
    client.spin_until(
        lambda: client.node_is_ready() or client.failed_to_configure or process.poll() is not None,
        START_TIMEOUT_S,
    )
    if process.poll() is not None:
        raise RuntimeError(f'the node ended with status {process.returncode}; see its log above')
    if client.failed_to_configure:
        raise RuntimeError('the node could not be configured; its log above says why')
    if not client.node_is_ready():
        raise RuntimeError(f'the node was not ready within {START_TIMEOUT_S:.0f} s; see its log')


def play(client: FrameClient, frames: Iterator[NDArray[np.uint8]], rate_hz: float) -> int:
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


class Film:
    """Writes each overlay as a picture and all of them, in order, as `demo.mp4`."""

    def __init__(self, out: Path, rate_hz: float):
        self._out, self._rate_hz = out, rate_hz
        self._writer: Any = None
        self._size: tuple[int, int] | None = None

    def add(self, number: int, answer: Answer) -> None:
        """Takes the overlay of a complete answer."""
        from anomaly_seg_ros.node import topics
        from anomaly_seg_ros.ros.frame_client import pixels

        picture = pixels(answer.images[topics.OVERLAY])
        if not cv2.imwrite(str(self._out / f'overlay_{number:03d}.png'), picture):
            raise OSError(f'cannot write to {str(self._out)!r}')
        size = (picture.shape[1], picture.shape[0])
        if self._writer is None:
            self._size = size
            codec = cv2.VideoWriter.fourcc(*'mp4v')
            path = str(self._out / 'demo.mp4')
            self._writer = cv2.VideoWriter(path, codec, self._rate_hz, size)
            if not self._writer.isOpened():
                raise OSError(f'cannot write {path!r}')
        # Folders may mix sizes; a film has one.
        self._writer.write(picture if size == self._size else cv2.resize(picture, self._size))

    def close(self) -> None:
        """Finishes the film."""
        if self._writer is not None:
            self._writer.release()
