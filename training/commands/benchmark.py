"""How fast engines are, compared in one run: `anomaly_seg benchmark`."""

from __future__ import annotations

import argparse
from pathlib import Path
import tempfile

import cv2

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.command_line.options import add_checkpoint
from anomaly_seg_ros.demo.frame_source import SYNTHETIC
from anomaly_seg_ros.engines.export import check_size
from anomaly_seg_ros.frames.preprocess import parse_size
from anomaly_seg_ros.process.cores import picture_threads
from anomaly_seg_ros.provenance import code_version
from anomaly_seg_ros.registry import check_name
from anomaly_seg_ros.scores import SCORES
from training.bench.candidates import parse_candidates, sized_checkpoint
from training.bench.engines import benchmark_size, BenchSettings
from training.bench.frame import camera_images
from training.bench.machine import describe_machine
from training.bench.table import engine_table
from training.results import clear_results, ResultRow, typed_command, write_results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg benchmark` takes."""
    add_checkpoint(parser)
    parser.add_argument('--score', help="default: the checkpoint's own")
    parser.add_argument(
        '--engine',
        default='auto',
        metavar='E[:P],...',
        help='engines, each with its precision if wanted: openvino:bf16,openvino:fp32,torch; the '
        'others are compared with the first',
    )
    parser.add_argument(
        '--precision', default='auto', help='of the engines that name none (default: auto)'
    )
    parser.add_argument('--size', metavar='HxW,...', help="default: the checkpoint's own")
    parser.add_argument(
        '--image', default='1080x1920', metavar='HxW', help='camera image of the whole frame'
    )
    parser.add_argument(
        '--source', default=SYNTHETIC, help=f"images: '{SYNTHETIC}', an image folder, or a bag"
    )
    parser.add_argument(
        '--calibration', type=Path, metavar='DIR', help='frames to measure int8 ranges on'
    )
    parser.add_argument('--rounds', type=int, default=15, help='of all engines in turn')
    parser.add_argument('--out', type=Path, required=True, help='result folder')


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg benchmark`.

    Returns:
        0 done, 1 one of the engines could not be measured.
    """
    if args.rounds < 1:
        raise ValueError(f'rounds is {args.rounds}; it must be at least 1')
    candidates = parse_candidates(args.engine, args.precision)
    checkpoint = Checkpoint.open(args.checkpoint)
    meta = checkpoint.meta
    sizes = [parse_size(t) for t in args.size.split(',')] if args.size else [meta.input_size]
    score = args.score or meta.score
    check_name('score', SCORES, score)
    for size in sizes:
        check_size(meta.model, size)
    image_size = parse_size(args.image)
    images = camera_images(args.source, image_size)
    settings = BenchSettings(
        meta, score, images, image_size, args.source, args.rounds, args.calibration
    )
    cv2.setNumThreads(picture_threads())
    machine = describe_machine()
    rows: list[ResultRow] = []
    for size in sizes:
        with (
            sized_checkpoint(checkpoint, size) as sized,
            tempfile.TemporaryDirectory(prefix='anomaly_seg_engines_') as work,
        ):
            rows += benchmark_size(candidates, sized, size, settings, Path(work))
    if all(row.latency_ms is None for row in rows):
        raise ImportError(str(rows[0].extra['note']))
    about = {'command': typed_command(), 'commit': code_version()}
    for row in rows:
        row.command, row.commit, row.checkpoint = *about.values(), args.checkpoint
        row.extra = {**row.extra, 'machine': machine}
    clear_results(args.out)
    write_results(args.out, rows)
    print(engine_table(rows))
    measured = [row for row in rows if row.latency_ms is not None]
    for text in (text for row in measured for text in row.extra.get('warnings', ())):
        print(f'warning: {text}')
    print(f'written to {args.out}; a page: anomaly_seg report {args.out} --out report.html')
    return int(any(row.extra.get('warnings') for row in rows))
