"""The scores with statistics: Mahalanobis distance and standardised maximum logits, by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.scores import build_score, check_options, score_class, SCORES
from anomaly_seg_ros.scores.mahalanobis import Mahalanobis
from anomaly_seg_ros.scores.max_logit import MaxLogit
from anomaly_seg_ros.scores.parts import class_gaussians
from anomaly_seg_ros.scores.parts.boundaries import boundaries, dilated, suppress_boundaries
from anomaly_seg_ros.scores.parts.class_gaussians import ClassGaussians
from anomaly_seg_ros.scores.parts.max_logit_moments import deviation, MaxLogitMoments
from anomaly_seg_ros.scores.parts.smoothing import gaussian, smooth_dilated
from anomaly_seg_ros.scores.sml import SML


def frame(logits: Any) -> ModelOutput:
    """Output of one frame, (K, h, w) logits."""
    maps = torch.from_numpy(np.ascontiguousarray(logits))[None]
    return ModelOutput(maps, features={'last': maps})


def pixels(*logits: list[float]) -> Any:
    """Output (1, K, 1, W) of pixels that are given as lists of logits."""
    return ModelOutput(torch.tensor(logits).T[None, :, None, :])


def random_logits(seed: int = 0, classes: int = 5, size: tuple[int, int] = (9, 11)) -> Any:
    return 4 * torch.randn(2, classes, *size, generator=torch.Generator().manual_seed(seed))


def grid(*rows: str) -> Any:
    """A (1, 1, h, w) float map from rows of digits."""
    return torch.tensor([[float(digit) for digit in row] for row in rows])[None, None]


# Mahalanobis


def test_mahalanobis_by_hand() -> None:
    # Sigma = diag(4, 1): W = diag(1/2, 1). From (0, 0): (2/2)^2 + 3^2 = 10; from (4, 2): 1 + 1.
    score = Mahalanobis(torch.diag(torch.tensor([0.5, 1.0])), torch.tensor([[0.0, 0], [4, 2]]))
    assert score(pixels([2.0, 3.0], [4.0, 2.0], [0.0, 1.0])).flatten().tolist() == (
        pytest.approx([2.0, 0.0, 1.0], abs=1e-6)
    )


def test_mahalanobis_of_unit_covariance_and_mean_zero_is_the_squared_norm() -> None:
    logits = random_logits()
    score = Mahalanobis(torch.eye(5), torch.zeros(1, 5))
    assert torch.allclose(score(ModelOutput(logits)), logits.square().sum(1), rtol=1e-5)


def fitted_gaussians(seed: int = 0, classes: int = 4) -> tuple[ClassGaussians, Any, Any]:
    """Statistics of correlated logits far from 0, with those logits (K, n) and labels (n,)."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(classes, classes))
    labels = random.integers(0, classes, 600).astype(np.uint8)
    centres = 20 * random.normal(size=(classes, classes)) + 50
    logits = (centres[labels] + random.normal(size=(600, classes)) @ mixing.T).T
    labels[random.random(600) < 0.2] = 255
    fit = ClassGaussians(classes)
    for part in (slice(0, 100), slice(100, 600)):
        count = part.stop - part.start
        fit.update(
            frame(logits[:, part].reshape(classes, count // 10, 10).astype(np.float32)),
            labels[part].reshape(count // 10, 10),
        )
    return fit, logits.astype(np.float32).astype(np.float64), labels


def test_mahalanobis_is_what_the_formula_says() -> None:
    """Against the textbook: means of true classes, covariance over valid pixels, its inverse."""
    fit, logits, labels = fitted_gaussians()
    means = np.stack([logits[:, labels == c].mean(axis=1) for c in range(4)])
    valid = labels != 255
    centred = logits[:, valid] - means[labels[valid]].T
    covariance = centred @ centred.T / valid.sum()
    inverse = np.linalg.inv(covariance + 1e-6 * np.trace(covariance) / 4 * np.eye(4))
    gaps = logits[None] - means[:, :, None]
    expected = np.einsum('cin,ij,cjn->cn', gaps, inverse, gaps).min(axis=0)

    state = fit.compute()
    score = build_score('mahalanobis', 'made', {'logits'}, statistics=state)
    values = score(ModelOutput(torch.from_numpy(logits).float()[None, :, None]))
    assert values.flatten().numpy() == pytest.approx(expected, rel=2e-3, abs=2e-3)
    assert state['means'].numpy() == pytest.approx(means, rel=1e-6)
    # Pixels of the classes are a few units away, on average as many as there are logits.
    assert expected[valid].mean() == pytest.approx(4, rel=0.1)


def test_the_chunks_of_a_frame_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fitted_gaussians()[0].compute()
    monkeypatch.setattr(class_gaussians, 'CHUNK', 7)
    for name, value in fitted_gaussians()[0].compute().items():
        torch.testing.assert_close(value, whole[name])


def test_classes_without_pixels_are_no_place_to_be_near_to() -> None:
    fit = ClassGaussians(3)
    logits = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32) + 9
    fit.update(frame(logits), np.zeros((4, 5), np.uint8))
    state = fit.compute()
    assert state['means'].shape == (1, 3)
    score = Mahalanobis(**state)
    assert score(ModelOutput(torch.zeros(1, 3, 1, 1))).item() > 50


def test_logits_that_depend_on_each_other_have_a_finite_distance() -> None:
    """A network with fewer features than classes has a singular covariance."""
    random = np.random.default_rng(0)
    features = random.normal(size=(2, 40 * 50))
    logits = (random.normal(size=(6, 2)) @ features).reshape(6, 40, 50).astype(np.float32)
    fit = ClassGaussians(6)
    fit.update(frame(logits), random.integers(0, 3, (40, 50)).astype(np.uint8))
    score = Mahalanobis(**fit.compute())
    values = score(ModelOutput(torch.from_numpy(logits)[None]))
    assert bool(values.isfinite().all())
    assert values.mean().item() == pytest.approx(2, rel=0.1)


def test_gaussians_of_nothing_are_refused() -> None:
    fit = ClassGaussians(3)
    fit.update(frame(np.ones((3, 2, 2), np.float32)), np.full((2, 2), 255, np.uint8))
    with pytest.raises(ValueError, match="score 'mahalanobis' cannot be fitted"):
        fit.compute()


# Standardised maximum logits


def test_sml_by_hand() -> None:
    score = SML(
        torch.tensor([1.0, 5.0]),
        torch.tensor([2.0, 0.5]),
        boundary_suppression=False,
        dilated_smoothing=False,
    )
    # Class 0: -(4 - 1) / 2. Class 1: -(4 - 5) / 0.5, the same logit is odd for that class.
    assert score(pixels([4.0, 3.0], [3.0, 4.0])).flatten().tolist() == [-1.5, 2.0]


def test_sml_without_statistics_and_steps_is_max_logit() -> None:
    output = ModelOutput(random_logits())
    plain = SML(torch.zeros(5), torch.ones(5), False, False)
    assert torch.equal(plain(output), MaxLogit()(output))
    for options in ({'boundary_suppression': False}, {'dilated_smoothing': False}, {}):
        assert not torch.equal(
            SML(torch.zeros(5), torch.ones(5), **options)(output), plain(output)
        )


def test_the_boundary_of_two_classes_by_hand() -> None:
    labels = grid('0002222', '0002222', '0000222')
    # The cross sees the larger id one pixel away, the square the smaller one, diagonals too.
    assert (
        boundaries(labels).int().tolist() == grid('0011000', '0011100', '0001100').int().tolist()
    )


def test_a_mask_grows_by_a_diamond() -> None:
    point = grid('0000000', '0000000', '0000000', '0001000', '0000000', '0000000', '0000000')
    twice = grid('0000000', '0001000', '0011100', '0111110', '0011100', '0001000', '0000000')
    assert torch.equal(dilated(dilated(point)), twice)


def test_boundary_suppression_by_hand() -> None:
    """One pixel of class 1 at (3, 3) of a 7x7 map of class 0; the values are 10 y + x.

    Its cross-shaped dilation makes a plus of 1s; the erosion by a square makes all 0. So the
    boundary B is that plus, and B grown by r is the diamond of radius r + 1.
    """
    labels = grid('0000000', '0000000', '0000000', '0001000', '0000000', '0000000', '0000000')
    assert torch.equal(boundaries(labels), dilated(labels))
    rows, columns = np.mgrid[0:7, 0:7]
    values = (10.0 * rows + columns) ** 2
    distance = abs(rows - 3) + abs(columns - 3)
    expected = values
    for radius in (4, 3, 2, 1):
        padded = np.pad(expected, 1, mode='edge')
        outside = np.pad(distance > radius, 1, mode='edge')
        filled = expected.copy()
        for y, x in np.argwhere(distance <= radius):
            near = outside[y : y + 3, x : x + 3]
            if near.any():
                filled[y, x] = padded[y : y + 3, x : x + 3][near].mean()
        expected = filled
    # Worked on paper: the first fill of (0, 2), at distance 4, sees (0, 1) twice by the border,
    # and nothing else is outside of the diamond of radius 4: (1, 1) is at distance 4 too.
    first = suppress_boundaries(torch.from_numpy(values).float()[None, None], labels)
    assert first[0, 0].numpy() == pytest.approx(expected, rel=1e-5)
    assert first[0, 0, 0, 2].item() == pytest.approx(1.0)
    # Corners lie outside of every diamond and stay.
    for y, x in ((0, 0), (0, 6), (6, 0), (6, 6), (0, 1)):
        assert first[0, 0, y, x].item() == values[y, x]
    assert abs(first[0, 0, 3, 3].item() - values[3, 3]) > 1


def test_boundary_suppression_counts_the_border_twice() -> None:
    """Columns 7 and 8 are the boundary; grown by three it is columns 4 to 11.

    Column 4 is filled once, from column 3. Outside of the map the border's row is repeated: row 0
    takes (0 + 0 + 10) / 3, where padding with nothing would give 5.
    """
    labels = grid('0' * 8 + '1' * 8, '0' * 8 + '1' * 8, '0' * 8 + '1' * 8)
    values = torch.tensor([0.0, 10.0, 20.0]).view(1, 1, 3, 1).expand(1, 1, 3, 16)
    filled = suppress_boundaries(values, labels)[0, 0]
    assert filled[:, 3].tolist() == [0.0, 10.0, 20.0]
    assert filled[:, 4].tolist() == pytest.approx([10 / 3, 10.0, 50 / 3])
    # Column 5 is filled from column 4 as it is by then.
    assert filled[:, 5].tolist() == pytest.approx([50 / 9, 10.0, 130 / 9])


def test_a_map_of_one_class_is_left_alone() -> None:
    values = random_logits(1)[:, :1]
    assert torch.equal(suppress_boundaries(values, torch.full_like(values, 3.0)), values)


def test_a_map_of_boundaries_alone_is_left_alone() -> None:
    """Nothing lies outside, so there is nothing to fill from."""
    board = torch.from_numpy((np.indices((5, 6)).sum(axis=0) % 2).astype(np.float32))[None, None]
    values = random_logits(1, size=(5, 6))[:1, :1]
    assert torch.equal(suppress_boundaries(values, board), values)


def test_smoothing_is_one_seven_by_seven_kernel_with_gaps() -> None:
    point = torch.zeros(1, 1, 61, 61)
    point[0, 0, 30, 30] = 1
    smooth = smooth_dilated(point, gaussian())[0, 0]
    taps = np.exp(-(np.arange(-3, 4) ** 2) / 2)
    kernel = np.outer(taps, taps) / taps.sum() ** 2
    assert smooth[12:49:6, 12:49:6].numpy() == pytest.approx(kernel, abs=1e-7)
    assert torch.count_nonzero(smooth) == 49


def test_smoothing_keeps_a_constant_up_to_the_border() -> None:
    values = torch.full((1, 1, 5, 40), 3.0)
    assert smooth_dilated(values, gaussian()).flatten().tolist() == pytest.approx([3.0] * 200)


def test_sml_statistics_by_hand() -> None:
    fit = MaxLogitMoments(3)
    # Class 0 wins with 2 and 4 (in two frames), class 1 with 5 once, class 2 never.
    fit.update(frame(np.float32([[[2, 1]], [[0, 5]], [[0, 0]]])), None)
    fit.update(frame(np.float32([[[4]], [[0]], [[1]]])), np.full((1, 1), 255, np.uint8))
    state = fit.compute()
    common = math.sqrt((2**2 + 4**2 + 5**2) / 3 - (11 / 3) ** 2)
    assert state['mean'].tolist() == pytest.approx([3, 11 / 3, 11 / 3])
    assert state['std'].tolist() == pytest.approx([1, common, common])


def test_moments_of_one_value_are_refused() -> None:
    fit = MaxLogitMoments(2)
    fit.update(frame(np.full((2, 30, 30), 0.1, np.float32)), None)
    with pytest.raises(ValueError, match="score 'sml' cannot be fitted"):
        fit.compute()
    assert deviation(np.array([[3.0], [0.3], [0.03]]))[1].tolist() == [0.0]


# Building them


FITTED = [name for name in sorted(SCORES) if score_class(name).statistics]


def test_those_with_statistics_are_those_that_are_fitted() -> None:
    assert FITTED == ['cdnp', 'dnp', 'mahalanobis', 'neco', 'sml']
    assert [name for name in sorted(SCORES) if score_class(name).fit] == FITTED


@pytest.mark.parametrize('name', FITTED)
def test_a_fit_makes_the_buffers_that_the_score_keeps(name: str) -> None:
    logits = random_logits(classes=3, size=(80, 96))[0].numpy()
    kind = score_class(name).fit
    assert kind is not None
    fit = kind(3)
    fit.update(frame(logits), logits.argmax(axis=0).astype(np.uint8) if fit.labelled else None)
    state = fit.compute()
    score = build_score(name, 'made', {'logits', 'features.last'}, statistics=state)
    assert dict(score.state_dict()).keys() == state.keys() == set(score.statistics)
    for key, value in score.state_dict().items():
        assert torch.equal(value, state[key])


@pytest.mark.parametrize('name', FITTED)
def test_a_score_without_statistics_says_what_to_run(name: str) -> None:
    message = f"score '{name}' has no statistics; run fit_score on the checkpoint first"
    for statistics in (None, {}):
        with pytest.raises(ValueError, match=message):
            build_score(name, 'made', {'logits'}, statistics=statistics)


def test_statistics_that_do_not_fit_are_refused() -> None:
    for statistics in ({'mean': torch.ones(3)}, {'whitening': torch.eye(3)}):
        with pytest.raises(ValueError, match="for score 'sml'; run fit_score again"):
            build_score('sml', 'made', {'logits'}, statistics=statistics)
    with pytest.raises(ValueError, match="mean for score 'msp'; run fit_score again"):
        build_score('msp', 'made', {'logits'}, statistics={'mean': torch.ones(3)})
    with pytest.raises(ValueError, match=r"of score 'sml' must be \(K,\), std above 0"):
        SML(torch.ones(3), torch.zeros(3))
    with pytest.raises(ValueError, match=r"'mahalanobis' must be \(K, K\) and \(C, K\)"):
        Mahalanobis(torch.eye(3), torch.ones(2, 4))


@pytest.mark.parametrize(
    ('score', 'options', 'what'),
    [
        ('sml', {'smooth': 1}, "unknown option 'smooth' of score 'sml'; it takes: boundary_supp"),
        ('max_logit', {'x': 1}, "unknown option 'x' of score 'max_logit'; it takes: none"),
        ('sml', {'mean': 1}, "unknown option 'mean' of score 'sml'"),
        ('msp', {'temperature': 2.0}, "unknown option 'temperature' of score 'msp'"),
        ('sml', {'dilated_smoothing': 'no'}, "'dilated_smoothing' of score 'sml' is 'no'; it"),
        ('sml', {'dilated_smoothing': 0}, "'dilated_smoothing' of score 'sml' is 0; it must"),
        ('dnp', {'grid': 0}, "'grid' of score 'dnp' is 0; it must be 1 or more"),
        ('dnp', {'grid': True}, "'grid' of score 'dnp' is True; it must be like 16"),
        ('cdnp', {'energy_step': -2}, "'energy_step' of score 'cdnp' is -2; it must be 1 or m"),
        ('mask2anomaly', {'refine': 2}, r"'refine' of .* is 2; it must be like \[2, 3\]"),
    ],
)  # fmt: skip
def test_wrong_options_are_named(score: str, options: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        check_options(score, options)
