"""Label Studio: a JSON export with polygons, brush strokes, rectangles and ellipses.

Source: https://labelstud.io/guide/export (format "JSON"). The run lengths of brush strokes are
those of thi.ng/rle-pack, read as Label Studio's own converter does (Apache-2.0), whose package
brings some thirty others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from training.negatives.coco_masks import fill_polygon

from .drawing import (
    ellipse_corners,
    finite,
    labels_of,
    paste_mask,
    rectangle_corners,
)
from .export import Export, Labelled, Labels, shapes_left_out
from .files import ImagesByName, json_files, key_of, LabelledOnce, read_json

AREAS = ('polygonlabels', 'brushlabels', 'rectanglelabels', 'ellipselabels')
LABELS = 'labels'
"""How all kinds of shapes that bear labels end."""
UPLOADED = re.compile('[0-9a-f]{8}-(?=.)')
"""What Label Studio puts before the name of an uploaded file."""


def label_studio(folder: Path) -> Export:
    """Reads a folder with the JSON export and the images, in any depth.

    Raises:
        FileNotFoundError: No such file, or an image is missing.
        ValueError: It is of another form, or broken.
    """
    files = json_files(folder)
    exports = [(path, content) for path in files if _is_export(content := read_json(path))]
    if not exports:
        raise FileNotFoundError(
            f'no JSON export of Label Studio in {str(folder)!r}; export as "JSON" (not "JSON-MIN")'
        )
    tasks = [(path, task) for path, content in exports for task in content]
    shapes = [(path, task, _shapes(task)) for path, task in tasks]
    drawn = [
        (path, task, areas)
        for path, task, found in shapes
        if (areas := [shape for shape in found if shape['type'] in AREAS])
    ]
    names = dict.fromkeys(str(_label(area)) for *_, areas in drawn for area in areas)
    left_out = []
    if count := len(tasks) - len(drawn):
        left_out.append(f'{count} tasks without polygon, brush, rectangle or ellipse')
    left_out += shapes_left_out(
        (shape['type'].removesuffix(LABELS), _label(shape))
        for *_, found in shapes
        for shape in found
        if shape['type'] not in AREAS
    )
    places = {name: place for place, name in enumerate(sorted(names))}
    return Export(
        [{'name': name} for name in places], _frames(folder, drawn, places), len(drawn), left_out
    )


def _is_export(content: Any) -> bool:
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(task, dict) and 'annotations' in task for task in content)
    )


def _shapes(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Gives what bears a label in the first annotation of a task that was not cancelled."""
    for annotation in task['annotations']:
        if not annotation.get('was_cancelled'):
            return [
                part
                for part in annotation.get('result', ())
                if str(part.get('type')).endswith(LABELS)
            ]
    return []


def _label(area: Mapping[str, Any]) -> Any:
    labels = area['value'].get(area['type']) or ['unlabelled']
    return labels[0]


def _frames(
    folder: Path,
    tasks: Sequence[tuple[Path, Mapping[str, Any], Sequence[Mapping[str, Any]]]],
    places: Mapping[str, int],
) -> Iterator[Labelled]:
    images = ImagesByName(folder)
    once = LabelledOnce()
    for path, task, areas in tasks:
        what = f'task {task.get("id")!r} of {str(path)!r}'
        file = _image(images, task)
        if file is None:
            raise FileNotFoundError(
                f'the image of {what} is not in {str(folder)!r}: {_addresses(task)}; copy it there'
            )
        once.add(file, what)
        try:
            labels = labels_of(file, areas[0]['original_height'], areas[0]['original_width'])
            for area in areas:
                _fill(labels, area, places[str(_label(area))])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f'cannot read {what}: {error!r}') from None
        yield Labelled(key_of(file, folder), file, labels)


def _addresses(task: Mapping[str, Any]) -> list[str]:
    return [value for value in task.get('data', {}).values() if isinstance(value, str)]


def _image(images: ImagesByName, task: Mapping[str, Any]) -> Path | None:
    for address in _addresses(task):
        parts = urlsplit(address)
        local = parse_qs(parts.query).get('d', [''])[0]
        name = unquote(local or parts.path)
        plain = re.sub(UPLOADED, '', name.rpartition('/')[2])
        if (found := images.find(name) or images.find(plain)) is not None:
            return found
    return None


def _fill(labels: Labels, area: Mapping[str, Any], place: int) -> None:
    value = area['value']
    height, width = (int(side) for side in labels.shape)

    def across(key: str) -> float:
        return width / 100 * finite(key, value[key])

    def down(key: str) -> float:
        return height / 100 * finite(key, value[key])

    turn = finite('rotation', value.get('rotation') or 0)
    if area['type'] == 'polygonlabels':
        points = np.asarray(value['points'], np.float64) * (width / 100, height / 100)
        fill_polygon(labels, points, place)
    elif area['type'] == 'rectanglelabels':
        corner, size = (across('x'), down('y')), (across('width'), down('height'))
        fill_polygon(labels, rectangle_corners(corner, size, turn), place)
    elif area['type'] == 'ellipselabels':
        radii = across('radiusX'), down('radiusY')
        fill_polygon(labels, ellipse_corners((across('x'), down('y')), radii, turn), place)
    else:
        pixels = unpack_brush(bytes(value['rle']))
        if pixels.size != 4 * labels.size:
            raise ValueError(f'a brush of {pixels.size // 4} pixels on a frame of {labels.size}')
        paste_mask(labels, pixels.reshape(height, width, 4)[..., 3], (0, 0), place)


def unpack_brush(data: bytes) -> NDArray[np.uint8]:
    """Gives the bytes behind packed run lengths: RGBA of each pixel.

    The head says how many values there are, their bits, and four sizes of a run's length. Then
    each run says whether it repeats one value, by which of the sizes its length is written, and
    the value or the values.

    Raises:
        ValueError: It is cut short.
    """
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    text = bits.tobytes().translate(bytes.maketrans(b'\0\1', b'01')).decode()
    at = 0

    def read(count: int) -> int:
        nonlocal at
        if at + count > len(text):
            raise ValueError('the run lengths of a brush are cut short')
        value = int(text[at : at + count], 2)
        at += count
        return value

    total, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    if total > 4 << 27 or word != 8:
        raise ValueError(f'run lengths of {total} values of {word} bits')
    values = np.zeros(total, np.uint8)
    done = 0
    while done < total:
        repeats = read(1)
        end = min(done + 1 + read(sizes[read(2)]), total)
        if repeats:
            values[done:end] = read(word)
        else:
            for place in range(done, end):
                values[place] = read(word)
        done = end
    return values
