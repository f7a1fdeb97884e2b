"""Facts about component metrics, against a loop over masks."""

from __future__ import annotations

import itertools

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy.ndimage import label as connected

from training.metrics.component import ComponentMetrics, components, ComponentSizes, TRACKS
from training.metrics.pixel import strict_threshold

TINY = ComponentSizes(1, 1)
KEYS = ('siou_gt', 'siou_pred', 'ppv', 'f1_25', 'f1_50', 'f1_75', 'f1_mean')


def measured(score, anomaly, threshold: float = 0.5, sizes: ComponentSizes = TINY) -> dict:
    metrics = ComponentMetrics(threshold, sizes)
    metrics.update(np.asarray(score, np.float32), np.asarray(anomaly, np.uint8))
    return metrics.compute()


def loop_over_masks(frames, threshold: float, sizes: ComponentSizes) -> dict:
    """The published definition, one mask of the frame per component."""
    siou, siou_predicted, ppv = [], [], []
    for score, anomaly in frames:
        valid = anomaly != 255
        square = np.ones((3, 3))
        predicted, count = connected((score > threshold) & valid, square)
        truth, truth_count = connected(anomaly == 1, square)
        for j in range(1, count + 1):
            if (predicted == j).sum() < sizes.predicted:
                predicted[predicted == j] = 0
        for k in range(truth_count + 1):
            if (truth == k).sum() < sizes.truth:
                valid = valid & (truth != k)
        truth, predicted = truth[valid], predicted[valid]
        for own, other, ratios in (
            (truth, predicted, siou), (predicted, truth, siou_predicted)
        ):  # fmt: skip
            for k in np.unique(own[own > 0]):
                mask = own == k
                touching = np.isin(other, np.unique(other[mask & (other > 0)]))
                inside = (mask & touching).sum()
                elsewhere = (touching & (own > 0) & ~mask).sum()
                ratios.append(inside / (touching.sum() + mask.sum() - inside - elsewhere))
        ppv += [(truth[predicted == j] > 0).mean() for j in np.unique(predicted[predicted > 0])]
    siou, ppv = np.array(siou), np.array(ppv)
    f1 = []
    for level in np.linspace(0.25, 0.75, 11):
        hits, misses, alarms = (siou >= level).sum(), (siou < level).sum(), (ppv < level).sum()
        total = 2 * hits + misses + alarms
        f1.append(2 * hits / total if total else None)
    return {
        'siou_gt': siou.mean() if siou.size else None,
        'siou_pred': np.mean(siou_predicted) if siou_predicted else None,
        'ppv': ppv.mean() if ppv.size else None,
        'f1_25': f1[0],
        'f1_50': f1[5],
        'f1_75': f1[10],
        'f1_mean': None if f1[0] is None else np.mean(f1),
    }


def blobs(seed: int, shape: tuple[int, int] = (70, 90)) -> tuple:
    random = np.random.default_rng(seed)

    def noise() -> np.ndarray:
        return cv2.GaussianBlur(random.normal(size=shape).astype(np.float32), (0, 0), 2.0)

    base = noise()
    anomaly = (base > 0.8 * base.std()).astype(np.uint8)
    anomaly[noise() > 0.25] = 255
    score = base + 0.7 * noise()
    return score / score.std(), anomaly


@pytest.mark.parametrize('threshold', [-9.0, 0.3, 0.8, 1.5, 99.0])
@pytest.mark.parametrize('sizes', [TINY, ComponentSizes(12, 5), ComponentSizes(5, 30)])
def test_values_equal_a_loop_over_masks(threshold: float, sizes: ComponentSizes) -> None:
    metrics = ComponentMetrics(threshold, sizes)
    frames = [blobs(seed) for seed in range(6)]
    for score, anomaly in frames:
        metrics.update(score, anomaly)
    values, expected = metrics.compute(), loop_over_masks(frames, threshold, sizes)
    assert {k: values[k] for k in KEYS} == pytest.approx(expected, abs=1e-12)


