"""Facts about the pooled pixel metrics, against scikit-learn and a plain sort."""

from __future__ import annotations

import io
import pickle

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from training.bench import metrics as bench_metrics
from training.metrics import score_counts
from training.metrics.pixel import PixelMetrics, strict_threshold
from training.metrics.protocols import build_pixel_metrics
from training.metrics.score_counts import ordered_keys, ScoreCounts, scores_of

VALUES = ('ap', 'auroc', 'fpr95', 'best_f1')
RANKED = (*VALUES, 'best_f1_threshold')


def measured(score, anomaly, **options) -> dict:
    metrics = PixelMetrics(**options)
    metrics.update(np.asarray(score), np.asarray(anomaly, np.uint8))
    return metrics.compute()


def plain_sort(score, anomaly) -> dict:
    """The definitions, walked over the distinct scores from the top."""
    valid = anomaly != 255
    score, truth = score[valid].astype(np.float64), anomaly[valid] == 1
    levels = np.unique(score)[::-1]
    hits = np.array([(truth & (score >= t)).sum() for t in levels])
    wrong = np.array([(~truth & (score >= t)).sum() for t in levels])
    tpr, fpr, precision = hits / truth.sum(), wrong / (~truth).sum(), hits / (hits + wrong)
    f1 = 2 * hits / (hits + wrong + truth.sum())
    return {
        'ap': (np.diff(tpr, prepend=0) * precision).sum(),
        'auroc': np.trapezoid([0, *tpr], [0, *fpr]),
        'fpr95': fpr[np.argmax(tpr >= 0.95)],
        'best_f1': f1.max(),
        'best_f1_threshold': levels[np.argmax(f1)],
    }


# Scores with many ties, signed zeros, tiny, huge and infinite values.
some_scores = st.one_of(
    st.floats(width=32, allow_nan=False),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, np.inf, -np.inf, 1e-45, -1e-45]),
)
pixels = st.lists(st.tuples(some_scores, st.sampled_from([0, 0, 1, 255])), min_size=1, max_size=60)


def as_frame(rows) -> tuple[np.ndarray, np.ndarray]:
    score = np.array([[value for value, _ in rows]], np.float32)
    return score, np.array([[label for _, label in rows]], np.uint8)


def random_frame(seed: int, size: int = 4000, share: float = 0.1) -> tuple:
    random = np.random.default_rng(seed)
    anomaly = (random.random((1, size)) < share).astype(np.uint8)
    score = random.normal(size=(1, size)).astype(np.float32) + anomaly
    anomaly[random.random((1, size)) < 0.1] = 255
    return score, anomaly


# ---- values


def test_hand_worked_values() -> None:
    # From the top: 1, 0, then a tie of one anomaly and one inlier, then 0. P = 2, N = 3.
    values = measured([[4, 3, 2, 2, 1, 9]], [[1, 0, 1, 0, 0, 255]])
    assert values['ap'] == pytest.approx((1 + 2 / 4) / 2)
    assert values['auroc'] == pytest.approx((3 + 1.5) / 6)
    assert values['fpr95'] == pytest.approx(2 / 3)
    assert (values['best_f1'], values['best_f1_threshold']) == (pytest.approx(2 / 3), 4)
    assert (values['n_pixels'], values['n_anomalies'], values['base_rate']) == (5, 2, 0.4)


@settings(deadline=None, max_examples=120)
@given(pixels)
def test_values_equal_those_of_a_plain_sort(rows) -> None:
    score, anomaly = as_frame(rows)
    values = measured(score, anomaly)
    if (anomaly == 1).any() and (anomaly == 0).any():
        expected = plain_sort(score, anomaly)
        assert {k: values[k] for k in RANKED} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('digits', [0, 1, 8])
@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
def test_values_equal_scikit_learn(digits: int, dtype: type) -> None:
    score, anomaly = random_frame(3)
    score = np.round(score, digits).astype(dtype)
    values = measured(score, anomaly)
    valid = anomaly != 255
    truth, flat = anomaly[valid], score[valid].astype(np.float32)
    fpr, tpr, _ = roc_curve(truth, flat, drop_intermediate=False)
    assert values['ap'] == pytest.approx(average_precision_score(truth, flat), abs=1e-12)
    assert values['auroc'] == pytest.approx(roc_auc_score(truth, flat), abs=1e-12)
    assert values['fpr95'] == fpr[np.argmax(tpr >= 0.95)]


