"""Compares allocator settings, each in processes of its own: `python -m training.bench.allocator`.

The settings take turns in blocks of frames: eager torch, a training step, the whole frame through
OpenVINO, and the node over DDS.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
import sys
from typing import Any

import numpy as np

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.command_line.options import add_checkpoint
from anomaly_seg_ros.command_line.tool import run_tool, tool_parser, typed_tool
from anomaly_seg_ros.demo.frame_source import SYNTHETIC
from anomaly_seg_ros.frames.preprocess import parse_size
from anomaly_seg_ros.process.allocator import tune_allocator
from anomaly_seg_ros.provenance import code_version
from training.results import ResultRow, write_results

from .candidates import EngineCall, sized_checkpoint
from .engine_process import EngineProcess, NETWORK, TRAINING
from .frame import camera_images
from .machine import ALLOCATORS, describe_machine
from .node_session import (
    isolate_ros,
    NodeSetting,
    output_topics,
    running_session,
)
from .table import other_table
from .timing import percentiles, ratio, Samples

BLOCK = 3
TARGETS = ('torch', 'training', 'frame', 'node')
Turn = Callable[[], dict[str, Any]]
"""A block of frames; gives 'wall_ms', 'memory_mb' and, where known, 'page_faults'."""


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark."""
    parser = tool_parser(__doc__)
    add_checkpoint(parser)
    parser.add_argument('--size', default='512x1024', metavar='HxW', help='of torch')
    parser.add_argument('--image', default='1080x1920', metavar='HxW', help='of the camera')
    parser.add_argument('--blocks', type=int, default=5, help=f'of {BLOCK} frames')
    parser.add_argument('--only', default=','.join(TARGETS), help='which to compare')
    parser.add_argument('--out', type=Path, help='result folder')
    args = parser.parse_args(argv)
    tune_allocator()  # of the camera and the listener, the same beside every node
    rows: list[ResultRow] = []
    for target in args.only.split(','):
        rows += compare(target, args)
    print(other_table(rows))
    if args.out:
        write_results(args.out, rows)
    return 0


def compare(target: str, args: argparse.Namespace) -> Iterator[ResultRow]:
    """Gives a row per setting; nothing where the target needs what is not installed.

    Raises:
        ToolError: A process does not start.
        ValueError: The target is unknown.
    """
    if target not in TARGETS:
        raise ValueError(f'unknown target {target!r}; choose one of: {", ".join(TARGETS)}')
    needed = {'node': 'rclpy', 'frame': 'openvino'}.get(target, 'torch')
    if find_spec(needed) is None:
        print(f'{target}: left out, {needed} is not installed', file=sys.stderr)
        return
    checkpoint, image = Checkpoint.open(args.checkpoint), parse_size(args.image)
    size = parse_size(args.size) if needed == 'torch' else checkpoint.meta.input_size
    with ExitStack() as stack:
        sized = stack.enter_context(sized_checkpoint(checkpoint, size))
        engine = 'torch' if needed == 'torch' else 'openvino'
        call = EngineCall(str(sized.folder), engine, sized.meta.score, 'auto')
        opened = nodes if target == 'node' else engine_processes
        turns = opened(stack, call, image, target)
        samples, answers = interleave_blocks(turns, args.blocks)
    for setting, found in samples.items():
        faults = [answer['page_faults'] for answer in answers[setting] if 'page_faults' in answer]
        yield ResultRow(
            score=call.score,
            engine=engine,
            input_size=size,
            latency_ms=percentiles(found.wall_ms),
            peak_mb=answers[setting][-1]['memory_mb']['peak'],
            command=typed_tool(),
            commit=code_version(),
            extra={
                'kind': 'allocator',
                'what': f'{target}, allocator {setting}',
                'ratio_to_first': ratio(found, samples['default']),
                'memory_mb': answers[setting][-1]['memory_mb'],
                'page_faults': float(np.median(faults)) / BLOCK if faults else None,
                'machine': describe_machine(),
            },
        )


def engine_processes(
    stack: ExitStack, call: EngineCall, image: tuple[int, int], target: str
) -> dict[str, Turn]:
    """Opens a process per setting."""
    work = {'torch': NETWORK, 'training': TRAINING, 'frame': 'pictures'}[target]

    def turn(process: EngineProcess) -> Turn:
        return lambda: process.run(BLOCK, work)

    return {
        setting: turn(
            stack.enter_context(EngineProcess(call.to_json(), SYNTHETIC, image, setting))
        )
        for setting in ALLOCATORS
    }


def nodes(
    stack: ExitStack, call: EngineCall, image: tuple[int, int], target: str
) -> dict[str, Turn]:
    """Starts a node per setting; all outputs are listened to."""
    isolate_ros()
    images = camera_images(SYNTHETIC, image)
    sessions = stack.enter_context(
        running_session(call, images, output_topics('all'), list(map(NodeSetting, ALLOCATORS)))
    )

    def turn(number: int) -> Turn:
        def run() -> dict[str, Any]:
            node = sessions[number]
            faults = node.page_faults()
            latencies, _ = node.closed_loop(BLOCK)
            return {
                'wall_ms': latencies,
                'page_faults': node.page_faults() - faults,
                'memory_mb': node.memory_mb(),
            }

        return run

    return {setting: turn(number) for number, setting in enumerate(ALLOCATORS)}


def interleave_blocks(
    turns: Mapping[str, Turn], blocks: int
) -> tuple[dict[str, Samples], dict[str, list[dict[str, Any]]]]:
    """Runs a block of every setting in turn, every second time backwards, after one to warm up."""
    samples = {setting: Samples() for setting in turns}
    answers: dict[str, list[dict[str, Any]]] = {setting: [] for setting in turns}
    for turn in turns.values():
        turn()
    for number in range(blocks):
        settings = list(turns)
        for setting in settings if number % 2 == 0 else reversed(settings):
            answer = turns[setting]()
            samples[setting].rounds_ms.append(answer['wall_ms'])
            answers[setting].append(answer)
    return samples, answers


if __name__ == '__main__':
    run_tool(main)
