"""The engines: the same two outputs from all, and one clear error for what cannot be run."""

from __future__ import annotations

from collections.abc import Callable
import json
import logging
from pathlib import Path
import shutil
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip('torch')
pytest.importorskip('openvino')

import torch

from anomaly_seg_ros import engines
from anomaly_seg_ros.checkpoint import read_meta, read_weights, save_checkpoint, update_meta
from anomaly_seg_ros.engines import open_engine
from anomaly_seg_ros.engines.engine_folder import find_engine_folder
from anomaly_seg_ros.engines.export_engine import export_engine, parse_size
from anomaly_seg_ros.engines.openvino_engine import convert, cpu_precision, OpenVinoEngine
from anomaly_seg_ros.engines.scored_model import load_scored_model, ScoredModel
from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.scores import SCORES

pytestmark = pytest.mark.timeout(300)  # importing and exporting, on a loaded machine

SIZE = (64, 96)
LFS_POINTER = 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n'


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> Any:
    """Smooth, as photographs are.

    Not flat: there ENet's pooling meets equal values, and the last bit, which engines compute
    differently, decides which place is the maximum.
    """
    small = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)


def change_engine(folder: Path, **values: Any) -> None:
    path = folder / 'engines' / 'openvino' / 'engine.json'
    changed = json.loads(path.read_text(encoding='utf-8')) | values
    path.write_text(json.dumps({k: v for k, v in changed.items() if v is not ...}))


def has_bf16() -> bool:
    return cpu_precision('auto') == 'bf16'


