"""COCO: photos with outlined objects; those of road scenes are left out.

Source: Lin et al., "Microsoft COCO: Common Objects in Context", 2014; which images serve as
outliers follows Chan et al., "Entropy Maximization and Meta Classification for Out-of-Distribution
Detection in Semantic Segmentation", 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.frames.images import read_image, turned_note

from .coco_masks import decode_segmentation
from .negative import Negative

ROAD_CATEGORIES = (
    'person', 'bicycle', 'car', 'motorcycle', 'bus', 'train', 'truck', 'traffic light',
    'stop sign',
)  # fmt: skip

Outlined = tuple[str, tuple[int, int], Any, str]
"""(file name, (height, width), segmentation, category id) of an object."""


class CocoNegatives:
    """Objects, each as likely, cut out along their bounding box, the object as region 1.

    Args:
        root: Folder that holds `images` and `annotations`.
        annotations: The instances file, relative to `root`.
        images: The folder of its photos, relative to `root`.
        exclude: Objects of these categories are left out.
        exclude_photos: Leave out the whole photo that shows such an object, as the source does.
            False where objects are pasted by their outline alone: a dog stays a dog beside a
            person.
        exclude_files: Patterns of file names whose photos are left out.
        even: Draw a category first, each as likely, then one of its objects: of a file with 300
            horses and ten cups a cup comes as often as a horse.
        min_side: Photos with a shorter side are left out, pixels.
        min_object: Objects whose bounding box has a shorter side are left out, pixels: enlarged
            to the size of the others they are a smear.

    Raises:
        FileNotFoundError: The instances file or the folder is missing.
        ValueError: The file is no instances file, or no object is left.
    """

    shapes: ClassVar[dict[str, float]] = {'regions': 1.0}
    # A photo is one object here, which is to be pasted whole.
    short_side = 128
    crop = 512

    def __init__(
        self,
        root: str | Path,
        annotations: str = 'annotations/instances_train2017.json',
        images: str = 'train2017',
        exclude: Sequence[str] = ROAD_CATEGORIES,
        min_side: int = 480,
        min_object: int = 32,
        exclude_photos: bool = True,
        exclude_files: Sequence[str] = (),
        even: bool = False,
    ):
        self.folder = Path(root).expanduser() / images
        if not self.folder.is_dir():
            raise FileNotFoundError(f'no folder {str(self.folder)!r}; check root and images')
        self.file = Path(root).expanduser() / annotations
        content = _read_json(self.file)
        try:
            self.objects = _usable_objects(
                content, exclude, min_side, min_object, exclude_photos, exclude_files
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'{str(self.file)!r} is no COCO instances file: {error}') from None
        if not self.objects:
            raise ValueError(
                f'{str(self.file)!r} leaves no object; lower min_side ({min_side}) or min_object '
                f'({min_object}), or exclude less'
            )
        groups: dict[str, list[Outlined]] = {}
        for outlined in self.objects:
            groups.setdefault(outlined[-1] if even else '', []).append(outlined)
        self.groups = list(groups.values())

    def draw(self, rng: np.random.Generator) -> Negative:
        """Gives one object in its bounding box.

        Raises:
            FileNotFoundError: The photo is missing.
            ValueError: The photo is broken or has another size than its outline; names the file.
        """
        # Of one group nothing is drawn: older recipes keep their objects.
        chosen = int(rng.integers(len(self.groups))) if len(self.groups) > 1 else 0
        group = self.groups[chosen]
        name, size, segmentation, _ = group[int(rng.integers(len(group)))]
        path = self.folder / name
        image = read_image(path)
        if image.shape[:2] != size:
            raise ValueError(
                f'{str(path)!r} is {image.shape[:2]}; {self.file.name} says {size}'
                f'{turned_note(path)}'
            )
        try:
            mask = decode_segmentation(segmentation, size)
        except ValueError as error:
            raise ValueError(f'outline of {name!r} in {str(self.file)!r}: {error}') from None
        if not mask.any():
            raise ValueError(
                f'outline of {name!r} in {str(self.file)!r}: it lies outside of the photo; '
                'correct it, or take it out'
            )
        return Negative(*_crop_to_mask(image, mask))


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f'no instances file {str(path)!r}; check root and annotations')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{str(path)!r} is not valid JSON: {error}') from None
    if not isinstance(content, dict):
        raise ValueError(f'{str(path)!r} is no COCO instances file: it holds no mapping')
    return content


def _usable_objects(
    content: dict[str, Any],
    exclude: Sequence[str],
    min_side: int,
    min_object: int,
    exclude_photos: bool,
    exclude_files: Sequence[str],
) -> list[Outlined]:
    """Lists what may be pasted.

    Ids are compared as text: some tools write numbers in one list and texts in the other.
    """
    wrong = {str(entry['id']) for entry in content['categories'] if entry['name'] in exclude}
    road = {
        str(entry['image_id'])
        for entry in content['annotations']
        if str(entry['category_id']) in wrong
    }
    images = {
        str(entry['id']): (entry['file_name'], size)
        for entry in content['images']
        if min(size := (int(entry['height']), int(entry['width']))) >= min_side
        and not (exclude_photos and str(entry['id']) in road)
        and not any(fnmatch(str(entry['file_name']), pattern) for pattern in exclude_files)
    }
    return [
        (*images[str(entry['image_id'])], entry['segmentation'], str(entry['category_id']))
        for entry in content['annotations']
        # A crowd is many objects under one rough outline.
        if str(entry['image_id']) in images
        and str(entry['category_id']) not in wrong
        and not entry.get('iscrowd')
        and entry['segmentation']
        and _short_side(entry['bbox']) >= min_object
    ]


def _short_side(box: Sequence[float] | None) -> float:
    """Gives the shorter side of [x, y, width, height], 0 of an empty box."""
    return min((float(side) for side in (box or ())[2:]), default=0.0)


def _crop_to_mask(
    image: NDArray[np.uint8], mask: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    if not rows.size:
        return image, mask
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return image[box], mask[box]
