"""Ordinary frames of a camera, one by one: which are fit, and what is fitted to those."""

from __future__ import annotations

from dataclasses import dataclass
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.calibration import Calibration

from .limits import LEAST_FIT
from .normal_scores import NormalFit, NormalScores
from .promise import SureShare

LEAST_CONTRAST = 12
"""Grey levels between the darkest and the brightest hundredth of an image that shows something."""
MOST_ODD = 0.1
"""Share of frames that may be odd; where more are, they are not the exception."""


def image_fault(image: NDArray[np.uint8]) -> str:
    """Says what is wrong with an image by itself; '' where nothing is.

    Args:
        image: (H, W, 3) RGB.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    low, high = np.quantile(grey, (0.01, 0.99))
    if high - low < LEAST_CONTRAST:
        what = 'black' if high < 40 else 'white' if low > 215 else 'of one colour'
        return f'is {what}: is the lens covered?'
    if np.count_nonzero(grey >= 250) > 0.6 * grey.size:
        return 'is overexposed'
    return ''


@dataclass(frozen=True)
class CameraFit:
    """What ordinary frames give for a camera.

    Attributes:
        normal: Calibration and promise.
        before: What the calibration of before does on the same frames; None where there is none.
        left_out: Name of a frame to why it was left out.
        seen: How many frames came.
        unlike: How many score unlike the others and are kept, being too many for an exception.
        pooled: (n, F) what the graph pools of the frames that are used; None where it does not.
    """

    normal: NormalFit
    before: SureShare | None
    left_out: dict[str, str]
    seen: int
    unlike: int
    pooled: NDArray[np.float32] | None = None


class OrdinaryFrames:
    """Collects frames that are said to be ordinary, and fits a camera to them.

    Args:
        frames: How many will come, at most.
    """

    def __init__(self, frames: int):
        self._scores = NormalScores(frames)
        self._names: list[str] = []
        self._pooled: list[NDArray[np.float32] | None] = []
        self._seen: dict[int, str] = {}
        self._left_out: dict[str, str] = {}

    def __len__(self) -> int:
        """How many frames came."""
        return len(self._names) + len(self._left_out)

    @property
    def left_out(self) -> dict[str, str]:
        """Name of a frame to why it was left out, so far."""
        return self._left_out

    def add(
        self,
        name: str,
        image: NDArray[np.uint8],
        score: NDArray[np.floating],
        scene: str = '',
        pooled: NDArray[np.float32] | None = None,
    ) -> str:
        """Takes a frame, and says why it is left out, '' where it is not.

        Args:
            name: What people know it by.
            image: (h, w, 3) RGB at the network's size.
            score: Raw score of all its pixels that count.
            scene: Drive or folder that it is of.
            pooled: (F,) what the graph pools of it.
        """
        digest = zlib.crc32(image.tobytes())
        if digest in self._seen:
            return self.leave_out(name, f'is the same image as {self._seen[digest]}')
        self._seen[digest] = name
        if fault := image_fault(image):
            return self.leave_out(name, fault)
        if not np.isfinite(score).all():
            return self.leave_out(name, 'has scores that are not finite')
        self._scores.add(score, scene)
        self._names.append(name)
        self._pooled.append(pooled)
        return ''

    def leave_out(self, name: str, why: str) -> str:
        """Notes a frame that cannot be used and gives the reason back."""
        self._left_out[name] = why
        return why

    def fit(
        self, threshold: float, before: Calibration | None, before_threshold: float
    ) -> CameraFit:
        """Fits calibration and promise to the frames that are fit.

        Args:
            threshold: Calibrated score from which on a pixel will be anomalous.
            before: The calibration of before, to compare with.
            before_threshold: The calibrated threshold of before.

        Raises:
            ValueError: Too few frames are fit; the text says why the first was left out.
        """
        count = len(self._names)
        if count < LEAST_FIT:
            raise ValueError(self._too_few())
        rate = 1 - threshold
        odd, unlike = self._scores.odd(rate), 0
        if len(odd) > max(1, MOST_ODD * count):
            odd, unlike = {}, len(odd)
        named = {
            self._names[index]: f'scores unlike the others: {100 * share:.0f} % of it is above '
            'their threshold'
            for index, share in odd.items()
        }
        normal = self._scores.fit(rate, odd)
        known = None
        if before is not None:
            known = self._scores.promise_of(before, before_threshold, odd)
        used = [values for index, values in enumerate(self._pooled) if index not in odd]
        found = [values for values in used if values is not None]
        pooled = np.stack(found) if len(found) == len(used) else None
        left_out = {**self._left_out, **named}
        return CameraFit(normal, known, left_out, len(self), unlike, pooled)

    def _too_few(self) -> str:
        reasons = [f'{name!r} {why}' for name, why in self._left_out.items()]
        more = f'; {len(reasons)} are left out, the first: {reasons[0]}' if reasons else ''
        return (
            f'{len(self._names)} of {len(self)} frames are fit, {LEAST_FIT} are needed: ordinary '
            f'frames of one camera, none twice{more}'
        )
