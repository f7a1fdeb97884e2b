"""The losses, by hand on a few pixels, and the mistakes that others' code has made with them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from training.losses import build_loss, LOSSES
from training.losses.cross_entropy import cross_entropy, ohem_cross_entropy
from training.losses.focal import focal
from training.losses.isomax import isomax
from training.losses.jaccard import jaccard
from training.losses.logit_norm import logit_norm

LN2, LN3 = math.log(2), math.log(3)
WEIGHTED = ['cross_entropy', 'focal', 'isomax', 'logit_norm', 'ohem']


def logits_with_probability(*true_class_probabilities: float) -> tuple[Any, Any]:
    """Two-class logits (1, 2, 1, W) whose class 0 has the given probabilities; labels are 0."""
    p = torch.tensor(true_class_probabilities)
    logits = torch.stack([p.log(), (1 - p).log()])[None, :, None, :]
    return logits.requires_grad_(), torch.zeros(1, 1, len(p), dtype=torch.long)


def pixels(*logits: list[float]) -> Any:
    """Logits (1, K, 1, W) of pixels that are given as lists."""
    return torch.tensor(logits).T[None, :, None, :]


def labels(*values: int) -> Any:
    return torch.tensor(values)[None, None, :]


def random_batch(seed: int = 0, classes: int = 5) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, classes, 6, 7, generator=generator)
    truth = torch.randint(0, classes, (2, 6, 7), generator=generator)
    truth[torch.rand(2, 6, 7, generator=generator) < 0.3] = 255
    return logits, truth


# What must hold for all


@pytest.mark.parametrize('name', LOSSES)
def test_no_valid_pixel_gives_zero_and_no_gradient(name: str) -> None:
    logits, _ = logits_with_probability(0.5, 0.25)
    value = build_loss({name: 1.0})(logits, labels(255, 255))
    value.backward()
    assert value.item() == 0
    assert torch.count_nonzero(logits.grad) == 0


@pytest.mark.parametrize('name', LOSSES)
def test_ignored_pixels_change_nothing_and_get_no_gradient(name: str) -> None:
    logits, truth = random_batch()
    logits.requires_grad_()
    loss = build_loss({name: 1.0})
    value = loss(logits, truth)
    value.backward()
    ignored = (truth == 255)[:, None].expand_as(logits)
    assert torch.count_nonzero(logits.grad[ignored]) == 0
    assert torch.count_nonzero(logits.grad[~ignored]) > 0
    other = torch.where(ignored, 50 * torch.randn(logits.shape), logits.detach())
    assert loss(other, truth).item() == pytest.approx(value.item(), rel=1e-6)


@pytest.mark.parametrize('name', LOSSES)
def test_autocast_changes_nothing(name: str) -> None:
    logits, truth = random_batch(1)
    weights = {'class_weights': torch.rand(5) + 0.5} if name in WEIGHTED else {}
    loss = build_loss({name: 1.0}, **weights)
    plain = loss(logits.bfloat16().float(), truth)
    with torch.autocast('cpu', torch.bfloat16):
        cast = loss(logits.bfloat16(), truth)
    assert cast.dtype == torch.float32
    assert cast.item() == plain.item()


@pytest.mark.parametrize('name', LOSSES)
def test_extreme_logits_in_half_precision_stay_finite(name: str) -> None:
    # Not zeros: there the published slope of LogitNorm, 1 / (tau 1e-7), exceeds half precision.
    logits = pixels([6e4, -6e4], [6e4, -6e4], [1.0, 1.0]).half().requires_grad_()
    value = build_loss({name: 1.0})(logits, labels(0, 1, 1))
    value.backward()
    assert math.isfinite(value.item())
    assert bool(logits.grad.isfinite().all())


@pytest.mark.parametrize('name', LOSSES)
def test_a_step_along_the_gradient_lowers_the_loss(name: str) -> None:
    logits, truth = random_batch(2)
    logits.requires_grad_()
    loss = build_loss({name: 1.0})
    before = loss(logits, truth)
    before.backward()
    assert loss(logits - 0.1 * logits.grad / logits.grad.norm(), truth) < before


@pytest.mark.parametrize(
    'loss',
    [
        logit_norm,
        partial(logit_norm, inner='focal'),
        isomax,
        partial(isomax, inner='focal'),
        jaccard,
        focal,
        partial(focal, gamma=0.5),
    ],
)
def test_gradients_against_differences(loss: Callable[..., Any]) -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(1, 4, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    truth = torch.tensor([[[0, 3, 255], [1, 1, 0]]])
    assert torch.autograd.gradcheck(lambda x: loss(x, truth), (logits,))


# Cross-entropy and the hardest pixels


def test_cross_entropy_is_the_mean_over_valid_pixels() -> None:
    logits, truth = logits_with_probability(0.5, 0.25, 0.9)
    truth[0, 0, 2] = 255
    expected = -(math.log(0.5) + math.log(0.25)) / 2
    assert cross_entropy(logits, truth).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ('name', 'at_half', 'at_three_quarters'),
    [
        ('cross_entropy', LN2, -math.log(0.75)),
        ('focal', LN2 / 4, -math.log(0.75) / 16),
    ],
)
def test_class_weights_divide_by_the_sum_of_the_weights(
    name: str, at_half: float, at_three_quarters: float
) -> None:
    logits = torch.log(pixels([0.5, 0.5], [0.25, 0.75], [0.9, 0.1]))
    loss = build_loss({name: 1.0}, class_weights=torch.tensor([3.0, 1.0]))
    expected = (3 * at_half + at_three_quarters) / 4
    assert loss(logits, labels(0, 1, 255)).item() == pytest.approx(expected, abs=1e-6)


def test_ohem_keeps_pixels_below_the_threshold_only() -> None:
    logits, truth = logits_with_probability(0.9, 0.8, 0.6, 0.2)
    expected = -(math.log(0.6) + math.log(0.2)) / 2
    loss = ohem_cross_entropy(logits, truth, threshold=0.7, keep=1 / 16)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_ohem_keeps_the_hardest_share_when_all_are_easy() -> None:
    logits, truth = logits_with_probability(0.99, 0.95, 0.9, 0.8)
    truth[0, 0, 3] = 255
    # Three valid pixels, keep = 0.7: the two hardest, and never the ignored one.
    expected = -(math.log(0.9) + math.log(0.95)) / 2
    loss = ohem_cross_entropy(logits, truth, threshold=0.7, keep=0.7)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_the_least_number_that_ohem_keeps_is_rounded_down() -> None:
    # 47 valid pixels, a sixteenth is 2.9: the original takes 47 // 16 = 2.
    p = [0.99] * 44 + [0.95, 0.9, 0.8] + [0.1]
    logits, truth = logits_with_probability(*p)
    truth[0, 0, 47] = 255
    loss = ohem_cross_entropy(logits, truth)
    assert loss.item() == pytest.approx(-(math.log(0.8) + math.log(0.9)) / 2, abs=1e-6)
    # Fewer than 16, none of them hard: nothing to learn, where the original gives NaN.
    logits, truth = logits_with_probability(*[0.9] * 15)
    loss = ohem_cross_entropy(logits, truth)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_easy_pixels_get_no_gradient_from_ohem() -> None:
    logits, truth = logits_with_probability(0.9, 0.2)
    ohem_cross_entropy(logits, truth).backward()
    assert torch.count_nonzero(logits.grad[..., 0]) == 0
    assert torch.count_nonzero(logits.grad[..., 1]) > 0


# Focal


def test_focal_by_hand() -> None:
    logits, truth = logits_with_probability(0.5, 0.75, 0.1)
    truth[0, 0, 2] = 255
    # (1 - p)^2 is 1/4 and 1/16.
    expected = (LN2 / 4 - math.log(0.75) / 16) / 2
    assert focal(logits, truth).item() == pytest.approx(expected, abs=1e-6)


def test_focal_without_gamma_is_cross_entropy_and_the_default_is_not() -> None:
    """Two published runs called focal had gamma 0."""
    logits, truth = random_batch(3)
    plain = cross_entropy(logits, truth).item()
    assert focal(logits, truth, gamma=0.0).item() == pytest.approx(plain, rel=1e-6)
    assert focal(logits, truth).item() == focal(logits, truth, gamma=2.0).item()
    assert build_loss({'focal': 1.0})(logits, truth).item() < 0.95 * plain


@pytest.mark.parametrize('gamma', [0.0, 0.5, 1.0])
def test_focal_has_a_finite_slope_at_certainty(gamma: float) -> None:
    logits = pixels([500.0, 0.0]).requires_grad_()
    focal(logits, labels(0), gamma=gamma).backward()
    assert bool(logits.grad.isfinite().all())


# Jaccard


def test_jaccard_by_hand() -> None:
    # p of class 0: 3/4, 1/2, 1/4; class 2 never occurs and is left out.
    p = pixels([0.75, 0.25, 0.0], [0.5, 0.25, 0.25], [0.25, 0.75, 0.0])
    logits = p.clamp(min=1e-30).log()
    zero = (0.75 + 0.5 + 1) / (1.5 + 2 - 1.25 + 1)
    one = (0.75 + 1) / (1.25 + 1 - 0.75 + 1)
    expected = 1 - (zero + one) / 2
    assert jaccard(logits, labels(0, 0, 1)).item() == pytest.approx(expected, abs=1e-6)


def test_jaccard_ignores_what_ignored_pixels_say() -> None:
    # With class 1 only on the ignored pixel, class 0 alone counts: (1/2 + 1) / (1/2 + 1/2 + 1).
    logits = torch.log(pixels([0.5, 0.5], [0.1, 0.9]))
    assert jaccard(logits, labels(0, 255)).item() == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize('eps', [1.0, 1e-6])
def test_jaccard_is_zero_for_a_perfect_prediction(eps: float) -> None:
    truth = random_batch(5)[1]
    one_hot = torch.nn.functional.one_hot(truth.where(truth != 255, 0), 5).permute(0, 3, 1, 2)
    assert jaccard(100.0 * one_hot, truth, eps=eps).item() == pytest.approx(0, abs=1e-6)


def test_jaccard_pools_the_batch_before_it_divides() -> None:
    """The mean of the frames' own losses is another number."""
    logits, truth = random_batch(6)
    parts = [jaccard(logits[i : i + 1], truth[i : i + 1]).item() for i in range(2)]
    whole = jaccard(logits, truth).item()
    joined = jaccard(torch.cat(list(logits), 2)[None], torch.cat(list(truth), 1)[None]).item()
    assert whole == pytest.approx(joined, rel=1e-6)
    assert abs(whole - sum(parts) / 2) > 1e-3


