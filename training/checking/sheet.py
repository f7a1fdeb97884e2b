"""A contact sheet: frames with their labels over them, to look at before anything is learned."""

from __future__ import annotations

import numpy as np

from anomaly_seg_ros.classes import LabelSet
from training.datasets import NO_CLASSES

from .drawing import draw_frame, draw_sheet, Picture
from .facts import FrameFacts
from .survey import Survey

COLUMNS = 4
MOST = 16
ANOMALY = LabelSet(('normal', 'anomaly'), ((90, 90, 90), (255, 60, 0)))


def contact_sheet(survey: Survey) -> Picture | None:
    """Draws frames and, right of each, their labels over them; what means nothing is striped.

    Of each class, and of anomalies, the frame with most of it is among them; without labels of
    pixels they are photos alone. None where no frame can be read.

    Returns:
        (H, W, 3) RGB.
    """
    classes = _shown(survey)
    tiles = [
        tile for facts in choose(survey) if (tile := _tile(survey, facts, classes)) is not None
    ]
    if not tiles:
        return None
    return draw_sheet(tiles, COLUMNS, classes)


def _shown(survey: Survey) -> LabelSet:
    """Gives what labels mean on the sheet: classes and, where there are some, anomalies last."""
    if not survey.labelled:
        return NO_CLASSES
    names, colors = survey.classes[:2]
    if not names:
        return ANOMALY
    if not any(facts.anomalous for facts in survey.facts):
        return survey.classes
    return LabelSet((*names, ANOMALY.names[1]), (*colors, ANOMALY.colors[1]))


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
    if any(facts.anomalous for facts in read):
        chosen.insert(0, max(read, key=lambda facts: facts.anomalous / max(facts.pixels, 1)))
    chosen += [read[round(i)] for i in np.linspace(0, len(read) - 1, MOST)]
    once = list({id(facts): facts for facts in chosen}.values())[:MOST]
    return sorted(once, key=lambda facts: (facts.split, facts.index))


def _tile(survey: Survey, facts: FrameFacts, classes: LabelSet) -> Picture | None:
    part = survey.parts[facts.split]
    try:
        sample = part[facts.index]
    except (ValueError, OSError):
        if facts.image is None:
            return None
        image, labels = part.image(facts.index), None
    else:
        image = sample.image
        labels = sample.train_ids if sample.train_ids is not None else sample.anomaly
        if labels is not None and sample.anomaly is not None and facts.anomalous:
            labels = np.where(sample.anomaly == 1, np.uint8(len(classes.names) - 1), labels)
    shown = [labels] if survey.labelled else []
    name = facts.image.name if facts.image is not None else str(facts.index)
    return draw_frame(f'{facts.split}  {name}', image, shown, classes)
