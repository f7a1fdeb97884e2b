"""What every source of negatives gives: a photo, and where known the regions of its objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE


class Negative(NamedTuple):
    """One photo to cut outliers from."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    regions: NDArray[np.uint8] | None
    """(H, W) region ids, 0 = background, which is part of no region; None: nothing is known."""
    label: int = IGNORE
    """Train id of its regions where they are no outlier; 255: they are one."""


class NegativeSource(Protocol):
    """An endless source of photos.

    Attributes:
        shapes: Names of the shapes that fit its photos, with their weights; what a `Paster`
            takes when it is told none.
        short_side: Likewise, see `Paster`; pixels.
        crop: Likewise.
    """

    shapes: Mapping[str, float]
    short_side: int
    crop: int

    def draw(self, rng: np.random.Generator) -> Negative:
        """Gives a photo; a broken file is a ValueError that names it."""
        ...
