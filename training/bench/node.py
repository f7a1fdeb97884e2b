"""Measures the node itself, camera message to mask message: `python -m training.bench.node`.

The real node runs as its own process and gets its frames over DDS. Its latency is compared with
that of the bare engine, which runs in a sibling process: blocks of frames of the one and of the
other alternate, and the one sleeps while the other works.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
import sys
import tempfile
from typing import Any

from tqdm import tqdm

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.command_line.options import add_checkpoint
from anomaly_seg_ros.command_line.tool import run_tool, tool_parser, typed_tool
from anomaly_seg_ros.demo.frame_source import SYNTHETIC
from anomaly_seg_ros.frames.preprocess import parse_size
from anomaly_seg_ros.process.allocator import tune_allocator
from anomaly_seg_ros.provenance import code_version
from training.results import ResultRow, write_results

from .candidates import EngineCall, parse_candidates, prepare
from .engine_process import EngineProcess
from .frame import camera_images, Image
from .load import measure_load
from .load import NOTE as LOAD_NOTE
from .machine import describe_machine
from .node_session import (
    isolate_ros,
    NodeSession,
    NodeSetting,
    output_topics,
    running_session,
)
from .table import load_table, node_table, stage_table
from .timing import percentiles, ratio, Samples

BLOCK = 20
OPEN_LOOP_HZ = 30.0
OPEN_LOOP_S = 4.0
TARGET_RATIO, TARGET_EXTRA_MS = 1.10, 3.0
NOTE = (
    'latency: image published to mask received, p50 of all frames; camera, DDS and listener share '
    'the cores with the node; bare: the engine alone in a sibling process, in alternating blocks '
    'at the same pace; target: 1.10 x bare + 3 ms'
)


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark."""
    parser = tool_parser(__doc__)
    add_checkpoint(parser)
    parser.add_argument('--engine', default='auto', metavar='E[:P]', help='one engine')
    parser.add_argument('--score', help="default: the checkpoint's own")
    parser.add_argument('--image', default='360x480,1080x1920', help='camera sizes, HxW,...')
    parser.add_argument('--frames', type=int, default=100, help='of each kind and size')
    parser.add_argument('--rate', type=float, default=10.0, metavar='HZ', help='of paced frames')
    parser.add_argument('--outputs', default='mask', choices=('mask', 'all'))
    parser.add_argument(
        '--cameras', type=int, default=1, choices=range(1, 9), metavar='N',
        help='above 1: throughput and age of so many on one engine, beside one',
    )  # fmt: skip
    parser.add_argument(
        '--transport', default='raw', choices=('raw', 'compressed'),
        help='compressed: throughput of JPEG beside raw images',
    )  # fmt: skip
    parser.add_argument('--blocks', type=int, default=6, help='of each of these nodes')
    parser.add_argument('--seconds', type=float, default=4.0, help='of such a block')
    parser.add_argument('--source', default=SYNTHETIC, help='synthetic, an image folder or a bag')
    parser.add_argument('--out', type=Path, help='result folder')
    args = parser.parse_args(argv)
    if args.frames < 1 or args.rate <= 0 or args.blocks < 1 or args.seconds <= 0:
        parser.error('--frames and --blocks must be at least 1, --rate and --seconds above 0')
    rows = run(args)
    if loaded(args):
        print(f'{load_table(rows)}\n\n{LOAD_NOTE}')
    else:
        print(f'{node_table(rows)}\n\n{stage_table(rows)}\n\n{NOTE}')
    if args.out:
        write_results(args.out, rows)
    return 0


def loaded(args: argparse.Namespace) -> bool:
    """Whether nodes are compared that are sent more than they can serve."""
    return bool(args.cameras > 1 or args.transport != 'raw')


def other_input(args: argparse.Namespace) -> NodeSetting:
    """Gives the node that is compared with one of a raw camera."""
    several = tuple(f'camera_{number}' for number in range(args.cameras))
    cameras = several if args.cameras > 1 else ('',)
    return NodeSetting(cameras=cameras, transport=args.transport)


