"""Facts about open-mIoU, against a confusion matrix written plainly."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from training.metrics.openset import fold_mean, OpenSetMetrics

K = 3
pixel = st.tuples(
    st.integers(0, K - 1),  # predicted class
    st.sampled_from([0.0, 0.5, 1.0]),  # score
    st.sampled_from([0, 1, 2, 255]),  # class label
    st.sampled_from([0, 0, 1, 255]),  # anomaly label
)
frames = st.lists(st.lists(pixel, min_size=1, max_size=30), min_size=1, max_size=3)


def as_frame(rows) -> tuple:
    predicted, score, labels, anomaly = (np.array([column]) for column in zip(*rows, strict=True))
    return (predicted.astype(np.uint8), score.astype(np.float32), labels.astype(np.uint8),
            anomaly.astype(np.uint8))  # fmt: skip


def plainly(all_frames, threshold: float) -> tuple:
    """A (K + 2)^2 matrix, ignore row and column zeroed, mean IoU of the inlier classes."""
    opened = np.zeros((K + 2, K + 2))
    for rows in all_frames:
        for predicted, score, label, anomaly in rows:
            truth = {0: K + 1 if label == 255 else label, 1: K, 255: K + 1}[anomaly]
            opened[truth, K if score > threshold else predicted] += 1
    opened[K + 1] = 0
    opened[:, K + 1] = 0
    hit = np.diag(opened)
    with np.errstate(invalid='ignore'):
        iou = hit / (opened.sum(0) + opened.sum(1) - hit)
    inlier = iou[:K][~np.isnan(iou[:K])]
    return (inlier.mean() if inlier.size else None), (None if np.isnan(iou[K]) else iou[K])


def measured(all_frames, threshold: float = 0.5) -> OpenSetMetrics:
    metrics = OpenSetMetrics(K, threshold)
    for rows in all_frames:
        metrics.update(*as_frame(rows))
    return metrics


@settings(deadline=None)
@given(frames, st.sampled_from([-1.0, 0.5, 1.0, 2.0]))
def test_values_equal_a_confusion_matrix_written_plainly(all_frames, threshold: float) -> None:
    values = measured(all_frames, threshold).compute()
    opened, anomaly = plainly(all_frames, threshold)
    assert values['open_miou'] == pytest.approx(opened)
    assert values['anomaly_iou'] == pytest.approx(anomaly)


@settings(deadline=None)
@given(frames)
def test_with_nothing_flagged_and_no_anomaly_open_equals_closed(all_frames) -> None:
    normal = [[(p, s, label, 0) for p, s, label, _ in rows] for rows in all_frames]
    values = measured(normal, 9).compute()
    assert values['open_miou'] == values['miou']


def test_flagging_everything_gives_zero() -> None:
    rows = [(0, 1.0, 0, 0), (1, 1.0, 1, 0), (2, 1.0, 2, 1)]
    assert measured([rows]).compute()['open_miou'] == 0


def test_an_anomaly_read_as_a_class_is_its_false_positive() -> None:
    values = measured([[(0, 0.0, 0, 0), (0, 0.0, 255, 1)]]).compute()
    assert (values['open_miou'], values['miou'], values['anomaly_iou']) == (0.5, 1, 0)


def test_pixels_tied_at_the_threshold_stay_what_they_are() -> None:
    values = measured([[(0, 0.5, 0, 0), (0, 1.0, 0, 0)]]).compute()
    assert (values['open_miou'], values['miou']) == (0.5, 1)


def test_a_pixel_ignored_by_either_label_counts_nowhere() -> None:
    values = measured([[(0, 0.0, 0, 0), (1, 0.0, 0, 255), (1, 1.0, 255, 0)]]).compute()
    assert (values['open_miou'], values['miou']) == (1, 1)


@settings(deadline=None)
@given(frames, st.integers(0, 3))
def test_merged_parts_equal_the_whole(all_frames, cut: int) -> None:
    first, second = measured(all_frames[:cut]), measured(all_frames[cut:])
    first.merge(second)
    assert first.compute() == measured(all_frames).compute()


def test_folds_are_weighted_by_their_frames() -> None:
    right, wrong = [(0, 0.0, 0, 0)], [(1, 0.0, 0, 0), (0, 0.0, 1, 0)]
    values = fold_mean([measured([right] * 3), measured([wrong], 0.7)])
    assert (values['open_miou'], values['miou'], values['n_images']) == (0.75, 0.75, 4)
    assert values['anomaly_iou'] is None


def test_nothing_at_all_is_undefined() -> None:
    values = OpenSetMetrics(K, 0).compute()
    assert (values['open_miou'], values['miou'], values['anomaly_iou']) == (None, None, None)


def test_bad_input_is_an_error() -> None:
    with pytest.raises(ValueError, match='is nan'):
        OpenSetMetrics(K, float('nan'))
    with pytest.raises(ValueError, match='cannot merge'):
        OpenSetMetrics(K, 0).merge(OpenSetMetrics(K, 1))
    one, two = np.zeros((1, 1), np.uint8), np.zeros((1, 2), np.uint8)
    with pytest.raises(ValueError, match=r'score \(1, 2\)'):
        OpenSetMetrics(K, 0).update(one, two.astype(np.float32), one, one)
