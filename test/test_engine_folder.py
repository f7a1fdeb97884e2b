"""The engine folder: what export writes, and what of its key must fit."""

from __future__ import annotations

from dataclasses import replace
import json
from pathlib import Path
import shutil
from typing import Any

import numpy as np
import pytest
import torch

from anomaly_seg_ros.checkpoint.folder import Checkpoint, save_checkpoint
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.commands.export import parse_batch_sizes
from anomaly_seg_ros.engines import engine_module, onnx_engine, open_engine
from anomaly_seg_ros.engines.building import TIMES_FILE
from anomaly_seg_ros.engines.export import export_engine
from anomaly_seg_ros.engines.folder import engine_folders, EngineMeta, read_engine_meta, sums_of
from anomaly_seg_ros.engines.key import fits_precision, Here, misfit
from anomaly_seg_ros.frames.preprocess import parse_size

pytestmark = pytest.mark.timeout(300)  # importing and exporting, on a loaded machine

SIZE = (64, 96)
BLANK = np.zeros((*SIZE, 3), np.uint8)
LFS_POINTER = 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n'


def change_engine(folder: Path, **values: Any) -> None:
    path = folder / 'engines' / 'openvino' / 'engine.json'
    changed = json.loads(path.read_text(encoding='utf-8')) | values
    path.write_text(json.dumps({k: v for k, v in changed.items() if v is not ...}))


def change_weights(folder: Path) -> None:
    weights = Checkpoint.open(folder).network_weights()
    key = next(key for key, value in weights.items() if value.is_floating_point())
    weights[key] = weights[key] + 1
    save_checkpoint(folder, Checkpoint.open(folder).meta, weights)


