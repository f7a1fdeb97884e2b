"""How many of its sixteen bits a camera uses, and so the way from them down to eight."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SENSOR_BITS = (8, 10, 12, 14, 16)
"""What sensors give; a largest value in between is that of a dark picture."""


class SignificantBits:
    """What is known of the 16-bit images of one source.

    A camera of 10 or 12 bits fills the lower ones: read as sixteen, its pictures are all but
    black. The bits are found from the largest value so far. They never shrink, or a picture would
    change its brightness with what passes by.

    Args:
        given: 1 to 16; 0 finds them.

    Attributes:
        bits: Those that hold, 0 before the first 16-bit image where none are given.
    """

    def __init__(self, given: int = 0):
        self._given = given
        self.bits = given

    def to_eight(self, values: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Gives the upper eight of the significant bits; larger values are white.

        Args:
            values: Any shape, not empty; of either byte order.

        >>> SignificantBits().to_eight(np.array([4095, 2048, 16, 15], np.uint16)).tolist()
        [255, 128, 1, 0]
        """
        if not self._given:
            top = int(values.max())
            found = next(bits for bits in SENSOR_BITS if top < 1 << bits)
            self.bits = max(self.bits, found)
        most = (1 << self.bits) - 1
        if self._given:
            values = np.minimum(values, np.uint16(most))
        if self.bits < 8:
            values = values * np.uint16(255) // np.uint16(most)
        else:
            values = values >> np.uint16(self.bits - 8)
        return values.astype(np.uint8)
