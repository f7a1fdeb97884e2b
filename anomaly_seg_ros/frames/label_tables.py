"""What the ids of a label set look like and mean, as tables for whole pictures."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE

from .overlay import color_table


class LabelTables:
    """The tables of one label set.

    Args:
        colors: RGB of each class.
        dynamic: Ids of the classes that move by themselves.

    Attributes:
        colors: (256, 1, 3) RGB of each id; black where it is none.
        static: (256,) 255 where the class stays in its place, 0 where it moves or is not known.
        anomaly: The id behind the last class, for what is none of them.
    """

    def __init__(self, colors: Sequence[Sequence[int]], dynamic: Collection[int] = ()):
        self.colors = color_table(colors)
        self.static: NDArray[np.uint8] = np.full(256, 255, np.uint8)
        self.static[[*dynamic, IGNORE]] = 0
        self.anomaly = len(colors)
