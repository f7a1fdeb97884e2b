"""Reads `classes.yaml`: the classes of a user's own set, and what its label files hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import math
from pathlib import Path
from typing import Any

from anomaly_seg_ros.classes import CAMVID, CITYSCAPES, IGNORE, LabelSet
from anomaly_seg_ros.process.yaml_text import parse_yaml
from anomaly_seg_ros.registry import did_you_mean

from .label_ids import MOST_IDS
from .splits import SplitRule

FILE_NAME = 'classes.yaml'

Color = tuple[int, int, int]

_KEYS = ('classes', 'void', 'splits')
_CLASS_KEYS = ('name', 'id', 'color', 'dynamic')
_KNOWN_COLORS = {
    name: color for known in (CAMVID, CITYSCAPES) for name, color in zip(*known[:2], strict=True)
}
_STEPS = (0, 80, 140, 200, 255)
_PALETTE = tuple(
    (red, green, blue) for red in _STEPS for green in _STEPS for blue in _STEPS
    if max(red, green, blue) - min(red, green, blue) > 100
)  # fmt: skip
"""What classes are displayed in that nobody gave a colour: no greys."""


@dataclass(frozen=True)
class ClassesFile:
    """What `classes.yaml` says.

    Attributes:
        path: The file.
        classes: Names and display colours, in train-id order.
        by_color: Whether label files hold colours; else ids.
        meanings: Id, or colour as `color_code` gives it, to train id or 255.
        rule: How frames are parted, as far as the file says.
    """

    path: Path
    classes: LabelSet
    by_color: bool
    meanings: Mapping[int, int]
    rule: SplitRule


def color_code(color: Sequence[int]) -> int:
    """Gives an RGB colour as one number.

    >>> hex(color_code((128, 64, 255)))
    '0x8040ff'
    """
    red, green, blue = color
    return red << 16 | green << 8 | blue


def read_classes_file(path: Path) -> ClassesFile:
    """Reads `classes.yaml`.

    A class has a `name`, and as `id` the value (or palette index) in the label files, or a list
    of them. Where no class has an id, label files hold colours: `color` is then what stands in
    the file, or a list of such, of which the first is displayed. `void` lists ids or colours that
    mean nothing; where it is left out that is 255, if no class has it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It does not follow this form; the text names what is wrong.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'no {str(path)!r}; it names the classes of the label files, see docs/own_camera.md; '
            'anomaly_seg convert writes it from what label tools export'
        )
    source = repr(str(path))
    content = parse_yaml(path.read_bytes(), source)
    try:
        return _read(path, content)
    except ValueError as error:
        raise ValueError(f'{source}: {error}') from None


def _read(path: Path, content: Any) -> ClassesFile:
    entries = _checked_keys(content, _KEYS, 'the file').get('classes')
    if not isinstance(entries, list) or not entries:
        raise ValueError(
            "'classes' must be a list, as classes: [{name: road, id: 7}, {name: car, id: 26}]"
        )
    if len(entries) > IGNORE:
        raise ValueError(f'{len(entries)} classes; there may be {IGNORE}, because ids are bytes')
    entries = [_checked_keys(entry, _CLASS_KEYS, 'a class') for entry in entries]
    names = _names(entries)
    with_id = [name for name, entry in zip(names, entries, strict=True) if 'id' in entry]
    if with_id and len(with_id) < len(names):
        alone = next(name for name in names if name not in with_id)
        raise ValueError(
            f'class {with_id[0]!r} has an id and class {alone!r} has none; give all of them ids, '
            'or none where the label files hold colours'
        )
    by_color = not with_id
    stored = [
        _colors(entry.get('color'), name) if by_color else _ids(entry['id'], name)
        for name, entry in zip(names, entries, strict=True)
    ]
    given = [
        _given_color(entry.get('color'), name, by_color)
        for name, entry in zip(names, entries, strict=True)
    ]
    return ClassesFile(
        path=path,
        classes=LabelSet(names, display_colors(given), _dynamic(names, entries)),
        by_color=by_color,
        meanings=_meanings(names, stored, content.get('void'), by_color),
        rule=SplitRule.from_value(content.get('splits')),
    )