def run(args: argparse.Namespace) -> list[ResultRow]:
    """Gives two rows per camera size.

    Paced frames, and frames as fast as the node answers; or one raw camera and another input.

    Raises:
        ImportError: A library is missing.
        ToolError: The node does not start or does not answer.
        ValueError: An argument does not fit.
    """
    (candidate,) = parse_candidates(args.engine)
    checkpoint = Checkpoint.open(args.checkpoint)
    meta = checkpoint.meta
    sizes = [parse_size(text) for text in args.image.split(',')]
    if warning := isolate_ros():
        print(f'bench.node: {warning}', file=sys.stderr)
    tune_allocator()
    common = {
        'command': typed_tool(),
        'commit': code_version(),
        'model': meta.model,
    }
    machine = describe_machine()
    rows = []
    with tempfile.TemporaryDirectory(prefix='anomaly_seg_engines_') as work:
        call = prepare(candidate, checkpoint, args.score or meta.score, Path(work))
        for size in sizes:
            images = camera_images(args.source, size)
            found = (
                measure_load(call, images, other_input(args), args.blocks, args.seconds)
                if loaded(args)
                else measure(call, images, args)
            )
            for row in found:
                row.input_size, row.checkpoint = meta.input_size, args.checkpoint
                for key, value in common.items():
                    setattr(row, key, value)
                row.extra |= {'image_size': list(size), 'machine': machine}
                rows.append(row)
    return rows


def measure(call: EngineCall, images: list[Image], args: argparse.Namespace) -> list[ResultRow]:
    """Starts a node and a bare engine, and gives the rows of one camera size."""
    size = (images[0].shape[0], images[0].shape[1])
    with (
        running_session(call, images, output_topics(args.outputs), [NodeSetting()]) as (node,),
        EngineProcess(call.to_json(), args.source, size) as bare,
    ):
        rows = []
        for pace, period_s in ((f'at {args.rate:g} Hz', 1 / args.rate), ('closed loop', 0.0)):
            mine, other, fps = alternate(node, bare, args.frames, period_s)
            rows.append(row_of(mine, other))
            stages = node.stages_ms(period_s)
            rows[-1].extra |= {
                'pace': pace,
                'outputs': args.outputs,
                'what': f'node, {size[0]}x{size[1]} image, {args.outputs}, {pace}',
                'fps': fps,
                'total_ms': stages.pop('processing', None),
                'stages_ms': stages,
                'camera_publish_ms': node.camera_publish_ms(),
            }
        rows[-1].extra['fps_at_30_hz'] = node.open_loop(OPEN_LOOP_S, OPEN_LOOP_HZ)
        memory, engine = node.memory_mb(), node.engine()
        for row in rows:
            row.engine, row.precision = engine.get('name'), engine.get('precision')
            row.score, row.peak_mb = call.score, memory['peak']
            row.extra |= {'memory_mb': memory, 'start_s': node.start_s}
        return rows


def alternate(
    node: NodeSession, bare: EngineProcess, frames: int, period_s: float
) -> tuple[Samples, Samples, float]:
    """Gives the node's times, the bare engine's, and the node's frames per second."""
    mine, other, rates = Samples(), Samples(), []
    left = frames
    with tqdm(total=frames, unit='frame', disable=None) as bar:
        while left:
            count = min(BLOCK, left)

            def of_node(count: int = count) -> None:
                latencies, rate = node.closed_loop(count, period_s)
                mine.rounds_ms.append(latencies)
                rates.append(rate)

            def of_bare(count: int = count) -> None:
                other.rounds_ms.append(bare.run(count, period_s=period_s)['wall_ms'])

            turns: list[Callable[[], None]] = [of_node, of_bare]
            for turn in turns if len(rates) % 2 == 0 else reversed(turns):
                turn()
            left -= count
            bar.update(count)
    return mine, other, sum(rates) / len(rates)


def row_of(mine: Samples, other: Samples) -> ResultRow:
    """Gives the row of the node's and the bare engine's times of the same blocks."""
    latency, bare = percentiles(mine.wall_ms), percentiles(other.wall_ms)
    target = TARGET_RATIO * bare['p50'] + TARGET_EXTRA_MS
    extra: dict[str, Any] = {
        'kind': 'node',
        'bare_ms': bare,
        'target_ms': target,
        'target_met': latency['p50'] <= target,
        'ratio_to_bare': ratio(mine, other),
    }
    return ResultRow(latency_ms=latency, n_images=len(mine.wall_ms), extra=extra)


if __name__ == '__main__':
    run_tool(main)