small_frames = st.lists(
    st.lists(st.sampled_from([(0, 0), (1, 0), (0, 1), (1, 1), (1, 255)]), min_size=6, max_size=6),
    min_size=2, max_size=6,
)  # fmt: skip


def as_frame(rows) -> tuple[np.ndarray, np.ndarray]:
    both = np.array(rows)
    return both[..., 0].astype(np.float32), both[..., 1].astype(np.uint8)


@settings(deadline=None, max_examples=120)
@given(small_frames, st.integers(1, 4), st.integers(1, 4))
def test_any_small_frame_equals_a_loop_over_masks(rows, predicted: int, truth: int) -> None:
    frame, sizes = as_frame(rows), ComponentSizes(predicted, truth)
    values, expected = measured(*frame, sizes=sizes), loop_over_masks([frame], 0.5, sizes)
    assert {k: values[k] for k in KEYS} == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.lists(small_frames, min_size=1, max_size=4), st.integers(0, 4))
def test_merged_parts_equal_the_whole(frames, cut: int) -> None:
    whole, first, second = (ComponentMetrics(0.5, TINY) for _ in range(3))
    for index, rows in enumerate(frames):
        whole.update(*as_frame(rows))
        (first if index < cut else second).update(*as_frame(rows))
    first.merge(second)
    assert first.compute() == whole.compute()


def test_the_order_of_the_frames_does_not_matter_to_the_last_bit() -> None:
    """1/3, 2/3 and 1/10 add up to other floats in another order."""
    marked = [(3, 1), (3, 2), (10, 1), (7, 3)]
    frames = [([[1] * hit + [0] * (length - hit)], [[1] * length]) for length, hit in marked]
    found = []
    for order in itertools.permutations(frames):
        metrics = ComponentMetrics(0.5, TINY)
        for score, anomaly in order:
            metrics.update(np.float32(score), np.uint8(anomaly))
        found.append(metrics.compute())
    assert all(values == found[0] for values in found)
    assert found[0]['siou_gt'] == pytest.approx((1 / 3 + 2 / 3 + 1 / 10 + 3 / 7) / 4)


def test_identical_masks_are_perfect() -> None:
    anomaly = np.zeros((40, 40), np.uint8)
    anomaly[5:20, 5:20] = 1
    values = measured(anomaly, anomaly)
    assert [values[k] for k in KEYS] == [1] * 7


def test_one_prediction_over_two_objects_is_not_punished_for_the_other() -> None:
    anomaly = np.uint8([[1, 1, 0, 1, 1]])
    values = measured(np.ones((1, 5)), anomaly)
    # |H| = 5, |k| = 2, I = 2, A = 2: 2 / (5 + 2 - 2 - 2).
    assert values['siou_gt'] == pytest.approx(2 / 3)
    assert values['ppv'] == 0.8


def test_diagonal_neighbours_are_one_component() -> None:
    values = measured(np.eye(2), np.eye(2))
    assert (values['n_truth_components'], values['n_predicted_components']) == (1, 1)


def test_ignored_pixels_cut_a_prediction_apart() -> None:
    assert measured([[1, 1, 1]], [[0, 255, 0]])['n_predicted_components'] == 2


@pytest.mark.parametrize(('track', 'predicted', 'truth'), [('anomaly', 500, 100),
                                                          ('obstacle', 50, 10)])  # fmt: skip
def test_a_component_of_the_smallest_size_counts(track: str, predicted: int, truth: int) -> None:
    def row(count: int) -> np.ndarray:
        mask = np.zeros((3, 2000), np.uint8)
        mask[1, :count] = 1
        return mask

    nothing, sizes = np.zeros((3, 2000), np.uint8), TRACKS[track]
    assert measured(row(predicted), nothing, sizes=sizes)['n_predicted_components'] == 1
    assert measured(row(predicted - 1), nothing, sizes=sizes)['n_predicted_components'] == 0
    assert measured(nothing, row(truth), sizes=sizes)['n_truth_components'] == 1
    assert measured(nothing, row(truth - 1), sizes=sizes)['n_truth_components'] == 0


