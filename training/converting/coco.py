"""COCO's panoptic and instance formats.

Source: https://cocodataset.org/#format-data. The instances format is what Roboflow, CVAT and most
other tools export too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.frames.images import read_image
from training.datasets.splits import SPELLINGS
from training.negatives.coco_masks import decode_segmentation

from .drawing import labels_of, paste_mask
from .export import color_entry, Export, Labelled
from .files import ImagesByName, json_files, LabelledOnce, read_json

Annotated = tuple[Path, Mapping[str, Any], Sequence[Mapping[str, Any]]]
"""The JSON file, an entry of its images, and its annotations."""


def coco_panoptic(folder: Path) -> Export:
    """Reads `panoptic_*.json` with its folder of PNG and the images, in any depth.

    Raises:
        FileNotFoundError: No such file, or an image or PNG is missing.
        ValueError: A file is broken.
    """
    return _export(folder, 'segments_info', 'panoptic')


def coco(folder: Path) -> Export:
    """Reads files of instances (polygons or run lengths) and the images, in any depth.

    Where objects overlap the smaller one is in front.

    Raises:
        FileNotFoundError: No such file, or an image is missing.
        ValueError: A file is broken.
    """
    return _export(folder, 'segmentation', 'instances')


def _export(folder: Path, mark: str, kind: str) -> Export:
    contents = [(path, read_json(path)) for path in json_files(folder)]
    files = [(path, content) for path, content in contents if _is_coco(content, mark)]
    if not files:
        raise FileNotFoundError(f'no JSON file of COCO {kind} in {str(folder)!r}')
    names: dict[str, dict[str, Any]] = {}
    annotated: list[Annotated] = []
    missed: Counter[str] = Counter()
    try:
        for path, content in files:
            for category in content['categories']:
                name = str(category['name'])
                names.setdefault(name, {'name': name, **color_entry(category.get('color'))})
            own: dict[str, list[Mapping[str, Any]]] = {}
            for annotation in content['annotations']:
                if annotation.get(mark):
                    own.setdefault(str(annotation['image_id']), []).append(annotation)
                else:
                    missed['annotations without an outline (boxes only)'] += 1
            ids = {str(image['id']) for image in content['images']}
            orphans = sum(len(found) for key, found in own.items() if key not in ids)
            missed['annotations of images that no file lists'] += orphans
            for image in content['images']:
                if found := own.get(str(image['id'])):
                    annotated.append((path, image, found))
                else:
                    missed['images without an outline'] += 1
        places = {name: place for place, name in enumerate(names)}
        classes_of = {
            path: {str(c['id']): places[str(c['name'])] for c in content['categories']}
            for path, content in files
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'a file of COCO {kind} in {str(folder)!r} is broken: {error!r}'
        ) from None
    left_out = [f'{count} {what}' for what, count in missed.items() if count]
    frames = _frames(folder, annotated, classes_of, kind)
    return Export(list(names.values()), frames, len(annotated), left_out)


def _is_coco(content: Any, mark: str) -> bool:
    return (
        isinstance(content, dict)
        and all(isinstance(content.get(k), list) for k in ('images', 'annotations', 'categories'))
        and any(isinstance(each, dict) and mark in each for each in content['annotations'])
    )


def _frames(
    folder: Path,
    annotated: Sequence[Annotated],
    classes_of: Mapping[Path, Mapping[str, int]],
    kind: str,
) -> Iterator[Labelled]:
    # The PNG of the segments may be named as the photos are.
    files = ImagesByName(folder, [path.with_suffix('') for path in classes_of])
    once = LabelledOnce()
    for path, image, own in annotated:
        name = str(image.get('file_name', ''))
        file = files.find(name)
        if file is None:
            raise FileNotFoundError(f'image {name!r} of {str(path)!r} is not in {str(folder)!r}')
        once.add(file, f'{str(path)!r} (id {image["id"]})')
        try:
            labels = labels_of(file, image.get('height'), image.get('width'))
            if kind == 'instances':
                _draw_instances(labels, own, classes_of[path])
            else:
                _draw_segments(labels, own[0], classes_of[path], path)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'image {name!r} of {str(path)!r}: {error}') from None
        yield Labelled(str(Path(name).with_suffix('')), file, labels, _split(path))


def _split(path: Path) -> str:
    """Gives the split that a file's name or folder tells, as `panoptic_val2017.json` does."""
    words = [*re.split('[^a-z]+', path.stem.lower()), path.parent.name]
    return next((SPELLINGS[word] for word in words if word in SPELLINGS), '')


def _draw_instances(
    labels: Any, annotations: Sequence[Mapping[str, Any]], places: Mapping[str, int]
) -> None:
    def mask(annotation: Mapping[str, Any]) -> NDArray[np.uint8]:
        return decode_segmentation(annotation['segmentation'], labels.shape)

    # Drawn twice: together the masks of a large frame would take gigabytes.
    for annotation in sorted(annotations, key=lambda each: -int(mask(each).sum())):
        paste_mask(labels, mask(annotation), (0, 0), places[str(annotation['category_id'])])


def _draw_segments(
    labels: Any, annotation: Mapping[str, Any], places: Mapping[str, int], path: Path
) -> None:
    folder = path.with_suffix('')
    file = folder / str(annotation['file_name'])
    if not file.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f'its segments {str(file)!r} are not below {str(folder)!r}')
    red, green, blue = np.moveaxis(read_image(file).astype(np.int64), 2, 0)
    segments = red + 256 * green + 65536 * blue
    if segments.shape != labels.shape:
        raise ValueError(f'{str(file)!r} is {segments.shape}, the image {labels.shape}')
    meaning = {int(s['id']): places[str(s['category_id'])] for s in annotation['segments_info']}
    ids, inverse = np.unique(segments, return_inverse=True)
    table = np.array([meaning.get(int(i), IGNORE) for i in ids], np.uint8)
    labels[:] = table[inverse.reshape(segments.shape)]