# LogitNorm


def test_logit_norm_by_hand() -> None:
    # |(3, 4)| = 5; with tau 0.1 the logits are 6 and 8, with a second pixel (0, 2): 0 and 10.
    logits = pixels([3.0, 4.0], [0.0, 2.0], [7.0, 7.0])
    expected = (math.log1p(math.exp(2)) + math.log1p(math.exp(-10))) / 2
    value = logit_norm(logits, labels(0, 1, 255), tau=0.1).item()
    assert value == pytest.approx(expected, rel=1e-5)


def test_logit_norm_does_not_see_the_length_of_the_logits() -> None:
    """Norming along the width instead fails both: it sees each pixel's length, in its row."""
    logits, truth = random_batch(7)
    value = logit_norm(logits, truth).item()
    assert logit_norm(10 * logits, truth).item() == pytest.approx(value, rel=1e-5)
    lengths = torch.rand(2, 1, 6, 7, generator=torch.Generator().manual_seed(0)) + 0.5
    assert logit_norm(lengths * logits, truth).item() == pytest.approx(value, rel=1e-5)


def test_logit_norm_leaves_the_loss_room_to_move() -> None:
    """With tau 1 the divided logits are within 1, and the loss hardly leaves ln 20."""
    right, wrong = torch.zeros(1, 20, 1, 1), torch.zeros(1, 20, 1, 1)
    right[0, 3], wrong[0, 4] = 5, 5
    values = [logit_norm(logits, labels(3)).item() for logits in (right, wrong)]
    assert values == pytest.approx([19 * math.exp(-25), 25.0], abs=1e-5)
    stuck = [logit_norm(logits, labels(3), tau=1.0).item() for logits in (right, wrong)]
    assert all(abs(value - math.log(20)) < 1 for value in stuck)


