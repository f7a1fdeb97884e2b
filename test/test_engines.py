"""The engines: the same two outputs from all, for one image and for several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.engines import onnx_engine, open_engine
from anomaly_seg_ros.engines.export import export_engine
from anomaly_seg_ros.engines.graph import export_graph
from anomaly_seg_ros.engines.openvino_engine import convert, cpu_precision, OpenVinoEngine
from anomaly_seg_ros.engines.openvino_engine import device as openvino_device
from anomaly_seg_ros.engines.scored_model import load_scored_model, ScoredModel
from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.network import Network
from anomaly_seg_ros.process.signal_stack import signal_stack
from anomaly_seg_ros.scores import score_class, SCORES

pytestmark = pytest.mark.timeout(300)  # importing and exporting, on a loaded machine

ROOT = Path(__file__).resolve().parent.parent
SIZE = (64, 96)
CLASSES = 11
HALF = 2.0**-10
"""Distance of neighbouring halves, relative: scores leave exported graphs as float16."""


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> Any:
    """Smooth, as photographs are.

    Not flat: there ENet's pooling meets equal values, and the last bit, which engines compute
    differently, decides which place is the maximum.
    """
    small = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)


def has_bf16() -> bool:
    return cpu_precision('auto') == 'bf16'


@pytest.fixture(scope='module')
def onnx_folder(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('onnx') / 'engine'
    export_engine(Checkpoint.open(tiny_checkpoint), None, SIZE, 'fp32', folder, engine='onnx')
    return folder


@pytest.fixture(params=['torch', 'openvino', 'onnx'])
def engine(request: Any, exported_checkpoint: Path) -> Any:
    """Each engine of the same checkpoint, in fp32."""
    if request.param != 'onnx':
        return open_engine(Checkpoint.open(exported_checkpoint), request.param, precision='fp32')
    folder = request.getfixturevalue('onnx_folder')
    return open_engine(Checkpoint.open(exported_checkpoint), 'onnx', engine_path=folder)


# --- outputs by name -----------------------------------------------------------------------------


class WithFrame(ScoredModel):
    """Gives a value of the frame too, and its outputs in another order."""

    def forward(self, images: Any) -> dict[str, torch.Tensor]:
        outputs = super().forward(images)
        frame = outputs['score'].float().amax((1, 2))
        return {'frame': frame, 'score': outputs['score'], 'labels': outputs['labels']}


@pytest.fixture
def with_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(checkpoint: Checkpoint, score: str) -> ScoredModel:
        return WithFrame(checkpoint.network(), checkpoint.meta, score).eval()

    monkeypatch.setattr('anomaly_seg_ros.engines.scored_model.load_scored_model', load)


@pytest.mark.parametrize('name', ['torch', 'openvino', 'onnx'])
def test_outputs_are_read_by_their_names(
    name: str, with_frame: None, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(Checkpoint.open(tiny_checkpoint), name, precision='fp32')
    found = engine.infer_batch([picture(0), picture(1)])
    monkeypatch.undo()
    plain = open_engine(Checkpoint.open(tiny_checkpoint), name, precision='fp32')
    for prediction, wanted in zip(found, plain.infer_batch([picture(0), picture(1)]), strict=True):
        assert (prediction.labels == wanted.labels).all()
        assert (prediction.score == wanted.score).all()
        assert wanted.frame is not None
        assert prediction.frame is not None
        assert prediction.frame.dtype == np.float32
        assert prediction.frame == pytest.approx(float(wanted.score.max()), rel=1e-3)


@pytest.mark.parametrize('name', ['openvino', 'onnx'])
def test_a_graph_that_names_no_score_is_refused(
    name: str, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScoredModel, 'forward', lambda self, images: {'labels': images[..., 0]})
    with pytest.raises(ValueError, match=r"the graph gives \['labels'\], not labels and score"):
        open_engine(Checkpoint.open(tiny_checkpoint), name, precision='fp32')


# --- the same answer from all --------------------------------------------------------------------


class MadeNetwork(Network):
    """One convolution: converted in no time, for what does not depend on the network."""

    provides = frozenset({'logits', 'features.last', 'ood_logits'})
    stride = 1

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, CLASSES + 3, 3, padding=1)
        with torch.no_grad():
            self.conv.weight *= 5

    def forward(self, images: Any) -> ModelOutput:
        values = self.conv(images)
        logits, features = values[:, :-2], {'last': values[:, :5]}
        return ModelOutput(logits, ood_logits=values[:, -2:], features=features)


BANK = {
    'bank': torch.linspace(-9, 9, 40 * 4 * 5).sin().view(40, 4, 5),
    'counts': torch.full((40,), 4.0),
    'centre': torch.zeros(5),
}
STATISTICS = {
    'cdnp': {**BANK, 'limits': torch.tensor([-3.0, 0.0, 2.0])},
    'dnp': BANK,
    'neco': {
        'centre': torch.ones(5),
        'scale': torch.linspace(1, 2, 5),
        'components': torch.eye(5)[1:3],
        'moments': torch.tensor([-0.5, 0.2, -2.0, 1.0]),
    },
    'mahalanobis': {
        'whitening': 0.3 * torch.eye(CLASSES),
        'means': torch.arange(CLASSES * CLASSES).view(CLASSES, CLASSES) % 7 / 2,
    },
    'sml': {'mean': torch.linspace(1, 3, CLASSES), 'std': torch.linspace(1, 2, CLASSES)},
}


OF_PIXELS = [
    name for name in SCORES if score_class(name).needs <= MadeNetwork.provides | {'void_logit'}
]
"""Those that read masks are in test_mask_scores.py."""


def made_model(meta: Any, score: str) -> ScoredModel:
    return ScoredModel(MadeNetwork().eval(), meta, score, STATISTICS.get(score)).eval()


def compare(scored: Any, engine: Any) -> None:
    """Holds an engine in fp32 against the torch module that it was made from."""
    for seed in range(3):
        image = picture(seed)
        with torch.inference_mode():
            outputs = scored(torch.from_numpy(image)[None])
        labels, score = (outputs[name][0].numpy() for name in ('labels', 'score'))
        got = engine.infer(image)
        assert np.unique(labels).size >= 3, 'nothing is compared where all is alike'
        assert np.ptp(score) > 0.01
        assert (got.labels == labels).mean() >= 0.9999
        assert got.score.dtype == np.float16
        gap = np.abs(got.score.astype(np.float32) - score)
        allowed = HALF * np.abs(score) + 1e-4 * max(1, np.ptp(score))
        # 'sml' looks at the borders of labels: a flipped one changes the score around it.
        assert (gap <= allowed).mean() >= 0.999


@pytest.mark.parametrize(
    ('score', 'void_index'), [*((score, CLASSES) for score in OF_PIXELS), ('void', 0)]
)
def test_openvino_computes_every_score_as_torch_does(
    score: str, void_index: int, make_fake_meta: Callable[..., Any]
) -> None:
    meta = make_fake_meta(void_index=void_index)
    engine = OpenVinoEngine(convert(made_model(meta, score), SIZE), score, 'fp32', 1)
    assert (engine.score_name, engine.precision, engine.input_size) == (score, 'fp32', SIZE)
    compare(made_model(meta, score), engine)


def test_openvino_computes_a_coarse_score_as_torch_does(
    make_fake_meta: Callable[..., Any],
) -> None:
    meta = make_fake_meta(score_options={'dense_hybrid': {'step': 4}})
    engine = OpenVinoEngine(convert(made_model(meta, 'dense_hybrid'), SIZE), 'made', 'fp32', 1)
    compare(made_model(meta, 'dense_hybrid'), engine)
    whole = made_model(make_fake_meta(), 'dense_hybrid')
    with torch.inference_mode():
        score = whole(torch.from_numpy(picture())[None])['score'][0].numpy()
    assert np.ptp(engine.infer(picture()).score.astype(np.float32) - score) > 0.1


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
    engine = open_engine(Checkpoint.open(checkpoint), 'openvino', score, 'fp32')
    compare(load_scored_model(Checkpoint.open(checkpoint), score), engine)


def test_the_default_runs_on_an_input_of_more_than_a_thousand_columns() -> None:
    scored = load_scored_model(Checkpoint.open('default'), 'dense_hybrid_odds')
    size = (64, 1056)
    image = cv2.resize(picture(), size[::-1])
    with torch.inference_mode():
        wanted = scored(torch.from_numpy(image)[None])
    got = OpenVinoEngine(convert(scored, size), 'dense_hybrid_odds', 'fp32', 1).infer(image)
    assert (got.labels == wanted['labels'][0].numpy()).mean() > 0.999
    gap = np.abs(got.score.astype(np.float32) - wanted['score'][0].numpy())
    assert (gap < 0.02).mean() > 0.999


def test_onnx_runtime_computes_a_network_as_torch_does(
    tiny_checkpoint: Path, onnx_folder: Path
) -> None:
    engine = open_engine(Checkpoint.open(tiny_checkpoint), 'onnx', engine_path=onnx_folder)
    assert (engine.name, engine.precision, engine.input_size) == ('onnx', 'fp32', SIZE)
    compare(load_scored_model(Checkpoint.open(tiny_checkpoint), 'max_logit'), engine)


@pytest.mark.slow
@pytest.mark.parametrize('score', ['entropy', 'msp'])
def test_onnx_runtime_is_built_from_a_checkpoint_too(score: str, tiny_checkpoint: Path) -> None:
    engine = open_engine(Checkpoint.open(tiny_checkpoint), 'onnx', score)
    assert 'made from the checkpoint' in engine.reason
    compare(load_scored_model(Checkpoint.open(tiny_checkpoint), score), engine)


@pytest.mark.slow
def test_a_half_network_is_another_rounding_of_the_same(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """The graph that TensorRT and CUDA get, run here by ONNX Runtime."""
    export_engine(
        Checkpoint.open(tiny_checkpoint), 'energy', SIZE, 'fp16', tmp_path / 'half', engine='onnx'
    )
    half = open_engine(
        Checkpoint.open(tiny_checkpoint), 'onnx', 'energy', engine_path=tmp_path / 'half'
    )
    assert half.precision == 'fp16'
    exact = open_engine(Checkpoint.open(tiny_checkpoint), 'torch', 'energy', 'fp32').infer(
        picture()
    )
    rough = half.infer(picture())
    gap = np.abs(exact.score - rough.score)
    assert 0 < gap.max() < 0.02 * np.ptp(exact.score)
    assert (exact.labels == rough.labels).mean() > 0.99


def test_the_labels_compared_are_not_all_alike(tiny_checkpoint: Path) -> None:
    engine = open_engine(Checkpoint.open(tiny_checkpoint), 'torch')
    counts = [np.unique(engine.infer(picture(seed)).labels).size for seed in range(3)]
    assert max(counts) >= 3


def test_a_ready_engine_agrees_with_torch(exported_checkpoint: Path) -> None:
    """Its weights are halves: a rounding, not another network."""
    expected = open_engine(Checkpoint.open(exported_checkpoint), 'torch').infer(picture())
    got = open_engine(Checkpoint.open(exported_checkpoint), 'openvino', precision='fp32').infer(
        picture()
    )
    assert (expected.labels == got.labels).mean() > 0.99
    assert np.abs(expected.score - got.score).max() < 0.02 * np.ptp(expected.score)


def test_the_torch_engine_is_the_network_with_its_score(tiny_checkpoint: Path) -> None:
    with torch.inference_mode():
        scored = load_scored_model(Checkpoint.open(tiny_checkpoint), 'energy')
        outputs = scored(torch.from_numpy(picture())[None])
    prediction = open_engine(Checkpoint.open(tiny_checkpoint), 'torch', 'energy', 'fp32').infer(
        picture()
    )
    assert (prediction.labels == outputs['labels'][0].numpy()).all()
    assert np.abs(prediction.score - outputs['score'][0].numpy()).max() < 1e-4


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_logits_give_the_labels(precision: str, tiny_checkpoint: Path) -> None:
    engine: Any = open_engine(Checkpoint.open(tiny_checkpoint), 'torch', 'max_logit', precision)
    logits, prediction = engine.logits(picture()), engine.infer(picture())
    assert logits.shape == (11, *SIZE)
    assert (-logits.max(0) == prediction.score).all()
    # In bf16 two classes may have one logit.
    best = np.take_along_axis(logits, prediction.labels[None].astype(np.intp), 0)[0]
    assert (best == logits.max(0)).all()


def test_a_prediction_is_the_callers_to_keep(engine: Any) -> None:
    first = engine.infer(picture(1))
    labels, score = first.labels.copy(), first.score.copy()
    exported = np.float32 if engine.name == 'torch' else np.float16
    assert (labels.dtype, score.dtype) == (np.uint8, exported)
    assert labels.shape == score.shape == SIZE
    engine.infer(picture(2))
    first_again = engine.infer(picture(1))
    assert (first.labels == labels).all()
    assert (first.score == score).all()
    assert (first_again.score == score).all(), 'the same image must give the same answer'
    first.score[:] = 0  # writable


def test_a_score_beyond_float16_stays_finite(make_fake_meta: Callable[..., Any]) -> None:
    scored = made_model(make_fake_meta(void_index=CLASSES), 'max_logit')
    with torch.no_grad():
        scored.model.conv.bias += 1e6  # type: ignore[union-attr, operator]
        score = scored.spell()(torch.from_numpy(picture())[None])['score']
    assert score.dtype == torch.float16
    assert score.unique().tolist() == [-65504]


# --- several cameras -----------------------------------------------------------------------------


def test_a_batch_is_what_each_image_gives(engine: Any) -> None:
    images = [picture(seed) for seed in range(3)]
    alone = [engine.infer(image) for image in images]
    for count in (1, 2, 3, 2):
        batch = engine.infer_batch(images[:count])
        assert len(batch) == count
        for got, wanted in zip(batch, alone, strict=False):
            assert got.labels.shape == got.score.shape == SIZE
            assert (got.labels == wanted.labels).mean() >= 0.9999
            gap = np.abs(got.score.astype(np.float32) - wanted.score)
            assert gap.max() <= 2 * HALF * np.abs(wanted.score).max()


@pytest.mark.filterwarnings('error')
def test_an_image_may_be_read_only(engine: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*engine.input_size, 3), np.uint8)
    before = engine.infer(image)
    image.flags.writeable = False
    after = engine.infer(image)
    assert (before.labels == after.labels).all()
    assert (before.score == after.score).all()


def test_an_empty_batch_is_refused(engine: Any) -> None:
    with pytest.raises(ValueError, match='a batch needs at least one image'):
        engine.infer_batch([])


def test_what_is_no_image_of_its_size_is_refused(engine: Any) -> None:
    images: tuple[Any, ...] = (
        np.zeros((32, 96, 3), np.uint8),
        np.zeros(SIZE, np.uint8),
        np.zeros((*SIZE, 3), np.float32),
    )
    for image in images:
        with pytest.raises(ValueError, match=r'takes uint8 images of shape \(64, 96, 3\), got'):
            engine.infer(image)
        with pytest.raises(ValueError, match='takes uint8 images'):
            engine.infer_batch([picture(), image])
    # A view with strides is fine.
    wide = np.ascontiguousarray(picture().repeat(2, 1))
    assert (engine.infer(wide[:, ::2]).labels == engine.infer(picture()).labels).all()


def test_each_engine_names_the_device_that_it_runs_on(engine: Any) -> None:
    assert engine.device
    assert engine.device in engine.description
    if engine.name == 'openvino':
        assert engine.device == openvino_device()


# --- precision -----------------------------------------------------------------------------------


def test_an_engine_leaves_the_stack_for_signals_as_it_was(exported_checkpoint: Path) -> None:
    # Else two engines that end in the order in which they began, or one that ends on another
    # thread, leave a stack that is no memory, and the next signal kills the process.
    before = signal_stack()
    engines = [open_engine(Checkpoint.open(exported_checkpoint), 'openvino') for _ in range(2)]
    assert signal_stack() == before
    while engines:
        engines.pop(0).close()
    assert signal_stack() == before


OUTWARDS = """
import sys
def tell(event, arguments):
    if event in ('os.fork', 'subprocess.Popen', 'socket.getaddrinfo', 'socket.connect'):
        print('outwards:', event, flush=True)