def test_a_constant_score_is_a_coin_toss() -> None:
    values = measured(np.full((2, 50), 0.3, np.float32), [[1] * 10 + [0] * 40] * 2)
    assert values['ap'] == values['base_rate'] == 0.2
    assert (values['auroc'], values['fpr95']) == (0.5, 1.0)


def test_a_perfect_score_is_perfect() -> None:
    values = measured([[3.0, 2.0, 1.0]], [[1, 1, 0]])
    assert [values[k] for k in VALUES] == [1, 1, 0, 1]


def test_a_sign_error_shows() -> None:
    score, anomaly = random_frame(0)
    assert measured(score, anomaly)['auroc'] == pytest.approx(
        1 - measured(-score, anomaly)['auroc']
    )


# ---- undefined and odd input


def test_without_anomalies_all_is_undefined() -> None:
    values = measured([[1.0, 2.0]], [[0, 0]])
    assert [values[k] for k in RANKED] == [None] * 5
    assert (values['n_images'], values['base_rate']) == (1, 0)


def test_without_inliers_ap_is_one_and_the_rest_undefined() -> None:
    values = measured([[1.0, 2.0]], [[1, 255]])
    assert [values[k] for k in RANKED] == [1.0, None, None, None, None]


@pytest.mark.parametrize('shape', [(2, 3), (0, 0)])
def test_nothing_labelled_is_undefined_and_counted_as_skipped(shape: tuple) -> None:
    values = measured(np.zeros(shape, np.float32), np.full(shape, 255))
    assert [values[k] for k in (*RANKED, 'base_rate')] == [None] * 6
    assert (values['n_images'], values['n_skipped'], values['n_pixels']) == (0, 1, 0)


def test_nan_on_a_labelled_pixel_is_an_error_that_changes_nothing() -> None:
    metrics = PixelMetrics()
    metrics.update(np.float32([[2, 1]]), np.uint8([[1, 0]]))
    before = metrics.compute()
    score = np.float32([[np.nan, np.nan, np.nan, 1]])
    with pytest.raises(ValueError, match=r"frame 'cow' has 2 NaN scores"):
        metrics.update(score, np.uint8([[0, 1, 255, 0]]), 'cow')
    with pytest.raises(ValueError, match=r"frame '1' has 1 NaN scores"):
        metrics.update(score[:, 1:3], np.uint8([[0, 255]]))
    assert metrics.compute() == before


def test_nan_on_an_ignored_pixel_is_not_looked_at() -> None:
    values = measured([[np.nan, 2.0, 1.0]], [[255, 1, 0]])
    assert values['ap'] == 1


def test_infinite_scores_rank_first_and_last_and_tie_with_each_other() -> None:
    big = np.finfo(np.float32).max
    values = measured([[np.inf, np.inf, big, -big, -np.inf, -np.inf]], [[1, 0, 1, 0, 0, 1]])
    expected = measured([[3.0, 3.0, 2.0, 1.0, 0.0, 0.0]], [[1, 0, 1, 0, 0, 1]])
    assert [values[k] for k in VALUES] == [expected[k] for k in VALUES]


def test_both_zeros_are_one_score() -> None:
    assert measured([[0.0, -0.0]], [[1, 0]])['auroc'] == 0.5


def test_float64_beyond_float32_ties_with_infinity() -> None:
    assert measured(np.array([[1e300, np.inf, 0]]), [[1, 0, 0]])['auroc'] == 0.75


@pytest.mark.parametrize('label', [2, 254])
def test_a_label_that_is_not_0_1_255_is_an_error(label: int) -> None:
    with pytest.raises(ValueError, match=rf'labels \[{label}\]; use 0, 1 and 255'):
        measured([[1.0, 2.0]], [[0, label]])


def test_sizes_that_differ_are_an_error() -> None:
    with pytest.raises(ValueError, match=r'score is \(1, 2\), labels \(2, 1\)'):
        measured([[1.0, 2.0]], [[0], [1]])


