"""Frames to show the node: a synthetic road, an image folder, or a bag."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.frames.images import find_images, read_image
from anomaly_seg_ros.frames.significant_bits import SignificantBits

SYNTHETIC = 'synthetic'
SYNTHETIC_FRAMES = 60


def open_frames(source: str, frames: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """Gives (H, W, 3) RGB frames of a source, at most `frames` of them.

    Args:
        source: 'synthetic', a folder of images, or a rosbag2 folder.
        frames: Largest number; None for all (60 of the synthetic road).

    Raises:
        FileNotFoundError: The source does not exist.
        ValueError: A frame of it is broken.
    """
    if frames is not None and frames < 1:
        raise ValueError(f'frames is {frames}; it must be at least 1')
    if source == SYNTHETIC:
        return _synthetic(frames or SYNTHETIC_FRAMES)
    path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"no source {source!r}; give '{SYNTHETIC}', an image folder or a bag"
        )
    from anomaly_seg_ros.bags.storage import is_bag

    if is_bag(path):
        from anomaly_seg_ros.bags.reader import read_images

        return islice((image for _, image in read_images(path)), frames)
    bits = SignificantBits()
    return islice((read_image(file, bits) for file in find_images([path])), frames)


def _synthetic(frames: int) -> Iterator[NDArray[np.uint8]]:
    from anomaly_seg_ros.demo.synthetic import SyntheticRoad

    road = SyntheticRoad()
    for index in range(frames):
        yield road.frame(index).image
