"""Which engine is taken, from where, and that the reason is told."""

from __future__ import annotations

from collections.abc import Callable
import json
import logging
from pathlib import Path
import shutil
from typing import Any

import numpy as np
import pytest

from anomaly_seg_ros.checkpoint.folder import Checkpoint, save_checkpoint
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.engines import choice as choice_file
from anomaly_seg_ros.engines import (
    engine_module,
    ENGINES,
    open_engine,
    openvino_engine,
    precisions,
)
from anomaly_seg_ros.engines.building import announce, BuildNotice, TIMES_FILE
from anomaly_seg_ros.engines.choice import choose_engine, Wanted
from anomaly_seg_ros.engines.export import export_engine

pytestmark = pytest.mark.timeout(300)  # importing and exporting, on a loaded machine

SIZE = (64, 96)
ALL = ('torch', 'openvino', 'onnxruntime', 'onnxscript')


@pytest.fixture
def folder(exported_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(exported_checkpoint, tmp_path / 'checkpoint'))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets only these libraries be found."""

    def only(*names: str) -> None:
        # Who installs torch as it is said has safetensors too.
        beside = {'safetensors'} if 'torch' in names else set()
        monkeypatch.setattr(choice_file, '_installed', {*names, *beside}.__contains__)

    return only


def engine_json(folder: Path) -> Path:
    return folder / 'engines' / 'openvino' / 'engine.json'


def engine_file(folder: Path) -> Path:
    return folder / 'engines' / 'openvino' / 'model.bin'


def change_file(folder: Path, change: Callable[[bytes], bytes]) -> None:
    engine_file(folder).write_bytes(change(engine_file(folder).read_bytes()))


def zero_a_quarter(data: bytes) -> bytes:
    return data[: -len(data) // 4] + bytes(len(data) // 4)


def change_100_bytes(data: bytes) -> bytes:
    changed = np.frombuffer(data, np.uint8).copy()
    changed[np.random.default_rng(0).choice(changed.size, 100, replace=False)] ^= 255
    return changed.tobytes()


def change_engine(folder: Path, **values: Any) -> None:
    path = engine_json(folder)
    path.write_text(json.dumps(json.loads(path.read_text(encoding='utf-8')) | values))


def wanted(checkpoint: Path, score: str = 'max_logit', precision: str = 'auto') -> Wanted:
    return Wanted(Checkpoint.open(checkpoint), score, precision, SIZE)


# --- the order -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('libraries', 'score', 'chosen', 'ready', 'why'),
    [
        (ALL, 'max_logit', 'openvino', True, "ready in 'openvino'"),
        (ALL, 'msp', 'openvino', False, 'made from the checkpoint; export once to skip this'),
        (('openvino',), 'max_logit', 'openvino', True, "ready in 'openvino'"),
        (('torch', 'onnxruntime', 'onnxscript'), 'msp', 'onnx', False, 'not openvino: engine'),
        (('torch', 'onnxruntime'), 'msp', 'torch', False, "engine 'onnx' needs onnxscript"),
        (('torch',), 'msp', 'torch', False, 'runs the checkpoint itself'),
    ],
)
def test_auto_takes_the_best_that_can_run_and_says_why(
    libraries: tuple[str, ...],
    score: str,
    chosen: str,
    ready: bool,
    why: str,
    exported_checkpoint: Path,
    installed: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    installed(*libraries)
    with caplog.at_level(logging.INFO, choice_file.__name__):
        found = choose_engine(wanted(exported_checkpoint, score))
    assert (found.engine, found.ready is not None) == (chosen, ready)
    assert found.reason.startswith(f'engine {chosen!r}: ')
    assert why in found.reason
    assert 'not tensorrt: ' in found.reason
    assert [record.getMessage() for record in caplog.records] == [found.reason]
    assert '\n' not in found.reason


def test_a_gpu_that_is_left_idle_is_said(
    exported_checkpoint: Path,
    installed: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(*ALL)
    monkeypatch.setattr(choice_file, 'has_gpu', lambda: True)
    found = choose_engine(wanted(exported_checkpoint, 'max_logit'))
    assert found.engine == 'openvino'
    assert (
        'is left idle: build an engine for it by anomaly_seg export --engine tens' in found.reason
    )
    assert [record.levelname for record in caplog.records] == ['WARNING']
    assert 'idle' not in choose_engine(wanted(exported_checkpoint, 'max_logit'), 'openvino').reason


def test_auto_passes_over_engines_without_the_precision(
    tiny_checkpoint: Path, installed: Callable[..., None]
) -> None:
    installed('openvino', 'torch')
    found = choose_engine(wanted(tiny_checkpoint, precision='fp16'))
    assert found.engine == 'torch'
    assert "engine 'openvino' has no precision 'fp16'" in found.reason


def test_int8_beside_the_checkpoint_is_taken_only_if_asked_for(folder: Path) -> None:
    change_engine(folder, precision='int8')
    assert choose_engine(wanted(folder), 'openvino').ready is None
    found = choose_engine(wanted(folder, precision='int8'), 'openvino')
    assert found.ready is not None
    assert found.ready[0] == folder / 'engines' / 'openvino'


def test_a_ready_engine_beside_the_checkpoint_is_taken(
    exported_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: Any) -> None:
        raise AssertionError('it was built anew')

    monkeypatch.setattr(openvino_engine, 'build', build)
    for name in ('auto', 'openvino'):
        engine = open_engine(Checkpoint.open(exported_checkpoint), name, precision='fp32')
        assert (engine.name, engine.precision, engine.input_size) == ('openvino', 'fp32', SIZE)
        assert "engine 'openvino': ready in 'openvino'" in engine.reason
    with pytest.raises(AssertionError, match='built anew'):
        open_engine(Checkpoint.open(exported_checkpoint), 'openvino', 'msp')


def test_a_ready_engine_of_another_precision_or_size_is_left_alone(folder: Path) -> None:
    change_engine(folder, precision='fp32')
    found = [
        (choose_engine(wanted(folder, precision=precision), 'openvino').ready or (None,))[0]
        for precision in ('auto', 'fp32', 'bf16')
    ]
    assert found == [folder / 'engines' / 'openvino'] * 2 + [None]
    assert open_engine(Checkpoint.open(folder)).precision == 'fp32'
    other = Wanted(Checkpoint.open(folder), 'max_logit', 'auto', (32, 32))
    assert choose_engine(other, 'openvino').ready is None


# --- a folder beside the checkpoint that does not fit --------------------------------------------


def new_weights(folder: Path) -> None:
    weights = Checkpoint.open(folder).network_weights()
    key = next(key for key, value in weights.items() if key.endswith('weight'))
    weights[key] = weights[key] * 1.5
    save_checkpoint(folder, Checkpoint.open(folder).meta, weights)


def fewer_classes(folder: Path) -> None:
    """The checkpoint says less than its engine gives ids of."""
    meta = Checkpoint.open(folder).meta
    Checkpoint.open(folder).with_meta(
        class_names=meta.class_names[:5], class_colors=meta.class_colors[:5]
    )


CHANGES: list[tuple[Callable[[Path], object], str]] = [
    (new_weights, 'was exported from other weights'),
    (
        lambda folder: Checkpoint.open(folder).with_meta(mean=(0.1, 0.1, 0.1)),
        'was exported from other weights',
    ),
    (
        lambda folder: change_engine(folder, versions={'openvino': '2999.1.0'}),
        'was made by openvino 2999.1.0, here is',
    ),
    (lambda folder: change_engine(folder, format=1), 'format 1 is not 5; export it again'),
    (lambda folder: change_engine(folder, code='b' * 64), 'by other code of the network or the'),
    (lambda folder: change_file(folder, zero_a_quarter), 'has been changed since it was exported'),
    (lambda folder: change_file(folder, change_100_bytes), 'has been changed since it was expo'),
    (lambda folder: change_file(folder, lambda data: data[:1000]), 'has been changed since it'),
    (
        lambda folder: engine_file(folder).with_suffix('.xml').write_text('<net/>'),
        "model.xml' has been changed since it was exported",
    ),
    (fewer_classes, 'was exported from other weights'),
    (lambda folder: engine_file(folder).unlink(), 'engine folder has no'),
    *(
        (lambda folder, text=text: engine_json(folder).write_text(text), 'cannot use')
        for text in ('{"format": 5}', '[]', '7', '{', '{"engine": "openvino"}')
    ),
    *(
        (lambda folder, key=key, value=value: change_engine(folder, **{key: value}), f'{key} is')
        for key, value in (
            ('input_size', 'ab'),
            ('precision', ['auto']),
            ('engine', None),
            ('files', ['model.bin']),
            ('versions', [1]),
            ('batch_sizes', {'a': 1}),
        )
    ),
]


@pytest.mark.parametrize(('change', 'why'), CHANGES)
def test_what_does_not_fit_is_made_anew_with_the_reason(
    change: Callable[[Path], object],
    why: str,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    change(folder)
    before = sorted((p, p.read_bytes()) for p in (folder / 'engines').rglob('*') if p.is_file())
    with caplog.at_level(logging.WARNING, choice_file.__name__):
        found = choose_engine(wanted(folder), 'openvino')
    assert found.ready is None
    assert 'made anew from the checkpoint, because ' in found.reason
    assert why in found.reason
    assert [record.levelname for record in caplog.records] == ['WARNING']
    # What lies there is left as it is: a package folder may not be written to.
    after = sorted((p, p.read_bytes()) for p in (folder / 'engines').rglob('*') if p.is_file())
    assert after == before


def test_the_engine_made_anew_has_the_new_weights(folder: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    old = open_engine(Checkpoint.open(folder), 'openvino', precision='fp32').infer(image)
    new_weights(folder)
    engine = open_engine(Checkpoint.open(folder), 'openvino', precision='fp32')
    assert 'made anew' in engine.reason
    new, exact = engine.infer(image), open_engine(Checkpoint.open(folder), 'torch').infer(image)
    assert np.abs(new.score - exact.score).max() < 0.01 * np.ptp(exact.score)
    assert np.abs(old.score - exact.score).max() > 0.01 * np.ptp(exact.score)


@pytest.mark.parametrize(('change', 'why'), CHANGES)
def test_without_torch_what_does_not_fit_is_refused(
    change: Callable[[Path], object], why: str, folder: Path, installed: Callable[..., None]
) -> None:
    change(folder)
    installed('openvino')
    for name in ('openvino', 'auto'):
        with pytest.raises(ImportError, match=r'needs torch to be built, because') as error:
            choose_engine(wanted(folder), name)
        assert why in str(error.value)
        assert '\n' not in str(error.value)


def test_a_changed_gpu_is_refused_by_tensorrt_and_passed_over_by_auto(
    folder: Path, monkeypatch: pytest.MonkeyPatch, installed: Callable[..., None]
) -> None:
    class Module:
        FACTS = engine_module('tensorrt').FACTS
        gpu = 'NVIDIA Orin, capability 8.7, driver 540.4.0'

        @staticmethod
        def versions() -> dict[str, str]:
            return {'tensorrt': '11.0.0'}

        @classmethod
        def device(cls) -> str:
            return cls.gpu

        @staticmethod
        def runs(precision: str) -> bool:
            return True

    real = choice_file.engine_module
    monkeypatch.setattr(
        choice_file, 'engine_module', lambda name: Module if name == 'tensorrt' else real(name)
    )
    installed('torch_tensorrt', *ALL)
    made = {'engine': 'tensorrt', 'precision': 'fp16', 'device': Module.gpu}
    change_engine(folder, **made, versions=Module.versions(), batch_sizes=[1])
    path = folder / 'engines' / 'openvino'
    found = choose_engine(wanted(folder))
    assert found.ready is not None
    assert (found.engine, found.ready[0]) == ('tensorrt', path)
    Module.gpu = 'NVIDIA H200, capability 9.0, driver 580.1'
    with pytest.raises(ValueError, match=r"built on 'NVIDIA Orin.*this is 'NVIDIA H200"):
        choose_engine(wanted(folder), 'tensorrt')
    found = choose_engine(wanted(folder))
    assert found.engine == 'openvino'
    assert "this is 'NVIDIA H200" in found.reason
    with pytest.raises(FileNotFoundError, match='anomaly_seg export --engine tensorrt builds one'):
        choose_engine(wanted(folder, score='msp'), 'tensorrt')


# --- a library that cannot be loaded -------------------------------------------------------------


@pytest.mark.parametrize('exported', [True, False])
@pytest.mark.parametrize(
    'error',
    [
        ImportError('libtbb.so.12: cannot open shared object file'),
        OSError('libtbb.so.12: file too short'),
        RuntimeError('module compiled against another numpy'),
    ],
)
def test_auto_goes_on_where_a_library_cannot_be_loaded(
    exported: bool,
    error: Exception,
    exported_checkpoint: Path,
    tiny_checkpoint: Path,
    installed: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = exported_checkpoint if exported else tiny_checkpoint
    installed(*ALL)

    def fail() -> dict[str, str]:
        raise error

    monkeypatch.setattr(openvino_engine, 'versions', fail)
    with caplog.at_level(logging.WARNING, choice_file.__name__):
        found = choose_engine(wanted(folder))
    assert found.engine == 'onnx'
    why = f"engine 'openvino' is installed and cannot be loaded: {error}"
    assert why in found.reason
    assert [record.levelname for record in caplog.records] == ['WARNING']
    with pytest.raises(ImportError, match='is installed and cannot be loaded') as caught:
        open_engine(Checkpoint.open(folder), 'openvino')
    assert '\n' not in str(caught.value)


def test_ctrl_c_while_a_library_is_loaded_is_none_that_cannot_be(
    tiny_checkpoint: Path, installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(*ALL)

    def interrupted() -> dict[str, str]:
        raise KeyboardInterrupt

    def taken_for_a_failure() -> dict[str, str]:
        try:
            raise KeyboardInterrupt
        except BaseException as error:
            raise ImportError('initialization failed') from error

    for versions in (interrupted, taken_for_a_failure):
        monkeypatch.setattr(openvino_engine, 'versions', versions)
        with pytest.raises(KeyboardInterrupt):
            choose_engine(wanted(tiny_checkpoint))


def test_the_library_of_an_engine_that_is_not_built_stays_asleep(
    tiny_checkpoint: Path, installed: Callable[..., None]
) -> None:
    installed('torch_tensorrt', *ALL)
    found = choose_engine(wanted(tiny_checkpoint))
    assert 'not tensorrt: none built beside the checkpoint' in found.reason


# --- what an engine's labels can hold ------------------------------------------------------------


def test_more_classes_than_an_engine_has_ids_are_refused(
    tiny_checkpoint: Path, tmp_path: Path, installed: Callable[..., None]
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / 'checkpoint'))
    names = tuple(map(str, range(129)))
    checkpoint = Checkpoint.open(folder).with_meta(
        class_names=names, class_colors=((0, 0, 0),) * 129
    )
    installed('torch_tensorrt', 'torch')
    with pytest.raises(ValueError, match=r"'tensorrt' gives ids of at most 128 classes, .* 129"):
        export_engine(checkpoint, None, SIZE, 'auto', tmp_path / 'engine', 'tensorrt')
    with pytest.raises(ValueError, match=r"'tensorrt' gives ids of at most 128 classes, .* 129"):
        choose_engine(wanted(folder), 'tensorrt')
    assert choose_engine(wanted(folder)).engine == 'torch'
    checkpoint.with_meta(class_names=names[:128], class_colors=((0, 0, 0),) * 128)
    with pytest.raises(FileNotFoundError, match='export --engine tensorrt builds one'):
        choose_engine(wanted(folder), 'tensorrt')


# --- one file and one line -----------------------------------------------------------------------

PAINT = """
import numpy as np
from anomaly_seg_ros.engines.facts import EngineFacts
from anomaly_seg_ros.prediction import Prediction, stack_images

