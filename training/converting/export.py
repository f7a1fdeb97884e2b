"""What all converters give, and how it becomes a set of `dataset: classes`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
import json
from pathlib import Path
import re
import shutil
from typing import Any, NamedTuple
import unicodedata

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.frames.images import write_image
from training.datasets.classes_file import FILE_NAME

Labels = NDArray[np.uint8]
"""(H, W) places in `Export.classes`, 255 = nothing is said."""

Image = Path | tuple[bytes, str]
"""The image file, or its bytes with the suffix that they want."""


class Labelled(NamedTuple):
    """One frame of an export.

    Attributes:
        key: Its path below `images/`, without suffix.
        image: What they are labels of.
        labels: What its pixels are.
        split: 'train', 'val' or 'test' where the export says.
    """

    key: str
    image: Image
    labels: Labels
    split: str = ''


@dataclass(frozen=True)
class Export:
    """What a converter read.

    Attributes:
        classes: Entries of `classes.yaml` but for the ids: name; color and dynamic where known.
        frames: Read one by one.
        count: How many there are.
        left_out: What was not taken and why, for the user.
    """

    classes: Sequence[Mapping[str, Any]]
    frames: Iterable[Labelled]
    count: int
    left_out: list[str] = field(default_factory=list)


def write_export(export: Export, out: Path) -> dict[str, int]:
    """Writes images, labels, `classes.yaml` and, where splits are known, their lists.

    Args:
        export: What a converter read.
        out: An empty folder.

    Returns:
        How many frames show each class.

    Raises:
        ValueError: No class, more than 255, no frame, or what reading them raises.
    """
    names = [str(entry['name']) for entry in export.classes]
    if not 0 < len(names) <= IGNORE:
        raise ValueError(f'the export has {len(names)} classes; there must be 1 to {IGNORE}')
    shown = dict.fromkeys(names, 0)
    lists: dict[str, list[str]] = {}
    taken: set[str] = set()
    for frame in tqdm(
        export.frames, total=export.count, desc='convert', leave=False, disable=None
    ):
        key = _free_key(frame.key, taken)
        _copy_image(frame.image, out / 'images' / key)
        label = out / 'labels' / f'{key}.png'
        label.parent.mkdir(parents=True, exist_ok=True)
        write_image(label, frame.labels)
        if frame.split:
            lists.setdefault(frame.split, []).append(key)
        for place in np.flatnonzero(np.bincount(frame.labels.ravel(), minlength=256)[:IGNORE]):
            shown[names[place]] += 1
    if not taken:
        raise ValueError('; '.join(['the export holds no labelled frame', *export.left_out]))
    (out / FILE_NAME).write_text(classes_text(export.classes), encoding='utf-8')
    if len(lists) > 1:
        for split, keys in lists.items():
            (out / f'{split}.txt').write_text('\n'.join(keys) + '\n', encoding='utf-8')
    return shown


def classes_text(classes: Sequence[Mapping[str, Any]]) -> str:
    """Gives the text of `classes.yaml`, one class a line, as people edit it.

    >>> print(classes_text([{'name': 'road', 'color': (1, 2, 3)}]))
    # Several ids may be one class: id: [3, 4]. An id that shall mean nothing goes to void.
    classes:
    - {name: "road", id: 0, color: [1, 2, 3]}
    void: [255]
    <BLANKLINE>
    """
    lines = [
        '# Several ids may be one class: id: [3, 4]. An id that shall mean nothing goes to void.',
        'classes:',
    ]
    for place, entry in enumerate(classes):
        # JSON's texts are texts of YAML, whatever stands in them.
        parts = [f'name: {json.dumps(entry["name"], ensure_ascii=False)}', f'id: {place}']
        if 'color' in entry:
            parts.append(f'color: {list(entry["color"])}')
        if entry.get('dynamic'):
            parts.append('dynamic: true')
        lines.append(f'- {{{", ".join(parts)}}}')
    return '\n'.join([*lines, f'void: [{IGNORE}]', ''])


def color_entry(value: Any) -> dict[str, tuple[int, ...]]:
    """Gives what a class says of its colour: nothing where the export has no 8-bit one.

    >>> color_entry('#1f5b9f'), color_entry([31, 91, 159]), color_entry('red')
    ({'color': (31, 91, 159)}, {'color': (31, 91, 159)}, {})
    """
    if isinstance(value, str) and re.match('#[0-9a-fA-F]{6}', value):
        return {'color': tuple(bytes.fromhex(value[1:7]))}
    values = value if isinstance(value, list) and len(value) == 3 else ()
    known = values and all(type(part) is int and 0 <= part <= 255 for part in values)
    return {'color': tuple(values)} if known else {}


def shapes_left_out(shapes: Iterable[tuple[Any, Any]]) -> list[str]:
    """Gives what to say of shapes, each (type, label), that enclose nothing.

    >>> shapes_left_out([('line', 'kerb'), ('point', 'kerb'), ('line', 'kerb')])
    ['2 shapes of type line (kerb)', '1 shapes of type point (kerb)']
    """
    counts = Counter(f'shapes of type {kind} ({label})' for kind, label in shapes)
    return [f'{count} {what}' for what, count in sorted(counts.items())]


def _free_key(key: str, taken: set[str]) -> str:
    """Gives a path that stays below its folder and that no other frame has."""
    parts = [part for part in unicodedata.normalize('NFC', key).split('/') if part.strip('.')]
    free = base = '/'.join(part.lstrip('.') for part in parts) or 'frame'
    count = 1
    while free in taken:
        count += 1
        free = f'{base}_{count}'
    taken.add(free)
    return free


def _copy_image(image: Image, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(image, Path):
        shutil.copyfile(image, target.with_name(target.name + image.suffix.lower()))
    else:
        data, suffix = image
        target.with_name(target.name + suffix).write_bytes(data)
