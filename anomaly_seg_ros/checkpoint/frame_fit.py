"""What a checkpoint says of whole frames: the method, its threshold, the cameras it knows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .calibrated import checked_fields
from .fields import Check, listed, number, one_of, text, whole

METHODS = ('dfkde', 'lake', 'reconstruction')
"""How a frame is judged as a whole; what each does stands in `whole_frame/methods.py`."""


@dataclass(frozen=True)
class FrameFit:
    """A method that was fitted to normal frames.

    Attributes:
        method: One of `METHODS`.
        threshold: Raw value at which a frame scores 0.5, from which on it is out of domain.
        false_alarms: Normal frames of 1000 that the threshold is meant to let lie above it.
        fitted_on: Data set and split that the method was fitted on.
        frames: How many.
        threshold_on: Data set and split that the threshold was chosen on, and how.
        commit: Of the code that did it.
    """

    method: str
    threshold: float
    false_alarms: float
    fitted_on: str
    frames: int
    threshold_on: str
    commit: str


@dataclass(frozen=True)
class FrameShift:
    """What a camera's ordinary frames look like beside those that a method was fitted to.

    Attributes:
        values: (F,) mean of the frames' pooled values; the method's own mean takes their place.
        threshold: As of `FrameFit`, for this camera.
        frames: How many.
        source: Folder, bag or topic that they came from.
    """

    values: tuple[float, ...]
    threshold: float
    frames: int
    source: str


_positive = number('a number above 0', lambda value: value > 0)


def frame_fit(key: str, value: Any) -> FrameFit:
    """Checks for a fitted method."""
    checks: dict[str, Check] = {
        'method': one_of(METHODS),
        'threshold': _positive,
        'false_alarms': _positive,
        'fitted_on': text,
        'frames': whole(1),
        'threshold_on': text,
        'commit': text,
    }
    values = asdict(value) if isinstance(value, FrameFit) else value
    return FrameFit(**checked_fields(key, values, checks, checks.keys()))


def frame_shift(key: str, value: Any) -> FrameShift:
    """Checks for what a camera has of its own."""
    checks: dict[str, Check] = {
        'values': listed(number('a number')),
        'threshold': _positive,
        'frames': whole(1),
        'source': text,
    }
    values = asdict(value) if isinstance(value, FrameShift) else value
    return FrameShift(**checked_fields(key, values, checks, checks.keys()))