def test_an_unknown_rule_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match='first_ge, interp'):
        PixelMetrics(fpr95='closest')  # type: ignore[arg-type]


# ---- frames, workers


def test_pixels_are_pooled_and_frames_without_anomalies_kept() -> None:
    metrics = PixelMetrics()
    metrics.update(np.float32([[5, 1]]), np.uint8([[1, 0]]))
    metrics.update(np.float32([[9, 9]]), np.uint8([[0, 0]]))
    values = metrics.compute()
    assert values['ap'] == pytest.approx(1 / 3)
    assert (values['n_images'], values['n_skipped']) == (2, 0)


def test_skip_empty_drops_frames_without_anomalies_and_counts_them() -> None:
    metrics = PixelMetrics(skip_empty=True)
    metrics.update(np.float32([[5, 1]]), np.uint8([[1, 0]]))
    metrics.update(np.float32([[9, 9]]), np.uint8([[0, 0]]))
    values = metrics.compute()
    assert (values['ap'], values['n_images'], values['n_skipped']) == (1, 1, 1)


@settings(deadline=None, max_examples=80)
@given(st.lists(pixels, min_size=1, max_size=5), st.integers(1, 40), st.data())
def test_merged_parts_equal_the_whole_bit_for_bit(frames, max_bins: int, data) -> None:
    whole = PixelMetrics(max_bins=max_bins)
    parts = [PixelMetrics(max_bins=max_bins) for _ in range(3)]
    for rows in frames:
        whole.update(*as_frame(rows))
        parts[data.draw(st.integers(0, 2))].update(*as_frame(rows))
    parts[1].merge(parts[2])
    parts[0].merge(parts[1])
    assert parts[0].compute() == whole.compute()
    assert parts[0].bounds() == whole.bounds()


@settings(deadline=None)
@given(pixels, st.integers(1, 40), st.randoms(use_true_random=False))
def test_the_order_of_pixels_changes_nothing(rows, max_bins: int, random) -> None:
    mixed = list(rows)
    random.shuffle(mixed)
    assert measured(*as_frame(rows), max_bins=max_bins) == measured(
        *as_frame(mixed), max_bins=max_bins
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-500, 500), st.sampled_from([0, 1, 255])), min_size=1))
def test_rising_transforms_change_nothing(rows) -> None:
    score, anomaly = as_frame(rows)
    values = measured(score, anomaly)
    for other in (score / 1024, score * 3 + 7, np.arctan(score / 100), score**3):
        changed = measured(other, anomaly)
        assert [changed[k] for k in VALUES] == [values[k] for k in VALUES]


@settings(deadline=None)
@given(st.lists(pixels, min_size=1, max_size=3), st.integers(0, 3))
def test_frames_that_are_all_ignored_change_nothing(frames, place: int) -> None:
    plain, padded = PixelMetrics(), PixelMetrics()
    for index, rows in enumerate(frames):
        if index == place:
            padded.update(np.float32([[1, np.nan]]), np.uint8([[255, 255]]))
        plain.update(*as_frame(rows))
        padded.update(*as_frame(rows))
    mine, theirs = plain.compute(), padded.compute()
    assert {k: v for k, v in mine.items() if k != 'n_skipped'} == {
        k: v for k, v in theirs.items() if k != 'n_skipped'
    }


def test_parts_with_other_settings_do_not_merge() -> None:
    with pytest.raises(ValueError, match='cannot merge'):
        PixelMetrics().merge(PixelMetrics(skip_empty=True))
    with pytest.raises(ValueError, match='cannot merge max_bins'):
        PixelMetrics().merge(PixelMetrics(max_bins=7))


def test_the_state_survives_a_file_and_a_pickle() -> None:
    metrics = PixelMetrics(skip_empty=True, fpr95='interp', max_bins=100)
    metrics.update(*random_frame(1))
    file = io.BytesIO()
    np.savez(file, **metrics.state())
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        copies = [PixelMetrics.from_state(dict(arrays)), pickle.loads(pickle.dumps(metrics))]
    metrics.update(*random_frame(2))
    for copy in copies:
        copy.update(*random_frame(2))
        assert copy.compute() == metrics.compute()
        copy.merge(metrics)


