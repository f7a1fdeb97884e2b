"""Fits the calibration of a score: how the score of normal pixels is distributed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from anomaly_seg_ros.calibration import Calibration
from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.frames.nearest import resize_ids
from anomaly_seg_ros.frames.preprocess import to_input_size
from anomaly_seg_ros.prediction import Engine
from training.datasets import Dataset

PIXELS_PER_FRAME = 20_000
LEAST_FRAMES = 20
"""Fewer show too little of what is normal: a threshold then depends on which they are."""


def fit_calibration(engine: Engine, dataset: Dataset) -> Calibration:
    """Fits the distribution of an engine's score over the labelled pixels of normal frames.

    Pixels with label 255 are left out: what they show may be anything. Labels go to the score's
    size, so that no score is made up by interpolation. Of each frame a fixed random share is
    taken, so that memory does not grow with the frames' size.

    Raises:
        ValueError: No pixel of the dataset has a class label.
    """
    scores: list[NDArray[np.float32]] = []
    random = np.random.default_rng(0)
    for index in tqdm(range(len(dataset)), desc=engine.score_name, unit='frame', disable=None):
        sample = dataset[index]
        prediction = engine.infer(to_input_size(sample.image, engine.input_size))
        labels = resize_ids(sample.labels, engine.input_size)
        valid = prediction.score[labels != IGNORE]
        count = min(PIXELS_PER_FRAME, valid.size)
        chosen = random.choice(valid, count, replace=False, shuffle=False)
        scores.append(chosen.astype(np.float32, copy=False))
    return Calibration.fit(np.concatenate(scores))