@pytest.fixture
def folder(exported_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of it, to be broken."""
    ignore = shutil.ignore_patterns(TIMES_FILE)
    return Path(shutil.copytree(exported_checkpoint, tmp_path / 'checkpoint', ignore=ignore))


# --- what export writes --------------------------------------------------------------------------


def test_export_says_what_it_made(exported_checkpoint: Path) -> None:
    meta = read_engine_meta(exported_checkpoint / 'engines' / 'openvino')
    assert (meta.engine, meta.score, meta.precision) == ('openvino', 'max_logit', 'auto')
    assert (meta.input_size, meta.batch_sizes) == (SIZE, ())
    assert list(meta.versions) == ['openvino']
    assert meta.device == engine_module('openvino').device() != ''
    assert meta.key == Checkpoint.open(exported_checkpoint).score_key('max_logit')
    assert meta.commit
    # Nothing half made is left behind.
    made = {path.name for path in (exported_checkpoint / 'engines').iterdir()}
    assert made - {TIMES_FILE} == {'openvino'}


def test_export_replaces_an_engine_and_nothing_else(folder: Path) -> None:
    out = folder / 'engines' / 'openvino'
    meta = export_engine(Checkpoint.open(folder), 'msp', (32, 32), 'auto', out)
    assert (meta.score, meta.input_size) == ('msp', (32, 32))
    engine = open_engine(Checkpoint.open(folder), score='msp', engine_path=out)
    assert engine.input_size == (32, 32)
    with pytest.raises(ValueError, match=r'exists and has no engine\.json'):
        export_engine(Checkpoint.open(folder), None, SIZE, 'auto', folder)


def test_an_export_that_fails_leaves_the_old_engine(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = folder / 'engines' / 'openvino'
    before = sorted(path.read_bytes() for path in out.iterdir())

    def fail(*_: Any) -> str:
        raise ValueError('no room')

    monkeypatch.setattr('anomaly_seg_ros.engines.openvino_engine.export', fail)
    with pytest.raises(ValueError, match='no room'):
        export_engine(Checkpoint.open(folder), None, SIZE, 'auto', out)
    assert sorted(path.read_bytes() for path in out.iterdir()) == before
    assert [path.name for path in out.parent.iterdir()] == ['openvino']


@pytest.mark.parametrize(
    ('arguments', 'what'),
    [
        (['--engine', 'torch'], "engine 'torch' cannot be exported; choose one of: tensorrt, op"),
        (['--engine', 'onnxx'], "engine 'onnxx' cannot be exported"),
        (['--precision', 'fp16'], "'openvino' is not exported in 'fp16'; choose one of: auto"),
        (['--engine', 'onnx', '--precision', 'int8'], "'onnx' is not exported in 'int8'"),
        (['--size', '10x10'], "size 10x10 is below the stride 32 of 'bisenetv2'; use 32x32"),
        (['--size', '10x480'], 'use 32x480'),
        (['--precision', 'int8'], "precision 'int8' needs frames: give --calibration DIR"),
        (['--precision', 'int8', '--calibration', 'none'], "no file or folder 'none'"),
        (['--calibration', '.'], "--calibration is for precision 'int8', not 'auto'"),
        (['--size', '64'], "size '64' is not of the form HxW"),
        (['--batch', '0'], "batch sizes '0' are not of the form N"),
        (['--batch', '2'], 'takes any batch size; leave --batch out'),
    ],
)
def test_export_refuses_in_one_line(
    arguments: list[str],
    what: str,
    tiny_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / 'engine'
    base = ['export', '--checkpoint', str(tiny_checkpoint), '--out', str(out)]
    assert main([*base, *arguments]) == 2
    error = capsys.readouterr().err
    assert what in error
    assert error.count('\n') == 1
    assert not out.exists()


@pytest.mark.parametrize('text', ['360x480', '1X1'])
def test_sizes(text: str) -> None:
    assert parse_size(text) == tuple(map(int, text.lower().split('x')))


@pytest.mark.parametrize('text', ['', 'x', '360', '360x', '0x10', '10x-1', '1x2x3', 'axb'])
def test_texts_that_are_no_size(text: str) -> None:
    with pytest.raises(ValueError, match='not of the form HxW'):
        parse_size(text)


@pytest.mark.parametrize(
    ('text', 'sizes'), [('1', (1,)), ('4,2', (1, 2, 4)), (' 2 , 1', (1, 2)), ('2,2', (1, 2))]
)
def test_batch_sizes_always_hold_one(text: str, sizes: tuple[int, ...]) -> None:
    assert parse_batch_sizes(text) == sizes


@pytest.mark.parametrize('text', [',', '1,', '-1', 'x', '1.5'])
def test_texts_that_are_no_batch_sizes(text: str) -> None:
    with pytest.raises(ValueError, match='not of the form N'):
        parse_batch_sizes(text)


# --- the key -------------------------------------------------------------------------------------

GPU = 'NVIDIA Orin, capability 8.7, driver 540.4.0'
OV_META = EngineMeta(
    engine='openvino',
    score='msp',
    precision='auto',
    input_size=SIZE,
    key='a' * 64,
    code='c' * 64,
    files={},
    versions={'openvino': '2026.4.1-22982'},
    device='AMD EPYC',
    commit='c',
)
OV_HERE = Here(
    key='a' * 64,
    code='c' * 64,
    score='msp',
    precision='auto',
    versions={'openvino': '2026.4.1-22982'},
    device='AMD EPYC',
)
TRT_VERSIONS = {'tensorrt': '11.0.0', 'torch': '2.13.0', 'cuda': '13.0'}
TRT_META = replace(OV_META, engine='tensorrt', precision='fp16', versions=TRT_VERSIONS, device=GPU)
TRT_HERE = replace(OV_HERE, versions=TRT_VERSIONS, device=GPU)


def why_not(meta: EngineMeta, here: Here) -> str | None:
    return misfit(meta, here, engine_module(meta.engine))


def test_the_same_key_fits() -> None:
    assert why_not(OV_META, OV_HERE) is None
    assert why_not(TRT_META, TRT_HERE) is None


@pytest.mark.parametrize('meta', [OV_META, TRT_META])
def test_other_weights_and_scores_never_fit(meta: EngineMeta) -> None:
    here = OV_HERE if meta is OV_META else TRT_HERE
    why = why_not(meta, replace(here, key='b' * 64))
    assert why == (
        'was exported from other weights, options or statistics (key aaaaaaaaaaaa, here '
        'bbbbbbbbbbbb); run export again'
    )
    why = why_not(meta, replace(here, code='b' * 64))
    assert why == (
        'was exported by other code of the network or the score (cccccccccccc, here '
        'bbbbbbbbbbbb); run export again'
    )
    why = why_not(meta, replace(here, score='energy'))
    assert why == ("was exported with score 'msp', not 'energy'; ask for 'msp' or export again")


@pytest.mark.parametrize(
    ('here', 'fits'),
    [
        ('2026.4.1-22982', True),
        ('2026.4.0', True),  # the last number is repairs
        ('2026.5.0', True),
        ('2027.0.0', True),
        ('2026.3.9', False),
        ('2025.4.1', False),
    ],
)
def test_openvino_may_be_newer_but_not_older(here: str, fits: bool) -> None:
    why = why_not(OV_META, replace(OV_HERE, versions={'openvino': here}))
    assert (why is None) == fits
    if why:
        assert why == (
            f'was made by openvino 2026.4.1-22982, here is {here}, which is older; '
            'run export again'
        )


def test_openvino_runs_on_any_cpu() -> None:
    assert why_not(OV_META, replace(OV_HERE, device='Intel Xeon')) is None


@pytest.mark.parametrize(
    ('change', 'why'),
    [
        (
            {'device': 'NVIDIA H200, capability 9.0, driver 580.1'},
            f'was built on {GPU!r}, this is '
            "'NVIDIA H200, capability 9.0, driver 580.1'; run export again here",
        ),
        ({'device': GPU.replace('540.4.0', '540.5.0')}, 'driver 540.5.0'),
        ({'device': 'no GPU'}, "this is 'no GPU'"),
        (
            {'versions': TRT_VERSIONS | {'tensorrt': '11.0.1'}},
            'was made by tensorrt 11.0.0, here is 11.0.1; run export again',
        ),
        ({'versions': {'tensorrt': '11.0.0'}}, 'was made by torch 2.13.0, here is none'),
        ({'versions': TRT_VERSIONS | {'cuda': '13.1'}}, 'was made by cuda 13.0, here is 13.1'),
    ],
)
def test_tensorrt_is_tied_to_gpu_and_libraries(change: dict[str, Any], why: str) -> None:
    assert why in (why_not(TRT_META, replace(TRT_HERE, **change)) or '')


@pytest.mark.parametrize(
    ('made', 'served'),
    [
        ('auto', {'auto', 'fp32', 'bf16'}),
        ('fp32', {'auto', 'fp32'}),
        ('fp16', {'auto', 'fp16'}),
        ('int8', {'auto', 'int8'}),
    ],
)
def test_which_precisions_an_engine_serves(made: str, served: set[str]) -> None:
    every = ('auto', 'fp32', 'bf16', 'fp16', 'int8')
    assert {asked for asked in every if fits_precision(made, asked)} == served


# --- a folder that was asked for -----------------------------------------------------------------


def test_a_named_folder_of_other_weights_is_refused(folder: Path) -> None:
    path = folder / 'engines' / 'openvino'
    made = read_engine_meta(path).key[:12]
    change_weights(folder)
    with pytest.raises(ValueError, match=rf'options or statistics \(key {made}, here \w'):
        open_engine(Checkpoint.open(folder), engine_path=path)


def test_a_named_folder_of_a_newer_library_is_refused(folder: Path) -> None:
    change_engine(folder, versions={'openvino': '2999.1.0'})
    with pytest.raises(ValueError, match=r'was made by openvino 2999\.1\.0, here is 20\d\d\.'):
        open_engine(Checkpoint.open(folder), engine_path=folder / 'engines' / 'openvino')


def test_an_engine_path_must_fit_what_is_asked(folder: Path) -> None:
    change_engine(folder, precision='fp32')
    path = folder / 'engines' / 'openvino'
    with pytest.raises(ValueError, match="exported with score 'max_logit', not 'msp'"):
        open_engine(Checkpoint.open(folder), score='msp', engine_path=path)
    with pytest.raises(ValueError, match="for precision 'fp32', not 'bf16'"):
        open_engine(Checkpoint.open(folder), precision='bf16', engine_path=path)
    with pytest.raises(ValueError, match="holds engine 'openvino', not 'torch'"):
        open_engine(Checkpoint.open(folder), 'torch', engine_path=path)
    with pytest.raises(FileNotFoundError, match=r'no engine folder: it has no engine\.json'):
        open_engine(Checkpoint.open(folder), engine_path=folder)


@pytest.mark.parametrize('name', ['model.xml', 'model.bin'])
@pytest.mark.parametrize('damage', ['missing', 'empty', 'truncated', 'pointer'])
def test_a_broken_engine_is_one_clear_error(folder: Path, name: str, damage: str) -> None:
    path = folder / 'engines' / 'openvino' / name
    data = path.read_bytes()
    path.unlink()
    if damage != 'missing':
        broken = {
            'empty': b'',
            'truncated': data[: len(data) // 2],
            'pointer': LFS_POINTER.encode(),
        }
        path.write_bytes(broken[damage])
    expected = {
        'missing': (FileNotFoundError, 'has no .*export again'),
        'empty': (ValueError, 'has been changed since it was exported .*export again'),
        'truncated': (ValueError, 'has been changed since it was exported .*export again'),
        'pointer': (ValueError, 'only a git-lfs pointer'),
    }
    kind, what = expected[damage]
    with pytest.raises(kind, match=what) as error:
        open_engine(Checkpoint.open(folder), engine_path=path.parent)
    assert '\n' not in str(error.value)
    assert str(path) in str(error.value)


def test_what_a_library_cannot_load_is_one_clear_error(folder: Path) -> None:
    path = folder / 'engines' / 'openvino'
    (path / 'model.xml').write_bytes(b'<net/>')
    change_engine(folder, files=sums_of(path))
    with pytest.raises(ValueError, match=r'OpenVINO cannot load .*export again') as error:
        open_engine(Checkpoint.open(folder), engine_path=path)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('data', [b'', b'\x08', LFS_POINTER.encode()])
def test_a_broken_onnx_engine_is_one_clear_error(data: bytes, folder: Path) -> None:
    change_engine(folder, engine='onnx', precision='fp32', versions=onnx_engine.versions())
    path = folder / 'engines' / 'openvino'
    (path / 'model.onnx').write_bytes(data)
    change_engine(folder, files=sums_of(path))
    with pytest.raises(ValueError, match=r'ONNX Runtime cannot load|git-lfs pointer') as error:
        open_engine(Checkpoint.open(folder), engine_path=path)
    assert '\n' not in str(error.value)


def test_an_onnx_model_takes_no_weights_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnx import external_data_helper, helper, TensorProto

    weights = helper.make_tensor('labels', TensorProto.UINT8, [64], bytes(64), raw=True)
    external_data_helper.set_external_data(weights, 'secret.bin', length=64)
    weights.ClearField('raw_data')
    image = helper.make_tensor_value_info('image', TensorProto.UINT8, ['n', 8, 8, 3])
    outputs = [
        helper.make_tensor_value_info('labels', TensorProto.UINT8, [64]),
        helper.make_tensor_value_info('score', TensorProto.UINT8, ['n', 8, 8, 3]),
    ]
    graph = helper.make_graph(
        [helper.make_node('Identity', ['image'], ['score'])], 'g', [image], outputs, [weights]
    )
    opset = [helper.make_opsetid('', onnx_engine.OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    (tmp_path / 'model.onnx').write_bytes(model.SerializeToString())
    (tmp_path / 'secret.bin').write_bytes(bytes(64))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r'ONNX Runtime cannot load .*model.onnx'):
        onnx_engine.OnnxEngine(tmp_path / 'model.onnx', 'msp', 'fp32', 1)


DAMAGED = [
    ({'format': 1}, 'format 1 is not 5; export it again'),
    ({'score': ...}, r"keys \['score'\] are missing or unknown"),
    ({'extra': 1}, r"keys \['extra'\] are missing or unknown"),
    ({'input_size': None}, 'input_size is None; it must be a list of 2; export it again'),
    ({'input_size': [64, 0]}, r'input_size\[1\] is 0; it must be a whole number of 1 or more'),
    ({'batch_sizes': [True]}, r'batch_sizes\[0\] is True'),
    ({'files': {'model.bin': 'x'}}, r'files\.model\.bin is .x.; it must be 64 digits'),
    ({'precision': ['auto']}, 'precision is .*it must be a text'),
    ({'versions': {'openvino': 1}}, 'versions.openvino is 1'),
]


@pytest.mark.parametrize(('values', 'what'), DAMAGED)
def test_an_engine_description_that_does_not_fit(
    folder: Path, values: dict[str, Any], what: str
) -> None:
    change_engine(folder, **values)
    with pytest.raises(ValueError, match=what):
        open_engine(Checkpoint.open(folder), engine_path=folder / 'engines' / 'openvino')


@pytest.mark.parametrize('text', ['', '[]', '{', LFS_POINTER])
def test_an_engine_description_that_is_no_json(folder: Path, text: str) -> None:
    path = folder / 'engines' / 'openvino'
    (path / 'engine.json').write_text(text)
    with pytest.raises(ValueError, match=r'cannot use .*engine\.json'):
        open_engine(Checkpoint.open(folder), engine_path=path)
    (found,) = engine_folders(folder)
    assert found[0] == path
    assert 'cannot use' in str(found[1])
    path.rename(path.with_name('.openvino'))
    assert list(engine_folders(folder)) == []


# --- broken checkpoints --------------------------------------------------------------------------


@pytest.mark.parametrize('name', ['torch', 'openvino'])
def test_weights_that_are_not_numbers_are_refused(name: str, folder: Path) -> None:
    shutil.rmtree(folder / 'engines')
    weights = Checkpoint.open(folder).network_weights()
    next(iter(filter(torch.is_floating_point, weights.values()))).view(-1)[0] = float('nan')
    save_checkpoint(folder, Checkpoint.open(folder).meta, weights)
    with pytest.raises(ValueError, match=r'is not finite \(NaN or infinite\)'):
        open_engine(Checkpoint.open(folder), name)


@pytest.mark.parametrize('name', ['torch', 'openvino'])
def test_truncated_and_pointer_weights_are_refused(name: str, folder: Path) -> None:
    shutil.rmtree(folder / 'engines')
    path = folder / 'weights.safetensors'
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match='the file is truncated'):
        open_engine(Checkpoint.open(folder), name)
    path.write_text(LFS_POINTER)
    with pytest.raises(ValueError, match='only a git-lfs pointer'):
        open_engine(Checkpoint.open(folder), name)


@pytest.mark.parametrize('name', ['torch', 'openvino'])
def test_wrong_meta_is_refused(name: str, folder: Path) -> None:
    shutil.rmtree(folder / 'engines')
    Checkpoint.open(folder).with_meta(model='erfnet', model_options={})
    with pytest.raises(ValueError, match='does not fit ERFNet'):
        open_engine(Checkpoint.open(folder), name)
