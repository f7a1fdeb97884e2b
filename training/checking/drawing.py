"""Frames with their labels over them, side by side on a sheet with the names of the colours."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import LabelSet
from anomaly_seg_ros.frames.overlay import color_table, colorize
from anomaly_seg_ros.frames.resizing import resize_ids

WIDTH = 300
TEXT = 18
COLOR_SHARE = 0.6

Picture = NDArray[np.uint8]


def draw_frame(
    title: str, image: Picture, labels: Sequence[Picture | None], classes: LabelSet
) -> Picture:
    """Draws a photo and, right of it, each of several labels over it.

    Args:
        title: Stands above.
        image: (H, W, 3) RGB.
        labels: (H, W) train ids each; what means nothing is striped. None leaves the place empty.
        classes: Their colours.
    """
    height = max(1, round(image.shape[0] * WIDTH / image.shape[1]))
    small = cv2.resize(image, (WIDTH, height), interpolation=cv2.INTER_AREA)
    parts = [small.astype(np.uint8), *(_painted(small, own, classes) for own in labels)]
    return np.vstack([_text(title, WIDTH * len(parts)), np.hstack(parts)])


def _painted(small: NDArray[np.generic], labels: Picture | None, classes: LabelSet) -> Picture:
    photo = small.astype(np.uint8)
    if labels is None:
        return np.full_like(photo, 255)
    height, width = photo.shape[:2]
    ids = resize_ids(labels, (height, width))
    paint = colorize(ids, color_table(classes.colors))
    over = cv2.addWeighted(photo, 1 - COLOR_SHARE, paint, COLOR_SHARE, 0).astype(np.uint8)
    stripes = np.add.outer(np.arange(height), np.arange(width)) // 4 % 2 == 0
    void = ids >= len(classes.names)
    over[void] = photo[void] // 2
    over[void & stripes] = 0
    return over


def draw_sheet(tiles: Sequence[Picture], columns: int, classes: LabelSet) -> Picture:
    """Puts pictures of one width into rows, the names of the colours above, if there are any.

    Args:
        tiles: At least one.
        columns: Pictures in a row.
        classes: What the colours mean.
    """
    columns = min(columns, len(tiles))
    height = max(tile.shape[0] for tile in tiles)
    even = []
    for tile in tiles:
        white = np.full((height, *tile.shape[1:]), 255, np.uint8)
        white[: tile.shape[0]] = tile
        even.append(white)
    even += [np.full_like(even[0], 255)] * (-len(even) % columns)
    rows = [np.hstack(even[at : at + columns]) for at in range(0, len(even), columns)]
    legend = [_legend(classes, rows[0].shape[1])] if classes.names else []
    return np.vstack([*legend, *rows])


def _text(text: str, width: int) -> Picture:
    from PIL import Image, ImageDraw, ImageFont

    strip = Image.new('RGB', (width, TEXT), 'white')
    ImageDraw.Draw(strip).text((3, 2), _plain(text), 'black', ImageFont.load_default(12))
    return np.asarray(strip, np.uint8)


def _legend(classes: LabelSet, width: int) -> Picture:
    """Draws the name of each class beside its colour."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(13)
    entries = [(_plain(name), color) for name, color in zip(*classes[:2], strict=True)]
    entries.append(('means nothing (striped)', (0, 0, 0)))
    places, x, y = [], 4, 4
    for name, color in entries:
        needed = 24 + round(font.getlength(name)) + 14
        if x + needed > width and x > 4:
            x, y = 4, y + 22
        places.append((x, y, name, color))
        x += needed
    legend = Image.new('RGB', (width, y + 24), 'white')
    draw = ImageDraw.Draw(legend)
    for x, y, name, color in places:
        draw.rectangle((x, y, x + 16, y + 14), fill=tuple(color), outline='black')
        draw.text((x + 22, y), name, 'black', font)
    return np.asarray(legend, np.uint8)


def _plain(text: str) -> str:
    """Gives a text that PIL's own font can draw."""
    return text.encode('latin-1', 'replace').decode('latin-1')
