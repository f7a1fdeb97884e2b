"""Fits how whole frames are judged: a method on training frames, its threshold on others."""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.frames.preprocess import to_input_size
from anomaly_seg_ros.models import build_model
from anomaly_seg_ros.prediction import Engine
from anomaly_seg_ros.scores.parts.pooled_features import RECONSTRUCTION
from anomaly_seg_ros.whole_frame.methods import fit_method, Method
from training.datasets import Dataset

from .calibration import scene_of

TAIL = 0.2
"""Share of the frames that the slope of the tail is taken from."""


class PooledFrames(NamedTuple):
    """What a graph pools of frames.

    Attributes:
        values: (n, F).
        scenes: Of each frame.
    """

    values: NDArray[np.float32]
    scenes: list[str]


def check_method(name: str, meta: CheckpointMeta) -> None:
    """Refuses a method that needs what the network does not give.

    Raises:
        ValueError: It is for autoencoders, and the network is none.
    """
    provides = build_model(meta.model, meta.channels, meta.model_options).provides
    if name != 'dfkde' and RECONSTRUCTION not in provides:
        raise ValueError(
            f'frame method {name!r} needs a network that gives its image again, such as '
            f"'autoencoder'; for {meta.model!r} take 'dfkde'"
        )


def pooled_frames(engine: Engine, dataset: Dataset, what: str) -> PooledFrames:
    """Runs all frames of a dataset through an engine; `what` stands before the progress bar.

    Raises:
        ValueError: No frames, or the engine's graph pools nothing.
    """
    values, scenes = [], []
    for index in tqdm(range(len(dataset)), desc=what, unit='frame', disable=None):
        sample = dataset[index]
        prediction = engine.infer(to_input_size(sample.image, engine.input_size))
        if prediction.frame is None:
            raise ValueError(f'engine {engine.name!r} gives nothing of whole frames; export again')
        values.append(prediction.frame)
        scenes.append(scene_of(sample.name))
    if not values:
        raise ValueError(f'no frames for {what}')
    return PooledFrames(np.stack(values), scenes)


def tail_threshold(raw: NDArray[np.float64], rate: float) -> float:
    """Gives the value that a share `rate` of normal frames is expected to reach.

    Few frames say nothing of one in hundreds, so beyond the upper `TAIL` of them an exponential
    tail of their own mean excess is assumed.

    Args:
        raw: (n,) values of normal frames.
        rate: 0..1.

    >>> round(tail_threshold(np.arange(1000.0), 0.2), 1)
    799.2
    """
    if rate >= TAIL:
        return float(np.quantile(raw, 1 - rate))
    start = float(np.quantile(raw, 1 - TAIL))
    above = raw[raw > start]
    excess = float((above - start).mean()) if above.size else 0.0
    return start + excess * math.log(TAIL / rate)


def left_out_raw(name: str, frames: PooledFrames) -> NDArray[np.float64]:
    """Gives (n,) values of each frame by a method that was fitted to the other scenes.

    Raises:
        ValueError: There is one scene alone, or too few frames beside one.
    """
    scenes = np.array(frames.scenes)
    names = sorted(set(frames.scenes))
    if len(names) < 2:
        raise ValueError(
            f'all frames are of one scene, {names[0]!r}, so that nothing is known of others; '
            'leave --sure out, or give frames of several drives'
        )
    raw = np.empty(len(scenes))
    for scene in names:
        own = scenes == scene
        raw[own] = fit_method(name, frames.values[~own]).raw(frames.values[own])
    return raw


class FittedMethod(NamedTuple):
    """A method and the raw value that makes a frame out of domain."""

    method: Method
    threshold: float


def fit_frames(
    name: str, training: PooledFrames, validation: PooledFrames, rate: float, sure: bool
) -> FittedMethod:
    """Fits a method and its threshold.

    Args:
        name: One of `METHODS`.
        training: The method is fitted to them.
        validation: The threshold is for these.
        rate: Share of normal frames that may lie at or above it.
        sure: The threshold holds for scenes that are not among the training frames too: each of
            theirs is left out in turn, and the higher of both thresholds counts.

    Raises:
        ValueError: Too few frames, or of one scene alone where `sure` needs several.
    """
    method = fit_method(name, training.values)
    threshold = tail_threshold(method.raw(validation.values), rate)
    if sure:
        threshold = max(threshold, tail_threshold(left_out_raw(name, training), rate))
    return FittedMethod(method, max(threshold, 1e-9))


def false_alarm_rate(
    per_1000: float | None, per_hour: float | None, rate_hz: float | None
) -> float:
    """Gives the share of normal frames that may be false alarms.

    Args:
        per_1000: So many of 1000 frames; 5 where nothing is said.
        per_hour: Or so many an hour, at `rate_hz` frames a second.
        rate_hz: Of the camera.

    Raises:
        ValueError: Both are given, the rate of the camera is missing, or a value does not fit.

    >>> false_alarm_rate(None, 36, 10)
    0.001
    """
    if per_hour is None:
        if rate_hz is not None:
            raise ValueError('--frame-rate goes with --false-alarms-per-hour')
        rate = (5.0 if per_1000 is None else per_1000) / 1000
    elif per_1000 is not None:
        raise ValueError('give either --false-alarms-per-1000 or --false-alarms-per-hour')
    elif rate_hz is None or rate_hz <= 0:
        raise ValueError('--false-alarms-per-hour needs --frame-rate, frames a second above 0')
    else:
        rate = per_hour / 3600 / rate_hz
    if not 0 < rate < 1:
        raise ValueError(f'a share of {rate} false alarms must lie between 0 and 1')
    return rate


def scenes_said(scenes: Sequence[str]) -> str:
    """Gives what a line says of scenes: '3 scenes'."""
    count = len(set(scenes))
    return f'{count} scene{"s" if count > 1 else ""}'
