"""A contact sheet: frames with their labels over them, to look at before anything is learned."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from anomaly_seg_ros.classes import LabelSet
from anomaly_seg_ros.frames.images import read_image
from anomaly_seg_ros.frames.nearest import resize_ids
from anomaly_seg_ros.frames.overlay import color_table, colorize

from .facts import FrameFacts
from .survey import Survey

WIDTH = 300
COLUMNS = 4
MOST = 16
TEXT = 18
ANOMALY = LabelSet(('normal', 'anomaly'), ((90, 90, 90), (255, 60, 0)))
COLOR_SHARE = 0.6

Picture = NDArray[np.uint8]


def contact_sheet(survey: Survey) -> Picture | None:
    """Draws frames and, right of each, their labels over them; what means nothing is striped.

    Of each class the frame with most of it is among them. None where no frame can be read.

    Returns:
        (H, W, 3) RGB.
    """
    classes = survey.classes if survey.classes.names else ANOMALY
    tiles = [
        tile for facts in choose(survey) if (tile := _tile(survey, facts, classes)) is not None
    ]
    if not tiles:
        return None
    pad = np.full_like(tiles[0], 255)
    columns = min(COLUMNS, len(tiles))
    tiles += [pad] * (-len(tiles) % columns)
    height = max(tile.shape[0] for tile in tiles)
    even = [cv2.copyMakeBorder(t, 0, height - t.shape[0], 0, 0, cv2.BORDER_CONSTANT,
                               value=(255, 255, 255)) for t in tiles]  # fmt: skip
    rows = [np.hstack(even[at : at + columns]) for at in range(0, len(even), columns)]
    sheet = np.vstack([_legend(classes, rows[0].shape[1]), *rows])
    return sheet.astype(np.uint8)


def choose(survey: Survey) -> list[FrameFacts]:
    """Gives frames that show every class, then others evenly over the set; at most `MOST`."""
    read = [facts for facts in survey.facts if facts.size is not None and not facts.problems]
    if not read:
        return []
    pixels: dict[int, int] = {}
    for facts in read:
        for train_id, count in facts.labelled.items():
            pixels[train_id] = pixels.get(train_id, 0) + count
    rarest_first = sorted(pixels, key=lambda train_id: pixels[train_id])
    chosen = [
        max(read, key=lambda facts: facts.labelled.get(train_id, 0) / max(facts.pixels, 1))
        for train_id in rarest_first
    ]
    chosen += [read[round(i)] for i in np.linspace(0, len(read) - 1, MOST)]
    once = list({id(facts): facts for facts in chosen}.values())[:MOST]
    return sorted(once, key=lambda facts: (facts.split, facts.index))


def _tile(survey: Survey, facts: FrameFacts, classes: LabelSet) -> Picture | None:
    try:
        sample = survey.parts[facts.split][facts.index]
    except (ValueError, OSError):
        if facts.image is None:
            return None
        image, labels = read_image(facts.image), None
    else:
        image = sample.image
        labels = sample.train_ids if sample.train_ids is not None else sample.anomaly
    height = max(1, round(image.shape[0] * WIDTH / image.shape[1]))
    small = cv2.resize(image, (WIDTH, height), interpolation=cv2.INTER_AREA)
    over = np.full_like(small, 255)
    if labels is not None:
        ids = resize_ids(labels, (height, WIDTH))
        paint = colorize(ids, color_table(classes.colors))
        over = cv2.addWeighted(small, 1 - COLOR_SHARE, paint, COLOR_SHARE, 0)
        stripes = np.add.outer(np.arange(height), np.arange(WIDTH)) // 4 % 2 == 0
        void = ids >= len(classes.names)
        over[void] = small[void] // 2
        over[void & stripes] = 0
    name = facts.image.name if facts.image is not None else str(facts.index)
    return np.vstack([_text(f'{facts.split}  {name}', 2 * WIDTH), np.hstack([small, over])])


def _text(text: str, width: int) -> Picture:
    strip = Image.new('RGB', (width, TEXT), 'white')
    ImageDraw.Draw(strip).text((3, 2), _plain(text), 'black', ImageFont.load_default(12))
    return np.asarray(strip, np.uint8)


def _legend(classes: LabelSet, width: int) -> Picture:
    """Draws the name of each class beside its colour."""
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
