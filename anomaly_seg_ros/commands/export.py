"""Builds an engine folder from a checkpoint: `anomaly_seg export`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
import shutil
import tempfile

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.engines import engine_module, EngineModule, PRECISIONS
from anomaly_seg_ros.engines.folder import (
    ENGINE_FILE,
    EngineMeta,
    ExportRequest,
    write_engine_meta,
)
from anomaly_seg_ros.provenance import code_version

EXPORTED = ('tensorrt', 'openvino', 'onnx')
TIMING_CACHE = 'tensorrt_timing.cache'
"""Kept in the engine folder: with it the next build there is quick."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg export` takes."""
    parser.add_argument('--checkpoint', required=True, help="folder, or 'default'")
    parser.add_argument('--score', help="default: the checkpoint's own")
    parser.add_argument('--engine', default='openvino', help=f'one of: {", ".join(EXPORTED)}')
    parser.add_argument('--size', metavar='HxW', help="default: the checkpoint's own")
    parser.add_argument(
        '--precision',
        default='auto',
        choices=PRECISIONS,
        help='what the engine computes in; auto: openvino decides where it runs, onnx takes '
        'fp32, tensorrt fp16; int8 (openvino) needs --calibration and costs the default '
        'checkpoint 1.2 points of mIoU and 1.3 of AP',
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


def parse_size(text: str) -> tuple[int, int]:
    """Reads 'HxW' as (height, width).

    Raises:
        ValueError: Another form, or a side below 1.
    """
    height, separator, width = text.lower().partition('x')
    if not (separator and height.isdecimal() and width.isdecimal()) or 0 in (
        int(height),
        int(width),
    ):
        raise ValueError(f'size {text!r} is not of the form HxW, such as 360x480')
    return int(height), int(width)


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


def export_engine(
    checkpoint: Checkpoint,
    score: str | None,
    size: tuple[int, int],
    precision: str,
    out: Path,
    engine: str = 'openvino',
    batch_sizes: Sequence[int] = (),
    calibration: Path | None = None,
) -> EngineMeta:
    """Exports a checkpoint with its score; `out` appears whole or not at all.

    Args:
        checkpoint: What the engine is to serve.
        score: A key of `SCORES`; None for the checkpoint's own.
        size: (height, width) of the images.
        precision: One of `PRECISIONS` that the engine has.
        out: Engine folder; an existing engine folder there is replaced.
        engine: A name of `EXPORTED`.
        batch_sizes: For TensorRT, 1 among them; empty = 1 alone.
        calibration: Folder of frames for 'int8'.

    Raises:
        FileNotFoundError: The checkpoint or the frames are missing.
        ImportError: The engine's library is not installed.
        ValueError: The score does not fit the network, the engine has no such precision, or
            `out` holds something else.
    """
    if engine not in EXPORTED:
        raise ValueError(
            f'engine {engine!r} cannot be exported; choose one of: {", ".join(EXPORTED)}'
        )
    if out.exists() and not (out / ENGINE_FILE).is_file():
        raise ValueError(f'{str(out)!r} exists and is no engine folder; choose another --out')
    module = engine_module(engine)
    if precision not in module.PRECISIONS:
        raise ValueError(
            f'engine {engine!r} is not exported in {precision!r}; '
            f'choose one of: {", ".join(module.PRECISIONS)}'
        )
    if engine == 'tensorrt':
        batch_sizes = batch_sizes or (1,)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f'.{out.name}.') as work:
        fresh = Path(work) / 'engine'
        fresh.mkdir()
        if (out / TIMING_CACHE).is_file():
            shutil.copy(out / TIMING_CACHE, fresh)
        request = ExportRequest(
            checkpoint=checkpoint,
            score=score or checkpoint.meta.score,
            precision=precision,
            input_size=size,
            batch_sizes=tuple(batch_sizes),
            calibration=calibration,
            timing_cache=fresh / TIMING_CACHE,
        )
        meta = _key(module, engine, request, module.export(request, fresh))
        write_engine_meta(fresh, meta)
        if out.exists():
            out.rename(Path(work) / 'old')
        fresh.rename(out)
    return meta


def _key(module: EngineModule, engine: str, request: ExportRequest, precision: str) -> EngineMeta:
    """Gives the key of what was just made."""
    return EngineMeta(
        engine=engine,
        score=request.score,
        precision=precision,
        input_size=request.input_size,
        batch_sizes=request.batch_sizes,
        key=request.checkpoint.score_key(request.score),
        versions=module.versions(),
        device=module.device(),
        commit=code_version(),
    )
