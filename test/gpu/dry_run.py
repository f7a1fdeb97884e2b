"""Asks torch-tensorrt's own converters, without a GPU, whether they cover every network and score.

    pip download --no-deps -d WHEELS torch-tensorrt==2.13.0 tensorrt-cu13-bindings==11.0.0.114
    pip install dllist
    python test/gpu/dry_run.py --wheels WHEELS

The converter registry and its validators run; nothing is built, so a kernel that TensorRT lacks
is not found. The bindings link to three libraries that only NVIDIA's index has: they are replaced
by empty ones, made here with gcc. Prints one line for each network and score and exits 1 unless
all are whole: every operator covered, one engine, no part left to torch.
"""
# ruff: noqa: T201

from __future__ import annotations

import argparse
from collections.abc import Iterator
import contextlib
import ctypes
import importlib
import io
import logging
from pathlib import Path
import re
import subprocess
import sys
import tempfile
from types import SimpleNamespace
from typing import Any
import zipfile

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

ENTRY_POINTS = {
    'libnvinfer.so.11': (
        'createInferBuilder_INTERNAL',
        'createInferRefitter_INTERNAL',
        'createInferRuntime_INTERNAL',
        'getBuilderPluginRegistry',
        'getPluginRegistry',
    ),
    'libnvinfer_plugin.so.11': ('initLibNvInferPlugins',),
    'libnvonnxparser.so.11': (
        'createNvOnnxParserRefitter_INTERNAL',
        'createNvOnnxParser_INTERNAL',
        'getNvOnnxParserVersion',
    ),
}
CLASSES = 19
STATISTICS = {
    'mahalanobis': {'whitening': torch.eye(CLASSES), 'means': torch.zeros(CLASSES, CLASSES)},
    'sml': {'mean': torch.zeros(CLASSES), 'std': torch.ones(CLASSES)},
}


def unpack(wheels: Path, work: Path) -> None:
    """Unpacks both wheels, but for torch-tensorrt's compiled parts, which need CUDA's torch."""
    found = [*wheels.glob('torch_tensorrt-*.whl'), *wheels.glob('tensorrt_cu13_bindings-*.whl')]
    if len(found) != 2:
        raise SystemExit(f'dry_run: {str(wheels)!r} must hold the two wheels; see --help')
    for wheel in found:
        with zipfile.ZipFile(wheel) as archive:
            names = [
                name
                for name in archive.namelist()
                if not (name.startswith('torch_tensorrt/') and re.search(r'\.so(\.|$)', name))
            ]
            archive.extractall(work, names)


def load_empty_libraries(work: Path) -> None:
    """Makes libraries whose functions give null, and loads them under the names linked to."""
    for library, functions in ENTRY_POINTS.items():
        code = ''.join(f'void* {name}(void) {{ return 0; }}\n' for name in functions)
        subprocess.run(
            [
                'gcc',
                '-shared',
                '-fPIC',
                '-xc',
                '-',
                f'-Wl,-soname,{library}',
                '-o',
                work / library,
            ],
            input=code.encode(),
            check=True,
        )
        ctypes.CDLL(str(work / library), ctypes.RTLD_GLOBAL)


def pretend_gpu() -> None:
    """Gives torch the answers about a GPU that the import and the compiler ask for."""
    properties = SimpleNamespace(major=8, minor=7, name='none', total_memory=1 << 34)
    if not hasattr(torch._C, '_CudaDeviceProperties'):
        torch._C._CudaDeviceProperties = type('_CudaDeviceProperties', (), {})  # type: ignore[attr-defined]
    torch.cuda.get_device_capability = lambda *_: (8, 7)  # type: ignore[assignment]
    torch.cuda.get_device_properties = lambda *_: properties  # type: ignore[assignment]
    torch.cuda.current_device = lambda: 0  # type: ignore[assignment]
    torch.cuda.mem_get_info = lambda *_: (1 << 34, 1 << 34)  # type: ignore[assignment]


def import_torch_tensorrt(wheels: Path, work: Path) -> Any:
    """Gives torch_tensorrt as it comes without a GPU."""
    unpack(wheels, work)
    load_empty_libraries(work)
    pretend_gpu()
    sys.path.insert(0, str(work))
    sys.modules['tensorrt'] = importlib.import_module('tensorrt_bindings')
    return importlib.import_module('torch_tensorrt')


