"""What goes wrong with a camera, drawn into good frames: for measuring, never for training.

Each has the severities 1 to 5, 3 being medium; the same frame, severity and seed give the same
pixels. Lengths are those of a frame of 360 rows and grow with the frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.registry import check_name

Image = NDArray[np.uint8]
Draw = Callable[[Image, int, np.random.Generator], Image]

SEVERITIES = (1, 2, 3, 4, 5)
MEDIUM = 3
ROWS = 360
"""Of a frame that lengths are given for."""
FROZEN = 'frozen'
"""The corruption that no single frame shows: the frame before comes again."""


def noise(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Gaussian noise of the sensor, standard deviation 0.04 to 0.35 of the range."""
    sigma = (0.04, 0.08, 0.14, 0.22, 0.35)[severity - 1] * 255
    return _bytes(image + random.normal(0, sigma, image.shape))


def blur(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Out of focus or a greasy lens: a Gaussian of 1 to 8 pixels."""
    sigma = (1.0, 2.0, 3.0, 5.0, 8.0)[severity - 1] * image.shape[0] / ROWS
    return _bytes(cv2.GaussianBlur(image, (0, 0), sigma))


def dark(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Exposed too short: 0.5 to 0.04 of the light, with the noise of 2 levels that is left."""
    light = (0.5, 0.35, 0.2, 0.1, 0.04)[severity - 1]
    return _bytes(image * light + random.normal(0, 2, image.shape))


def over_exposed(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Exposed too long: 1.5 to 8 times the light, clipped."""
    return _bytes(image * (1.5, 2.2, 3.2, 5.0, 8.0)[severity - 1])


def color_cast(image: Image, severity: int, random: np.random.Generator) -> Image:
    """A white balance that fails: one channel up and the others down, by 10 to 80 %."""
    by = (0.1, 0.2, 0.35, 0.55, 0.8)[severity - 1]
    gains = np.full(3, 1 - by)
    gains[random.integers(3)] = 1 + by
    return _bytes(image * gains)


def dead_lines(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Rows and columns that are dead: 1 to 20 % of each, black or white."""
    share = (0.01, 0.03, 0.06, 0.12, 0.2)[severity - 1]
    result: Image = image.copy()
    for axis, length in enumerate(image.shape[:2]):
        lines = random.choice(length, max(1, round(share * length)), replace=False)
        values = random.choice([0, 255], len(lines)).astype(np.uint8)
        for line, value in zip(lines, values, strict=True):
            result[(slice(None),) * axis + (line,)] = value
    return result


def occlusion(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Mud or tape on the lens: a soft dark blob over 5 to 60 % of the frame."""
    share = (0.05, 0.12, 0.25, 0.4, 0.6)[severity - 1]
    height, width = image.shape[:2]
    centre = random.uniform(0.25, 0.75, 2) * (height, width)
    stretch = random.uniform(0.7, 1.4)
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot((rows - centre[0]) * stretch, (columns - centre[1]) / stretch)
    distance *= 1 + 0.2 * np.sin(3 * np.arctan2(rows - centre[0], columns - centre[1]))
    radius = float(np.quantile(distance, share))
    cover = np.clip((radius - distance) / (0.05 * height) + 0.5, 0, 1)[..., None]
    mud = random.uniform((20, 15, 10), (70, 60, 50))
    return _bytes(image * (1 - cover) + mud * cover)


def water_drops(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Drops on the lens: 6 to 90 of them, each a small blurred picture upside down."""
    height, width = image.shape[:2]
    blurred = cv2.GaussianBlur(image, (0, 0), 2.5 * height / ROWS)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    map_x, map_y, inside = columns.copy(), rows.copy(), np.zeros((height, width), np.float32)
    for _ in range((6, 14, 28, 50, 90)[severity - 1]):
        y, x = random.uniform(0, 1, 2) * (height, width)
        radius = random.uniform(8, 26) * height / ROWS
        top, left = max(0, int(y - radius)), max(0, int(x - radius))
        part = np.s_[top : int(y + radius) + 1, left : int(x + radius) + 1]
        distance = np.hypot(rows[part] - y, columns[part] - x) / radius
        drop = distance < 1
        map_y[part][drop] = (y - 3 * (rows[part] - y))[drop]
        map_x[part][drop] = (x - 3 * (columns[part] - x))[drop]
        soft = np.clip((1 - distance) * 4, 0, 1)
        inside[part] = np.maximum(inside[part], soft)
    seen = cv2.remap(blurred, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    cover = inside[..., None]
    return _bytes(image * (1 - cover) + seen * cover)


def fog(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Fog over a flat scene: the far, upper part fades most, by 30 to 95 %."""
    most = (0.3, 0.5, 0.7, 0.85, 0.95)[severity - 1]
    height = image.shape[0]
    near = np.clip((np.arange(height) / height - 0.5) * 2, 0, 1)[:, None, None]
    cover = most * (1 - 0.7 * near)
    return _bytes(image * (1 - cover) + 200 * cover)


def jpeg(image: Image, severity: int, random: np.random.Generator) -> Image:
    """A starved link: JPEG of quality 25 to 2."""
    quality = (25, 15, 8, 4, 2)[severity - 1]
    _, data = cv2.imencode('.jpg', image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))
    decoded: NDArray[Any] = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return _bytes(decoded[..., ::-1])


def black(image: Image, severity: int, random: np.random.Generator) -> Image:
    """No light at all: a lens cap or a dead sensor, with noise of 4 to 0 levels."""
    level = (4, 3, 2, 1, 0)[severity - 1]
    return _bytes(random.normal(level, level / 2, image.shape)) if level else image * 0


def frozen(image: Image, severity: int, random: np.random.Generator) -> Image:
    """The frame as it is: what is wrong is that it comes again; see `FROZEN`."""
    return image


CORRUPTIONS: dict[str, Draw] = {
    'noise': noise,
    'blur': blur,
    'dark': dark,
    'over_exposed': over_exposed,
    'color_cast': color_cast,
    'dead_lines': dead_lines,
    FROZEN: frozen,
    'occlusion': occlusion,
    'water_drops': water_drops,
    'fog': fog,
    'jpeg': jpeg,
    'black': black,
}
"""Every corruption by its name."""


def corrupt(image: Image, name: str, severity: int, seed: str = '') -> Image:
    """Gives a frame with a corruption.

    Args:
        image: (H, W, 3) RGB; stays as it is.
        name: A key of `CORRUPTIONS`.
        severity: One of `SEVERITIES`.
        seed: Where lots are drawn: the frame's name, so that each has its own.

    Raises:
        ValueError: An unknown name or severity.
    """
    check_name('corruption', CORRUPTIONS, name)
    if severity not in SEVERITIES:
        raise ValueError(f'severity {severity} must be one of {", ".join(map(str, SEVERITIES))}')
    random = np.random.default_rng(zlib.crc32(f'{name} {severity} {seed}'.encode()))
    return CORRUPTIONS[name](image, severity, random)


def _bytes(values: NDArray[Any]) -> Image:
    rounded: Image = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded
