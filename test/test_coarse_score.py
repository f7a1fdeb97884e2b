"""Scores of every n-th pixel: by hand, and what holds for all that take the option `step`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from anomaly_seg_ros.model_output import Extent, ModelOutput
from anomaly_seg_ros.scores import build_score, check_options, score_class, SCORES, STEPS
from anomaly_seg_ros.scores.parts.coarse import CoarseScore
from anomaly_seg_ros.scores.parts.feature_grid import to_pixels
from anomaly_seg_ros.scores.score import AnomalyScore

PROVIDED = ('logits', 'ood_logits')


COARSE = [name for name in sorted(SCORES) if score_class(name).coarse]


class FirstLogit(AnomalyScore):
    """The first channel, to see which pixels are read."""

    needs = frozenset({'logits'})

    def forward(self, output: ModelOutput) -> Any:
        return output.logits[:, 0]


def network_output(height: int = 21, width: int = 34) -> ModelOutput:
    generator = torch.Generator().manual_seed(3)
    return ModelOutput(
        4 * torch.randn(2, 5, height, width, generator=generator),
        ood_logits=4 * torch.randn(2, 2, height, width, generator=generator),
    )


def test_between_two_values_lies_their_mean_and_behind_the_last_itself() -> None:
    logits = torch.tensor([[0.0, 99, 4, 99], [99, 99, 99, 99], [8, 99, 16, 99]])[None, None]
    expected = [[0.0, 2, 4, 4], [4, 7, 10, 10], [8, 12, 16, 16]]
    assert CoarseScore(FirstLogit(), 2)(ModelOutput(logits)).tolist() == [expected]


@pytest.mark.parametrize('step', STEPS[1:])
@pytest.mark.parametrize('name', COARSE)
def test_values_at_every_nth_pixel_are_those_of_the_whole_score(name: str, step: int) -> None:
    output = network_output()
    whole = build_score(name, 'made', PROVIDED)(output)
    coarse = build_score(name, 'made', PROVIDED, options={'step': step})(output)
    assert coarse.shape == whole.shape
    torch.testing.assert_close(coarse[:, ::step, ::step], whole[:, ::step, ::step])
    assert coarse.amin() >= whole[:, ::step, ::step].amin() - 1e-5
    assert coarse.amax() <= whole[:, ::step, ::step].amax() + 1e-5


def test_a_step_of_one_is_the_score_itself() -> None:
    output = network_output()
    whole = build_score('energy', 'made', PROVIDED)(output)
    assert torch.equal(build_score('energy', 'made', PROVIDED, options={'step': 1})(output), whole)


def test_a_single_pixel_is_enlarged_to_a_plain() -> None:
    score = build_score('energy', 'made', PROVIDED, options={'step': 8})
    values = score(network_output(3, 5))
    assert values.shape == (2, 3, 5)
    assert (values == values[:, :1, :1]).all()


@pytest.mark.parametrize('stride', [1, 2, 3, 16, 33])
@pytest.mark.parametrize('cells', [(1, 1), (1, 4), (3, 2)])
def test_cells_are_enlarged_as_torch_does_it(cells: tuple[int, int], stride: int) -> None:
    values = torch.randn(2, *cells, generator=torch.Generator().manual_seed(0))
    whole = (cells[0] * stride, cells[1] * stride)
    expected = functional.interpolate(values[:, None], whole, mode='bilinear')[:, 0]
    torch.testing.assert_close(
        to_pixels(values, stride, Extent(whole, whole), 'bilinear'), expected
    )
    image = (whole[0] - stride // 2, max(1, whole[1] - 3))
    cut = to_pixels(values, stride, Extent(image, whole), 'bilinear')
    torch.testing.assert_close(cut, expected[:, : image[0], : image[1]])


def test_what_a_score_needs_is_asked_of_the_network_in_its_coarse_form_too() -> None:
    with pytest.raises(ValueError, match="'dense_hybrid' needs logits, ood_logits"):
        build_score('dense_hybrid', 'made', ('logits',), options={'step': 4})


@pytest.mark.parametrize('name', [name for name in sorted(SCORES) if not score_class(name).coarse])
def test_cheap_scores_take_no_step(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown option 'step' of score '{name}'"):
        check_options(name, {'step': 2})


@pytest.mark.parametrize(
    ('step', 'what'), [(3, r'is 3; it must be one of \(1, 2'), (0, 'is 0'), (True, 'is True')]
)
def test_other_steps_are_refused(step: int, what: str) -> None:
    with pytest.raises(ValueError, match=f"'step' of score 'msp' {what}"):
        check_options('msp', {'step': step})
