"""Whether a camera is fit: what is wrong with each frame, and what has been for long enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .picture import is_dark, is_same, thumbnail

DARK, FROZEN, OUT_OF_DOMAIN = 'dark', 'frozen', 'out of domain'
"""Why a camera is unfit."""


@dataclass(frozen=True)
class HealthSettings:
    """When a camera is unfit.

    Attributes:
        threshold: Frame score at or above which a frame is out of domain; above 1 none is.
        frames: So many in a row make a camera unfit, and so many good ones fit again.
        frozen_frames: So many of the same picture in a row are a frozen camera; 0: none are.
    """

    threshold: float = 0.5
    frames: int = 3
    frozen_frames: int = 5


@dataclass(frozen=True)
class CameraHealth:
    """What the frames so far say of a camera.

    Attributes:
        fault: What is wrong with the last frame: one of the reasons above, or ''.
        reason: Why the camera is unfit; '' while it is fit.
        streak: Frames in a row up to the last that speak against `reason`: good ones while it is
            unfit, bad ones while it is fit.
        same: How often the last picture came again.
        pixels: Thumbnail of the last frame; None before the first.
    """

    fault: str = ''
    reason: str = ''
    streak: int = 0
    same: int = 0
    pixels: NDArray[np.uint8] | None = None

    @property
    def fit(self) -> bool:
        """Whether what the network says of the camera can be trusted."""
        return not self.reason

    def after(
        self, image: NDArray[np.uint8], score: float | None, settings: HealthSettings
    ) -> CameraHealth:
        """Gives the health behind one more frame.

        Args:
            image: (h, w, 3) RGB at the network's size.
            score: Its frame score; None where there is none that has a threshold.
            settings: That hold now.
        """
        pixels = thumbnail(image)
        same = self.same + 1 if is_same(pixels, self.pixels) else 0
        fault = ''
        if is_dark(pixels):
            fault = DARK
        elif 0 < settings.frozen_frames <= same + 1 and same:
            fault = FROZEN
        elif score is not None and score >= settings.threshold:
            fault = OUT_OF_DOMAIN
        reason, streak = self._judged(fault, settings.frames)
        return CameraHealth(fault, reason, streak, same, pixels)

    def _judged(self, fault: str, frames: int) -> tuple[str, int]:
        if self.reason and fault:
            return fault, 0  # unfit still, perhaps for another reason
        streak = self.streak + 1 if bool(fault) != bool(self.reason) else 0
        # A camera that stands still has been counted already.
        if fault == FROZEN or streak >= frames:
            return fault, 0
        return self.reason, streak
