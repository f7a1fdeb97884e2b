"""Fits the calibration of a score: how the score of normal pixels is distributed."""

from __future__ import annotations

import re

from tqdm import tqdm

from anomaly_seg_ros.adaptation.normal_scores import NormalFit, NormalScores
from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.frames.preprocess import to_input_size
from anomaly_seg_ros.frames.resizing import resize_ids
from anomaly_seg_ros.prediction import Engine
from training.datasets import Dataset

LEAST_FRAMES = 20
"""Fewer show too little of what is normal: a threshold then depends on which they are."""


def fit_calibration(
    engine: Engine, dataset: Dataset, rate: float, sure: bool = False
) -> tuple[NormalFit, float]:
    """Fits the distribution of an engine's score over the labelled pixels of normal frames.

    Pixels with label 255 are left out: what they show may be anything. Labels go to the score's
    size, so that no score is made up by interpolation.

    Args:
        engine: Gives the score.
        dataset: Normal frames.
        rate: Share of normal pixels that may lie at or above the threshold.
        sure: Lower the rate by as much as the upper end of its interval lies above it: frames of
            other scenes then have the promised share or less, where the frames at hand tell.

    Returns:
        The fit, and the rate that its threshold is for.

    Raises:
        ValueError: No pixel of the dataset has a class label.
    """
    scores = NormalScores(len(dataset))
    for index in tqdm(range(len(dataset)), desc=engine.score_name, unit='frame', disable=None):
        sample = dataset[index]
        prediction = engine.infer(to_input_size(sample.image, engine.input_size))
        labels = resize_ids(sample.labels, engine.input_size)
        scores.add(prediction.score[labels != IGNORE], scene_of(sample.name))
    fit = scores.fit(rate)
    if not sure or fit.promise.high <= rate:
        return fit, rate
    rate *= rate / fit.promise.high
    return scores.fit(rate), rate


def scene_of(name: str) -> str:
    """Gives the scene of a frame: its name without the number at the end.

    >>> [scene_of(name) for name in ('0016E5_07959', 'Seq05VD_f00060', 'frankfurt_000001_000019')]
    ['0016E5', 'Seq05VD', 'frankfurt_000001']
    """
    found = re.fullmatch(r'(.*?)[-_. ]*f?\d+(?:_\w*bit)?', name)
    return found.group(1) if found else ''
