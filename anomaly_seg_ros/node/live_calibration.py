"""The next frames of a camera taken as ordinary ones: what `~/calibrate` does of itself."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.adaptation.ordinary_frames import CameraFit, OrdinaryFrames
from anomaly_seg_ros.calibration import Calibration

MOST_UNFIT = 0.2
"""Share of frames that may be unfit."""
PATIENCE_S = 10.0
"""How long the next frame may take to come."""


class LiveCalibration:
    """Takes frames until there are enough, or until too many of them are unfit.

    Args:
        frames: How many.
    """

    def __init__(self, frames: int):
        self._frames = frames
        self._found = OrdinaryFrames(frames)
        self._unfit: list[str] = []
        self._last = time.monotonic()

    @property
    def progress(self) -> str:
        """How far it has come, as '12 of 100 frames'."""
        return f'{len(self._found)} of {self._frames} frames'

    def take(
        self,
        image: NDArray[np.uint8],
        score: NDArray[np.floating],
        pooled: NDArray[np.float32] | None = None,
    ) -> bool:
        """Takes a frame and tells whether it was the last one.

        Args:
            image: (h, w, 3) RGB at the network's size.
            score: Raw score of all its pixels that count.
            pooled: What the graph pools of the whole frame.

        Raises:
            ValueError: Too many frames are unfit; the text says how the last one is.
        """
        self._last = time.monotonic()
        number = len(self._found)
        why = self._found.add(f'frame {number}', image, score, '', pooled)
        if why and 'same image' not in why:
            self._unfit.append(why)
        if len(self._unfit) > MOST_UNFIT * self._frames:
            raise ValueError(
                f'{len(self._unfit)} of {number + 1} frames are unfit, the last {self._unfit[-1]}'
            )
        return len(self._found) >= self._frames

    def overdue(self) -> str:
        """Says that frames do not come; '' while they do."""
        if time.monotonic() - self._last < PATIENCE_S:
            return ''
        return f'no frame came for {PATIENCE_S:.0f} s, after {self.progress}'

    def fit(self, threshold: float, before: Calibration) -> CameraFit:
        """Fits what has come; arguments as of `OrdinaryFrames.fit`.

        Raises:
            ValueError: The frames are the same image, or differ too much to be ordinary.
        """
        fit = self._found.fit(threshold, before, threshold)
        if fit.unlike:
            raise ValueError(
                f'{fit.unlike} of {fit.seen} frames score unlike the others; show the camera what '
                'is ordinary, and nothing else'
            )
        return fit


def said(fit: CameraFit, threshold: float) -> str:
    """Gives one line of what was fitted."""
    return (
        f'calibrated on {fit.normal.frames} of {fit.seen} frames; share of pixels above the '
        f'threshold: before {fit.before}, now {fit.normal.promise}, promised '
        f'{100 * (1 - threshold):.2f} %'
    )
