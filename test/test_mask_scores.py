"""The scores of masks: against the equations written out slowly, by hand, and in engines."""

from __future__ import annotations

from collections.abc import Callable
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anomaly_seg_ros.engines.openvino_engine import load_cpu
from anomaly_seg_ros.engines.scored_model import ScoredModel
from anomaly_seg_ros.model_output import Extent, ModelOutput, with_semantics
from anomaly_seg_ros.models.forward import run_fields, split_void
from anomaly_seg_ros.models.network import Network
from anomaly_seg_ros.scores import build_score, score_class, SCORES

BIG = 40.0
GOLDEN = json.loads((Path(__file__).with_name('golden') / 'mask_scores.json').read_text())
"""Score to where the authors' code is, and what it gives."""

FIELDS = {'semantics', 'class_logits', 'mask_logits', 'void_class_logit'}
OF_MASKS = [
    name
    for name in SCORES
    if score_class(name).reads(FIELDS) <= FIELDS and not score_class(name).statistics
]
PLAIN = ('energy', 'entropy', 'margin', 'max_logit', 'msp')
REFINE = {'refine': [1, 2], 'confidence': 0.6}


def made_output(seed: int = 0, queries: int = 19, classes: int = 5, batch: int = 2) -> ModelOutput:
    """Masks at a quarter of the size, on sides that were padded; void is one class more."""
    generator = torch.Generator().manual_seed(seed)
    output = ModelOutput(
        class_logits=3 * torch.randn(batch, queries, classes + 2, generator=generator),
        mask_logits=4 * torch.randn(batch, queries, 4, 6, generator=generator),
        extent=Extent((13, 21), (16, 24)),
    )
    return with_semantics(split_void(output, classes))


def measured(name: str, output: ModelOutput, **options: Any) -> Any:
    return build_score(name, 'made', FIELDS, options=options)(output)


# The equations, a pixel and a query at a time


def softmax(values: list[float]) -> list[float]:
    parts = [math.exp(v - max(values)) for v in values]
    return [part / sum(parts) for part in parts]


def enlarged(mask: Any, y: int, x: int, scale: int = 4) -> float:
    """Bilinear, half-pixel centres, the border repeated."""
    total = 0.0
    v, u = (y + 0.5) / scale - 0.5, (x + 0.5) / scale - 0.5
    for row, column in np.ndindex(mask.shape):
        places = ((v, mask.shape[0], row), (u, mask.shape[1], column))
        near = [max(0.0, 1 - abs(min(max(at, 0), side - 1) - cell)) for at, side, cell in places]
        total += near[0] * near[1] * float(mask[row, column])
    return total


def literal(name: str, output: ModelOutput, image: int, y: int, x: int) -> float:
    """Gives a score as its paper has it; the classes, then no object, then the negative class."""
    assert output.class_logits is not None
    assert output.mask_logits is not None
    assert output.void_class_logit is not None
    logits = torch.cat([output.class_logits, output.void_class_logit], 2)[image]
    classes = output.class_logits.shape[2] - 1
    shares = [0.0] * classes
    surest = evidence = certain = 0.0
    for query, values in enumerate(logits.tolist()):
        p = softmax(values)
        inside = 1 / (1 + math.exp(-enlarged(output.mask_logits[image, query].numpy(), y, x)))
        for c in range(classes):
            shares[c] += p[c] * inside
        surest += max(p[:classes]) * inside
        evidence += p[-1] * inside
        best = max(range(classes), key=lambda c: p[c])
        if best in REFINE['refine'] and p[best] > REFINE['confidence']:  # type: ignore[operator]
            certain = max(certain, float(p[best] * inside >= 0.5))
    p = [share / sum(shares) for share in shares]
    return {
        'mask_msp': lambda: 1 - max(shares),
        'mask2anomaly': lambda: (1 - max(shares)) * (1 - certain),
        'rba': lambda: -sum(math.tanh(share) for share in shares),
        'eam': lambda: 1 - surest,
        'uno': lambda: -(surest - evidence),
        'msp': lambda: 1 - max(p),
        'entropy': lambda: -sum(q * math.log(q) for q in p) / math.log(classes),
        'margin': lambda: sorted(p)[-2] - max(p),
        'max_logit': lambda: -math.log(max(shares)),
        'energy': lambda: -math.log(sum(shares)),
    }[name]()


@pytest.mark.parametrize('name', OF_MASKS)
def test_a_score_is_that_of_its_equation(name: str) -> None:
    output = made_output()
    found = measured(name, output, **(REFINE if name == 'mask2anomaly' else {}))
    assert found.shape == (2, 13, 21)
    assert found.dtype == torch.float32
    for image, y, x in [(0, 0, 0), (0, 6, 9), (1, 12, 20), (1, 5, 0), (0, 12, 3), (1, 3, 14)]:
        expected = literal(name, output, image, y, x)
        assert found[image, y, x].item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_every_score_of_masks_has_its_equation() -> None:
    assert set(OF_MASKS) == {'eam', 'mask2anomaly', 'mask_msp', 'rba', 'uno', *PLAIN}


