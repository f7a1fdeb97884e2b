"""For a person with an NVIDIA GPU: builds the engines, then prints parity and latency.

    pip install torch==2.13.0
    pip install -r config/requirements/node.txt
    pip install --extra-index-url https://pypi.nvidia.com -r config/requirements/gpu.txt
    pip install onnxruntime-gpu==1.31.1 onnx==1.23.2 onnxscript==0.7.2
    python test/gpu/run.py --checkpoint default [--size 512x1024] [--frames DIR]

What is not installed is left out with the reason. Latency is the median and 95th percentile of
300 frames after 50, the GPU waited for at each; once as `infer` gives it, with the copies from and
to the host, and for TensorRT and torch once of the GPU's part alone. Label agreement and rank
correlation are against torch in float32.
"""
# ruff: noqa: T201

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
import sys
import tempfile
import time
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
import torch  # noqa: E402

from anomaly_seg_ros.checkpoint.folder import Checkpoint  # noqa: E402
from anomaly_seg_ros.commands.export import parse_batch_sizes  # noqa: E402
from anomaly_seg_ros.demo.synthetic import SyntheticRoad  # noqa: E402
from anomaly_seg_ros.engines import open_engine  # noqa: E402
from anomaly_seg_ros.engines.export import export_engine  # noqa: E402
from anomaly_seg_ros.engines.torch_engine import TorchEngine  # noqa: E402
from anomaly_seg_ros.frames.preprocess import (  # noqa: E402
    parse_size,
    to_input_size,
)
from training.bench.parity import agreement  # noqa: E402

WARM_UP, TIMED = 50, 300
CASES = (
    ('torch', 'fp32'),
    ('torch', 'fp16'),
    ('torch', 'bf16'),
    ('onnx', 'fp32'),
    ('onnx', 'fp16'),
    ('tensorrt', 'fp32'),
    ('tensorrt', 'fp16'),
)


def open_cases(
    checkpoint: Checkpoint, size: tuple[int, int], batch_sizes: tuple[int, ...], work: Path
) -> Iterator[tuple[str, Any]]:
    """Gives each engine by its name; what cannot be opened is printed with the reason."""
    score = checkpoint.meta.score
    for name, precision in CASES:
        case = f'{name} {precision}'
        began = time.monotonic()
        try:
            if name == 'torch':
                yield case, TorchEngine(checkpoint, score, precision, size, 4)
                continue
            out = work / case.replace(' ', '_')
            sizes = batch_sizes if name == 'tensorrt' else ()
            export_engine(checkpoint, score, size, precision, out, name, sizes)
            engine = open_engine(checkpoint, name, score, 'auto', out)
        except Exception as error:  # noqa: BLE001 - one that fails leaves the others
            print(f'{case}: left out: {said(error)}', flush=True)
            continue
        print(
            f'{case}: built in {time.monotonic() - began:.0f} s; {engine.description}', flush=True
        )
        yield case, engine


def frames_of(source: str) -> list[NDArray[np.uint8]]:
    """Gives 30 frames; what reads bags and folders need not be there for the synthetic road."""
    if source == 'synthetic':
        road = SyntheticRoad()
        return [road.frame(index).image for index in range(30)]
    from anomaly_seg_ros.demo.frame_source import open_frames

    return list(open_frames(source, 30))


def said(error: Exception) -> str:
    """Gives the first line of an error; its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Gives median and 95th percentile of a call in milliseconds, the GPU waited for."""
    for _ in range(WARM_UP):
        call()
    times = []
    for _ in range(TIMED):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1e3)
    p50, p95 = np.percentile(times, (50, 95))
    return float(p50), float(p95)


def row(
    case: str, engine: Any, frames: list[NDArray[np.uint8]], wanted: list[Any], batch: int
) -> str:
    """Measures one engine and gives its line of the table."""
    labels, ranks = agreement([engine.infer(frame) for frame in frames], wanted)
    whole = timed(lambda: engine.infer(frames[0]))
    cells = [case, f'{100 * labels:.3f}', f'{ranks:.5f}', f'{whole[0]:.2f} / {whole[1]:.2f}']
    replay = getattr(engine, '_replays', {}).get(1)
    if replay is None:
        cells.append('-')
    else:
        with torch.inference_mode(), torch.cuda.stream(replay.stream):
            alone = timed(replay.compute)
        cells.append(f'{alone[0]:.2f} / {alone[1]:.2f}')
    many = [frames[i % len(frames)] for i in range(batch)]
    together = timed(lambda: engine.infer_batch(many))
    cells.append(f'{together[0]:.2f} / {together[1]:.2f}')
    return f'| {" | ".join(cells)} |'


def main() -> int:
    """Builds, measures, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--checkpoint', default='default', help="folder, or 'default'")
    parser.add_argument('--size', metavar='HxW', help="default: the checkpoint's own")
    parser.add_argument('--batch', default='1,4', metavar='N[,N]', help='default: %(default)s')
    parser.add_argument('--frames', default='synthetic', help='image folder or bag')
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print('run.py: torch sees no CUDA device here', file=sys.stderr)
        return 2
    checkpoint = Checkpoint.open(args.checkpoint)
    size = parse_size(args.size) if args.size else checkpoint.meta.input_size
    batch_sizes = parse_batch_sizes(args.batch)
    frames = [to_input_size(frame, size) for frame in frames_of(args.frames)]
    print(f'{torch.cuda.get_device_name()}, torch {torch.__version__}, input {size[0]}x{size[1]}')
    print(
        '\n| engine | equal labels % | rank corr. | infer ms p50 / p95 | GPU part alone | '
        f'batch of {batch_sizes[-1]} |\n| --- | --- | --- | --- | --- | --- |'
    )
    wanted, failed = None, 0
    with tempfile.TemporaryDirectory() as work:
        for case, engine in open_cases(checkpoint, size, batch_sizes, Path(work)):
            try:
                wanted = wanted or [engine.infer(frame) for frame in frames]
                print(row(case, engine, frames, wanted, batch_sizes[-1]), flush=True)
            except Exception as error:  # noqa: BLE001 - one that fails leaves the others
                print(f'{case}: failed: {said(error)}', flush=True)
                failed += 1
            engine.close()
    return 1 if failed or wanted is None else 0


if __name__ == '__main__':
    raise SystemExit(main())
