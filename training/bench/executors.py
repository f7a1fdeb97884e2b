"""Processor time of a node by its executor: `python -m training.bench.executors`.

A node for each executor runs as its own process; blocks of frames to one and to the other
alternate. Then nobody listens, while the camera goes on at its rate.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from itertools import count, islice
import os
from pathlib import Path
from statistics import median
import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.command_line.tool import run_tool, tool_parser
from anomaly_seg_ros.demo.play import wait_until_ready
from anomaly_seg_ros.demo.running_node import running_node
from anomaly_seg_ros.frames.preprocess import parse_size
from anomaly_seg_ros.node import topics

from .node_session import isolate_ros

if TYPE_CHECKING:
    from anomaly_seg_ros.ros.frame_client import FrameClient

KINDS = ('events', 'single')
TICKS = os.sysconf('SC_CLK_TCK')
PATIENCE_S = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table."""
    parser = tool_parser(__doc__)
    parser.add_argument('--checkpoint', type=Path, default='default')
    parser.add_argument('--image', type=parse_size, default=(1080, 1920), metavar='HxW')
    parser.add_argument('--rate', type=float, default=30.0, metavar='HZ', help='while idle')
    parser.add_argument('--frames', type=int, default=20, help='of a block')
    parser.add_argument('--blocks', type=int, default=6)
    parser.add_argument('--idle', type=float, default=10.0, metavar='S')
    args = parser.parse_args(argv)
    if warning := isolate_ros():
        print(warning)
    working, idle = measure(args)
    print('| executor | processor ms a frame | idle, % of a core |\n| --- | --- | --- |')
    for kind in KINDS:
        print(f'| {kind} | {median(working[kind]):.1f} | {idle[kind] * 100:.1f} |')
    print(f'\n{args.image[0]}x{args.image[1]}; idle beside {args.rate:.0f} frames/s')
    return 0


def measure(args: argparse.Namespace) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Gives the processor ms a frame of each block, and the idle share of a core."""
    from anomaly_seg_ros.ros.frame_client import connected_client, FrameClient

    image = np.random.default_rng(0).integers(0, 256, (*args.image, 3), np.uint8)
    working: dict[str, list[float]] = {kind: [] for kind in KINDS}
    idle: dict[str, float] = {}
    with ExitStack() as stack:
        clients: dict[str, FrameClient] = {}
        pids: dict[str, int] = {}
        for kind in KINDS:
            namespace = f'/executor_{kind}_{os.getpid()}'
            outputs = (topics.SEMANTIC_MASK,)
            if clients:
                client = FrameClient(namespace, outputs=outputs)
                stack.callback(client.close)
            else:
                client = stack.enter_context(connected_client(namespace, outputs=outputs))
            node = running_node(namespace, args.checkpoint, 'auto', {'executor': kind})
            process = stack.enter_context(node)
            wait_until_ready(client, process)
            clients[kind], pids[kind] = client, process.pid
        sent = count()
        for block in range(args.blocks + 1):
            for kind, client in clients.items():
                before = processor_s(pids[kind])
                for number in islice(sent, args.frames):
                    client.send(number, image)
                    client.spin_until(partial(client.has_answered, number), PATIENCE_S)
                if block:  # the first one warms up
                    used_ms = (processor_s(pids[kind]) - before) * 1e3
                    working[kind].append(used_ms / args.frames)
        for kind, client in clients.items():
            client.deafen()
            client.spin_until(lambda: False, 2.5)
            idle[kind] = _idle_share(client, pids[kind], image, args.rate, args.idle)
    return working, idle


def _idle_share(
    client: FrameClient, pid: int, image: NDArray[np.uint8], rate_hz: float, seconds: float
) -> float:
    before, began, number = processor_s(pid), time.monotonic(), 10**6
    while (now := time.monotonic()) < began + seconds:
        client.send(number, image)
        number += 1
        client.spin_until(lambda: False, now + 1 / rate_hz - time.monotonic())
    return (processor_s(pid) - before) / (time.monotonic() - began)


def processor_s(pid: int) -> float:
    """Gives the seconds of processor time that a process has taken, all its threads together."""
    fields = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8').rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == '__main__':
    run_tool(main)