def one_query(*classes: float, mask: float = BIG) -> ModelOutput:
    """Of one query over two classes, negative and no object, everywhere."""
    output = ModelOutput(
        class_logits=torch.tensor(classes).view(1, 1, 4),
        mask_logits=torch.full((1, 1, 2, 2), mask),
        extent=Extent((8, 8), (8, 8)),
    )
    return with_semantics(split_void(output, 2))


@pytest.mark.parametrize(
    ('name', 'certain', 'nothing', 'negative'),
    [
        ('mask_msp', 0.0, 1.0, 1.0),
        ('mask2anomaly', 0.0, 1.0, 1.0),
        ('eam', 0.0, 1.0, 1.0),
        ('rba', -math.tanh(1), 0.0, 0.0),
        ('uno', -1.0, 0.0, 1.0),
    ],
)
def test_by_hand(name: str, certain: float, nothing: float, negative: float) -> None:
    for classes, expected in (
        ((BIG, 0.0, 0.0, 0.0), certain),
        ((0.0, 0.0, 0.0, BIG), nothing),
        ((0.0, 0.0, BIG, 0.0), negative),
    ):
        values = measured(name, one_query(*classes))
        assert values.flatten().tolist() == pytest.approx([expected] * 64, abs=1e-6)
    empty = measured(name, one_query(BIG, 0.0, 0.0, 0.0, mask=-BIG))
    assert empty.flatten().tolist() == pytest.approx([nothing] * 64, abs=1e-6)


def test_refinement_leaves_the_score_where_no_query_is_certain() -> None:
    output = made_output()
    plain = measured('mask_msp', output)
    assert torch.equal(measured('mask2anomaly', output), plain)
    assert torch.equal(measured('mask2anomaly', output, refine=[1, 2], confidence=1.0), plain)
    found = measured('mask2anomaly', output, **REFINE)
    assert 0 < (found != plain).float().mean() < 1
    assert bool(((found == plain) | (found == 0)).all())