sys.addaudithook(tell)
from anomaly_seg_ros.engines.openvino_engine import device, versions
print(versions(), device())
"""


def test_openvino_is_loaded_without_a_call_to_its_makers() -> None:
    done = subprocess.run(
        [sys.executable, '-c', OUTWARDS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 'outwards' not in done.stdout
    assert openvino_device() in done.stdout


def test_the_precision_that_is_asked_for_is_what_computes(exported_checkpoint: Path) -> None:
    assert (
        open_engine(Checkpoint.open(exported_checkpoint), 'openvino', precision='fp32').precision
        == 'fp32'
    )
    auto = open_engine(Checkpoint.open(exported_checkpoint), 'openvino').precision
    assert auto == ('bf16' if has_bf16() else 'fp32')
    assert open_engine(Checkpoint.open(exported_checkpoint), 'torch').precision == 'fp32'
    assert (
        open_engine(Checkpoint.open(exported_checkpoint), 'torch', precision='bf16').precision
        == 'bf16'
    )


def test_bf16_is_another_rounding_of_the_same(exported_checkpoint: Path) -> None:
    exact = open_engine(Checkpoint.open(exported_checkpoint), 'torch', precision='fp32').infer(
        picture()
    )
    names = ['torch', *(['openvino'] if has_bf16() else [])]
    for name in names:
        rough = open_engine(Checkpoint.open(exported_checkpoint), name, precision='bf16').infer(
            picture()
        )
        gap = np.abs(exact.score - rough.score)
        assert 0 < gap.max() < 0.2 * np.ptp(exact.score), name
        assert (exact.labels == rough.labels).mean() > 0.9, name


def test_a_precision_that_is_not_there(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="unknown precision 'fp8'; choose one of: auto, fp16"):
        open_engine(Checkpoint.open(tiny_checkpoint), precision='fp8')
    with pytest.raises(ValueError, match="engine 'openvino' has no precision 'fp16'; choose"):
        open_engine(Checkpoint.open(tiny_checkpoint), 'openvino', precision='fp16')
    with pytest.raises(ValueError, match="engine 'torch' has no precision 'int8'; choose one"):
        open_engine(Checkpoint.open(tiny_checkpoint), 'torch', precision='int8')
    with pytest.raises(ValueError, match=r"'int8' needs frames .* --calibration DIR"):
        open_engine(Checkpoint.open(tiny_checkpoint), 'openvino', precision='int8')
    import openvino

    monkeypatch.setattr(openvino.Core, 'get_property', lambda *_: ['FP32', 'INT8'])
    assert cpu_precision('auto') == 'fp32'
    with pytest.raises(ValueError, match=r'choose one of: auto, fp32$'):
        cpu_precision('bf16')


def test_whole_weights_are_kept_for_fp32_only(tiny_checkpoint: Path, tmp_path: Path) -> None:
    sizes = {}
    for precision in ('auto', 'fp32'):
        out = tmp_path / precision
        export_engine(Checkpoint.open(tiny_checkpoint), None, SIZE, precision, out)
        sizes[precision] = (out / 'model.bin').stat().st_size
    assert 1.6 < sizes['fp32'] / sizes['auto'] < 2.1


@pytest.mark.slow
def test_int8_is_exported_with_frames_only_and_taken_only_if_asked_for(
    tiny_checkpoint: Path, save: Callable[..., Any], tmp_path: Path
) -> None:
    save(tmp_path / 'frames', [picture(seed) for seed in range(3)])
    out = tmp_path / 'int8'
    with pytest.raises(ValueError, match="'int8' needs frames: give --calibration DIR"):
        export_engine(Checkpoint.open(tiny_checkpoint), None, SIZE, 'int8', out)
    assert not out.exists()
    export_engine(
        Checkpoint.open(tiny_checkpoint), None, SIZE, 'int8', out, calibration=tmp_path / 'frames'
    )
    engine = open_engine(Checkpoint.open(tiny_checkpoint), engine_path=out)
    assert engine.precision == 'int8'
    assert 'the rest in' in engine.description
    # How near it comes says nothing with random weights: see `training.bench.parity`.
    assert np.isfinite(engine.infer(picture()).score).all()
    # It is really in int8: most multiplications have quantised inputs.
    text = (out / 'model.xml').read_text(encoding='utf-8')
    assert text.count('type="FakeQuantize"') >= text.count('type="Convolution"') > 10


def test_a_fixed_batch_is_for_tensorrt_alone(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='takes any batch size; leave --batch out'):
        export_engine(
            Checkpoint.open(tiny_checkpoint),
            None,
            SIZE,
            'auto',
            tmp_path / 'e',
            batch_sizes=(1, 2),
        )


def test_a_graph_of_one_size_takes_no_other(make_fake_meta: Callable[..., Any]) -> None:
    scored = made_model(make_fake_meta(void_index=CLASSES), 'msp')
    images = torch.zeros(2, *SIZE, 3, dtype=torch.uint8)
    assert export_graph(scored, SIZE).module()(images)['labels'].shape == (2, *SIZE)
    with pytest.raises(AssertionError):
        export_graph(scored, SIZE, 1).module()(images)


def test_a_gpu_that_onnx_runtime_cannot_load_is_said(
    onnx_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(onnx_engine, 'device', lambda: 'CUDA')
    with pytest.warns(UserWarning, match='CUDAExecutionProvider'):
        engine = onnx_engine.OnnxEngine(onnx_folder / 'model.onnx', 'msp', 'fp32', 1)
    assert engine.device == 'CPU'
    assert 'was built for CUDA and cannot load it; the CPU runs' in caplog.text
