"""The ground of a frame: what an object can stand on, and what is normal on it all the same."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import LabelSet

from .transforms import draw_log_uniform

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

GROUND = ('road', 'pavement', 'sidewalk', 'terrain')

COUNT = (1, 6)
WIDTH = (10.0, 220.0)
FLATNESS = (0.08, 0.7)
BRIGHTNESS = (0.35, 2.0)
BLUR = (0.3, 3.0)
GRAIN = 14.0


def ground_ids(classes: LabelSet) -> tuple[int, ...]:
    """Gives the train ids of the classes that are named in `GROUND`."""
    return tuple(number for number, name in enumerate(classes.names) if name in GROUND)


def mark_ground(
    image: Image,
    labels: Image,
    ground: Sequence[int],
    probability: float,
    random: np.random.Generator,
) -> Image:
    """Changes parts of the ground that stay ground: covers, patches, seams, shadows, wet places.

    One to six flat shapes (ellipse, trapezium, strip) lie with their centre on a pixel of the
    ground and change its brightness, some with the grain of another surface or with a rim. Only
    pixels of the ground change, labels do not.

    Args:
        image: (H, W, 3) RGB uint8.
        labels: (H, W) train ids.
        ground: Train ids of the ground.
        probability: That a frame is changed at all, 0..1.
        random: Source of all randomness.
    """
    if not probability or random.random() >= probability:
        return image
    lies = np.isin(labels, ground)
    places = np.flatnonzero(lies)
    if not places.size:
        return image
    changed = image.astype(np.float32)
    for _ in range(int(random.integers(COUNT[0], COUNT[1] + 1))):
        row, column = divmod(int(places[random.integers(places.size)]), labels.shape[1])
        shape = _shape(labels.shape, (column, row), random)
        opacity = cv2.GaussianBlur(shape, (0, 0), draw_log_uniform(BLUR, random))[..., None]
        surface = changed * draw_log_uniform(BRIGHTNESS, random)
        if random.random() < 0.5:
            surface = surface + random.normal(0, GRAIN * random.random(), labels.shape)[..., None]
        if random.random() < 0.3:
            edge = cv2.morphologyEx(shape, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
            surface = surface * (1 - 0.5 * edge[..., None])
        changed += opacity * (surface - changed)
    image = image.copy()
    image[lies] = np.rint(changed[lies].clip(0, 255))
    return image


def _shape(
    size: tuple[int, ...], centre: tuple[int, int], random: np.random.Generator
) -> NDArray[np.float32]:
    """Draws one flat shape: (H, W), 1 inside."""
    shape = np.zeros(size, np.float32)
    width = draw_log_uniform(WIDTH, random)
    height = width * random.uniform(*FLATNESS)
    kind = int(random.integers(3))
    if kind == 0:
        axes = (max(1, round(width / 2)), max(1, round(height / 2)))
        cv2.ellipse(shape, centre, axes, 0, 0, 360, 1.0, cv2.FILLED)
    elif kind == 1:
        near, far = width / 2, width / 2 * random.uniform(0.6, 1)
        lean, half = width * random.uniform(-0.5, 0.5), height / 2
        corners = [(-near, half), (near, half), (far + lean, -half), (lean - far, -half)]
        points = np.rint(np.array(corners) + centre).astype(np.int32)
        cv2.fillPoly(shape, [points], 1.0)
    else:
        angle = random.uniform(0, np.pi)
        along = np.rint(width * np.array([np.cos(angle), np.sin(angle)])).astype(int)
        first, last = (tuple((np.array(centre) + sign * along).tolist()) for sign in (-1, 1))
        cv2.line(shape, first, last, 1.0, int(random.integers(1, 6)))
    return shape
