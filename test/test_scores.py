"""The scores, by hand on a few pixels and by what must hold for any logits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.scores import build_score, score_class
from anomaly_seg_ros.scores import SCORES as EVERY

ALL = frozenset({'logits', 'void_logit', 'ood_logits', 'features.last'})
SCORES = [name for name in EVERY if score_class(name).needs <= ALL]
"""Those that read masks are in test_mask_scores.py."""

OUTLIER_SCORES = {'dense_hybrid', 'dense_hybrid_odds', 'nflow_js', 'ood_posterior'}
"""Worked by hand in test_outlier_scores.py."""

FEATURE_SCORES = {'cdnp', 'dnp', 'neco'}
"""Worked by hand in test_neighbours.py and test_neco.py; here the logits are the features."""


def plain_statistics(name: str, classes: int) -> Any:
    """Statistics that change nothing: mean 0, deviation 1."""
    bank = {
        'bank': torch.linspace(-3, 3, 40 * 4 * classes).view(40, 4, classes),
        'counts': torch.full((40,), 4.0),
        'centre': torch.zeros(classes),
    }
    return {
        'cdnp': {**bank, 'limits': torch.tensor([0.0, 1.0, 1.0])},
        'dnp': bank,
        'neco': {
            'centre': torch.zeros(classes),
            'scale': torch.ones(classes),
            'components': torch.eye(classes)[:2],
            'moments': torch.tensor([0.0, 1.0, 0.0, 1.0]),
        },
        'mahalanobis': {'whitening': torch.eye(classes), 'means': torch.zeros(1, classes)},
        'sml': {'mean': torch.zeros(classes), 'std': torch.ones(classes)},
    }.get(name)


def built(name: str, classes: int, **options: Any) -> Any:
    return build_score(
        name, 'made', ALL, statistics=plain_statistics(name, classes), options=options
    )


def score(name: str, *pixels: list[float], void: list[float] | None = None) -> Any:
    """Scores of pixels that are given as lists of logits."""
    logits = torch.tensor(pixels).T[None, :, None, :]
    void_logit = torch.tensor(void if void is not None else [0.0] * len(pixels))[None, None, None]
    outlier = torch.zeros(1, 2, 1, len(pixels))
    # Neighbouring pixels are tests of their own here.
    steps = ('boundary_suppression', 'dilated_smoothing') if name == 'sml' else ()
    options = dict.fromkeys(steps, False)
    output = ModelOutput(logits, void_logit=void_logit, ood_logits=outlier)
    return built(name, logits.shape[1], **options)(output)[0, 0]


def random_output(seed: int = 0, classes: int = 19, size: tuple[int, int] = (6, 7)) -> Any:
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(2, classes, *size, generator=generator)
    return ModelOutput(
        logits,
        features={'last': logits},
        void_logit=5 * torch.randn(2, 1, *size, generator=generator),
        ood_logits=5 * torch.randn(2, 2, *size, generator=generator),
    )


LN2 = math.log(2)
HAND_WORKED = [
    # p = 1/2, 1/4, 1/4 and void logit 0, whose exponential is a third of the sum 3.
    ('msp', [LN2, 0.0, 0.0], 0.5),
    ('margin', [LN2, 0.0, 0.0], -0.25),
    ('max_logit', [LN2, 0.0, 0.0], -LN2),
    ('sml', [LN2, 0.0, 0.0], -LN2),
    ('mahalanobis', [LN2, 0.0, 0.0], LN2**2),
    ('energy', [LN2, 0.0, 0.0], -math.log(4)),
    ('entropy', [LN2, 0.0, 0.0], 1.5 * LN2 / math.log(3)),
    ('void', [LN2, 0.0, 0.0], 1 / 5),
    # Flat.
    ('msp', [3.0, 3.0, 3.0, 3.0], 0.75),
    ('margin', [3.0, 3.0, 3.0, 3.0], 0.0),
    ('max_logit', [3.0, 3.0, 3.0, 3.0], -3.0),
    ('sml', [3.0, 3.0, 3.0, 3.0], -3.0),
    ('mahalanobis', [3.0, 3.0, 3.0, 3.0], 36.0),
    ('energy', [3.0, 3.0, 3.0, 3.0], -3 - math.log(4)),
    ('entropy', [3.0, 3.0, 3.0, 3.0], 1.0),
    ('void', [3.0, 3.0, 3.0, 3.0], 1 / (1 + 4 * math.exp(3))),
    # Certain.
    ('msp', [100.0, 0.0], 0.0),
    ('margin', [100.0, 0.0], -1.0),
    ('max_logit', [100.0, 0.0], -100.0),
    ('sml', [100.0, 0.0], -100.0),
    ('mahalanobis', [100.0, 0.0], 10_000.0),
    ('energy', [100.0, 0.0], -100.0),
    ('entropy', [100.0, 0.0], 0.0),
    ('void', [100.0, 0.0], 0.0),
]


@pytest.mark.parametrize(('name', 'logits', 'expected'), HAND_WORKED)
def test_by_hand(name: str, logits: list[float], expected: float) -> None:
    assert score(name, logits).item() == pytest.approx(expected, abs=1e-6)


def test_every_score_is_worked_by_hand() -> None:
    assert {name for name, _, _ in HAND_WORKED} == set(SCORES) - OUTLIER_SCORES - FEATURE_SCORES


@pytest.mark.parametrize('name', SCORES)
def test_shape_and_type(name: str) -> None:
    result = built(name, 19)(random_output())
    assert result.shape == (2, 6, 7)
    assert result.dtype == torch.float32
    assert bool(result.isfinite().all())


BY_SIZE = sorted(set(SCORES) - {'mahalanobis', 'ood_posterior'} - FEATURE_SCORES)
"""The scores that fall when the largest logit rises; a distance to 0 does the opposite."""


@pytest.mark.parametrize('name', BY_SIZE)
def test_an_outlier_outranks_an_inlier(name: str) -> None:
    inlier, outlier = score(name, [9.0, 0.5, -1.0], [1.2, 1.0, 0.9], void=[-2.0, 3.0])
    assert outlier > inlier


@pytest.mark.parametrize('name', BY_SIZE)
def test_flat_logits_score_higher_than_peaked_ones(name: str) -> None:
    # The peak rises above the same rest.
    values = score(name, *[[peak, 0.0, 0.0, 0.0] for peak in (0.0, 1.0, 2.0, 5.0, 10.0)])
    assert bool((values.diff() < 0).all())


@pytest.mark.parametrize(
    ('name', 'shift'),
    [
        ('msp', 0.0),
        ('margin', 0.0),
        ('entropy', 0.0),
        ('energy', -3.0),
        ('max_logit', -3.0),
        ('sml', -3.0),
    ],
)
def test_a_constant_on_all_logits(name: str, shift: float) -> None:
    output = random_output()
    measure = built(name, 19)
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
        outlier = torch.tensor([void, -void], dtype=kind).view(1, 2, 1, 1).expand(1, 2, 1, 3)
        output = ModelOutput(
            logits,
            void_logit=torch.full((1, 1, 1, 3), void, dtype=kind),
            ood_logits=outlier,
            features={'last': logits},
        )
        result = built(name, 3)(output)
        assert bool(result.isfinite().all())
        assert result.dtype == torch.float32


@pytest.mark.parametrize('name', SCORES)
def test_autocast_changes_nothing(name: str) -> None:
    output = random_output(2, size=(20, 30))
    measure = built(name, 19)
    with torch.autocast('cpu', torch.bfloat16):
        cast = measure(output)
    assert torch.equal(cast, measure(output))


def test_msp_entropy_and_margin_agree_in_rank_for_two_classes() -> None:
    logits = torch.randn(1, 2, 1, 500, generator=torch.Generator().manual_seed(0))
    order = [built(name, 2)(ModelOutput(logits)).flatten().argsort() for name in ('msp', 'margin')]
    entropy = built('entropy', 2)(ModelOutput(logits)).flatten()
    assert torch.equal(order[0], order[1])
    assert bool((entropy[order[0]].diff() > -1e-6).all())


def test_energy_becomes_max_logit_as_the_temperature_falls() -> None:
    output = random_output(3)
    cold = build_score('energy', 'made', ALL, 1e-3)(output)
    assert torch.allclose(cold, built('max_logit', 19)(output), atol=0.01)


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
    known = ', '.join(sorted(EVERY))
    with pytest.raises(ValueError, match=f"unknown score 'msx'; choose one of: {known}"):
        build_score('msx', 'erfnet', ALL)


@pytest.mark.parametrize(
    ('name', 'options', 'text'),
    [
        ('nflow_js', {'temperature': 0.0}, 'temperature is 0.0; nflow_js needs one above 0'),
        ('nflow_js', {'temperature': -1.0}, 'temperature is -1.0'),
        ('mask2anomaly', {'confidence': 7.0}, 'confidence is 7.0; it must lie in 0..1'),
    ],
)
def test_an_option_out_of_its_range(name: str, options: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        build_score(name, 'made', score_class(name).needs, options=options)


def test_void_needs_a_network_with_a_void_channel() -> None:
    with pytest.raises(ValueError, match="score 'void' needs logits, void_logit; model 'erfnet'"):
        build_score('void', 'erfnet', {'logits', 'features.last'})
    with pytest.raises(ValueError, match='void_logit is needed, which this network does not give'):
        build_score('void', 'erfnet', ALL)(ModelOutput(torch.zeros(1, 2, 1, 1)))