def test_logit_norm_takes_either_inner_loss() -> None:
    logits, truth = random_batch(8)
    divided = logits / (0.04 * logits.square().sum(1, keepdim=True).sqrt())
    for inner, plain in (('cross_entropy', cross_entropy), ('focal', focal)):
        value = logit_norm(logits, truth, inner=inner).item()
        assert value == pytest.approx(plain(divided, truth).item(), rel=1e-5)


# IsoMax+


def test_isomax_by_hand() -> None:
    # Distances 0.1 and 0.3, times ten: -1 and -3.
    logits = pixels([-0.1, -0.3], [-2.0, -1.0])
    value = isomax(logits, labels(0, 255)).item()
    assert value == pytest.approx(math.log1p(math.exp(-2)), rel=1e-5)


def test_isomax_has_its_entropic_scale() -> None:
    """A published run forgot it: distances lie within 2, so a right pixel still had a loss."""
    best = pixels([0.0, -2.0, -2.0])
    assert isomax(best, labels(0)).item() == pytest.approx(2 * math.exp(-20), abs=1e-7)
    forgotten = cross_entropy(best, labels(0)).item()
    assert forgotten == pytest.approx(math.log1p(2 * math.exp(-2)), rel=1e-5)
    logits, truth = random_batch(9)
    for inner, plain in (('cross_entropy', cross_entropy), ('focal', focal)):
        value = isomax(logits, truth, inner=inner).item()
        assert value == pytest.approx(plain(10 * logits, truth).item(), rel=1e-6)