def _checked_keys(value: Any, known: Sequence[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f'{what} is {value!r}; it must be keys with values: {", ".join(known)}')
    for key in value:
        if key not in known:
            hint = did_you_mean(str(key), known) or f'; the keys are: {", ".join(known)}'
            raise ValueError(f'unknown key {key!r} of {what}{hint}')
    return value


def _names(entries: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    names: list[str] = []
    for entry in entries:
        name = entry.get('name')
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise ValueError(f'name is {name!r}; each class needs a text, in quotes where need be')
        if name in names:
            raise ValueError(f'name {name!r} stands there twice; give one class a list of ids')
        names.append(name)
    return tuple(names)


def _ids(value: Any, name: str) -> list[int]:
    ids = value if isinstance(value, list) else [value]
    for stored in ids or [None]:
        if isinstance(stored, bool) or not isinstance(stored, int) or not 0 <= stored < MOST_IDS:
            raise ValueError(
                f'id of {name!r} is {value!r}; it must be a number from 0 to {MOST_IDS - 1}, as '
                'it stands in the label files, or a list of them'
            )
    return ids


def _colors(value: Any, name: str) -> list[int]:
    """Gives the codes of one colour or of a list of them."""
    several = isinstance(value, list) and value and isinstance(value[0], list)
    colors = value if several else [value]
    for color in colors:
        fits = isinstance(color, list) and len(color) == 3
        if not fits or any(type(v) is not int or v not in range(256) for v in color):
            raise ValueError(
                f'color of {name!r} is {value!r}; it must be [red, green, blue] of 0 to 255'
                + ('' if value is not None else ', or give the class an id')
            )
    return [color_code(color) for color in colors]


def _given_color(value: Any, name: str, by_color: bool) -> Color | None:
    """Gives the colour that a class is displayed in, if the file or its name says."""
    if value is None:
        return _KNOWN_COLORS.get(name)
    codes = _colors(value, name)
    if len(codes) > 1 and not by_color:
        raise ValueError(f'color of {name!r} is {value!r}; beside an id there may be one')
    return codes[0] >> 16, codes[0] >> 8 & 255, codes[0] & 255


def display_colors(given: Sequence[Color | None]) -> tuple[Color, ...]:
    """Gives each class a colour; to those without one that which is least like the others."""
    taken = [color for color in given if color is not None]
    colors = []
    for color in given:
        if color is None:
            color = max(
                _PALETTE,
                key=lambda own: min((math.dist(own, other) for other in taken), default=0),
            )
            taken.append(color)
        colors.append(color)
    return tuple(colors)


def _dynamic(names: Sequence[str], entries: Sequence[Mapping[str, Any]]) -> tuple[str, ...] | None:
    for name, entry in zip(names, entries, strict=True):
        if not isinstance(value := entry.get('dynamic', False), bool):
            raise ValueError(f'dynamic of {name!r} is {value!r}; it must be true or false')
    if not any('dynamic' in entry for entry in entries):
        return None
    return tuple(n for n, entry in zip(names, entries, strict=True) if entry.get('dynamic'))


def _meanings(
    names: Sequence[str], stored: Sequence[Sequence[int]], void: Any, by_color: bool
) -> dict[int, int]:
    meanings: dict[int, int] = {}
    for train_id, values in enumerate(stored):
        for value in values:
            if value in meanings:
                raise ValueError(
                    f'{_shown(value, by_color)} means both {names[meanings[value]]!r} and '
                    f'{names[train_id]!r}; it can mean one'
                )
            meanings[value] = train_id
    if void is None:
        return {IGNORE: IGNORE} | meanings if not by_color else meanings
    for value in (_colors if by_color else _ids)(void, 'void') if void != [] else []:
        if value in meanings:
            raise ValueError(
                f'{_shown(value, by_color)} is void and class {names[meanings[value]]!r}; '
                'it can be one'
            )
    values = (_colors if by_color else _ids)(void, 'void') if void != [] else []
    return meanings | dict.fromkeys(values, IGNORE)


def _shown(value: int, by_color: bool) -> str:
    return f'color {[value >> 16, value >> 8 & 255, value & 255]}' if by_color else f'id {value}'
