"""Fits the temperature of the softmax: one number by which all logits are divided."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.classes import first_names, IGNORE
from anomaly_seg_ros.frames.resizing import resize_ids
from training.datasets import Dataset
from training.evaluation.network_pass import NetworkPass
from training.evaluation.resizing import network_input
from training.metrics.calibration_error import CalibrationError

PIXELS = 2_000_000
"""Pixels that a fit uses at most, spread evenly over the frames."""

PIXELS_PER_FRAME = 20_000
LOWEST, HIGHEST = 0.01, 100.0
"""Temperatures between which the optimum must lie."""

TOLERANCE = 1e-6
CHUNK = 1 << 16


@dataclass(frozen=True)
class TemperatureFit:
    """A fitted temperature with ECE and NLL at temperature 1 and at the fitted one.

    Attributes:
        pixels: How many pixels were used.
    """

    temperature: float
    pixels: int
    ece_before: float
    nll_before: float
    ece: float
    nll: float


@dataclass(frozen=True)
class LabelledLogits:
    """Logits of pixels whose class is known.

    Attributes:
        logits: (n, K) float32 without void.
        labels: (n,) uint8 train ids.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.uint8]


def fit_temperature(pixels: LabelledLogits) -> TemperatureFit:
    """Gives the temperature with the least NLL.

    With b = 1/T the NLL is convex: its slope, mean over pixels of E_p[l] - l_true, rises with b.
    So the zero of the slope is found by Newton steps that stay inside a shrinking bracket.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017. The L-BFGS recipe that
    is often copied with it stops well short of the optimum.

    Raises:
        ValueError: The optimum lies outside of 0.01..100.
    """
    low, high = 1 / HIGHEST, 1 / LOWEST
    if slope(pixels, low)[0] >= 0 or slope(pixels, high)[0] <= 0:
        raise ValueError(
            f'no temperature between {LOWEST} and {HIGHEST} has the least NLL: the classes of '
            'these frames are all right or all chance; fit on other validation frames'
        )
    inverse = 1.0
    while high - low > TOLERANCE * low:
        first, second = slope(pixels, inverse)
        low, high = (low, inverse) if first > 0 else (inverse, high)
        step = inverse - first / second if second > 0 else low
        if abs(step - inverse) <= TOLERANCE * inverse:
            inverse = step
            break
        inverse = step if low < step < high else (low * high) ** 0.5
    temperature = 1 / inverse
    before, after = _quality(pixels, 1.0), _quality(pixels, temperature)
    return TemperatureFit(temperature, pixels.labels.size, *before, *after)


def slope(pixels: LabelledLogits, inverse: float) -> tuple[float, float]:
    """Gives the first and second derivative of the mean NLL by b = 1/T.

    >>> slope(LabelledLogits(np.float32([[0, 2], [0, 2]]), np.uint8([1, 0])), 1e-12)
    (0.0, 1.0)
    """
    first = second = 0.0
    for start in range(0, pixels.labels.size, CHUNK):
        logits = pixels.logits[start : start + CHUNK].astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        p = np.exp(inverse * logits)
        p /= p.sum(axis=1, keepdims=True)
        mean = (p * logits).sum(axis=1)
        true = logits[np.arange(len(logits)), pixels.labels[start : start + CHUNK]]
        first += float((mean - true).sum())
        second += float(((p * logits**2).sum(axis=1) - mean**2).sum())
    return round(first / pixels.labels.size, 11), round(second / pixels.labels.size, 11)


def _quality(pixels: LabelledLogits, temperature: float) -> tuple[float, float]:
    """Gives ECE and NLL at a temperature."""
    metrics = CalibrationError()
    for start in range(0, pixels.labels.size, CHUNK):
        part = slice(start, start + CHUNK)
        metrics.update(pixels.logits[part].T[:, None], pixels.labels[part][None], temperature)
    values = metrics.compute()
    ece, nll = values['ece'], values['nll']
    assert ece is not None
    assert nll is not None
    return ece, nll


def check_classes(meta: CheckpointMeta, dataset: Dataset, what: str = 'the temperature') -> None:
    """Checks that the labels of a dataset say what is right for a checkpoint.

    Args:
        meta: Of the checkpoint.
        dataset: Frames with class labels.
        what: What is fitted on them, for the error text.

    Raises:
        ValueError: It has other classes than the checkpoint.
    """
    if dataset.classes.names != meta.class_names:
        raise ValueError(
            f'{what} needs frames labelled with the classes of the checkpoint '
            f'({first_names(meta.class_names)}); this dataset has '
            f'{first_names(dataset.classes.names) or "none"}'
        )


def collect_logits(network: NetworkPass, meta: CheckpointMeta, dataset: Dataset) -> LabelledLogits:
    """Gives logits of a fixed random share of the labelled pixels of each frame.

    Labels are taken at the network's size, so that no logit is made up by interpolation.

    Raises:
        ValueError: The dataset has other classes than the checkpoint, or no labelled pixel, or
            the network no logits.
    """
    check_classes(meta, dataset)
    random = np.random.default_rng(0)
    count = min(PIXELS_PER_FRAME, max(1, PIXELS // len(dataset)))
    logits, labels = [], []
    for index in tqdm(range(len(dataset)), desc='temperature', unit='frame', disable=None):
        sample = dataset[index]
        output = network.infer(network_input(sample.image, network.input_size, 'exact'))
        if output.logits is None:
            raise ValueError(
                f"'temperature' divides logits, and model {meta.model!r} gives none: masks show "
                'its classes; leave the word out'
            )
        truth = resize_ids(sample.labels, network.input_size)
        valid = np.flatnonzero(truth != IGNORE)
        chosen = random.choice(valid, min(count, valid.size), replace=False, shuffle=False)
        logits.append(output.logits.reshape(len(output.logits), -1)[:, chosen].T)
        labels.append(truth.ravel()[chosen])
    if not sum(part.size for part in labels):
        raise ValueError('no pixel of these frames has a class label')
    return LabelledLogits(np.concatenate(logits), np.concatenate(labels))
