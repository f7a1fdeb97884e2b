"""One frame that is ready to be measured, and where such frames come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import LabelSet

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Frame:
    """Truth and prediction of one frame, all of the size at which they are compared.

    Attributes:
        name: Unique in the set, fit for a file name.
        truth: (H, W) 0 inlier, 1 anomaly, 255 ignore; all labelled pixels are 0 where the set
            knows no anomalies.
        scores: Score name to its (H, W) raw map.
        image: (H', W', 3) RGB of any size, for pictures; None where only maps were given.
        train_ids: (H, W) true classes, 255 = ignore; None where unknown or of other classes.
        labels: (H, W) predicted classes; None where only maps were given.
        logits: (K, h, w) at the network's size; None where the engine gives none.
        logit_labels: (h, w) true classes of `logits`.
        stored: Ids that the label file holds, before they were mapped to `truth`.
    """

    name: str
    truth: Bytes
    scores: Mapping[str, Floats]
    image: Bytes | None = None
    train_ids: Bytes | None = None
    labels: Bytes | None = None
    logits: Floats | None = None
    logit_labels: Bytes | None = None
    stored: frozenset[int] = frozenset()


class FrameSource(Protocol):
    """The frames of a set in a fixed order.

    Attributes:
        scores: The names of the scores that each frame has.
        has_anomalies: Whether the set has anomaly labels.
        classes: What train ids mean; `NO_CLASSES` where classes are not compared.
        has_images: Whether its frames have an image.
    """

    scores: tuple[str, ...]
    has_anomalies: bool
    classes: LabelSet
    has_images: bool

    def __len__(self) -> int: ...

    def first(self, index: int) -> Frame:
        """Gives a frame for the first time, which may run a network."""
        ...

    def again(self, index: int) -> Frame:
        """Gives a frame that `first` gave before in this process, without logits."""
        ...
