"""LabelMe: one JSON file beside each image, with outlined shapes.

Source: the files that labelme 4 and 5 write, https://github.com/wkentaro/labelme.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.frames.image_bytes import content_format, decode
from anomaly_seg_ros.frames.images import SUFFIXES
from training.negatives.coco_masks import checked_corners, fill_with_border

from .drawing import (
    ellipse_corners,
    empty_labels,
    image_size,
    labels_of,
    paste_mask,
    rectangle_corners,
)
from .export import Export, Image, Labelled, Labels, shapes_left_out
from .files import json_files, key_of, LabelledOnce, read_json

IGNORED = '__ignore__'
"""Label of shapes that mean nothing."""

AREAS = ('polygon', 'rectangle', 'circle', 'mask')


def labelme(folder: Path) -> Export:
    """Reads a folder of images and JSON files, in any depth.

    Raises:
        FileNotFoundError: No such file, or one without its image.
        ValueError: A file is broken.
    """
    found = [(path, read_json(path)) for path in json_files(folder)]
    files = [
        (path, content)
        for path, content in found
        if isinstance(content, dict) and isinstance(content.get('shapes'), list)
    ]
    if not files:
        raise FileNotFoundError(f'no JSON file with shapes, as LabelMe writes, in {str(folder)!r}')
    drawn = [(path, content) for path, content in files if any(map(_is_area, content['shapes']))]
    names = sorted(
        {str(s['label']) for _, content in drawn for s in content['shapes'] if _is_area(s)}
        - {IGNORED}
    )
    places = {name: place for place, name in enumerate(names)} | {IGNORED: IGNORE}
    left_out = []
    if count := len(files) - len(drawn):
        left_out.append(f'{count} images without polygon, rectangle, circle or mask')
    left_out += shapes_left_out(
        (shape.get('shape_type'), shape.get('label'))
        for _, content in files
        for shape in content['shapes']
        if isinstance(shape, dict) and not _is_area(shape)
    )
    return Export(
        [{'name': name} for name in names], _frames(folder, drawn, places), len(drawn), left_out
    )


def _is_area(shape: Any) -> bool:
    return isinstance(shape, dict) and shape.get('shape_type', 'polygon') in AREAS


def _frames(
    folder: Path, files: Sequence[tuple[Path, Mapping[str, Any]]], places: Mapping[str, int]
) -> Iterator[Labelled]:
    once = LabelledOnce()
    for path, content in files:
        try:
            image = _image(path, content, folder)
            labels = _draw(image, content, places)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f'cannot read {str(path)!r} as a file of LabelMe: {error}') from None
        if isinstance(image, Path):
            once.add(image, repr(str(path)))
        yield Labelled(key_of(path, folder), image, labels)


def _draw(image: Image, content: Mapping[str, Any], places: Mapping[str, int]) -> Labels:
    height, width = content.get('imageHeight'), content.get('imageWidth')
    stated = height is not None and width is not None
    labels = labels_of(image, height, width) if stated else empty_labels(image_size(image))
    for shape in filter(_is_area, content['shapes']):
        _fill(labels, shape, places[str(shape['label'])])
    return labels


def _image(path: Path, content: Mapping[str, Any], folder: Path) -> Image:
    """Gives the file below the folder or beside the JSON, else the image that the JSON holds."""
    name = str(content.get('imagePath') or '').replace('\\', '/')
    named, beside = path.parent / name, path.parent / Path(name).name
    # What an export names elsewhere is none of its images: a key, a password.
    places = [named, beside] if named.resolve().is_relative_to(folder.resolve()) else [beside]
    for place in places:
        if place.suffix.lower() in SUFFIXES and place.is_file():
            return place
    if not content.get('imageData'):
        raise FileNotFoundError(
            f'image {name!r} of {str(path)!r} is neither below {str(folder)!r} nor in it; copy it '
            'there, as .png or .jpg'
        )
    data = b64decode(content['imageData'])
    return data, {'jpeg': '.jpg'}.get(kind := content_format(data) or 'png', f'.{kind}')


def _fill(labels: Labels, shape: Mapping[str, Any], place: int) -> None:
    """Fills as LabelMe does, which draws the outline too."""
    points = checked_corners(shape['points'])
    kind = shape.get('shape_type', 'polygon')
    if kind == 'polygon':
        fill_with_border(labels, points, place)
    elif kind == 'circle':
        radius = float(np.hypot(*(points[1] - points[0])))
        corners = ellipse_corners((points[0, 0], points[0, 1]), (radius, radius))
        fill_with_border(labels, corners, place)
    else:
        (left, top), (right, bottom) = points.min(0), points.max(0)
        if kind == 'rectangle':
            corners = rectangle_corners((left, top), (right - left, bottom - top))
            fill_with_border(labels, corners, place)
        else:
            data = np.frombuffer(b64decode(shape['mask']), np.uint8)
            mask = decode(data, cv2.IMREAD_GRAYSCALE)
            paste_mask(labels, mask, (round(left), round(top)), place)