# ---- bounded memory


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_counts, '_SLICE_KEYS', 7)


@settings(deadline=None, max_examples=120)
@given(st.lists(pixels, min_size=1, max_size=4), st.integers(1, 30))
def test_the_bounds_hold_the_exact_values_however_few_the_bins(frames, max_bins: int) -> None:
    binned, exact = PixelMetrics(max_bins=max_bins), PixelMetrics()
    for rows in frames:
        binned.update(*as_frame(rows))
        exact.update(*as_frame(rows))
    assert binned.inlier.bins().low.size <= max_bins
    values, bounds, truth = binned.compute(), binned.bounds(), exact.compute()
    for key in VALUES:
        if truth[key] is None:
            assert values[key] is bounds[key] is None
            continue
        low, high = bounds[key]
        assert low - 1e-12 <= truth[key] <= high + 1e-12, key
        assert low - 1e-12 <= values[key] <= high + 1e-12, key


def test_the_bounds_are_points_while_nothing_is_binned() -> None:
    metrics = PixelMetrics()
    metrics.update(*random_frame(0))
    values = metrics.compute()
    for key, (low, high) in metrics.bounds().items():
        assert low == high == values[key]


@pytest.mark.usefixtures('small_slices')
@pytest.mark.parametrize('max_bins', [3, 20, 60, 300, 10_000])
@pytest.mark.parametrize('dense', [False, True])
def test_bins_equal_those_of_counting_all_scores_at_once(max_bins: int, dense: bool) -> None:
    random = np.random.default_rng(max_bins)
    if dense:  # neighbouring float32 values, so that many bins become one at each step
        scores = (1 + random.integers(0, 2000, 3000) * 2.0**-23).astype(np.float32)
    else:
        scores = np.round(random.normal(size=3000) * 10.0 ** random.integers(-3, 4, 3000), 2)
    scores = scores.astype(np.float32)
    counts = ScoreCounts(max_bins, buffer_keys=50)
    for start in range(0, scores.size, 130):
        counts.add(scores[start : start + 130])
    keys = ordered_keys(scores)
    shift = next(s for s in range(33) if np.unique(keys >> s).size <= max_bins)
    assert counts.shift == shift
    bins = counts.bins()
    groups, expected = np.unique(keys >> shift, return_counts=True)
    assert (bins.counts == expected).all()
    assert (bins.low == [keys[keys >> shift == g].min() for g in groups]).all()
    assert (bins.high == [keys[keys >> shift == g].max() for g in groups]).all()


COUNTED = {
    'normal': lambda random, n: random.normal(size=n) * 3 - 15,
    'of both signs, over many powers of two': lambda random, n: (
        np.exp(random.normal(size=n) * 4) * random.choice([-1, 1], n)
    ),
    'float16': lambda random, n: random.normal(size=n).astype(np.float16),
    'clipped': lambda random, n: np.maximum(random.normal(size=n), 0.8),
    'all equal': lambda random, n: np.full(n, -2.5),
    'a ramp': lambda random, n: np.linspace(-1, 3, n),
    'a falling ramp': lambda random, n: np.linspace(1.1, 1, n),
    'the ends': lambda random, n: random.choice([np.inf, -np.inf, 0, -0.0, 3.4e38, 1e-45], n),
    'without order': lambda random, n: (
        random.integers(0, 0x7F800000, n).astype(np.uint32).view(np.float32)
    ),
}


@pytest.mark.parametrize('kind', COUNTED)
@pytest.mark.parametrize('max_bins', [1 << 12, 1 << 20])
def test_counting_in_known_bins_equals_a_sort(kind: str, max_bins: int) -> None:
    scores = COUNTED[kind](np.random.default_rng(0), 100_000).astype(np.float32)
    counts = ScoreCounts(max_bins, buffer_keys=1 << 13)
    for start in range(0, scores.size, 30_000):
        counts.add(scores[start : start + 30_000])
    keys = np.sort(ordered_keys(scores))
    shift = next(s for s in range(33) if np.unique(keys >> s).size <= max_bins)
    _, first, expected = np.unique(keys >> shift, return_index=True, return_counts=True)
    bins = counts.bins()
    assert counts.shift == shift
    assert (bins.counts == expected).all()
    assert (bins.low == keys[first]).all()
    assert (bins.high == keys[first + expected - 1]).all()


