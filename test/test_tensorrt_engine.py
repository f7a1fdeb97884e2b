"""TensorRT without a GPU: options, call signatures, spelling, saving and loading, by a stand-in.

The stand-in has the signatures of torch-tensorrt 2.13.0 and "compiles" to the torch graph itself.
That the converters cover the graphs: `test_plain_graph.py`, and `test/gpu/dry_run.py` by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib.machinery import ModuleSpec
import io
import json
import os
from pathlib import Path
import pickle
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any
import zipfile

import numpy as np
import pytest
import torch

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.engines import exported_program, open_engine, tensorrt_engine
from anomaly_seg_ros.engines.export import export_engine
from anomaly_seg_ros.engines.folder import read_engine_meta

pytestmark = pytest.mark.timeout(300)  # importing and exporting, on a loaded machine

SIZE = (64, 96)


def frames(count: int) -> list[Any]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(count)]


def compile_(
    exported_program: Any,
    inputs: Any = None,
    *,
    disable_tf32: bool = False,
    require_full_compilation: bool = False,
    min_block_size: int = 5,
    version_compatible: bool = False,
    optimization_level: int | None = None,
    dryrun: bool = False,
    hardware_compatible: bool = False,
    timing_cache_path: str = '',
    cache_built_engines: bool = False,
    reuse_cached_engines: bool = False,
    **kwargs: Any,
) -> Any:
    assert not kwargs, 'the real function swallows these without a word'
    assert require_full_compilation
    assert not cache_built_engines
    assert not reuse_cached_engines
    Path(timing_cache_path).write_bytes(b'timings')
    return SimpleNamespace(program=exported_program, inputs=inputs)


def save(
    module: Any,
    file_path: str = '',
    *,
    output_format: str = 'exported_program',
    arg_inputs: Any = None,
    retrace: bool = True,
) -> None:
    assert output_format == 'exported_program'
    assert not retrace
    assert [tuple(x.shape) for x in arg_inputs] == [tuple(x.shape) for x in module.inputs]
    torch.export.save(module.program, file_path)


class Replay:
    """`CudaReplay` without its copies."""

    def __init__(self, run: Any, batch: Any, record: bool = True):
        assert not record, 'TensorRT records by itself'
        self.run, self.shape = run, batch.shape

    def __call__(self, batch: Any) -> Any:
        assert batch.shape == self.shape, 'an engine has one batch size'
        return self.run(batch)


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The engine's module over a stand-in of its libraries."""
    fake: Any = ModuleType('torch_tensorrt')
    fake.__spec__ = ModuleSpec('torch_tensorrt', None)  # torch looks it up
    fake.__version__ = '2.13.0'
    fake.dynamo = SimpleNamespace(compile=compile_)
    fake.save, fake.load = save, torch.export.load
    fake.modes = []
    fake.runtime = SimpleNamespace(set_cudagraphs_mode=fake.modes.append)
    tensorrt: Any = ModuleType('tensorrt')
    tensorrt.__spec__ = ModuleSpec('tensorrt', None)
    tensorrt.__version__ = '11.0.0.114'
    monkeypatch.setitem(sys.modules, 'torch_tensorrt', fake)
    monkeypatch.setitem(sys.modules, 'tensorrt', tensorrt)
    module = tensorrt_engine
    monkeypatch.setattr(module, 'DEVICE', 'cpu')
    monkeypatch.setattr('anomaly_seg_ros.engines.cuda_replay.CudaReplay', Replay)
    monkeypatch.setattr(module, 'device', lambda: 'made GPU, capability 8.7, driver 1.2')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'empty_cache', lambda: None)
    return module