@pytest.fixture
def folder(exported_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of it, to be broken."""
    return Path(shutil.copytree(exported_checkpoint, tmp_path / 'checkpoint'))


# --- the same answer from all --------------------------------------------------------------------


class MadeNetwork(torch.nn.Module):
    """One convolution: converted in no time, for what does not depend on the network."""

    provides = frozenset({'logits'})
    stride = 1

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 12, 3, padding=1)
        with torch.no_grad():
            self.conv.weight *= 5

    def forward(self, images: Any) -> ModelOutput:
        return ModelOutput(self.conv(images))


def compare(scored: Any, engine: Any) -> None:
    """Holds an OpenVINO engine in fp32 against the torch module that it was made from."""
    for seed in range(3):
        image = picture(seed)
        with torch.inference_mode():
            labels, score = (part[0].numpy() for part in scored(torch.from_numpy(image)[None]))
        got = engine.infer(image)
        assert np.unique(labels).size >= 3, 'nothing is compared where all is alike'
        assert np.ptp(score) > 0.01
        assert (got.labels == labels).mean() >= 0.9999
        assert np.abs(got.score - score).max() <= 1e-4 * max(1, np.ptp(score))


@pytest.mark.parametrize('void_index', [11, 0])
@pytest.mark.parametrize('score', SCORES)
def test_openvino_computes_every_score_as_torch_does(
    score: str, void_index: int, make_fake_meta: Callable[..., Any]
) -> None:
    meta = make_fake_meta(void_index=void_index)
    scored = ScoredModel(MadeNetwork().eval(), meta, score).eval()
    engine = OpenVinoEngine(convert(scored, SIZE), score, 'fp32', 1)
    assert (engine.score_name, engine.precision, engine.input_size) == (score, 'fp32', SIZE)
    compare(scored, engine)


@pytest.mark.parametrize(
    ('network', 'void_index'),
    [
        ('bisenetv2', None),
        pytest.param('erfnet', None, marks=pytest.mark.slow),
        pytest.param('enet', 0, marks=pytest.mark.slow),
    ],
)
def test_openvino_computes_every_network_as_torch_does(
    network: str, void_index: int | None, make_tiny_checkpoint: Callable[..., Path]
) -> None:
    checkpoint = make_tiny_checkpoint(network, void_index, SIZE)
    score = 'max_logit' if void_index is None else 'void'
    engine = open_engine(checkpoint, 'openvino', score, 'fp32')
    compare(load_scored_model(checkpoint, score), engine)


def test_the_labels_compared_are_not_all_alike(tiny_checkpoint: Path) -> None:
    engine = open_engine(tiny_checkpoint, 'torch')
    counts = [np.unique(engine.infer(picture(seed)).labels).size for seed in range(3)]
    assert max(counts) >= 3


def test_a_ready_engine_agrees_with_torch(exported_checkpoint: Path) -> None:
    """Its weights are halves: a rounding, not another network."""
    expected = open_engine(exported_checkpoint, 'torch').infer(picture())
    got = open_engine(exported_checkpoint, 'openvino', precision='fp32').infer(picture())
    assert (expected.labels == got.labels).mean() > 0.99
    assert np.abs(expected.score - got.score).max() < 0.02 * np.ptp(expected.score)


def test_the_torch_engine_is_the_network_with_its_score(tiny_checkpoint: Path) -> None:
    with torch.inference_mode():
        labels, score = load_scored_model(tiny_checkpoint, 'energy')(
            torch.from_numpy(picture())[None]
        )
    prediction = open_engine(tiny_checkpoint, 'torch', 'energy', 'fp32').infer(picture())
    assert (prediction.labels == labels[0].numpy()).all()
    assert np.abs(prediction.score - score[0].numpy()).max() < 1e-4


def test_logits_give_the_labels(tiny_checkpoint: Path) -> None:
    engine: Any = open_engine(tiny_checkpoint, 'torch', 'max_logit', 'fp32')
    logits, prediction = engine.logits(picture()), engine.infer(picture())
    assert logits.shape == (11, *SIZE)
    assert (logits.argmax(0) == prediction.labels).all()
    assert (-logits.max(0) == prediction.score).all()


@pytest.mark.parametrize('name', ['torch', 'openvino'])
def test_a_prediction_is_the_callers_to_keep(name: str, exported_checkpoint: Path) -> None:
    engine = open_engine(exported_checkpoint, name, precision='fp32')
    first = engine.infer(picture(1))
    labels, score = first.labels.copy(), first.score.copy()
    assert (labels.dtype, score.dtype) == (np.uint8, np.float32)
    assert labels.shape == score.shape == SIZE
    engine.infer(picture(2))
    first_again = engine.infer(picture(1))
    assert (first.labels == labels).all()
    assert (first.score == score).all()
    assert (first_again.score == score).all(), 'the same image must give the same answer'
    first.score[:] = 0  # writable


@pytest.mark.parametrize('name', ['torch', 'openvino'])
def test_what_is_no_image_of_its_size_is_refused(name: str, exported_checkpoint: Path) -> None:
    engine = open_engine(exported_checkpoint, name, precision='fp32')
    images: tuple[Any, ...] = (
        np.zeros((32, 96, 3), np.uint8),
        np.zeros(SIZE, np.uint8),
        np.zeros((*SIZE, 3), np.float32),
    )
    for image in images:
        with pytest.raises(ValueError, match=r'takes uint8 images of shape \(64, 96, 3\), got'):
            engine.infer(image)
    # A view with strides is fine.
    wide = np.ascontiguousarray(picture().repeat(2, 1))
    assert (engine.infer(wide[:, ::2]).labels == engine.infer(picture()).labels).all()


# --- precision -----------------------------------------------------------------------------------


def test_the_precision_that_is_asked_for_is_what_computes(exported_checkpoint: Path) -> None:
    assert open_engine(exported_checkpoint, 'openvino', precision='fp32').precision == 'fp32'
    auto = open_engine(exported_checkpoint, 'openvino').precision
    assert auto == ('bf16' if has_bf16() else 'fp32')
    assert open_engine(exported_checkpoint, 'torch').precision == 'fp32'
    assert open_engine(exported_checkpoint, 'torch', precision='bf16').precision == 'bf16'


def test_bf16_is_another_rounding_of_the_same(exported_checkpoint: Path) -> None:
    exact = open_engine(exported_checkpoint, 'torch', precision='fp32').infer(picture())
    names = ['torch', *(['openvino'] if has_bf16() else [])]
    for name in names:
        rough = open_engine(exported_checkpoint, name, precision='bf16').infer(picture())
        gap = np.abs(exact.score - rough.score)
        assert 0 < gap.max() < 0.2 * np.ptp(exact.score), name
        assert (exact.labels == rough.labels).mean() > 0.9, name
        assert rough.score.dtype == np.float32


def test_a_precision_that_is_not_there(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="unknown precision 'fp8'; choose one of: auto, fp32"):
        open_engine(tiny_checkpoint, precision='fp8')
    with pytest.raises(ValueError, match="engine 'openvino' has no precision 'fp16' on this CPU"):
        open_engine(tiny_checkpoint, 'openvino', precision='fp16')
    import openvino

    monkeypatch.setattr(openvino.Core, 'get_property', lambda *_: ['FP32', 'INT8'])
    assert cpu_precision('auto') == 'fp32'
    with pytest.raises(ValueError, match=r'choose one of: auto, fp32$'):
        cpu_precision('bf16')


# --- the engine folder ---------------------------------------------------------------------------


def test_a_ready_engine_beside_the_checkpoint_is_taken(
    exported_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: Any) -> None:
        raise AssertionError('it was built anew')

    monkeypatch.setattr(engines, '_build', build)
    for name in ('auto', 'openvino'):
        engine = open_engine(exported_checkpoint, name, precision='fp32')
        assert (engine.name, engine.precision, engine.input_size) == ('openvino', 'fp32', SIZE)
    with pytest.raises(AssertionError, match='built anew'):
        open_engine(exported_checkpoint, 'openvino', 'msp')


def test_a_ready_engine_of_another_precision_is_left_alone(folder: Path) -> None:
    change_engine(folder, precision='fp32')
    found = [
        find_engine_folder(folder, 'openvino', 'max_logit', precision, SIZE)
        for precision in ('auto', 'fp32', 'bf16')
    ]
    assert found == [folder / 'engines' / 'openvino'] * 2 + [None]
    assert open_engine(folder).precision == 'fp32'
    assert find_engine_folder(folder, 'openvino', 'max_logit', 'auto', (32, 32)) is None


def test_export_says_what_it_made(exported_checkpoint: Path) -> None:
    text = (exported_checkpoint / 'engines' / 'openvino' / 'engine.json').read_text(
        encoding='utf-8'
    )
    values = json.loads(text)
    assert values['engine'] == 'openvino'
    assert values['score'] == 'max_logit'
    assert values['precision'] == 'auto'
    assert values['input_size'] == list(SIZE)
    assert 'openvino' in values['versions']
    # Nothing half made is left behind.
    assert [path.name for path in (exported_checkpoint / 'engines').iterdir()] == ['openvino']


def test_export_replaces_an_engine_and_nothing_else(folder: Path) -> None:
    out = folder / 'engines' / 'openvino'
    meta = export_engine(folder, 'msp', (32, 32), 'auto', out)
    assert (meta.score, meta.input_size) == ('msp', (32, 32))
    engine = open_engine(folder, score='msp', engine_path=out)
    assert engine.input_size == (32, 32)
    with pytest.raises(ValueError, match='exists and is no engine folder'):
        export_engine(folder, None, SIZE, 'auto', folder)


def test_an_engine_of_other_weights_is_refused(folder: Path) -> None:
    weights = read_weights(folder)
    key = next(key for key, value in weights.items() if value.is_floating_point())
    weights[key] = weights[key] + 1
    save_checkpoint(folder, read_meta(folder), weights)
    with pytest.raises(ValueError, match=r'was exported from weights .* run export again'):
        open_engine(folder)
    # What does not need it is not stopped by it.
    assert open_engine(folder, 'torch').name == 'torch'


def test_an_engine_of_another_normalisation_is_refused(folder: Path) -> None:
    update_meta(folder, mean=(0.1, 0.1, 0.1))
    with pytest.raises(ValueError, match='run export again'):
        open_engine(folder)


def test_an_engine_path_must_fit_what_is_asked(folder: Path) -> None:
    change_engine(folder, precision='fp32')
    path = folder / 'engines' / 'openvino'
    with pytest.raises(ValueError, match="exported with score 'max_logit', not 'msp'"):
        open_engine(folder, score='msp', engine_path=path)
    with pytest.raises(ValueError, match="for precision 'fp32', not 'bf16'"):
        open_engine(folder, precision='bf16', engine_path=path)
    with pytest.raises(ValueError, match="holds engine 'openvino', not 'torch'"):
        open_engine(folder, 'torch', engine_path=path)
    with pytest.raises(FileNotFoundError, match=r'no engine folder: it has no engine\.json'):
        open_engine(folder, engine_path=folder)


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
        'empty': (ValueError, 'OpenVINO cannot load .*export again'),
        'truncated': (ValueError, 'OpenVINO cannot load .*export again'),
        'pointer': (ValueError, 'only a git-lfs pointer'),
    }
    kind, what = expected[damage]
    with pytest.raises(kind, match=what) as error:
        open_engine(folder)
    assert '\n' not in str(error.value)
    assert str(path.parent) in str(error.value)


@pytest.mark.parametrize(
    ('values', 'what'),
    [
        ({'format': 2}, 'format 2 is not 1; export it again'),
        ({'score': ...}, r"keys \['score'\] are missing or unknown"),
        ({'extra': 1}, r"keys \['extra'\] are missing or unknown"),
        ({'input_size': None}, 'cannot use'),
    ],
)
def test_an_engine_description_that_does_not_fit(
    folder: Path, values: dict[str, Any], what: str
) -> None:
    change_engine(folder, **values)
    with pytest.raises(ValueError, match=what):
        open_engine(folder)


@pytest.mark.parametrize('text', ['', '[]', '{', LFS_POINTER])
def test_an_engine_description_that_is_no_json(folder: Path, text: str) -> None:
    (folder / 'engines' / 'openvino' / 'engine.json').write_text(text)
    with pytest.raises(ValueError, match=r'cannot use .*engine\.json'):
        open_engine(folder)


@pytest.mark.parametrize('text', ['360x480', '1X1'])
def test_sizes(text: str) -> None:
    assert parse_size(text) == tuple(map(int, text.lower().split('x')))


@pytest.mark.parametrize('text', ['', 'x', '360', '360x', '0x10', '10x-1', '1x2x3', 'axb'])
def test_texts_that_are_no_size(text: str) -> None:
    with pytest.raises(ValueError, match='not of the form HxW'):
        parse_size(text)


# --- the choice, and what cannot be run ----------------------------------------------------------


@pytest.mark.parametrize(
    ('installed', 'ready', 'chosen', 'why'),
    [
        (('openvino', 'torch'), True, 'openvino', 'ready engine'),
        (('openvino', 'torch'), False, 'openvino', 'converted from the checkpoint; export once'),
        (('openvino',), True, 'openvino', 'ready engine'),
        (('torch',), True, 'torch', 'openvino is not installed'),
        (('torch',), False, 'torch', 'openvino is not installed'),
    ],
)
def test_auto_takes_the_best_that_is_installed_and_says_why(
    installed: tuple[str, ...],
    ready: bool,
    chosen: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(engines, '_installed', lambda module: module in installed)
    with caplog.at_level(logging.INFO, engines.__name__):
        assert engines.choose_engine(ready, 'msp') == chosen
    assert len(caplog.records) == 1
    assert f"engine '{chosen}'" in caplog.text
    assert why in caplog.text


def test_without_torch_only_a_ready_engine_runs(
    exported_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, '_installed', lambda module: module != 'torch')
    assert open_engine(exported_checkpoint).name == 'openvino'
    with pytest.raises(ImportError, match=r"holds none ready for score 'msp'.*pip install torch"):
        open_engine(exported_checkpoint, score='msp')
    with pytest.raises(ImportError, match="engine 'torch' needs torch; pip install torch"):
        open_engine(exported_checkpoint, 'torch')


def test_unknown_names_list_the_known(tiny_checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="unknown engine 'onnx'; choose one of: auto, openvino"):
        open_engine(tiny_checkpoint, 'onnx')
    with pytest.raises(ValueError, match="unknown score 'msx'; choose one of: energy, entropy"):
        open_engine(tiny_checkpoint, score='msx')
    with pytest.raises(ValueError, match="score 'void' needs logits, void_logit"):
        open_engine(tiny_checkpoint, score='void')


@pytest.mark.parametrize('name', ['torch', 'openvino'])
def test_weights_that_are_not_numbers_are_refused(name: str, folder: Path) -> None:
    shutil.rmtree(folder / 'engines')
    weights = read_weights(folder)
    next(iter(filter(torch.is_floating_point, weights.values()))).view(-1)[0] = float('nan')
    save_checkpoint(folder, read_meta(folder), weights)
    with pytest.raises(ValueError, match=r'is not finite \(NaN or infinite\)'):
        open_engine(folder, name)


@pytest.mark.parametrize('name', ['torch', 'openvino'])
def test_truncated_and_pointer_weights_are_refused(name: str, folder: Path) -> None:
    shutil.rmtree(folder / 'engines')
    path = folder / 'weights.safetensors'
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match='the file is truncated'):
        open_engine(folder, name)
    path.write_text(LFS_POINTER)
    with pytest.raises(ValueError, match='only a git-lfs pointer'):
        open_engine(folder, name)


@pytest.mark.parametrize('name', ['torch', 'openvino'])
def test_wrong_meta_is_refused(name: str, folder: Path) -> None:
    shutil.rmtree(folder / 'engines')
    update_meta(folder, model='erfnet', model_options={})
    with pytest.raises(ValueError, match='does not fit ERFNet'):
        open_engine(folder, name)