def cases(size: tuple[int, int], preset: str | None) -> Iterator[tuple[str, str, Any]]:
    """Gives network, score and the module of each combination that fits."""
    import inspect

    from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
    from anomaly_seg_ros.engines.scored_model import ScoredModel
    from anomaly_seg_ros.models import build_model, MODELS
    from anomaly_seg_ros.registry import lookup
    from anomaly_seg_ros.scores import score_class, SCORES

    for name in MODELS:
        takes = inspect.signature(lookup('model', MODELS, name)).parameters
        options = {'outlier_head': True} if 'outlier_head' in takes else {}
        steps = [
            (score, step) for score in SCORES for step in (1, 4)[: 1 + score_class(score).coarse]
        ]
        for score, step in steps:
            void = CLASSES if score == 'void' else None
            meta = CheckpointMeta(
                model=name,
                class_names=tuple(map(str, range(CLASSES))),
                class_colors=((0, 0, 0),) * CLASSES,
                mean=(0.5, 0.5, 0.5),
                std=(0.25, 0.25, 0.25),
                input_size=size,
                void_index=void,
                score_options={} if step == 1 else {score: {'step': step}},
            )
            model = build_model(name, meta.channels, options, preset=preset).eval()
            try:
                scored = ScoredModel(model, meta, score, STATISTICS.get(score)).eval()
            except ValueError:
                continue  # the score needs what this network lacks
            yield (
                name,
                score if step == 1 else f'{score}.step={step}',
                scored.spell(torch.int8, half_network=True),
            )


def dry_run(torch_tensorrt: Any, scored: Any, size: tuple[int, int]) -> str:
    """Gives '' where a module is one whole engine, else what is wrong."""
    from anomaly_seg_ros.engines.graph import export_graph
    from anomaly_seg_ros.engines.tensorrt_engine import (
        check_options,
        compile_options,
        SAVE_OPTIONS,
    )

    options = compile_options('fp16', Path('timings')) | {'dryrun': True}
    check_options(torch_tensorrt.dynamo.compile, options)
    check_options(torch_tensorrt.save, {**SAVE_OPTIONS, 'arg_inputs': ()})
    program = export_graph(scored, size, 1)
    example = torch.zeros(1, *size, 3, dtype=torch.uint8)
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logging.getLogger('torch_tensorrt').addHandler(handler)
    try:
        with contextlib.redirect_stdout(said):
            torch_tensorrt.dynamo.compile(program, inputs=[example], **options)
    except Exception as error:  # noqa: BLE001 - whatever it raises is the answer
        return f'{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}'
    finally:
        logging.getLogger('torch_tensorrt').removeHandler(handler)
    text = said.getvalue()
    engines, covered = text.count('TRT Engine #'), re.search(r'([\d.]+)% coverage', text)
    if not engines or not covered:
        return f'the compiler said neither engines nor coverage: {text[:200]!r}'
    whole = engines == 1 and float(covered[1]) == 100
    return '' if whole else f'{engines} engines, {covered[1]} % of operators'


def main() -> int:
    """Runs all combinations."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--wheels', type=Path, required=True, help='folder with both wheels')
    parser.add_argument('--size', default='512x1024', metavar='HxW')
    parser.add_argument('--preset', help="such as 'tiny'; default: the networks as published")
    parser.add_argument('--models', help='only these, separated by commas')
    parser.add_argument('--scores', help='only these')
    args = parser.parse_args()
    from anomaly_seg_ros.frames.preprocess import parse_size

    size = parse_size(args.size)
    failed = 0
    with tempfile.TemporaryDirectory() as work:
        torch_tensorrt = import_torch_tensorrt(args.wheels, Path(work))
        print(f'torch_tensorrt {torch_tensorrt.__version__}, torch {torch.__version__}')
        for name, score, scored in cases(size, args.preset):
            if args.models and name not in args.models.split(','):
                continue
            if args.scores and score not in args.scores.split(','):
                continue
            problem = dry_run(torch_tensorrt, scored, size)
            failed += bool(problem)
            print(f'{name:14} {score:14} {problem or "one engine, all operators"}', flush=True)
    return 1 if failed else 0


if __name__ == '__main__':
    raise SystemExit(main())
