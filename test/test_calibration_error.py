"""Facts about ECE and NLL, against the definitions and scikit-learn."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import log_loss

from training.metrics.calibration_error import CalibrationError


def frame(seed: int, classes: int = 4, shape: tuple[int, int] = (130, 20)) -> tuple:
    random = np.random.default_rng(seed)
    logits = (random.normal(size=(classes, *shape)) * 3).astype(np.float32)
    labels = random.integers(0, classes, shape).astype(np.uint8)
    labels[random.random(shape) < 0.2] = 255
    return logits, labels


def measured(frames, **options) -> CalibrationError:
    metrics = CalibrationError()
    for logits, labels in frames:
        metrics.update(logits, labels, **options)
    return metrics


def plainly(frames, temperature: float = 1) -> tuple[float, float]:
    logits = np.concatenate([x.reshape(len(x), -1) for x, _ in frames], 1).astype(np.float64)
    labels = np.concatenate([y.ravel() for _, y in frames])
    logits, labels = logits[:, labels != 255] / temperature, labels[labels != 255]
    logs = log_softmax(logits, axis=0)
    confidence, hit = np.exp(logs.max(0)), logs.argmax(0) == labels
    ece = 0.0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        if inside.any():
            ece += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    return ece, log_loss(labels, np.exp(logs).T, labels=range(len(logs)))


@pytest.mark.parametrize('temperature', [0.5, 1.0, 3.0])
@pytest.mark.parametrize('dtype', [np.float16, np.float32])
def test_values_equal_the_definitions(temperature: float, dtype: type) -> None:
    frames = [(x.astype(dtype), y) for x, y in (frame(0), frame(1))]
    values = measured(frames, temperature=temperature).compute()
    ece, nll = plainly(frames, temperature)
    assert values['ece'] == pytest.approx(ece, abs=1e-9)
    assert values['nll'] == pytest.approx(nll, abs=1e-9)


@pytest.mark.parametrize(('confidence', 'place'), [(0.5, 7), (1.0, 14), (1 / 15, 0), (0.0, 0)])
def test_bins_hold_their_upper_edge(confidence: float, place: int) -> None:
    metrics = CalibrationError()
    metrics.add(np.array([confidence]), np.array([True]), np.zeros(1))
    assert np.flatnonzero(metrics.counts).tolist() == [place]


def test_a_perfectly_calibrated_set_has_no_error() -> None:
    metrics = CalibrationError()
    hit = np.arange(10) < 8
    metrics.add(np.full(10, 0.8), hit, np.zeros(10))
    assert metrics.compute()['ece'] == pytest.approx(0, abs=1e-12)


def test_huge_logits_stay_finite() -> None:
    logits = np.float32([[[1e4]], [[-1e4]]])
    assert measured([(logits, np.uint8([[0]]))]).compute()['nll'] == 0
    assert measured([(logits, np.uint8([[1]]))]).compute()['nll'] == 2e4


def test_ignored_pixels_never_count() -> None:
    logits, labels = frame(0)
    changed = logits.copy()
    changed[:, labels == 255] = np.nan
    assert measured([(changed, labels)]).compute() == measured([(logits, labels)]).compute()


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(4)), st.integers(0, 4))
def test_merged_parts_in_any_order_equal_the_whole(order, cut: int) -> None:
    frames = [frame(seed) for seed in range(4)]
    first = measured([frames[i] for i in order[:cut]])
    first.merge(measured([frames[i] for i in order[cut:]]))
    whole = measured(frames)
    assert first.compute() == whole.compute()
    assert np.array_equal(first.reliability(), whole.reliability(), equal_nan=True)


def test_the_diagram_adds_up_to_the_error() -> None:
    metrics = measured([frame(0)])
    diagram = metrics.reliability()
    used = diagram.share > 0
    gap = np.abs(diagram.accuracy - diagram.confidence)[used]
    assert (gap * diagram.share[used]).sum() == pytest.approx(metrics.compute()['ece'])
    assert np.isnan(diagram.accuracy[~used]).all()


def test_nothing_labelled_is_undefined() -> None:
    values = measured([(np.zeros((2, 1, 1)), np.uint8([[255]]))]).compute()
    assert (values['ece'], values['nll'], values['n_pixels']) == (None, None, 0)


@pytest.mark.parametrize(
    ('logits', 'labels', 'options', 'text'),
    [
        (np.zeros((2, 1, 1)), [[2]], {}, 'label 2 is not one of 2 classes'),
        (np.zeros((2, 1, 2)), [[0]], {}, 'logits are'),
        (np.zeros((2, 1, 1)), [[0]], {'temperature': 0}, 'temperature must be above 0'),
        (np.full((2, 1, 1), np.nan), [[0]], {}, 'not finite'),
    ],
)
def test_bad_input_is_an_error(logits, labels, options, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        CalibrationError().update(logits, np.array(labels, np.uint8), **options)


def test_parts_with_other_bins_do_not_merge() -> None:
    with pytest.raises(ValueError, match='cannot merge'):
        CalibrationError().merge(CalibrationError(10))
