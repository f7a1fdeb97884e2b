"""Facts about frame-level metrics and per-image means."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from training.metrics.frame import FrameMetrics
from training.metrics.per_image import PerImageMean


def frame(seed: int, anomalous: bool) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    anomaly = np.zeros((30, 40), np.uint8)
    score = random.normal(size=(30, 40)).astype(np.float32)
    if anomalous:
        anomaly[5:15, 5:15] = 1
        score[5:15, 5:15] += random.uniform(0, 3)
    anomaly[:, -4:] = 255
    score[:, -4:] += 50
    return score, anomaly


def frames(count: int = 24) -> list:
    return [frame(seed, seed % 3 == 0) for seed in range(count)]


def measured(all_frames, threshold: float = 2.0, area: int = 3) -> FrameMetrics:
    metrics = FrameMetrics(threshold, area)
    for score, anomaly in all_frames:
        metrics.update(score, anomaly)
    return metrics


def test_auroc_and_f1_equal_scikit_learn_on_the_percentile() -> None:
    metrics = measured(frames())
    truth = [bool((a == 1).any()) for _, a in frames()]
    scores = np.float32([np.quantile(s[a != 255], 0.999, method='higher') for s, a in frames()])
    values = metrics.compute()
    assert values['frame_auroc'] == pytest.approx(roc_auc_score(truth, scores))
    best = max(f1_score(truth, scores >= t) for t in scores)
    assert values['frame_f1'] == pytest.approx(best)
    assert f1_score(truth, scores >= values['frame_threshold']) == pytest.approx(best)
    assert values['n_anomalous_frames'] == 8


def test_false_alarms_are_a_mean_over_frames_and_above_the_threshold() -> None:
    """Two alarms in one frame of two, one that only reaches the threshold, one too small."""
    score = np.zeros((3, 12), np.float32)
    score[:, [0, 1, 3, 4]] = 3
    score[:, 6:8] = 2
    score[0, 10] = 3
    anomaly = np.zeros((3, 12), np.uint8)
    quiet = (np.zeros_like(score), anomaly)
    assert measured([(score, anomaly), quiet]).compute()['false_alarms_per_frame'] == 1.0
    many = measured([(score, anomaly), (score, anomaly), quiet, quiet])
    assert many.compute()['false_alarms_per_frame'] == 1.0


def test_the_component_score_is_the_mean_of_the_largest_kept_component() -> None:
    score = np.float32([[3, 3, 0, 5, 0, 4, 6, 5]])
    metrics = measured([(score, np.zeros((1, 8), np.uint8))], threshold=1, area=2)
    assert metrics.component == [5]
    assert metrics.compute()['false_alarms_per_frame'] == 2


def test_a_component_that_touches_an_anomaly_is_no_false_alarm() -> None:
    score, anomaly = np.float32([[3, 3, 0, 3]]), np.uint8([[0, 1, 0, 0]])
    assert measured([(score, anomaly)], 1, 1).compute()['false_alarms_per_frame'] == 1


def test_a_frame_without_a_component_ranks_last() -> None:
    metrics = measured([(np.zeros((2, 2), np.float32), np.zeros((2, 2), np.uint8))])
    assert metrics.component == [-np.inf]


def test_ignored_pixels_make_no_frame_anomalous_and_no_alarm() -> None:
    score, anomaly = np.float32([[9, 0, 0]]), np.uint8([[255, 0, 0]])
    metrics = measured([(score, anomaly)], 1, 1)
    assert (metrics.percentile, metrics.false_alarms, metrics.labels) == ([0], 0, [0])


def test_an_all_ignored_frame_changes_nothing() -> None:
    metrics = measured(frames(4))
    before = metrics.compute()
    metrics.update(np.ones((2, 2), np.float32), np.full((2, 2), 255, np.uint8))
    assert metrics.compute() == before
    assert metrics.skipped == 1


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(6)), st.integers(0, 6))
def test_merged_parts_in_any_order_equal_the_whole(order, cut: int) -> None:
    all_frames = frames(6)
    first = measured([all_frames[i] for i in order[:cut]])
    first.merge(measured([all_frames[i] for i in order[cut:]]))
    assert first.compute() == measured(all_frames).compute()


def test_one_kind_of_frame_alone_is_undefined() -> None:
    values = measured([frame(1, anomalous=False)]).compute()
    assert (values['frame_auroc'], values['frame_f1']) == (None, None)
    assert FrameMetrics(0).compute()['false_alarms_per_frame'] is None


def test_bad_input_is_an_error() -> None:
    with pytest.raises(ValueError, match='1 labelled pixels have a NaN'):
        measured([(np.float32([[np.nan, 1]]), np.uint8([[0, 0]]))])
    with pytest.raises(ValueError, match='labels'):
        measured([(np.zeros((1, 2), np.float32), np.zeros((2, 1), np.uint8))])
    with pytest.raises(ValueError, match='is nan'):
        FrameMetrics(float('nan'))
    with pytest.raises(ValueError, match='cannot merge'):
        FrameMetrics(0).merge(FrameMetrics(1))


# ---- per-image means


def test_the_mean_over_images_equals_scikit_learn_on_each() -> None:
    metrics, expected = PerImageMean(), []
    for score, anomaly in frames():
        metrics.update(score, anomaly)
        valid = anomaly != 255
        if (anomaly == 1).any():
            truth = anomaly[valid]
            expected.append(
                (average_precision_score(truth, score[valid]), roc_auc_score(truth, score[valid]))
            )
    values = metrics.compute()
    assert (values['ap'], values['auroc']) == pytest.approx(tuple(np.mean(expected, axis=0)))
    assert (values['n_images'], values['n_skipped']) == (8, 16)


def test_the_mean_over_images_differs_from_pooling() -> None:
    metrics = PerImageMean()
    metrics.update(np.float32([[1, 0]]), np.uint8([[1, 0]]))
    metrics.update(np.float32([[9, 8]]), np.uint8([[1, 0]]))
    assert metrics.compute()['auroc'] == 1  # pooled: 0.75


def test_merged_means_equal_the_whole_and_none_without_images() -> None:
    first, second, whole = PerImageMean(), PerImageMean(), PerImageMean()
    assert whole.compute()['ap'] is None
    for index, (score, anomaly) in enumerate(frames(6)):
        whole.update(score, anomaly)
        (first if index % 2 else second).update(score, anomaly)
    first.merge(second)
    assert first.compute() == pytest.approx(whole.compute())
