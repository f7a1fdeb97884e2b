"""Intervals over resampled frames, against measuring every resample anew with whole frames."""

from __future__ import annotations

from collections.abc import Callable
import time
from typing import Any

import numpy as np
import pytest

from training.metrics.bootstrap import _interval as interval_of
from training.metrics.bootstrap import frame_weights, intervals
from training.metrics.component import ComponentMetrics, ComponentSizes, level_counts, mean_f1
from training.metrics.confusion import ConfusionMatrix, mean_ious
from training.metrics.frame_bins import FrameBins
from training.metrics.operating import OperatingPoint, rates, table_row
from training.metrics.pixel import PixelMetrics

ROUNDS = 60
SIZE = (16, 24)


def frame(seed: int, steps: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores, rounded to `steps`, and labels of which every fifth frame has no anomaly."""
    random = np.random.default_rng(seed)
    anomaly = np.zeros(SIZE, np.uint8)
    anomaly[:2] = 255
    if seed % 5:
        top, left = random.integers(2, 10, 2)
        anomaly[top : top + 4, left : left + 6] = 1
    score = random.normal(0, 1, SIZE) + (anomaly == 1) * random.uniform(0, 3)
    return (np.round(score / steps) * steps if steps else score).astype(np.float32), anomaly


def measured_anew(
    measure: Callable[[list[int]], dict[str, Any]], frames: int
) -> dict[str, list[float]]:
    """Literally: draws frames, puts them together, measures, and takes the quantiles."""
    found: dict[str, list[float]] = {}
    for weights in frame_weights(frames, ROUNDS).astype(int):
        drawn = [index for index, times in enumerate(weights) for _ in range(times)]
        for key, value in measure(drawn).items():
            if value is not None:
                found.setdefault(key, []).append(value)
    return {key: np.quantile(values, (0.025, 0.975)).tolist() for key, values in found.items()}


def pooled(frames: list[Any]) -> PixelMetrics:
    metrics = PixelMetrics()
    for score, anomaly in frames:
        metrics.update(score, anomaly)
    return metrics


@pytest.mark.parametrize(
    ('steps', 'levels', 'tolerance'),
    [(0.125, 1024, 1e-12), (0.0, 4096, 1e-12), (0.0, 128, 4e-3), (1.0, 16, 1e-12)],
    ids=['ties', 'each score a bin', 'scores share bins', 'few scores'],
)
def test_ap_and_fpr95_are_those_of_the_drawn_frames(
    steps: float, levels: int, tolerance: float
) -> None:
    frames = [frame(seed, steps) for seed in range(20)]
    bins = FrameBins.of(pooled(frames), levels)
    counts = np.stack([bins.count(*one) for one in frames])
    found = intervals(counts, bins.values, ROUNDS)

    def measure(drawn: list[int]) -> dict[str, Any]:
        values = pooled([frames[index] for index in drawn]).compute()
        return {key: values[key] for key in ('ap', 'fpr95')}

    expected = measured_anew(measure, len(frames))
    for key, ends in expected.items():
        assert found[key] == pytest.approx(ends, abs=tolerance), key
        assert ends[1] > ends[0] + 0.005


def test_the_bins_of_all_frames_give_the_sets_own_numbers() -> None:
    frames = [frame(seed) for seed in range(8)]
    metrics = pooled(frames)
    bins = FrameBins.of(metrics)
    sums = sum(bins.count(*one).astype(float) for one in frames)
    for key, (value,) in bins.values(sums[None]).items():
        assert value == pytest.approx(metrics.compute()[key], abs=1e-12), key
    assert sums.sum() == metrics.compute()['n_pixels']


def test_mean_f1_of_regions_is_that_of_the_drawn_frames() -> None:
    frames = [frame(seed) for seed in range(12)]

    def measured(drawn: list[int]) -> ComponentMetrics:
        metrics = ComponentMetrics(1.0, ComponentSizes(1, 1))
        for index in drawn:
            metrics.update(*frames[index])
        return metrics

    whole = measured(list(range(len(frames))))
    counts = np.stack([level_counts(*one) for one in zip(whole.siou, whole.ppv, strict=True)])
    found = intervals(counts, mean_f1, ROUNDS)
    expected = measured_anew(
        lambda drawn: {'f1_mean': measured(drawn).compute()['f1_mean']}, len(frames)
    )
    assert found['f1_mean'] == pytest.approx(expected['f1_mean'], abs=1e-12)


def test_miou_is_that_of_the_drawn_frames() -> None:
    random = np.random.default_rng(0)
    singles = []
    for index in range(10):
        labels = random.integers(0, 4, SIZE).astype(np.uint8)
        labels[labels == index % 4] = 255
        guess = np.where(random.random(SIZE) < 0.7, labels, random.integers(0, 5, SIZE))
        single = ConfusionMatrix(4)
        single.update(guess.astype(np.uint8), labels)
        singles.append(single)

    def measure(drawn: list[int]) -> dict[str, Any]:
        together = ConfusionMatrix(4)
        for index in drawn:
            together.merge(singles[index])
        return {'miou': together.mean_iou()}

    found = intervals(np.stack([single.counts for single in singles]), mean_ious, ROUNDS)
    assert found['miou'] == pytest.approx(measured_anew(measure, 10)['miou'], abs=1e-12)


def operating(frames: list[Any], numbers: list[int]) -> OperatingPoint:
    point = OperatingPoint(1.0)
    for place, index in enumerate(numbers):
        score, anomaly = frames[index]
        point.update(place, score, anomaly, (score > 0).astype(np.uint8))
    return point


def test_rates_at_a_threshold_are_those_of_the_drawn_frames() -> None:
    frames = [frame(seed) for seed in range(12)]
    whole = operating(frames, list(range(12)))
    found = intervals(whole.per_frame(), rates, ROUNDS)
    keys = ('precision', 'recall', 'false_positive_share')
    expected = measured_anew(
        lambda drawn: {key: operating(frames, drawn).compute()[key] for key in keys}, 12
    )
    assert found.keys() == set(keys)
    for key in keys:
        assert found[key] == pytest.approx(expected[key], abs=1e-12)


def test_rates_of_thirds_and_classes_by_hand() -> None:
    score = np.float32([[2, 0], [2, 2], [0, 2]])
    anomaly = np.uint8([[1, 0], [0, 255], [1, 0]])
    point = OperatingPoint(1.0)
    point.update(0, score, anomaly, np.uint8([[3, 3], [7, 7], [7, 3]]))
    assert point.compute() == {
        'n_normal': 3,
        'n_anomaly': 2,
        'precision': 1 / 3,
        'recall': 1 / 2,
        'false_positive_share': 2 / 3,
    }
    top, middle, bottom = (table_row(counts) for counts in point.thirds)
    assert (top['recall'], top['false_positive_share']) == (1, 0)
    assert (middle['recall'], middle['precision']) == (None, None)
    assert middle['false_positive_share'] == 1
    assert (bottom['recall'], bottom['precision']) == (0, 0)
    assert table_row(point.classes[3])['false_positive_share'] == 1 / 2
    assert table_row(point.classes[7])['recall'] == 0


def test_halves_of_the_frames_merged_are_the_whole() -> None:
    frames = [frame(seed) for seed in range(6)]
    whole = operating(frames, list(range(6)))
    first, second = OperatingPoint(1.0), OperatingPoint(1.0)
    for index, one in enumerate(frames):
        (first, second)[index % 2].update(index, *one)
    first.merge(second)
    assert (first.per_frame() == whole.per_frame()).all()
    with pytest.raises(ValueError, match=r'cannot merge threshold 2\.0 into 1\.0'):
        first.merge(OperatingPoint(2.0))


@pytest.mark.parametrize('frames', [[], [(np.zeros(SIZE, np.float32), np.zeros(SIZE, np.uint8))]])
def test_without_anomalies_or_with_one_frame_there_is_no_interval(frames: list[Any]) -> None:
    metrics = pooled(frames)
    bins = FrameBins.of(metrics)
    counts = np.zeros((len(frames), 2, bins.levels.size + 1), np.uint32)
    assert intervals(counts, bins.values, ROUNDS) == {'ap': None, 'fpr95': None}
    several = np.tile(bins.count(np.zeros(SIZE, np.float32), np.zeros(SIZE, np.uint8)), (3, 1, 1))
    assert intervals(several, bins.values, ROUNDS) == {'ap': None, 'fpr95': None}


def test_hundreds_of_frames_are_resampled_in_moments() -> None:
    """A thousand times 300 frames of 2 megapixels would be 600 gigapixels."""
    counts = np.random.default_rng(0).integers(0, 2000, (300, 2, 1025)).astype(np.uint32)
    bins = FrameBins(np.arange(1024, dtype=np.float32), np.zeros(1024, np.bool_))
    start = time.process_time()
    assert intervals(counts, bins.values)['ap'] is not None
    assert time.process_time() - start < 5


def test_frames_wider_than_high_have_thirds_too() -> None:
    point = OperatingPoint(0.5)
    point.update(0, np.zeros((3, 9), np.float32), np.zeros((3, 9), np.uint8))
    assert point.thirds[:, 2].tolist() == [9, 9, 9]


def test_scores_that_share_a_bin_are_in_the_middle_of_it() -> None:
    """3 hits and 2 alarms in one bin: behind its middle hit are 2 hits and 1 alarm."""
    bins = FrameBins(np.float32([1.0]), np.array([False]))
    found = bins.values(np.array([[[0, 3.0], [0, 2.0]]]))
    assert found['ap'][0] == pytest.approx(2 / (2 + 1))


def test_what_is_undefined_in_most_resamples_has_no_interval() -> None:
    def values(weights: np.ndarray) -> dict[str, np.ndarray]:
        most, few = np.ones(len(weights)), np.ones(len(weights))
        most[: 2 * len(weights) // 3], few[: len(weights) // 3] = np.nan, np.nan
        return {'most': most, 'few': few}

    assert interval_of(values(np.ones(9))['most']) is None
    assert interval_of(values(np.ones(9))['few']) == (1, 1)
