"""What an engine gives for a frame, and what every engine can do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Score: TypeAlias = NDArray[np.float16] | NDArray[np.float32]
"""A raw anomaly score: float16 from an exported graph, float32 from eager torch."""


LABELS, SCORE, FRAME = 'labels', 'score', 'frame'
"""The outputs of a graph by name, each with the batch in front; a graph may lack the last."""


@dataclass(frozen=True)
class Prediction:
    """What an engine gives of one frame, maps at its input size.

    Attributes:
        labels: (H, W) uint8 train ids, 255 = unlabelled.
        score: (H, W) raw anomaly score, higher = more anomalous. Computed in float32; an exported
            graph gives it as float16, whose 16 bits index a calibration's table.
        frame: Values of the frame as a whole, of any shape, from a graph that computes some.
    """

    labels: NDArray[np.uint8]
    score: Score
    frame: NDArray[np.float32] | None = None


class Engine(Protocol):
    """Runs one network with its anomaly score on one device.

    It is not safe for several threads at a time: libraries overwrite what they gave. Who shares
    one among cameras has one thread call it, as the node's worker does.

    Attributes:
        name: A key of `ENGINES`.
        score_name: The score compiled in, a key of `SCORES`.
        precision: What the device computes in, read back from it: 'fp32', 'bf16', 'fp16' or
            'int8'.
        input_size: (height, width) of the images that `infer` takes.
        device: What it runs on, by the name that its library gives it.
        description: Library version and device, for reports.
        reason: Why `open_engine` took this engine and how it came to be, one line for the log.
    """

    name: str
    score_name: str
    precision: str
    input_size: tuple[int, int]
    device: str
    description: str
    reason: str

    def infer(self, image: NDArray[np.uint8]) -> Prediction:
        """Gives labels and score of a (H, W, 3) RGB image at `input_size`; both are the caller's.

        Raises:
            ValueError: The image has another shape or type.
        """
        ...

    def infer_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        """Gives what `infer` gives of each image, in one pass: for several cameras.

        The first batch of a size takes longer: engines prepare themselves for it.

        Raises:
            ValueError: No images, or one has another shape or type.
        """
        ...

    def close(self) -> None:
        """Frees what the engine holds; it cannot be used afterwards."""
        ...


def check_outputs(names: Collection[str]) -> None:
    """Refuses a graph that does not name its labels and its score.

    Raises:
        ValueError: It gives something else.
    """
    if not {LABELS, SCORE} <= set(names):
        raise ValueError(f'the graph gives {sorted(names)}, not {LABELS} and {SCORE}')


def split_outputs(outputs: Mapping[str, NDArray[Any]]) -> list[Prediction]:
    """Gives what a batch's outputs by name say of each of its images; nothing is copied."""
    labels, score, frame = outputs[LABELS], outputs[SCORE], outputs.get(FRAME)
    return [
        Prediction(labels[i], score[i], None if frame is None else frame[i])
        for i in range(len(labels))
    ]


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


def stack_images(
    images: Sequence[NDArray[np.uint8]], input_size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Gives checked images as one (N, H, W, 3) array; one that is contiguous may stay where it is.

    It is copied where it is read-only, as the bytes of a message: torch takes no such array.

    Raises:
        ValueError: No images, or one that an engine of `input_size` cannot take.
    """
    if not images:
        raise ValueError('a batch needs at least one image')
    for image in images:
        check_engine_input(image, input_size)
    if len(images) == 1:
        return np.require(images[0], requirements=('C', 'W'))[None]
    return np.stack(images)