def test_what_is_known_is_counted_without_a_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the time does not depend on how fast a processor sorts."""
    counts, random, sorted_in = ScoreCounts(1 << 16, 1 << 18), np.random.default_rng(0), []
    take_in = ScoreCounts._take_in
    monkeypatch.setattr(
        ScoreCounts,
        '_take_in',
        lambda self, keys: (sorted_in.append(keys.size), take_in(self, keys)),
    )
    for _ in range(20):
        counts.add(random.normal(size=1 << 18).astype(np.float32))
    assert counts.bins().counts.sum() == 20 << 18
    assert sum(sorted_in) < 3 << 18


def test_classes_that_do_not_overlap_in_a_bin_are_told_apart() -> None:
    metrics = PixelMetrics(max_bins=1)
    metrics.update(np.float32([[5, 1, 2]]), np.uint8([[1, 0, 0]]))
    assert [metrics.compute()[k] for k in VALUES] == [1, 1, 0, 1]
    assert metrics.bounds()['auroc'] == (1, 1)
    below = PixelMetrics(max_bins=1)
    below.update(np.float32([[5, 6, 7]]), np.uint8([[1, 0, 0]]))
    assert [below.compute()[k] for k in ('ap', 'auroc', 'fpr95')] == [1 / 3, 0, 1]


@pytest.mark.parametrize('tied_share', [0, 0.2])
def test_binned_values_stay_near_a_full_sort(tied_share: float) -> None:
    # 16 times fewer bins than the default, and a large tie as clipped scores have.
    binned, exact = PixelMetrics(max_bins=1 << 16), PixelMetrics(max_bins=1 << 24)
    for seed in range(4):
        random = np.random.default_rng(seed)
        anomaly = (random.random((500, 1000)) < 0.02).astype(np.uint8)
        score = (random.normal(size=(500, 1000)) * 3 - 15 + 6 * anomaly).astype(np.float32)
        score[random.random((500, 1000)) < tied_share] = -15
        for metrics in (binned, exact):
            metrics.update(score, anomaly)
    values, expected, bounds = binned.compute(), exact.compute(), binned.bounds()
    assert binned.inlier.shift > 0 == exact.inlier.shift
    for key, tolerance in (('ap', 5e-6), ('auroc', 5e-6), ('fpr95', 3e-5), ('best_f1', 3e-5)):
        assert values[key] == pytest.approx(expected[key], abs=tolerance)
        if not tied_share:
            assert bounds[key].high - bounds[key].low < 5e-5


def test_a_million_distinct_scores_are_counted_exactly() -> None:
    random = np.random.default_rng(0)
    anomaly = (random.random((1000, 1000)) < 0.02).astype(np.uint8)
    score = (random.normal(size=(1000, 1000)) * 3 + 5 * anomaly).astype(np.float32)
    values = measured(score, anomaly)
    assert values['ap'] == pytest.approx(
        average_precision_score(anomaly.ravel(), score.ravel()), abs=1e-12
    )


def test_counts_above_32_bits_stay_exact() -> None:
    counts = ScoreCounts()
    counts.add(np.float32([1, 2]))
    state = counts.state()
    state['counts'] = state['counts'] * (1 << 33)
    large = ScoreCounts.from_state(state)
    large.merge(counts)
    assert large.bins().counts.tolist() == [(1 << 33) + 1] * 2
    large.add(np.float32([1, 2, 2]))
    assert large.bins().counts.tolist() == [(1 << 33) + 2, (1 << 33) + 3]


@given(st.lists(some_scores, min_size=2, max_size=20))
def test_keys_order_as_scores_do_and_lead_back_to_them(values) -> None:
    scores = np.array(values, np.float32)
    keys = ordered_keys(scores)
    assert (np.argsort(keys, kind='stable') == np.argsort(scores, kind='stable')).all()
    assert (scores_of(keys) == scores).all()


# ---- curves, thresholds


def test_curve_points_lie_on_the_curve_and_are_few() -> None:
    score, anomaly = random_frame(5, 20_000)
    metrics = PixelMetrics()
    metrics.update(score, anomaly)
    curve = metrics.curve(200)
    assert curve.tpr.size <= 210
    assert (np.diff(curve.tpr) >= 0).all()
    assert (np.diff(curve.fpr) >= 0).all()
    assert (curve.tpr[[0, -1]] == [0, 1]).all()
    assert (curve.fpr[[0, -1]] == [0, 1]).all()
    for t, tpr, fpr in zip(curve.threshold, curve.tpr, curve.fpr, strict=True):
        assert tpr == ((score >= t) & (anomaly == 1)).sum() / (anomaly == 1).sum()
        assert fpr == ((score >= t) & (anomaly == 0)).sum() / (anomaly == 0).sum()
    assert np.trapezoid(curve.tpr, curve.fpr) == pytest.approx(
        metrics.compute()['auroc'], abs=1e-3
    )


def test_the_curve_of_few_anomalies_is_a_true_stair() -> None:
    metrics = PixelMetrics()
    metrics.update(np.float32([[3, 2, 1, 0]]), np.uint8([[0, 1, 0, 0]]))
    curve = metrics.curve()
    assert np.trapezoid(curve.tpr, curve.fpr) == pytest.approx(2 / 3)


def test_an_undefined_curve_has_no_points() -> None:
    assert PixelMetrics().curve().tpr.size == 0


def test_the_threshold_at_a_rate_reaches_it_or_goes_above_it() -> None:
    metrics = PixelMetrics()
    metrics.update(np.arange(20, dtype=np.float32)[None], np.ones((1, 20), np.uint8))
    assert metrics.threshold_at_tpr(0.95) == 1
    assert metrics.threshold_at_tpr(0.95, strict=True) == 0
    assert PixelMetrics().threshold_at_tpr() is None


@given(some_scores, some_scores)
def test_above_the_strict_threshold_is_at_or_above_the_threshold(score, threshold) -> None:
    # NumPy counts no float32 below minus infinity, and there is nothing to leave out there.
    score, threshold = np.float32(score), np.float32(threshold)
    if threshold != -np.inf:
        assert (score > strict_threshold(float(threshold))) == (score >= threshold)


# ---- the course's rule


def course_fpr95(score, anomaly) -> float:
    """Straight lines between the points of scikit-learn's ROC."""
    fpr, tpr, _ = roc_curve(anomaly[anomaly != 255], score[anomaly != 255])
    return float(np.interp(0.95, tpr, fpr))