# Sums by config


def test_a_sum_is_the_sum_of_its_weighted_terms() -> None:
    logits, truth = random_batch(10)
    loss = build_loss({'focal': 0.5, 'jaccard': 2.0}, {'focal': {'gamma': 1.0}})
    expected = 0.5 * focal(logits, truth, gamma=1.0) + 2 * jaccard(logits, truth)
    assert loss(logits, truth).item() == pytest.approx(expected.item(), rel=1e-6)


def test_class_weights_reach_the_terms_that_take_them() -> None:
    logits, truth = random_batch(11)
    weights = torch.tensor([1.0, 2.0, 0.5, 4.0, 1.0])
    loss = build_loss({'cross_entropy': 1.0, 'jaccard': 1.0}, {}, weights)
    expected = cross_entropy(logits, truth, weights) + jaccard(logits, truth)
    assert loss(logits, truth).item() == pytest.approx(expected.item(), rel=1e-6)
    for name in WEIGHTED:
        values = [build_loss({name: 1.0}, {}, w)(logits, truth) for w in (None, weights)]
        assert values[0].item() != pytest.approx(values[1].item(), rel=1e-3)


@pytest.mark.parametrize(
    ('terms', 'options', 'what'),
    [
        ({'x': 1}, {}, r"unknown loss 'x'; choose one of: cross_entropy, focal, isomax, jaccard"),
        ({}, {}, 'no loss is given; choose of: cross_entropy'),
        ({'focal': 0}, {}, "weight 0 of loss 'focal' must be above 0"),
        ({'focal': 1}, {'focal': {'alpha': 1}}, r"unknown options \['alpha'\] of loss 'focal'; it "
         'takes: gamma'),
        ({'cross_entropy': 1}, {'cross_entropy': {'gamma': 1}}, 'it takes: none'),
        ({'focal': 1}, {'ohem': {'keep': 1}}, r"loss_options of \['ohem'\] without that loss"),
        ({'focal': 1}, {'focal': {'gamma': 'two'}}, "loss 'focal' does not take options"),
        ({'focal': 1}, {'focal': {'gamma': -1}}, 'gamma -1 of the focal loss'),
        ({'jaccard': 1}, {'jaccard': {'eps': 0}}, 'eps 0 of the jaccard loss'),
        ({'logit_norm': 1}, {'logit_norm': {'tau': 0}}, 'tau 0 of the logit_norm loss'),
        ({'logit_norm': 1}, {'logit_norm': {'inner': 'dice'}}, "unknown inner loss 'dice'"),
        ({'isomax': 1}, {'isomax': {'scale': 0}}, 'scale 0 of the isomax loss'),
        ({'ohem': 1}, {'ohem': {'threshold': 0}}, 'threshold 0 and keep'),
    ],
)  # fmt: skip
def test_a_wrong_configuration_is_named_at_once(
    terms: dict[str, float], options: dict[str, Any], what: str
) -> None:
    with pytest.raises(ValueError, match=what):
        build_loss(terms, options)


