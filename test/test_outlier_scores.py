"""The scores that go with outlier exposure, by hand and by what must hold for any logits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models import build_model
from anomaly_seg_ros.models.forward import forward_padded
from anomaly_seg_ros.scores import build_score
from anomaly_seg_ros.scores.dense_hybrid import DenseHybrid
from anomaly_seg_ros.scores.dense_hybrid_odds import DenseHybridOdds
from anomaly_seg_ros.scores.energy import Energy
from anomaly_seg_ros.scores.msp import MSP
from anomaly_seg_ros.scores.nflow_js import NFlowJS
from anomaly_seg_ros.scores.ood_posterior import OODPosterior

LN2, LN3 = math.log(2), math.log(3)


def pixels(logits: list[list[float]], head: list[list[float]] | None = None) -> ModelOutput:
    """One row of pixels, each given by its class logits and its two outlier logits."""
    pairs = head or [[0.0, 0.0]] * len(logits)
    return ModelOutput(
        torch.tensor(logits).T[None, :, None, :],
        ood_logits=torch.tensor(pairs).T[None, :, None, :],
    )


def random_output(seed: int = 0, classes: int = 19) -> ModelOutput:
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(2, classes, 6, 7, generator=generator)
    return ModelOutput(logits, ood_logits=5 * torch.randn(2, 2, 6, 7, generator=generator))


def same_order(a: Any, b: Any) -> bool:
    return bool(torch.equal(a.flatten().argsort(), b.flatten().argsort()))


# DenseHybrid


@pytest.mark.parametrize(
    ('logits', 'head', 'expected'),
    [
        # P(outlier) = 3/4, sum of exponentials 2 + 1 + 1.
        ([LN2, 0.0, 0.0], [0.0, LN3], math.log(3 / 4) - math.log(4)),
        # Channel 1 is the outlier: swapped, P(outlier) = 1/4.
        ([LN2, 0.0, 0.0], [LN3, 0.0], math.log(1 / 4) - math.log(4)),
        # A constant on both outlier logits changes nothing.
        ([LN2, 0.0, 0.0], [5.0, 5.0 + LN3], math.log(3 / 4) - math.log(4)),
        # A constant on the class logits is taken off: they are a density, not a posterior.
        ([LN2 + 3, 3.0, 3.0], [0.0, LN3], math.log(3 / 4) - math.log(4) - 3),
        # A certain inlier: a probability of exp(-200) is 0 in float32, its logarithm is not.
        ([100.0, 0.0], [100.0, -100.0], -300.0),
        # A certain outlier on flat logits.
        ([0.0, 0.0], [-100.0, 100.0], -LN2),
    ],
)
def test_dense_hybrid_by_hand(logits: list[float], head: list[float], expected: float) -> None:
    score = DenseHybrid()(pixels([logits], [head]))
    assert score.item() == pytest.approx(expected, abs=1e-5)


def test_dense_hybrid_is_the_log_ratio_of_the_papers_two_terms() -> None:
    output = random_output()
    ood = output.ood_logits.double().softmax(1)[:, 1].log()
    likelihood = output.logits.double().logsumexp(1)
    found = DenseHybrid()(output).double()
    assert torch.allclose(found, ood - likelihood, atol=1e-5)


def test_dense_hybrid_with_a_constant_head_ranks_like_energy() -> None:
    output = random_output()._replace(ood_logits=torch.ones(2, 2, 6, 7) * 3)
    found, energy = DenseHybrid()(output), Energy()(output)
    assert same_order(found, energy)
    assert torch.allclose(found, energy - LN2, atol=1e-5)


def test_dense_hybrid_with_constant_logits_ranks_like_the_posterior() -> None:
    output = random_output()._replace(logits=torch.zeros(2, 19, 6, 7))
    found, posterior = DenseHybrid()(output), OODPosterior()(output)
    assert torch.allclose((found + math.log(19)).exp(), posterior, atol=1e-6)


# The posterior alone


@pytest.mark.parametrize(
    ('head', 'expected'), [([0.0, LN3], 0.75), ([LN3, 0.0], 0.25), ([7.0, 7.0], 0.5)]
)
def test_posterior_by_hand(head: list[float], expected: float) -> None:
    assert OODPosterior()(pixels([[9.0, 1.0]], [head])).item() == pytest.approx(expected)


def test_posterior_is_the_softmax_of_the_head() -> None:
    output = random_output()
    softmax = output.ood_logits.softmax(1)[:, 1]
    assert torch.allclose(OODPosterior()(output), softmax, atol=1e-6)


# Jensen and Shannon


def divergence(p: list[float]) -> float:
    """JSD of p to uniform from its definition, 0 ln 0 = 0."""
    k = len(p)
    mixed = [(x + 1 / k) / 2 for x in p]
    to_p = sum(x * math.log(x / m) for x, m in zip(p, mixed, strict=True) if x)
    to_uniform = sum(math.log(1 / k / m) for m in mixed) / k
    return (to_p + to_uniform) / 2


@pytest.mark.parametrize(
    'p', [[0.25] * 4, [0.5, 0.25, 0.25], [0.9, 0.1], [0.7, 0.1, 0.1, 0.1], [1.0 - 1e-9, 1e-9]]
)
def test_nflow_js_by_hand(p: list[float]) -> None:
    # Twice the logarithm, since the softmax is taken at temperature 2.
    logits = [2 * math.log(x) for x in p]
    assert NFlowJS()(pixels([logits])).item() == pytest.approx(-divergence(p), abs=1e-6)


def test_nflow_js_of_two_classes_in_numbers() -> None:
    # p = (1, 0) and U = (1/2, 1/2): m = (3/4, 1/4), KL(p|m) = ln 4/3,
    # KL(U|m) = (ln 2/3 + ln 2) / 2; their mean is 0.2157616.
    assert NFlowJS()(pixels([[400.0, -400.0]])).item() == pytest.approx(-0.2157616, abs=1e-6)


def test_nflow_js_uses_its_own_temperature_of_two() -> None:
    output = random_output()
    halved = output._replace(logits=output.logits / 2)
    assert torch.allclose(NFlowJS()(output), NFlowJS(temperature=1)(halved), atol=1e-6)
    built = build_score('nflow_js', 'made', {'logits'}, temperature=5.0)
    assert torch.equal(built(output), NFlowJS()(output))


def test_nflow_js_against_logaddexp() -> None:
    output = random_output()
    log_p = (output.logits.double() / 2).log_softmax(1)
    log_u = torch.full_like(log_p, -math.log(19))
    log_m = torch.logaddexp(log_p, log_u) - LN2
    jsd = ((log_p.exp() * (log_p - log_m)).sum(1) + (log_u.exp() * (log_u - log_m)).sum(1)) / 2
    found = NFlowJS()(output).double()
    assert torch.allclose(found, -jsd, atol=1e-6)
    assert found.min() > -LN2
    assert found.max() <= 0


def test_nflow_js_ranks_two_classes_like_msp() -> None:
    logits = [[gap, 0.0] for gap in (-6.0, 5.0, 0.5, 2.0, -0.1, -3.0)]
    assert same_order(NFlowJS()(pixels(logits)), MSP()(pixels(logits)))


def test_nflow_js_is_unchanged_by_a_constant_on_all_logits() -> None:
    output = random_output()
    moved = NFlowJS()(output._replace(logits=output.logits + 30))
    assert torch.allclose(moved, NFlowJS()(output), atol=1e-5)


def test_odds_go_on_where_the_probability_ends() -> None:
    heads = [[0.0, 30.0], [0.0, 60.0], [1.0, -1.0]]
    output = pixels([[2.0, 1.0]] * 3, heads)
    assert DenseHybridOdds()(output)[0, 0].tolist() == [28.0, 58.0, -4.0]
    saturated = DenseHybrid()(output)[0, 0]
    assert saturated[0] == saturated[1]


# All of them

EACH = pytest.mark.parametrize(
    'name', ['dense_hybrid', 'dense_hybrid_odds', 'ood_posterior', 'nflow_js']
)
ALL = frozenset({'logits', 'ood_logits'})


@pytest.mark.parametrize('name', ['dense_hybrid', 'nflow_js'])
def test_flat_logits_score_higher_than_peaked_ones(name: str) -> None:
    peaks = [[peak, 0.0, 0.0, 0.0] for peak in (0.0, 1.0, 2.0, 5.0, 10.0)]
    values = build_score(name, 'made', ALL)(pixels(peaks))[0, 0]
    assert bool((values.diff() < 0).all())


@EACH
@pytest.mark.parametrize('kind', [torch.float16, torch.bfloat16, torch.float32])
def test_extreme_logits_stay_finite(name: str, kind: Any) -> None:
    corners = [[1e4, -1e4, 0.0], [1e4, 1e4, 1e4], [-1e4, -1e4, -1e4], [-1e4, 1e4, 1e4]]
    for head in ([1e4, -1e4], [-1e4, 1e4], [1e4, 1e4]):
        output = pixels(corners, [head] * 4)
        half = ModelOutput(output.logits.to(kind), ood_logits=output.ood_logits.to(kind))
        score = build_score(name, 'made', ALL)(half)
        assert bool(score.isfinite().all())
        assert score.dtype == torch.float32


@EACH
def test_autocast_changes_nothing(name: str) -> None:
    output, score = random_output(), build_score(name, 'made', ALL)
    with torch.autocast('cpu', torch.bfloat16):
        found = score(output)
    assert torch.equal(found, score(output))


@pytest.mark.parametrize('name', ['dense_hybrid', 'dense_hybrid_odds', 'ood_posterior'])
def test_a_network_without_outlier_head_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"score '{name}' needs .*ood_logits; model 'enet' gives"):
        build_score(name, 'enet', {'logits', 'features.last'})
    with pytest.raises(ValueError, match='ood_logits is needed, which this network does not give'):
        build_score(name, 'made', ALL)(ModelOutput(torch.zeros(1, 2, 1, 1)))


# Exported


class Scored(torch.nn.Module):
    """A network on sides that need padding, its labels, and all three scores."""

    def __init__(self, name: str):
        super().__init__()
        torch.manual_seed(7)
        self.model = build_model(name, 5, {'outlier_head': True}, preset='tiny').eval()
        for key, value in self.model.state_dict().items():
            if key.endswith(('running_mean', 'bias')):
                value.normal_(std=0.3)
        self.scores = torch.nn.ModuleList([DenseHybrid(), OODPosterior(), NFlowJS()])

    def forward(self, images: Any) -> tuple[Any, ...]:
        output = forward_padded(self.model, images)
        return output.logits.argmax(1), *(score(output) for score in self.scores)


@pytest.mark.parametrize('name', ['deeplabv3plus', 'ldn121'])
def test_openvino_gives_what_torch_gives(name: str) -> None:
    import openvino

    from anomaly_seg_ros.engines.openvino_engine import load_cpu

    module, images = Scored(name).eval(), torch.randn(1, 3, 60, 90)
    with torch.inference_mode():
        program = torch.export.export(module, (images,))
        expected = [value.numpy() for value in module(images)]
    graph = openvino.convert_model(program)
    compiled = load_cpu().compile_model(graph, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    labels, *scores = compiled(images.numpy()).values()
    assert len(np.unique(expected[0])) > 1
    assert (labels == expected[0]).mean() >= 0.9999
    for found, score in zip(scores, expected[1:], strict=True):
        assert np.ptp(score) > 0
        assert np.abs(found - score).max() < 1e-4 * max(1, np.ptp(score))
