"""Builds an engine folder from a checkpoint: `anomaly_seg export`."""

from __future__ import annotations

import argparse
from pathlib import Path
import shutil
import tempfile

from anomaly_seg_ros.checkpoint import read_meta, resolve_checkpoint, weights_hash
from anomaly_seg_ros.engines.engine_folder import EngineMeta, write_engine_meta
from anomaly_seg_ros.provenance import code_version

EXPORTED = ('openvino',)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg export` takes."""
    parser.add_argument('--checkpoint', required=True, help="folder, or 'default'")
    parser.add_argument('--score', help="default: the checkpoint's own")
    parser.add_argument('--engine', default='openvino', help=f'one of: {", ".join(EXPORTED)}')
    parser.add_argument('--size', metavar='HxW', help="default: the checkpoint's own")
    parser.add_argument(
        '--precision',
        default='auto',
        choices=('auto', 'fp32', 'bf16'),
        help='what the engine computes in; auto: decided where it runs',
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


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg export`."""
    if args.engine not in EXPORTED:
        raise ValueError(
            f'engine {args.engine!r} cannot be exported; choose one of: {", ".join(EXPORTED)}'
        )
    checkpoint = resolve_checkpoint(args.checkpoint)
    size = parse_size(args.size) if args.size else read_meta(checkpoint).input_size
    meta = export_engine(checkpoint, args.score, size, args.precision, args.out)
    print(
        f'{args.out}: engine {meta.engine}, score {meta.score}, precision {meta.precision}, '
        f'input {size[0]}x{size[1]}'
    )
    return 0


def export_engine(
    checkpoint: Path, score: str | None, size: tuple[int, int], precision: str, out: Path
) -> EngineMeta:
    """Exports a checkpoint with its score to OpenVINO; `out` appears whole or not at all.

    Args:
        checkpoint: A checkpoint folder.
        score: A key of `SCORES`; None for the checkpoint's own.
        size: (height, width) of the images.
        precision: 'auto', 'fp32' or 'bf16'.
        out: Engine folder; an existing engine folder there is replaced.

    Raises:
        ValueError: The score does not fit the network, or `out` holds something else.
    """
    from anomaly_seg_ros.engines import openvino_engine
    from anomaly_seg_ros.engines.engine_folder import ENGINE_FILE
    from anomaly_seg_ros.engines.scored_model import load_scored_model

    if out.exists() and not (out / ENGINE_FILE).is_file():
        raise ValueError(f'{str(out)!r} exists and is no engine folder; choose another --out')
    score = score or read_meta(checkpoint).score
    scored = load_scored_model(checkpoint, score)
    meta = EngineMeta(
        engine='openvino',
        score=score,
        precision=precision,
        input_size=size,
        weights=weights_hash(checkpoint),
        versions=openvino_engine.versions(),
        commit=code_version(),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f'.{out.name}.') as work:
        fresh = Path(work) / 'engine'
        fresh.mkdir()
        openvino_engine.save(openvino_engine.convert(scored, size), fresh)
        write_engine_meta(fresh, meta)
        if out.exists():
            shutil.rmtree(out)
        fresh.rename(out)
    return meta