FACTS = EngineFacts(library='json', install='paint', to_build={}, precisions=('auto', 'fp8'))

def versions():
    return {'paint': '1.0'}

def device():
    return 'a wall'

def runs(precision):
    return True

def export(request, folder):
    (folder / 'color').write_text('7')
    return 'fp8'

def load(folder, meta, precision, threads):
    return Paint(int((folder / 'color').read_text()), meta.score, meta.input_size)

def build(checkpoint, score, precision, input_size, threads):
    return Paint(3, score, input_size)

class Paint:
    name, precision, device, description, reason = 'paint', 'fp8', 'a wall', 'paint', ''

    def __init__(self, color, score, size):
        self.color, self.score_name, self.input_size = color, score, size

    def infer(self, image):
        return self.infer_batch([image])[0]

    def infer_batch(self, images):
        batch = stack_images(images, self.input_size)[..., 0]
        return [Prediction(np.full_like(i, self.color), np.zeros(i.shape, 'f4')) for i in batch]

    def close(self):
        pass
"""


def test_an_engine_is_one_file_and_one_line(
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    installed: Callable[..., None],
) -> None:
    (tmp_path / 'paint_engine.py').write_text(PAINT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(ENGINES, 'paint', 'paint_engine')
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / 'checkpoint'))
    image = np.zeros((*SIZE, 3), np.uint8)
    installed('json')

    built = open_engine(Checkpoint.open(folder))
    assert (built.name, built.infer(image).labels.max()) == ('paint', 3)
    assert 'fp8' in precisions()
    out = folder / 'engines' / 'mine'
    arguments = ['export', '--checkpoint', str(folder), '--engine', 'paint', '--precision', 'fp8']
    assert main([*arguments, '--out', str(out)]) == 0
    ready = open_engine(Checkpoint.open(folder), precision='fp8')
    assert (ready.reason[:24], ready.infer(image).labels.max()) == ("engine 'paint': ready in", 7)
    named = open_engine(Checkpoint.open(folder), 'paint', engine_path=out)
    assert named.infer(image).labels.max() == 7
    (out / 'color').write_text('8')
    assert open_engine(Checkpoint.open(folder)).infer(image).labels.max() == 3
    with pytest.raises(ValueError, match=r'color.* has been changed since it was exported'):
        open_engine(Checkpoint.open(folder), engine_path=out)
    with pytest.raises(ValueError, match=r'unknown engine .*torch, paint'):
        open_engine(Checkpoint.open(folder), 'pain')


# --- what cannot be run --------------------------------------------------------------------------


def test_without_torch_only_a_ready_engine_runs(
    exported_checkpoint: Path, installed: Callable[..., None]
) -> None:
    installed('openvino')
    assert open_engine(Checkpoint.open(exported_checkpoint)).name == 'openvino'
    with pytest.raises(ImportError, match=r"holds none ready for score 'msp'.*pip install torch"):
        open_engine(Checkpoint.open(exported_checkpoint), 'openvino', score='msp')
    with pytest.raises(ImportError, match="engine 'torch' needs torch; pip install torch"):
        open_engine(Checkpoint.open(exported_checkpoint), 'torch')
    with pytest.raises(ImportError, match=r'needs torch_tensorrt; .*config/requirements/gpu\.txt'):
        open_engine(Checkpoint.open(exported_checkpoint), 'tensorrt')
    installed()
    with pytest.raises(ImportError, match=r'no engine can run here: .*pip install openvino'):
        open_engine(Checkpoint.open(exported_checkpoint))


def test_a_ready_onnx_engine_runs_without_torch(
    tiny_checkpoint: Path, tmp_path: Path, installed: Callable[..., None]
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / 'checkpoint'))
    export_engine(
        Checkpoint.open(folder), None, SIZE, 'auto', folder / 'engines' / 'o', engine='onnx'
    )
    installed('onnxruntime')
    engine = open_engine(Checkpoint.open(folder))
    assert (engine.name, engine.precision) == ('onnx', 'fp32')


def test_a_build_is_said_before_with_how_long_the_last_took(
    tiny_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Another test may have built here: the time of that is kept.
    ignore = shutil.ignore_patterns('engines')
    folder = shutil.copytree(tiny_checkpoint, tmp_path / 'checkpoint', ignore=ignore)
    notices: list[BuildNotice] = []
    open_engine(Checkpoint.open(folder), 'torch', on_build=notices.append).close()
    assert not notices, 'it runs the checkpoint itself'
    engine = open_engine(Checkpoint.open(folder), 'openvino', on_build=notices.append)
    engine.close()
    (notice,) = notices
    said = "engine 'openvino' is being built from the checkpoint; that t"
    assert notice.text == f'{said}akes seconds to minutes'
    assert notice.text in caplog.text
    notice.keep(12.34)
    again = announce('openvino', engine.device, wanted(folder))
    assert again.text == f'{said}ook 12 s last time'
    assert 'seconds to minutes' in announce('openvino', 'another GPU', wanted(folder)).text
    (folder / 'engines' / TIMES_FILE).write_text('{"openv')
    notice.keep(7.0)
    assert json.loads((folder / 'engines' / TIMES_FILE).read_text()) == {notice.what: 7.0}
    shutil.rmtree(folder / 'engines')
    (folder / 'engines').write_text('no folder')
    notice.keep(7.0)


def test_no_build_is_said_of_what_cannot_be_built(
    tiny_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / 'checkpoint')
    shutil.rmtree(folder / 'engines', ignore_errors=True)
    checkpoint = Checkpoint.open(folder)
    with pytest.raises(ValueError, match="'mahalanobis'"):
        open_engine(checkpoint, 'openvino', 'mahalanobis')
    weights = folder / 'weights.safetensors'
    weights.write_bytes(weights.read_bytes()[:-50])
    for start in (
        lambda: open_engine(Checkpoint.open(folder), 'openvino'),
        lambda: export_engine(Checkpoint.open(folder), None, SIZE, 'fp32', tmp_path / 'out'),
    ):
        with pytest.raises(ValueError, match='weights'):
            start()
    assert 'is being built' not in caplog.text


def test_unknown_names_list_the_known(tiny_checkpoint: Path) -> None:
    with pytest.raises(
        ValueError, match="unknown engine 'onxx'; choose one of: auto, tensorrt, openvino, onnx"
    ):
        open_engine(Checkpoint.open(tiny_checkpoint), 'onxx')
    with pytest.raises(ValueError, match="unknown score 'msx'; choose one of: cdnp, den"):
        open_engine(Checkpoint.open(tiny_checkpoint), score='msx')
    with pytest.raises(ValueError, match="score 'void' needs logits, void_logit"):
        open_engine(Checkpoint.open(tiny_checkpoint), score='void')