def test_class_weights_that_no_loss_takes_are_an_error() -> None:
    with pytest.raises(ValueError, match='class_weights are given, but jaccard does not take'):
        build_loss({'jaccard': 1.0}, {}, torch.ones(5))


# Class weights


def test_weights_of_the_made_frames(camvid_root: Path) -> None:
    """The made frames are half sky (0), a quarter road (3), a quarter unlabelled."""
    from training.datasets import build_dataset
    from training.losses.class_weights import class_weights

    dataset = build_dataset('camvid', camvid_root, 'train')
    enet = class_weights('enet', dataset)
    assert enet.shape == (11,)
    assert enet[0].item() == pytest.approx(1 / math.log(1.02 + 2 / 3), rel=1e-5)
    assert enet[3].item() == pytest.approx(1 / math.log(1.02 + 1 / 3), rel=1e-5)
    assert enet[8].item() == pytest.approx(1 / math.log(1.02), rel=1e-5)
    with_void = class_weights('enet', dataset, void=True)
    shares = {0: 1 / 2, 3: 1 / 4, 8: 0.0, 11: 1 / 4}
    for index, share in shares.items():
        assert with_void[index].item() == pytest.approx(1 / math.log(1.02 + share), rel=1e-5)
    balanced = class_weights('median_frequency', dataset)
    # The median of 2/3 and 1/3 is 1/2.
    assert balanced.tolist() == pytest.approx([0.75, 0, 0, 1.5] + [0] * 7)
    assert class_weights('none', dataset) is None


def test_median_frequency_counts_the_frames_that_have_the_class() -> None:
    from training.losses.class_weights import median_frequency_weights

    # Class 1 is in the second frame only: 5 of its 10 pixels. Class 0: 15 of 20. Class 2: 5 of 20.
    weights = median_frequency_weights(np.array([[10, 0, 0, 0], [5, 5, 0, 0], [0, 0, 5, 0]]))
    # Shares 15/20, 5/10 and 5/5; the median is 3/4.
    assert weights.tolist() == pytest.approx([1.0, 1.5, 0.75, 0.0])


def test_given_weights_are_checked(camvid_root: Path) -> None:
    from training.datasets import build_dataset
    from training.losses.class_weights import class_weights

    dataset = build_dataset('camvid', camvid_root, 'train')
    assert class_weights([1.0] * 10 + [2], dataset).tolist() == [1.0] * 10 + [2.0]
    assert class_weights([1.0] * 12, dataset, void=True).shape == (12,)
    for weights, what in (
        ([1.0] * 12, '12 class_weights for 11 classes'),
        ([-1.0] + [1.0] * 10, 'must be 0 or more'),
        ([math.nan] * 11, 'must be 0 or more'),
        ([0.0] * 11, 'not all 0'),
        ('mfb', "unknown class_weights 'mfb'; choose one of: none, enet, median_frequency"),
    ):
        with pytest.raises(ValueError, match=what):
            class_weights(weights, dataset)


def test_hard_pixels_weigh_as_their_classes() -> None:
    """Two pixels of ln 2 each: whatever the weights, their weighted mean is that."""
    weights = torch.tensor([1.0, 3.0])
    loss = ohem_cross_entropy(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]), weights)
    assert loss.item() == pytest.approx(math.log(2))