@pytest.mark.parametrize('name', OF_MASKS)
def test_a_flipped_output_gives_the_flipped_score(name: str) -> None:
    output = made_output()._replace(extent=Extent((16, 24), (16, 24)), semantics=None)
    turned = output._replace(mask_logits=output.given('mask_logits').flip(3))
    options = REFINE if name == 'mask2anomaly' else {}
    there, back = (measured(name, with_semantics(each), **options) for each in (output, turned))
    torch.testing.assert_close(back.flip(2), there, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('kind', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', OF_MASKS)
def test_huge_logits_stay_finite_in_half(name: str, kind: Any) -> None:
    output = made_output()
    output = with_semantics(
        output._replace(
            class_logits=(output.given('class_logits') * 1e3).to(kind),
            void_class_logit=(output.given('void_class_logit') * 1e3).to(kind),
            mask_logits=(output.given('mask_logits') * 1e3).to(kind),
            semantics=None,
        )
    )
    found = measured(name, output)
    assert bool(found.isfinite().all())
    assert found.dtype == torch.float32


@pytest.mark.parametrize('name', ['eam', 'uno', 'rba', 'msp'])
def test_autocast_changes_nothing(name: str) -> None:
    output = made_output()
    with torch.autocast('cpu', torch.bfloat16):
        cast = measured(name, with_semantics(output._replace(semantics=None)))
    assert torch.equal(cast, measured(name, output))


def test_what_a_score_of_masks_needs_is_said() -> None:
    said = "'rba' needs semantics; model 'erfnet' gives logits; choose one of: "
    with pytest.raises(ValueError, match=f'{said}.*msp'):
        build_score('rba', 'erfnet', {'logits'})
    with pytest.raises(ValueError, match="'uno' needs class_logits, mask_logits, void_class_l"):
        build_score('uno', 'hf', FIELDS - {'void_class_logit'})
    with pytest.raises(ValueError, match=r'refine is \[True\]; it must hold ids'):
        build_score('mask2anomaly', 'hf', FIELDS, options={'refine': [True]})
    with pytest.raises(ValueError, match='refine has id 5, the network 5 classes'):
        measured('mask2anomaly', made_output(), refine=[5])


# What the authors' code gives


@pytest.mark.parametrize('name', sorted(GOLDEN))
def test_a_score_is_that_of_the_public_code(name: str) -> None:
    """Of 7 queries over 19 classes, their masks at the size of the image."""
    expected = torch.tensor(GOLDEN[name]['score'])
    negative = name == 'uno'
    q, c = torch.arange(7.0, dtype=torch.float64)[:, None], torch.arange(20.0 + negative)
    axes = (torch.arange(float(n), dtype=torch.float64) for n in (7, *expected.shape))
    number, y, x = torch.meshgrid(*axes, indexing='ij')
    size = (expected.shape[0], expected.shape[1])
    output = ModelOutput(
        class_logits=(4 * torch.sin(1.7 * q + 0.9 * c * (q + 1))).float()[None],
        mask_logits=(4 * torch.sin(2.3 * number + 0.8 * y * (number + 1) + 1.1 * x)).float()[None],
        extent=Extent(size, size),
    )
    found = measured(name, with_semantics(split_void(output, 19 if negative else None)))
    torch.testing.assert_close(found[0], expected, rtol=0, atol=2e-5)


# In engines


class Masks(Network):
    """A few layers with all that scores of masks need."""

    provides = frozenset({'class_logits', 'mask_logits'})
    stride = 8

    def __init__(self, channels: int):
        super().__init__()
        torch.manual_seed(0)
        self.pixels = torch.nn.Conv2d(3, 8, 4, stride=4)
        self.queries = torch.nn.Parameter(3 * torch.randn(11, 8))
        self.classes = torch.nn.Linear(8, channels + 1)

    def forward(self, images: Any) -> ModelOutput:
        pixels = self.pixels(images).tanh()
        queries = self.queries + pixels.mean((2, 3))[:, None]
        masks = (queries @ pixels.flatten(2)).unflatten(2, pixels.shape[2:])
        return ModelOutput(class_logits=4 * self.classes(queries), mask_logits=2 * masks)


def test_the_mean_with_the_mirrored_image_is_that_of_both_runs(
    make_fake_meta: Callable[..., Any],
) -> None:
    network = Masks(11).eval()
    plain, both = (
        ScoredModel(network, make_fake_meta(score_options={'mask2anomaly': options}), name).eval()
        for name, options in (('mask_msp', {}), ('mask2anomaly', {'flip': True}))
    )
    images = torch.randint(0, 256, (2, 45, 61, 3), dtype=torch.uint8)
    with torch.no_grad():
        there, back = plain(images), plain(images.flip(2))
        found = both(images)
    assert (there['score'] - back['score'].flip(2)).abs().max() > 0.01
    expected = (there['score'] + back['score'].flip(2)) / 2
    torch.testing.assert_close(found['score'], expected, rtol=0, atol=1e-6)
    assert torch.equal(found['labels'], there['labels'])


class Every(torch.nn.Module):
    """All scores of one network, so that one export is enough."""

    def __init__(self, network: Network, meta: Any):
        super().__init__()
        self.first = ScoredModel(network, meta, 'max_logit')
        self.scores = torch.nn.ModuleList(
            ScoredModel(network, meta, name).score for name in OF_MASKS
        )

    def forward(self, images: Any) -> tuple[Any, ...]:
        output = self.first.output(images)
        return output.class_maps.argmax(1).int(), *(
            self.first.scored(score, images, output) for score in self.scores
        )


@pytest.mark.parametrize('engine', ['openvino', 'onnx'])
def test_an_engine_computes_every_score_as_torch_does(
    engine: str, make_fake_meta: Callable[..., Any], tmp_path: Any
) -> None:
    classes = 11
    options = {'refine': [0, 3], 'confidence': 0.3, 'flip': True}
    meta = make_fake_meta(void_index=classes, score_options={'mask2anomaly': options})
    network = Masks(classes + 1).eval()
    assert run_fields(network, classes) == FIELDS
    module = Every(network, meta).eval()
    images = torch.randint(0, 256, (1, 45, 61, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = [value.numpy() for value in module(images)]
        program = torch.export.export(module, (images,))
    if engine == 'openvino':
        import openvino as ov

        exact = {'INFERENCE_PRECISION_HINT': 'f32'}
        compiled = load_cpu().compile_model(ov.convert_model(program), 'CPU', exact)
        labels, *scores = compiled(images.numpy()).values()
    else:
        onnxruntime = pytest.importorskip('onnxruntime')
        file = str(tmp_path / 'm.onnx')
        torch.onnx.export(program, dynamo=True).save(file)  # type: ignore[union-attr]
        session = onnxruntime.InferenceSession(file)
        labels, *scores = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert (labels == expected[0]).mean() > 0.999
    for name, ours, theirs in zip(OF_MASKS, scores, expected[1:], strict=True):
        assert np.ptp(theirs) > 0, name
        assert np.quantile(np.abs(ours - theirs), 0.99) < 1e-4 * max(np.ptp(theirs), 1), name


def test_rows_of_masks_are_taken_apart_and_put_together_in_order() -> None:
    semantics = torch.rand(1, 3, 70, 130)
    found = build_score('max_logit', 'made', frozenset({'semantics'}))(
        ModelOutput(semantics=semantics)
    )
    assert torch.equal(found, -semantics.log().amax(1))
