"""Frames to show the node: a synthetic road, an image folder, a video, or a bag."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.bags.storage import is_bag
from anomaly_seg_ros.frames.images import find_images, read_image
from anomaly_seg_ros.frames.significant_bits import SignificantBits
from anomaly_seg_ros.frames.video import Video, video_begins

SYNTHETIC = 'synthetic'
SYNTHETIC_FRAMES = 60


def open_frames(
    source: str, frames: int | None = None, topic: str | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Gives (H, W, 3) RGB frames of a source, at most `frames` of them; the first is read at once.

    Args:
        source: 'synthetic', a folder of images, a video file, or a rosbag2 folder.
        frames: Largest number; None for all (60 of the synthetic road).
        topic: Of the images of a bag; None for the only one.

    Raises:
        FileNotFoundError: The source does not exist, or holds no image.
        ValueError: A frame of it is broken, a bag has several topics or not this one, or the
            source has none.
    """
    if frames is not None and frames < 1:
        raise ValueError(f'frames is {frames}; it must be at least 1')
    if topic is not None and (source == SYNTHETIC or not is_bag(Path(source).expanduser())):
        raise ValueError(f'--topic is for bags, and {source!r} is none')
    if source == SYNTHETIC:
        return _synthetic(frames or SYNTHETIC_FRAMES)
    path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"no source {source!r}; give '{SYNTHETIC}', an image folder, a video or a bag"
        )
    found = islice(_all_frames(path, topic), frames)
    first = next(found, None)
    if first is None:
        raise FileNotFoundError(f'no image in {source!r}')
    return chain([first], found)


def _all_frames(path: Path, topic: str | None) -> Iterator[NDArray[np.uint8]]:
    if is_bag(path):
        return _bag(path, topic)
    if video_begins(path):
        return (frame.image for frame in Video(path).frames())
    return _folder(path)


def _bag(path: Path, topic: str | None) -> Iterator[NDArray[np.uint8]]:
    from anomaly_seg_ros.bags.reader import read_images

    return (image for _, image in read_images(path, topic))


def _folder(path: Path) -> Iterator[NDArray[np.uint8]]:
    bits = SignificantBits()
    return (read_image(file, bits) for file in find_images([path]))


def _synthetic(frames: int) -> Iterator[NDArray[np.uint8]]:
    from anomaly_seg_ros.demo.synthetic import SyntheticRoad

    road = SyntheticRoad()
    for index in range(frames):
        yield road.frame(index).image
