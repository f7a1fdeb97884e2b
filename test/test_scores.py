"""The scores, by hand on a few pixels and by what must hold for any logits."""

from __future__ import annotations

import math
from typing import Any

import pytest

pytest.importorskip('torch')

import torch

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.scores import build_score, SCORES

ALL = frozenset({'logits', 'void_logit'})


def score(name: str, *pixels: list[float], void: list[float] | None = None) -> Any:
    """Scores of pixels that are given as lists of logits."""
    logits = torch.tensor(pixels).T[None, :, None, :]
    void_logit = torch.tensor(void if void is not None else [0.0] * len(pixels))[None, None, None]
    return build_score(name, 'made', ALL)(ModelOutput(logits, void_logit=void_logit))[0, 0]


def random_output(seed: int = 0, classes: int = 19) -> Any:
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(2, classes, 6, 7, generator=generator)
    return ModelOutput(logits, void_logit=5 * torch.randn(2, 1, 6, 7, generator=generator))


LN2 = math.log(2)
HAND_WORKED = [
    # p = 1/2, 1/4, 1/4 and void logit 0, whose exponential is a third of the sum 3.
    ('msp', [LN2, 0.0, 0.0], 0.5),
    ('max_logit', [LN2, 0.0, 0.0], -LN2),
    ('energy', [LN2, 0.0, 0.0], -math.log(4)),
    ('entropy', [LN2, 0.0, 0.0], 1.5 * LN2 / math.log(3)),
    ('void', [LN2, 0.0, 0.0], 1 / 5),
    # Flat.
    ('msp', [3.0, 3.0, 3.0, 3.0], 0.75),
    ('max_logit', [3.0, 3.0, 3.0, 3.0], -3.0),
    ('energy', [3.0, 3.0, 3.0, 3.0], -3 - math.log(4)),
    ('entropy', [3.0, 3.0, 3.0, 3.0], 1.0),
    ('void', [3.0, 3.0, 3.0, 3.0], 1 / (1 + 4 * math.exp(3))),
    # Certain.
    ('msp', [100.0, 0.0], 0.0),
    ('max_logit', [100.0, 0.0], -100.0),
    ('energy', [100.0, 0.0], -100.0),
    ('entropy', [100.0, 0.0], 0.0),
    ('void', [100.0, 0.0], 0.0),
]


@pytest.mark.parametrize(('name', 'logits', 'expected'), HAND_WORKED)
def test_by_hand(name: str, logits: list[float], expected: float) -> None:
    assert score(name, logits).item() == pytest.approx(expected, abs=1e-6)


def test_every_score_is_worked_by_hand() -> None:
    assert {name for name, _, _ in HAND_WORKED} == set(SCORES)


@pytest.mark.parametrize('name', SCORES)
def test_shape_and_type(name: str) -> None:
    result = build_score(name, 'made', ALL)(random_output())
    assert result.shape == (2, 6, 7)
    assert result.dtype == torch.float32
    assert bool(result.isfinite().all())


@pytest.mark.parametrize('name', SCORES)
def test_an_outlier_outranks_an_inlier(name: str) -> None:
    inlier, outlier = score(name, [9.0, 0.5, -1.0], [1.2, 1.0, 0.9], void=[-2.0, 3.0])
    assert outlier > inlier


@pytest.mark.parametrize('name', SCORES)
def test_flat_logits_score_higher_than_peaked_ones(name: str) -> None:
    # The peak rises above the same rest.
    values = score(name, *[[peak, 0.0, 0.0, 0.0] for peak in (0.0, 1.0, 2.0, 5.0, 10.0)])
    assert bool((values.diff() < 0).all())


@pytest.mark.parametrize(
    ('name', 'shift'), [('msp', 0.0), ('entropy', 0.0), ('energy', -3.0), ('max_logit', -3.0)]
)
def test_a_constant_on_all_logits(name: str, shift: float) -> None:
    output = random_output()
    measure = build_score(name, 'made', ALL)
    moved = measure(ModelOutput(output.logits + 3)) - measure(ModelOutput(output.logits))
    assert moved.flatten().tolist() == pytest.approx([shift] * moved.numel(), abs=1e-5)


def test_a_constant_on_all_logits_and_void_leaves_void() -> None:
    output = random_output()
    measure = build_score('void', 'made', ALL)
    moved = measure(ModelOutput(output.logits + 3, void_logit=output.void_logit + 3))
    assert torch.allclose(moved, measure(output), atol=1e-6)


@pytest.mark.parametrize('kind', [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize('name', SCORES)
def test_huge_logits_stay_finite_in_half(name: str, kind: Any) -> None:
    pixels = torch.tensor([[1e4, -1e4, 0.0], [1e4, 1e4, 1e4], [-1e4, -1e4, -1e4]])
    logits = pixels.T[None, :, None, :].to(kind)
    for void in (1e4, -1e4):
        output = ModelOutput(logits, void_logit=torch.full((1, 1, 1, 3), void, dtype=kind))
        result = build_score(name, 'made', ALL)(output)
        assert bool(result.isfinite().all())
        assert result.dtype == torch.float32


def test_void_is_the_softmax_over_twenty() -> None:
    output = random_output()
    softmax = torch.cat([output.logits, output.void_logit], 1).softmax(1)[:, 19]
    assert torch.allclose(build_score('void', 'made', ALL)(output), softmax, atol=1e-6)


def test_msp_and_entropy_against_the_softmax() -> None:
    output = random_output()
    p = output.logits.double().softmax(1)
    assert torch.allclose(
        build_score('msp', 'made', ALL)(output).double(), 1 - p.amax(1), atol=1e-6
    )
    entropy = torch.special.entr(p).sum(1) / math.log(19)
    assert torch.allclose(build_score('entropy', 'made', ALL)(output).double(), entropy, atol=1e-6)


def test_msp_is_never_negative() -> None:
    logits = torch.randn(1, 19, 200, 200, generator=torch.Generator().manual_seed(0)) * 30
    result = build_score('msp', 'made', ALL)(ModelOutput(logits))
    assert result.min() >= 0
    assert result.max() <= 1 - 1 / 19


def test_an_unknown_score_lists_the_known() -> None:
    known = 'energy, entropy, max_logit, msp, void'
    with pytest.raises(ValueError, match=f"unknown score 'msx'; choose one of: {known}"):
        build_score('msx', 'erfnet', ALL)


def test_void_needs_a_network_with_a_void_channel() -> None:
    with pytest.raises(ValueError, match="score 'void' needs logits, void_logit; model 'erfnet'"):
        build_score('void', 'erfnet', {'logits', 'features'})
    with pytest.raises(ValueError, match='trained void class'):
        build_score('void', 'erfnet', ALL)(ModelOutput(torch.zeros(1, 2, 1, 1)))
