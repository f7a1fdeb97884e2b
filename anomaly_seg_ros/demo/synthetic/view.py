"""The camera over the road, and the canvas its frame is painted on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .texture import Bytes, Floats

Point = tuple[float, float, float]
"""To the right of the camera, above the road, ahead; in m."""
CAMERA_M = 1.35
HORIZON, FOCAL = 0.46, 1.05  # in image heights
NEAR_M, FAR_M = 1.0, 150.0


class View(NamedTuple):
    """The pinhole camera: level, looking along the street."""

    height: int
    width: int

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return FOCAL * self.height

    @property
    def horizon(self) -> float:
        """Row of the horizon."""
        return HORIZON * self.height

    @property
    def centre(self) -> float:
        """Column where the street vanishes."""
        return 0.46 * self.width

    def project(self, points: Floats) -> Floats:
        """Gives (N, 2) pixels of (N, 3) points: to the right, above the road, ahead; in m."""
        scale = self.focal / np.maximum(points[:, 2], NEAR_M)
        return np.stack(
            [
                self.centre + points[:, 0] * scale,
                self.horizon + (CAMERA_M - points[:, 1]) * scale,
            ],
            axis=1,
        ).astype(np.float32)


class Canvas(NamedTuple):
    """What a frame is painted on."""

    image: Bytes
    labels: Bytes
