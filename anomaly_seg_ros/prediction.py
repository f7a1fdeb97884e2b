"""What an engine gives for a frame, and what every engine can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prediction:
    """Labels and anomaly score of one frame, at the engine's input size.

    Attributes:
        labels: (H, W) uint8 train ids, 255 = unlabelled.
        score: (H, W) float32 raw anomaly score, higher = more anomalous.
    """

    labels: NDArray[np.uint8]
    score: NDArray[np.float32]


class Engine(Protocol):
    """Runs one network with its anomaly score on one device.

    Attributes:
        name: A key of `ENGINES`.
        score_name: The score compiled in, a key of `SCORES`.
        precision: What the device computes in, read back from it: 'fp32', 'bf16' or 'fp16'.
        input_size: (height, width) of the images that `infer` takes.
        description: Library version and device, for reports.
    """

    name: str
    score_name: str
    precision: str
    input_size: tuple[int, int]
    description: str

    def infer(self, image: NDArray[np.uint8]) -> Prediction:
        """Gives labels and score of a (H, W, 3) RGB image at `input_size`; both are the caller's.

        Raises:
            ValueError: The image has another shape or type.
        """
        ...

    def close(self) -> None:
        """Frees what the engine holds; it cannot be used afterwards."""
        ...


def check_engine_input(image: NDArray[np.uint8], input_size: tuple[int, int]) -> None:
    """Refuses an image that an engine of `input_size` cannot take.

    Raises:
        ValueError: The image has another shape or type; the text gives both.
    """
    if image.shape != (*input_size, 3) or image.dtype != np.uint8:
        raise ValueError(
            f'the engine takes uint8 images of shape {(*input_size, 3)}, '
            f'got {image.dtype} of shape {image.shape}'
        )
