"""Facts about the quantised curve of SegmentMeIfYouCan, against its steps written plainly."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from training.metrics.pixel import PixelMetrics
from training.metrics.smiyc import SmiycCurve


def frame(seed: int, share: float = 0.1, shape: tuple[int, int] = (60, 80)) -> tuple:
    random = np.random.default_rng(seed)
    anomaly = (random.random(shape) < share).astype(np.uint8)
    score = (random.normal(size=shape) * 2 + 3 * anomaly - seed).astype(np.float32)
    anomaly[random.random(shape) < 0.1] = 255
    return score, anomaly


def curve_of(frames) -> SmiycCurve:
    curve = SmiycCurve()
    for score, anomaly in frames:
        curve.update(score, anomaly)
    return curve


def plainly(frames) -> dict:
    """The published steps with NumPy's own quantile and histogram."""
    rows = []
    for score, anomaly in frames:
        region = anomaly < 255
        values, truth = score.astype(np.float16)[region].astype(np.float64), anomaly[region] == 1
        margin = max(0.01 * np.ptp(values), 0.01)
        quantiles = [
            np.quantile(part, np.linspace(0, 1, min(384, part.size)))
            for part in (values[truth], values[~truth])
            if part.size
        ]
        ends = [values.min() - margin, values.max() + margin]
        edges = np.unique(np.concatenate([ends, *quantiles]))
        hits = np.histogram(values[truth], edges)[0]
        wrong = np.histogram(values[~truth], edges)[0]
        rows += list(zip(edges[:-1], hits, wrong, strict=True))
    rows.sort(key=lambda row: -row[0])
    points, hits, wrong = [], 0, 0
    for edge, hit, miss in rows:
        hits, wrong = hits + hit, wrong + miss
        if points and points[-1][0] == edge:
            points.pop()
        points.append((edge, hits, wrong))
    edge, t, f = (np.array(column) for column in zip(*points, strict=True))
    tpr, fpr = t / t[-1], f / f[-1]
    precision = np.divide(t, t + f, out=np.ones(t.size), where=t + f > 0)
    f1 = 2 * t / (t + f + t[-1])
    return {
        'ap': (np.diff(tpr, prepend=0) * precision).sum(),
        'auroc': np.trapezoid([0, *tpr], [0, *fpr]),
        'fpr95': fpr[np.argmax(tpr >= 0.95)],
        'best_f1': f1.max(),
        'best_f1_threshold': edge[np.argmax(f1)],
    }


@pytest.mark.parametrize('share', [0.001, 0.02, 0.5])
def test_values_equal_the_published_steps(share: float) -> None:
    frames = [frame(seed, share) for seed in range(5)]
    values = curve_of(frames).compute()
    expected = plainly(frames)
    assert {k: values[k] for k in expected} == pytest.approx(expected, abs=1e-9)


def test_a_frame_without_anomalies_counts_its_inliers() -> None:
    frames = [frame(0), frame(1, share=0)]
    values = curve_of(frames).compute()
    assert values['ap'] == pytest.approx(plainly(frames)['ap'], abs=1e-9)
    assert values['n_images'] == 2


def test_the_curve_is_near_the_exact_one_on_dense_frames() -> None:
    frames = [frame(seed, 0.2, (200, 200)) for seed in range(5)]
    exact = PixelMetrics()
    for score, anomaly in frames:
        exact.update(score, anomaly)
    values, expected = curve_of(frames).compute(), exact.compute()
    for key in ('ap', 'auroc', 'fpr95', 'best_f1'):
        assert values[key] == pytest.approx(expected[key], abs=0.02)


def test_a_hand_worked_frame() -> None:
    # Edges 0.98, 1, 2, 3, 3.02: from the top one anomaly, then one inlier, then one anomaly.
    curve = curve_of([(np.float32([[3, 2, 1]]), np.uint8([[1, 0, 1]]))])
    values = curve.compute()
    assert values['ap'] == pytest.approx((1 + 2 / 3) / 2)
    assert (values['auroc'], values['fpr95']) == (0.5, 1)
    assert (values['best_f1'], values['best_f1_threshold']) == (pytest.approx(0.8), 1)


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(4)), st.integers(0, 4), st.sampled_from([np.inf, 0.5]))
def test_merged_parts_in_any_order_equal_the_whole(order, cut: int, highest: float) -> None:
    # Frames that share their highest score share their highest edge too.
    frames = [
        (np.minimum(score, np.float32(highest)), truth) for score, truth in map(frame, range(4))
    ]
    first, second = (
        curve_of(frames[i] for i in order[:cut]),
        curve_of(frames[i] for i in order[cut:]),
    )
    second.merge(first)
    assert second.compute() == pytest.approx(curve_of(frames).compute(), abs=1e-12)


def test_all_ignored_frames_change_nothing_but_their_count() -> None:
    curve = curve_of([frame(0)])
    before = curve.compute()
    curve.update(np.zeros((2, 2), np.float32), np.full((2, 2), 255, np.uint8))
    assert curve.compute() == before | {'n_skipped': 1}


def test_undefined_values_are_none() -> None:
    keys = ('ap', 'auroc', 'fpr95', 'best_f1', 'best_f1_threshold')
    nothing = SmiycCurve().compute()
    normal = curve_of([(np.float32([[1, 2]]), np.uint8([[0, 0]]))]).compute()
    assert [v[k] for v in (nothing, normal) for k in keys] == [None] * 10
    strange = curve_of([(np.float32([[1, 2]]), np.uint8([[1, 1]]))]).compute()
    assert [strange[k] for k in keys] == [1, None, None, None, None]


def test_a_constant_score_is_a_coin_toss() -> None:
    values = curve_of([(np.ones((1, 4), np.float32), np.uint8([[1, 0, 0, 0]]))]).compute()
    assert (values['ap'], values['auroc'], values['fpr95']) == (0.25, 0.5, 1)


@pytest.mark.parametrize('value', [np.inf, 1e6])
def test_a_score_beyond_float16_is_an_error_that_names_the_way_out(value: float) -> None:
    with pytest.raises(ValueError, match='use protocol exact'):
        curve_of([(np.float32([[value, 0]]), np.uint8([[1, 0]]))])


def test_nan_on_a_labelled_pixel_is_an_error() -> None:
    with pytest.raises(ValueError, match='1 NaN'):
        curve_of([(np.float32([[np.nan, 0]]), np.uint8([[1, 0]]))])
