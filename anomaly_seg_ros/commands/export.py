"""Builds an engine folder from a checkpoint: `anomaly_seg export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.command_line.options import add_checkpoint
from anomaly_seg_ros.engines import precisions
from anomaly_seg_ros.engines.export import export_engine, exported
from anomaly_seg_ros.frames.preprocess import parse_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg export` takes."""
    add_checkpoint(parser, required=True)
    parser.add_argument('--score', help="default: the checkpoint's own")
    parser.add_argument('--engine', default='openvino', help=f'one of: {", ".join(exported())}')
    parser.add_argument('--size', metavar='HxW', help="default: the checkpoint's own")
    parser.add_argument(
        '--precision',
        default='auto',
        choices=precisions(),
        help='what the engine computes in; auto: openvino decides where it runs, onnx takes '
        'fp32, tensorrt fp16; int8 (openvino) needs --calibration and cost BiSeNetV2 1.2 '
        'points of mIoU and 1.3 of AP',
    )
    parser.add_argument(
        '--batch',
        metavar='N[,N]',
        help='batch sizes to build for several cameras (tensorrt; the others take any)',
    )
    parser.add_argument(
        '--calibration', type=Path, metavar='DIR', help='frames to measure int8 ranges on'
    )
    parser.add_argument('--out', type=Path, required=True, help='engine folder')


def parse_batch_sizes(text: str) -> tuple[int, ...]:
    """Reads 'N[,N]' as rising batch sizes; 1 is always among them.

    Raises:
        ValueError: Not whole numbers above 0.
    """
    parts = [part.strip() for part in text.split(',')]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ValueError(f'batch sizes {text!r} are not of the form N[,N], such as 1,2,4')
    return tuple(sorted({1, *map(int, parts)}))


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg export`."""
    checkpoint = Checkpoint.open(args.checkpoint)
    size = parse_size(args.size) if args.size else checkpoint.meta.input_size
    meta = export_engine(
        checkpoint,
        args.score,
        size,
        args.precision,
        args.out,
        engine=args.engine,
        batch_sizes=parse_batch_sizes(args.batch) if args.batch else (),
        calibration=args.calibration,
    )
    batch = f', batch {",".join(map(str, meta.batch_sizes))}' if meta.batch_sizes else ''
    print(
        f'{args.out}: engine {meta.engine}, score {meta.score}, precision {meta.precision}, '
        f'input {size[0]}x{size[1]}{batch}'
    )
    return 0
