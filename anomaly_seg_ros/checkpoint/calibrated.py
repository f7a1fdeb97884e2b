"""What a calibration was fitted on, how well it held there, and the calibrations of cameras."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass, field
from typing import Any

from anomaly_seg_ros.calibration import Calibration

from .fields import Check, listed, mapped, number, or_none, text, unfit, whole


@dataclass(frozen=True)
class CalibratedOn:
    """The normal frames that a calibration was fitted on, and the commit that did it.

    Attributes:
        dataset: Data set, folder or bag.
        split: Of it.
        frames: How many.
        commit: Of the code that did it.
        share: Of the pixels of frames that were left out in turn, the share at or above the
            threshold, 0..1; None in files of before.
        interval: 95 % interval of `share` over scenes or stretches of frames.
        scenes: Scene to its share.
    """

    dataset: str
    split: str
    frames: int
    commit: str
    share: float | None = None
    interval: tuple[float, float] | None = None
    scenes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CameraCalibration:
    """What one camera has in place of the checkpoint's own.

    Attributes:
        calibration: Of the score on its normal frames.
        threshold: Calibrated value (0..1) from which on a pixel is anomalous.
        calibrated_on: The frames.
    """

    calibration: Calibration
    threshold: float
    calibrated_on: CalibratedOn

    def to_json(self) -> dict[str, Any]:
        """Gives plain values; `camera_calibration` reads them."""
        return {
            'levels': list(self.calibration.levels),
            'threshold': self.threshold,
            'calibrated_on': asdict(self.calibrated_on),
        }


def calibration(key: str, value: Any) -> Calibration:
    """Checks for the levels of a calibration."""
    if isinstance(value, Calibration):
        return value
    levels = listed(number('a number'))(key, value)
    try:
        return Calibration(levels)
    except ValueError as error:
        raise ValueError(f'{key}: {error}') from None


share: Check = number('a number from 0 to 1', lambda value: 0 <= value <= 1)
"""Checks for a share or a calibrated score."""


def calibrated_on(key: str, value: Any) -> CalibratedOn:
    """Checks for what a calibration was fitted on."""
    values = asdict(value) if isinstance(value, CalibratedOn) else value
    checks: dict[str, Check] = {
        'dataset': text,
        'split': text,
        'frames': whole(1),
        'commit': text,
        'share': or_none(share),
        'interval': or_none(listed(share, 2)),
        'scenes': mapped(share),
    }
    needed = {'dataset', 'split', 'frames', 'commit'}
    return CalibratedOn(**checked_fields(key, values, checks, needed))


def camera_calibration(key: str, value: Any) -> CameraCalibration:
    """Checks for the calibration of a camera."""
    if isinstance(value, CameraCalibration):
        return value
    checks: dict[str, Check] = {
        'levels': calibration,
        'threshold': share,
        'calibrated_on': calibrated_on,
    }
    found = checked_fields(key, value, checks, checks.keys())
    return CameraCalibration(found['levels'], found['threshold'], found['calibrated_on'])


def checked_fields(
    key: str, values: Any, checks: Mapping[str, Check], needed: Set[str]
) -> dict[str, Any]:
    """Gives the checked values of an object that has the needed keys and no unknown ones."""
    if not isinstance(values, dict) or not needed <= values.keys() <= checks.keys():
        raise unfit(key, values, f'an object with {", ".join(checks)}')
    return {own: checks[own](f'{key}.{own}', part) for own, part in values.items()}