def test_small_truth_leaves_the_region_with_the_prediction_on_it() -> None:
    sizes = ComponentSizes(predicted=3, truth=3)
    # The prediction of 4 pixels loses 2 to the small object and stays with 2, all wrong.
    values = measured([[1, 1, 1, 1, 0, 0]], [[1, 1, 0, 0, 0, 0]], sizes=sizes)
    assert (values['n_truth_components'], values['n_predicted_components']) == (0, 1)
    assert (values['ppv'], values['f1_mean']) == (0, 0)


def test_few_pixels_outside_the_truth_leave_the_region_too() -> None:
    # One pixel is no truth, fewer than the minimum: the wrong pixel on it no longer counts.
    sizes = ComponentSizes(predicted=1, truth=3)
    assert measured(np.ones((1, 5)), [[1, 1, 1, 1, 0]], sizes=sizes)['ppv'] == 1
    assert measured(np.ones((1, 7)), [[1, 1, 1, 1, 0, 0, 0]], sizes=sizes)['ppv'] == 4 / 7


def test_the_threshold_is_strict() -> None:
    ones = np.ones((2, 2))
    assert measured(ones, ones, threshold=1)['n_predicted_components'] == 0
    assert measured(ones, ones, threshold=strict_threshold(1))['n_predicted_components'] == 1


def test_the_threshold_is_rounded_to_the_type_of_the_map() -> None:
    score = np.float16([[0.1]])
    metrics = ComponentMetrics(0.1, TINY)  # float16(0.1) is below 0.1
    metrics.update(score, np.uint8([[1]]))
    below = ComponentMetrics(float(np.float16(0.1)) - 1e-6, TINY)
    below.update(score, np.uint8([[1]]))
    assert metrics.compute()['n_predicted_components'] == 0
    assert below.compute()['n_predicted_components'] == 0


def test_nan_is_not_predicted() -> None:
    assert measured([[np.nan, 1]], [[0, 1]])['ppv'] == 1


def test_nothing_at_all_is_undefined() -> None:
    values = measured([[0, 0]], [[0, 0]])
    assert [values[k] for k in KEYS] == [None] * 7


def test_no_prediction_leaves_ppv_undefined_and_f1_zero() -> None:
    values = measured([[0, 0]], [[1, 0]])
    assert (values['ppv'], values['siou_gt'], values['f1_mean']) == (None, 0, 0)


def test_an_all_ignored_frame_changes_nothing() -> None:
    metrics = ComponentMetrics(0.5, TINY)
    metrics.update(*(part.astype(t) for part, t in zip(blobs(0), (np.float32, np.uint8),
                                                       strict=True)))  # fmt: skip
    before = metrics.compute()
    metrics.update(np.ones((4, 4), np.float32), np.full((4, 4), 255, np.uint8))
    assert metrics.compute() == before


def test_component_ids_are_those_of_scipy_up_to_their_order() -> None:
    mask = blobs(4)[1] == 1
    ids, sizes = components(mask)
    expected, count = connected(mask, np.ones((3, 3)))
    assert sizes.size == count + 1
    assert np.unique(np.stack([ids.ravel(), expected.ravel()]), axis=1).shape[1] == count + 1
    assert (sizes == np.bincount(ids.ravel())).all()


def test_bad_input_is_an_error() -> None:
    with pytest.raises(ValueError, match='is nan'):
        ComponentMetrics(float('nan'), TINY)
    with pytest.raises(ValueError, match=r'score is \(1, 2\), labels \(2, 1\)'):
        measured([[0, 0]], [[0], [0]])
    with pytest.raises(ValueError, match='cannot merge'):
        ComponentMetrics(0, TINY).merge(ComponentMetrics(1, TINY))
