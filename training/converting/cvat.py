"""CVAT's two exports that hold segmentations: "CVAT for images 1.1" and "Segmentation mask 1.1".

Source: the formats' descriptions at https://docs.cvat.ai/docs/manual/advanced/formats/.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from anomaly_seg_ros.classes import IGNORE
from training.datasets.classes import read_colors
from training.datasets.classes_file import color_code
from training.datasets.splits import SPELLINGS
from training.negatives.coco_masks import fill_polygon

from .drawing import (
    check_size,
    checked_size,
    ellipse_corners,
    empty_labels,
    finite,
    labels_of,
    paste_mask,
    rectangle_corners,
)
from .export import color_entry, Export, Labelled, Labels, shapes_left_out
from .files import files_below, image_files, ImagesByName, key_of, LabelledOnce

BACKGROUND = 'background'
"""What "Segmentation mask" calls pixels without a label."""


def cvat(folder: Path) -> Export:
    """Reads an unpacked export with its images ("Save images" in CVAT's dialogue).

    Raises:
        FileNotFoundError: It is neither of the two.
        ValueError: It is broken.
    """
    for name, read in (('annotations.xml', _for_images), ('labelmap.txt', _masks)):
        found = [path for path in files_below(folder, (Path(name).suffix,)) if path.name == name]
        if len(found) > 1:
            raise ValueError(
                f'{str(folder)!r} holds {len(found)} exports, as {str(found[0])!r} and '
                f'{str(found[1])!r}; convert each folder by itself'
            )
        if found:
            return read(found[0])
    raise FileNotFoundError(
        f'no annotations.xml and no labelmap.txt in {str(folder)!r}; export as "CVAT for images '
        '1.1" or "Segmentation mask 1.1", with images'
    )


def _for_images(path: Path) -> Export:
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f'{str(path)!r} is not valid XML: {error}') from None
    classes: list[dict[str, Any]] = []
    for label in root.iterfind('.//meta//labels/label'):
        name, color = label.findtext('name', ''), label.findtext('color', '')
        if name and name not in [entry['name'] for entry in classes]:
            known = color_entry(color)
            if color and not known:
                raise ValueError(
                    f'{str(path)!r}: colour {color!r} of label {name!r} is not of the form #rrggbb'
                )
            classes.append({'name': name, **known})
    places = {str(entry['name']): place for place, entry in enumerate(classes)}
    images = root.findall('image')
    if not images:
        raise ValueError(f'{str(path)!r} holds no image; export as "CVAT for images 1.1"')
    drawn = [image for image in images if any(_is_area(shape) for shape in image)]
    left_out = []
    if count := len(images) - len(drawn):
        left_out.append(f'{count} images without polygon, mask, box or ellipse')
    left_out += shapes_left_out(
        (shape.tag, shape.get('label'))
        for image in images
        for shape in image
        if not _is_area(shape)
    )
    return Export(classes, _drawn(path, drawn, places), len(drawn), left_out)


def _is_area(shape: ElementTree.Element) -> bool:
    return shape.tag in ('polygon', 'mask', 'box', 'ellipse')


def _drawn(
    path: Path, images: Sequence[ElementTree.Element], places: dict[str, int]
) -> Iterator[Labelled]:
    files = ImagesByName(path.parent)
    once = LabelledOnce()
    for image in images:
        name = image.get('name', '')
        file = files.find(name)
        if file is None:
            raise FileNotFoundError(
                f'image {name!r} of {str(path)!r} is not in {str(path.parent)!r}; export with '
                '"Save images"'
            )
        once.add(file, f'{str(path)!r} (id {image.get("id")})')
        try:
            labels = labels_of(file, image.get('height'), image.get('width'))
            shapes = [shape for shape in image if _is_area(shape)]
            for shape in sorted(shapes, key=lambda shape: int(shape.get('z_order') or 0)):
                _fill(labels, shape, places[shape.get('label', '')])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'image {name!r} of {str(path)!r}: {error}') from None
        split = SPELLINGS.get(image.get('subset', '').lower(), '')
        yield Labelled(str(Path(name).with_suffix('')), file, labels, split)


def _fill(labels: Labels, shape: ElementTree.Element, place: int) -> None:
    def number(key: str) -> float:
        return finite(key, shape.get(key) or 0)

    if shape.tag == 'polygon':
        points = [pair.split(',') for pair in shape.get('points', '').split(';')]
        fill_polygon(labels, points, place)
    elif shape.tag == 'box':
        left, top = number('xtl'), number('ytl')
        size = number('xbr') - left, number('ybr') - top
        middle = left + size[0] / 2, top + size[1] / 2
        corners = rectangle_corners((left, top), size, number('rotation'), middle)
        fill_polygon(labels, corners, place)
    elif shape.tag == 'ellipse':
        centre, radii = (number('cx'), number('cy')), (number('rx'), number('ry'))
        fill_polygon(labels, ellipse_corners(centre, radii, number('rotation')), place)
    else:
        size = checked_size(shape.get('height'), shape.get('width'))
        counts = [int(count) for count in shape.get('rle', '').split(',')]
        if sum(counts) > size[0] * size[1] or min(counts) < 0:
            raise ValueError(f'run lengths add up to {sum(counts)}, the mask is {size}')
        # Background first; what is left at the end is what follows the last run.
        counts.append(size[0] * size[1] - sum(counts))
        bits = np.repeat(np.arange(len(counts), dtype=np.uint8) % 2, counts).reshape(size)
        paste_mask(labels, bits, (int(number('left')), int(number('top'))), place)


def _masks(path: Path) -> Export:
    """Reads `labelmap.txt` (`NAME:R,G,B::` a line), `SegmentationClass/` and `JPEGImages/`."""
    classes: list[dict[str, Any]] = []
    codes: dict[int, int] = {}
    names: dict[int, str] = {}
    for line in path.read_text(encoding='utf-8-sig').splitlines():
        name, _, rest = line.partition(':')
        if not name.strip() or name.startswith('#'):
            continue
        try:
            color = tuple(int(value) for value in rest.split(':')[0].split(','))
            code = color_code(color)
        except ValueError:
            raise ValueError(f'{str(path)!r}: {line!r} is not of the form NAME:R,G,B') from None
        if code in names:
            raise ValueError(
                f'{str(path)!r}: labels {names[code]!r} and {name!r} have the same colour '
                f'{list(color)}; give one of them another in CVAT and export anew'
            )
        names[code] = name
        if name == BACKGROUND:
            codes[code] = IGNORE
        else:
            codes[code] = len(classes)
            classes.append({'name': name, 'color': color})
    folder = path.parent / 'SegmentationClass'
    masks = sorted(files_below(folder, ('.png',)))
    return Export(classes, _painted(path.parent, folder, masks, codes), len(masks))


def _painted(
    root: Path, folder: Path, masks: Sequence[Path], codes: dict[int, int]
) -> Iterator[Labelled]:
    images = {key_of(p, root / 'JPEGImages'): p for p in image_files(root / 'JPEGImages')}
    splits = {
        key.strip(): split
        for name, split in SPELLINGS.items()
        for lists in (root / 'ImageSets' / 'Segmentation').glob('*.txt')
        if lists.stem.lower() == name
        for key in lists.read_text(encoding='utf-8-sig').splitlines()
    }
    for mask in masks:
        key = key_of(mask, folder)
        if key not in images:
            raise FileNotFoundError(
                f'{str(mask)!r} has no image in {str(root / "JPEGImages")!r}; export with "Save '
                'images", or copy them there'
            )
        colors = read_colors(mask)
        check_size(images[key], colors.shape)
        labels = empty_labels(colors.shape)
        unknown = np.ones(colors.shape, np.bool_)
        for code, place in codes.items():
            labels[colors == code] = place
            unknown &= colors != code
        if unknown.any():
            code = int(colors[unknown][0])
            raise ValueError(
                f'{str(mask)!r} holds colour {[code >> 16, code >> 8 & 255, code & 255]}, which '
                'labelmap.txt does not name'
            )
        yield Labelled(key, images[key], labels, splits.get(key, ''))
