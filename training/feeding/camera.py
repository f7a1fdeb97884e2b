"""Changes that another camera, another light or another way of storing makes to a frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

GAMMA = (0.6, 1.7)
GAIN = (0.85, 1.18)
HAZE = (0.05, 0.4)
HAZE_GREY = (110.0, 230.0)
BLUR = (0.4, 1.8)
COARSE = (0.4, 0.9)
NOISE = (1.0, 12.0)
JPEG = (25, 90)


def change_camera(image: Image, probability: float, random: np.random.Generator) -> Image:
    """Makes each of these changes with this probability, in the order of a camera.

    Haze, gamma, gains of the colours (white balance), loss of sharpness (blur, or fewer pixels),
    noise, JPEG. What was pasted into the frame before goes through the same, so that its border
    cannot be told by another sharpness or grain.

    Args:
        image: (H, W, 3) RGB uint8.
        probability: Of each, 0..1.
        random: Source of all randomness.
    """
    if not probability:
        return image
    for change in CHANGES:
        if random.random() < probability:
            image = change(image, random)
    return image


def haze(image: Image, random: np.random.Generator) -> Image:
    """Mixes the frame with one grey, as fog, a wet screen or stray light does."""
    share, grey = random.uniform(*HAZE), random.uniform(*HAZE_GREY)
    return _by_table(image, np.arange(256) * (1 - share) + grey * share)


def gamma(image: Image, random: np.random.Generator) -> Image:
    """Brightens or darkens the middle tones: `v ** g`, g drawn by ratio."""
    power = float(np.exp(random.uniform(*np.log(GAMMA))))
    return _by_table(image, 255 * (np.arange(256) / 255) ** power)


def white_balance(image: Image, random: np.random.Generator) -> Image:
    """Multiplies each colour by its own gain."""
    low, high = np.log(GAIN)
    gains = np.exp(random.uniform(low, high, 3))
    return _by_table(image, np.arange(256)[:, None] * gains)


def less_sharp(image: Image, random: np.random.Generator) -> Image:
    """Blurs, or leaves fewer pixels and enlarges them again."""
    if random.random() < 0.5:
        blurred = cv2.GaussianBlur(image, (0, 0), random.uniform(*BLUR))
        return blurred.astype(np.uint8, copy=False)
    height, width = image.shape[:2]
    share = random.uniform(*COARSE)
    small = (max(1, round(width * share)), max(1, round(height * share)))
    coarse = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    enlarged = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return enlarged.astype(np.uint8, copy=False)


def noise(image: Image, random: np.random.Generator) -> Image:
    """Adds Gaussian noise, independent in each value."""
    grain = np.empty(image.shape, np.int16)
    # OpenCV's own generator: numpy's takes as long as all other changes together.
    cv2.setRNGSeed(int(random.integers(2**31)))
    cv2.randn(grain, np.zeros(3), np.full(3, random.uniform(*NOISE)))
    return cv2.add(image, grain, dtype=cv2.CV_8U).astype(np.uint8, copy=False)


def jpeg(image: Image, random: np.random.Generator) -> Image:
    """Stores as JPEG and reads again; the quality is drawn evenly."""
    quality = (cv2.IMWRITE_JPEG_QUALITY, int(random.integers(JPEG[0], JPEG[1] + 1)))
    _, stored = cv2.imencode('.jpg', image[..., ::-1], quality)
    read: Any = cv2.imdecode(stored, cv2.IMREAD_COLOR)
    return np.ascontiguousarray(read[..., ::-1]).astype(np.uint8, copy=False)


CHANGES: tuple[Callable[[Image, np.random.Generator], Image], ...] = (
    haze,
    gamma,
    white_balance,
    less_sharp,
    noise,
    jpeg,
)


def _by_table(image: Image, table: NDArray[Any]) -> Image:
    """Gives each value's entry of a (256,) or, a column a colour, (256, 3) table."""
    entries = np.rint(table.clip(0, 255)).astype(np.uint8).reshape(256, 1, -1)
    return cv2.LUT(image, entries).astype(np.uint8, copy=False)