@pytest.mark.parametrize('anomalies', [1, 3, 19, 20, 21, 40, 100])
@pytest.mark.parametrize('digits', [0, 1, 7])
def test_the_course_protocol_draws_lines_between_roc_points(anomalies: int, digits: int) -> None:
    random = np.random.default_rng(anomalies)
    anomaly = np.zeros((1, 500), np.uint8)
    anomaly[0, :anomalies] = 1
    score = np.round(random.normal(size=(1, 500)) + anomaly, digits).astype(np.float32)
    metrics = build_pixel_metrics('course')
    metrics.update(score, anomaly)
    assert metrics.compute()['fpr95'] == pytest.approx(course_fpr95(score, anomaly), abs=1e-12)


def test_a_plateau_at_exactly_95_percent_takes_its_right_end() -> None:
    # 19 anomalies on top, then 10 inliers, then the last anomaly, then 10 inliers.
    anomaly = np.uint8([[1] * 19 + [0] * 10 + [1] + [0] * 10])
    score = np.arange(40, 0, -1, dtype=np.float32)[None]
    assert measured(score, anomaly)['fpr95'] == 0
    assert measured(score, anomaly, fpr95='interp')['fpr95'] == 0.5


def test_the_course_protocol_drops_frames_without_anomalies() -> None:
    metrics = build_pixel_metrics('course')
    metrics.update(np.float32([[1]]), np.uint8([[0]]))
    assert metrics.compute()['n_skipped'] == 1


def test_an_unknown_protocol_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match='course, exact, smiyc'):
        build_pixel_metrics('fishyscapes')


def test_the_benchmark_tells_where_the_time_goes() -> None:
    shares = bench_metrics.split(1)
    assert {'check', 'keys', 'count', 'sort', 'join'} < shares.keys()
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) >= 0