def test_without_the_library_the_install_line_is_given(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('anomaly_seg_ros.engines.choice._installed', lambda name: name == 'torch')
    with pytest.raises(ImportError, match=r'pypi\.nvidia\.com -r config/requirements/gpu\.txt'):
        open_engine(Checkpoint.open(tiny_checkpoint), 'tensorrt')


def test_timings_of_another_machine_are_left(
    trt: Any, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    out, checkpoint = tmp_path / 'engine', Checkpoint.open(tiny_checkpoint)
    export_engine(checkpoint, None, SIZE, 'fp32', out, engine='tensorrt')
    assert trt._is_of_here(out)
    text = (out / 'engine.json').read_text()
    (out / 'engine.json').write_text(text.replace('capability 8.7', 'capability 9.0'))
    assert not trt._is_of_here(out)
    (out / 'engine.json').unlink()
    assert not trt._is_of_here(out)


def test_a_misspelt_option_is_refused(trt: Any) -> None:
    options = trt.compile_options('fp16', Path('cache'))
    trt.check_options(compile_, options)
    with pytest.raises(ValueError, match=r'torch_tensorrt 2\.13\.0 has no option enabled_precis'):
        trt.check_options(compile_, options | {'enabled_precisions': {torch.float16}})


def test_tensorrt_is_not_built_without_a_gpu(
    trt: Any, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ValueError, match='is built on the GPU that runs it; none is here'):
        export_engine(
            Checkpoint.open(tiny_checkpoint), None, SIZE, 'auto', tmp_path / 'e', 'tensorrt'
        )
    assert not (tmp_path / 'e').exists()


def test_the_whole_way_from_export_to_a_batch(
    trt: Any, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'engines' / 'trt'
    meta = export_engine(
        Checkpoint.open(tiny_checkpoint), None, SIZE, 'fp32', out, 'tensorrt', (1, 2)
    )
    assert meta == read_engine_meta(out)
    assert (meta.precision, meta.batch_sizes) == ('fp32', (1, 2))
    assert meta.device == 'made GPU, capability 8.7, driver 1.2'
    assert set(meta.versions) == {'torch', 'torch_tensorrt', 'tensorrt', 'cuda'}
    assert sorted(path.name for path in out.iterdir()) == [
        'batch1.pt2',
        'batch2.pt2',
        'engine.json',
        'tensorrt_timing.cache',
    ]
    # Kept with the engine, so that the next build is quick.
    assert (out / 'tensorrt_timing.cache').read_bytes() == b'timings'

    engine = open_engine(Checkpoint.open(tiny_checkpoint), engine_path=out)
    assert (engine.name, engine.precision, engine.input_size) == ('tensorrt', 'fp32', SIZE)
    assert sys.modules['torch_tensorrt'].modes == [True]  # type: ignore[attr-defined]
    reference = open_engine_on_cpu(tiny_checkpoint)
    images = frames(5)
    predictions = engine.infer_batch(images)
    assert len(predictions) == 5
    for image, got in zip(images, predictions, strict=True):
        wanted = reference(image)
        assert (got.labels.dtype, got.score.dtype) == (np.uint8, np.float16)
        assert (got.labels == wanted[0]).mean() >= 0.9999
        assert np.abs(got.score - wanted[1]).max() <= 2**-9 * np.abs(wanted[1]).max()
    engine.close()


def open_engine_on_cpu(checkpoint: Path) -> Callable[[Any], tuple[Any, Any]]:
    """The network with its score by plain torch; torch.cuda is not to be believed here."""
    from anomaly_seg_ros.engines.scored_model import load_scored_model

    scored = load_scored_model(Checkpoint.open(checkpoint), Checkpoint.open(checkpoint).meta.score)

    def infer(image: Any) -> tuple[Any, Any]:
        with torch.inference_mode():
            outputs = scored(torch.from_numpy(image)[None])
        return outputs['labels'][0].numpy(), outputs['score'][0].numpy()

    return infer


def test_fp16_is_a_half_network_with_a_float32_score(
    trt: Any, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'trt'
    meta = export_engine(Checkpoint.open(tiny_checkpoint), 'energy', SIZE, 'auto', out, 'tensorrt')
    assert (meta.precision, meta.batch_sizes) == ('fp16', (1,))
    graph = torch.export.load(out / 'batch1.pt2').graph
    kinds: dict[str, set[Any]] = {}
    for node in graph.nodes:
        value = node.meta.get('val')
        if node.op == 'call_function' and isinstance(value, torch.Tensor):
            kinds.setdefault(str(node.target), set()).add(value.dtype)
    assert kinds['aten.conv2d.default'] == {torch.float16}
    assert kinds['aten.logsumexp.default'] == {torch.float32}
    outputs = next(node for node in graph.nodes if node.op == 'output').args[0]
    assert [node.meta['val'].dtype for node in outputs] == [
        torch.int8,
        torch.float16,
        torch.float32,
    ]


def test_a_missing_batch_file_is_one_clear_error(
    trt: Any, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'trt'
    export_engine(Checkpoint.open(tiny_checkpoint), None, SIZE, 'fp32', out, 'tensorrt')
    (out / 'batch1.pt2').unlink()
    with pytest.raises(FileNotFoundError, match=r'batch1\.pt2.*export again'):
        open_engine(Checkpoint.open(tiny_checkpoint), engine_path=out)


@pytest.mark.parametrize(
    ('count', 'sizes', 'parts'),
    [
        (1, (1,), [1]),
        (3, (1,), [1, 1, 1]),
        (7, (1, 2, 4), [4, 2, 1]),
        (8, (4, 1), [4, 4]),
        (3, (1, 4), [1, 1, 1]),
    ],
)
def test_a_batch_is_split_into_the_sizes_there_are(
    trt: Any, count: int, sizes: tuple[int, ...], parts: list[int]
) -> None:
    assert trt.split_batch(count, sizes) == parts


def test_the_device_names_gpu_capability_and_driver(
    trt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    module: Any = tensorrt_engine
    assert module.device() == 'no GPU'
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: (8, 7))
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'Orin')
    text = tmp_path / 'version'
    text.write_text('NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23\nGCC')
    monkeypatch.setattr(module, '_DRIVER', text)
    assert module.device() == 'Orin, capability 8.7, driver 580.95.05'
    text.unlink()
    assert module.device() == 'Orin, capability 8.7, driver unknown'


@pytest.mark.parametrize('name', ['run.py', 'dry_run.py'])
def test_the_scripts_for_people_with_a_gpu_start(name: str, root: Path) -> None:
    done = subprocess.run(
        [sys.executable, root / 'test' / 'gpu' / name, '--help'],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f'python test/gpu/{name}' in done.stdout


class RunsCode:
    """A pickle that does something as it is read."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> Any:
        return (Path.touch, (self.trace,))


def with_constant(config: bytes) -> bytes:
    content = json.loads(config)
    content['config']['made'] = {
        'path_name': 'opaque_obj_0', 'is_param': False, 'use_pickle': True, 'tensor_meta': None,
    }  # fmt: skip
    return json.dumps(content).encode()


def test_the_pickle_of_an_engine_calls_nothing_else() -> None:
    """As `EngineSerializer.__reduce__` of torch-tensorrt 2.13 writes it."""
    of_engine = (
        b'ctorch_tensorrt.dynamo.runtime._TRTEngine\n_reconstruct_trt_engine\n((VZnRydA==\nltR.'
    )
    assert not exported_program._calls_others(of_engine)
    assert exported_program._calls_others(of_engine.replace(b'_reconstruct_trt_engine', b'pickle'))
    assert exported_program._calls_others(b'no pickle')


@pytest.mark.parametrize('hidden', ['expression', 'pickle', 'object'])
def test_an_engine_file_runs_no_code(
    trt: Any, tiny_checkpoint: Path, tmp_path: Path, hidden: str
) -> None:
    out, trace = tmp_path / 'engine', tmp_path / 'trace'
    checkpoint = Checkpoint.open(tiny_checkpoint)
    export_engine(checkpoint, None, SIZE, 'fp32', out, engine='tensorrt')
    pickled = io.BytesIO()
    torch.save((RunsCode(trace),), pickled)
    expression = {'as_expr': {'expr_str': f"__import__('pathlib').Path({str(trace)!r}).touch()"}}

    def changed(name: str, data: bytes) -> bytes:
        if hidden == 'pickle':
            return pickled.getvalue() if 'sample_inputs' in name else data
        if hidden == 'object':
            return with_constant(data) if name.endswith('constants_config.json') else data
        return data.replace(b'{"as_int": 96}', json.dumps(expression).encode())

    file = out / 'batch1.pt2'
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, 'w') as archive:
        for name, data in members.items():
            archive.writestr(name, changed(name, data))
        if hidden == 'object':
            place = f'{next(iter(members)).partition("/")[0]}/data/constants/opaque_obj_0'
            archive.writestr(place, pickle.dumps(RunsCode(trace)))
    with pytest.raises(ValueError, match='loading it would run code that is in it; export it'):
        trt.load(out, read_engine_meta(out), 'fp32', 1)
    assert not trace.exists()
    assert 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ
    with suppress(Exception):
        torch.export.load(file)
    assert trace.exists(), 'the file does what it shall not'
