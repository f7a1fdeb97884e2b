"""Raw score to the share of normal pixels that score lower, against counting."""

import numpy as np
import pytest

from anomaly_seg_ros.calibration import Calibration, level_shares, score_bits


def test_level_shares_rise_from_0_to_1_and_crowd_at_1() -> None:
    assert level_shares(3).tolist() == [0, 1 - 0.5**4, 1]
    shares = level_shares(257)
    assert (np.diff(shares) > 0).all()
    assert (shares >= 0.99).sum() > 80


def test_levels_of_an_even_distribution_are_its_shares() -> None:
    calibration = Calibration.fit(np.linspace(-2, 2, 10_001), count=5)
    assert calibration.levels == pytest.approx([4 * share - 2 for share in level_shares(5)])


def test_share_by_hand() -> None:
    # Levels at shares 0, 15/16 and 1.
    calibration = Calibration((0.0, 1.0, 3.0))
    scores = np.array([-1, 0, 0.5, 1, 2, 3, 3.1])
    expected = [0, 0, 15 / 32, 15 / 16, 31 / 32, 1, 1]
    assert calibration.share(scores).tolist() == pytest.approx(expected)
    assert calibration.share(scores).dtype == np.float32


def test_share_is_the_share_that_scores_lower() -> None:
    normal = np.random.default_rng(0).gamma(2.0, size=200_000)
    calibration = Calibration.fit(normal)
    for score in (0.1, 1.0, 3.0, 6.0, 9.0):
        counted = (normal < score).mean()
        assert calibration.share(np.array([score]))[0] == pytest.approx(counted, abs=4e-3)
    # Where thresholds lie it is finer.
    tail = np.quantile(normal, 0.999)
    assert calibration.share(np.array([tail]))[0] == pytest.approx(0.999, abs=1e-5)


def test_ties_get_the_lowest_share() -> None:
    # 40 % score 0, 40 % score 5, the rest lies above.
    normal = np.concatenate([np.zeros(400), np.full(400, 5.0), np.linspace(6, 9, 200)])
    share = Calibration.fit(normal, 2001).share(np.array([0.0, 5.0]))
    assert share.tolist() == pytest.approx([0, 0.4], abs=2e-3)


def test_a_constant_score_is_normal_and_all_above_is_not() -> None:
    calibration = Calibration.fit(np.full(10, 2.0))
    assert calibration.share(np.array([1.0, 2.0, 2.1])).tolist() == [0, 0, 1]


def test_not_a_number_is_anomalous() -> None:
    share = Calibration((0.0, 1.0)).share(np.array([np.nan, np.inf, -np.inf]))
    assert share.tolist() == [1, 1, 0]


def test_share_never_falls_and_lies_in_0_to_1() -> None:
    rng = np.random.default_rng(1)
    calibration = Calibration.fit(np.round(rng.normal(size=5000), 1))
    share = calibration.share(np.sort(rng.normal(scale=3, size=10_000)))
    assert (np.diff(share) >= 0).all()
    assert share.min() == 0
    assert share.max() == 1


def test_the_raw_score_of_a_threshold_by_hand() -> None:
    # Levels at shares 0, 15/16 and 1.
    calibration = Calibration((0.0, 1.0, 3.0))
    assert [calibration.raw(share) for share in (0, 15 / 32, 31 / 32, 1)] == [0, 0.5, 2, 3]


def test_table_is_share_of_every_half() -> None:
    calibration = Calibration.fit(np.random.default_rng(2).normal(size=5000))
    table = calibration.table()
    every = np.arange(1 << 16).astype(np.uint16)
    shares = table.share(every)
    assert shares.dtype == np.float32
    halves = np.array([-7.5, -0.0, 0.0, 0.333, 2.0, np.inf, -np.inf, np.nan], np.float16)
    assert table.share(score_bits(halves)).tolist() == calibration.share(halves).tolist()
    numbers = every.view(np.float16)
    finite = np.sort(numbers[np.isfinite(numbers)])
    assert (np.diff(table.share(score_bits(finite))) >= 0).all()
    assert (table.heat(every) == np.rint(shares * 255)).all()


def test_a_pixel_at_the_threshold_is_anomalous() -> None:
    # Levels at shares 0 and 1: the share is the score itself.
    table = Calibration((0.0, 1.0)).table()
    bits = score_bits(np.array([[0.0, 0.49, 0.5, 1.0, np.nan]], np.float32))
    above = table.above(bits, 0.5)
    assert above.tolist() == [[0, 0, 255, 255, 255]]
    assert above.dtype == np.uint8
    assert table.above(bits, 0.75).tolist() == [[0, 0, 0, 255, 255]]
    assert table.above(bits, 0.5).tolist() == above.tolist()


@pytest.mark.parametrize('threshold', [0.0, 0.3, 0.99, 1.0, 1.5])
@pytest.mark.parametrize('shift', [-9.0, 0.0, 9.0])
def test_ranges_of_bits_are_the_shares_of_every_half(threshold: float, shift: float) -> None:
    table = Calibration.fit(np.random.default_rng(3).normal(shift, 1, 5000)).table()
    every = np.arange(1 << 16).astype(np.uint16)
    expected = np.where(table.share(every) >= threshold, 255, 0)
    assert (table.above(every, threshold) == expected).all()


def test_scores_beyond_float16_stay_at_the_ends() -> None:
    table = Calibration((0.0, 1.0)).table()
    assert table.share(score_bits(np.array([-1e9, 1e9], np.float32))).tolist() == [0, 1]


def test_half_scores_are_not_copied() -> None:
    score = np.zeros((2, 3), np.float16)
    assert np.shares_memory(score_bits(score), score)


@pytest.mark.parametrize(
    ('levels', 'what'),
    [
        ((), 'at least 2 levels, got 0'),
        ((1.0,), 'at least 2 levels, got 1'),
        ((0.0, 2.0, 1.0), 'never fall'),
        ((0.0, np.nan), 'finite'),
        ((0.0, np.inf), 'finite'),
    ],
)
def test_levels_that_are_no_distribution(levels: tuple[float, ...], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Calibration(levels)


@pytest.mark.parametrize('scores', [[], [1.0, np.nan], [np.inf]])
def test_scores_that_cannot_be_fitted(scores: list[float]) -> None:
    with pytest.raises(ValueError, match='finite scores of at least one pixel'):
        Calibration.fit(np.array(scores))
