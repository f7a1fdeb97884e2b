"""Outlines the object in the middle of each photo of a folder, and writes them as COCO does.

    python -m training.preparation.outlines PHOTOS --out outlines.json

What is pasted into frames should have the shape of things. Photos of one thing in the middle, as
ImageNet's are, have it without anybody drawing it: GrabCut parts what looks like the middle from
what looks like the rim. A photo whose outline is very small or large, or that GrabCut cannot part,
is left out and counted.
"""
# ruff: noqa: T201

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from anomaly_seg_ros.command_line.tool import run_tool, tool_parser
from anomaly_seg_ros.frames.images import find_images, read_image
from anomaly_seg_ros.frames.resizing import resize_ids
from training.negatives.coco_masks import run_lengths

SHORT_SIDE = 160
"""Photos are made this small first, pixels: outlines to a pixel of it are enough for pasting."""
RIM = 0.06
"""Share of the photo's sides that is background for sure."""
MIDDLE = 0.36
"""Half axes of the ellipse that is taken for the object at first, as shares of the sides."""
ITERATIONS = 5
AREAS = (0.03, 0.65)
"""Share of the photo that an outline may take."""


def outline(image: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Gives the (H, W) mask, 1 on the object in the middle, one piece without holes; or None.

    Args:
        image: (H, W, 3) RGB.

    Source: Rother et al., "GrabCut: Interactive Foreground Extraction using Iterated Graph Cuts",
    2004, in OpenCV.
    """
    factor = SHORT_SIDE / min(image.shape[:2])
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    guess = np.full((height, width), cv2.GC_BGD, np.uint8)
    rim_y, rim_x = round(RIM * height), round(RIM * width)
    guess[rim_y : height - rim_y, rim_x : width - rim_x] = cv2.GC_PR_BGD
    y, x = np.mgrid[:height, :width]
    middle = ((y / height - 0.5) / MIDDLE) ** 2 + ((x / width - 0.5) / MIDDLE) ** 2 < 1
    guess[middle] = cv2.GC_PR_FGD
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(small, guess, (0, 0, 1, 1), *models, ITERATIONS, cv2.GC_INIT_WITH_MASK)
    object_ = np.isin(guess, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    object_ = largest_piece(cv2.morphologyEx(object_, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)))
    if not AREAS[0] <= object_.mean() <= AREAS[1]:
        return None
    mask: NDArray[np.uint8] = resize_ids(object_, image.shape[:2])
    return mask


def largest_piece(mask: Any) -> NDArray[np.uint8]:
    """Gives the largest connected piece of a mask, its holes filled; all 0 where there is none."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(mask.shape, np.uint8)
    if contours:
        largest = max(contours, key=cv2.contourArea)
        cv2.drawContours(filled, [largest], -1, (1,), cv2.FILLED)
    return filled


def outlined(folder: Path, exclude: Sequence[str] = ()) -> tuple[dict[str, Any], int]:
    """Gives (COCO instances of a folder's photos, how many photos were looked at).

    Args:
        folder: The photos.
        exclude: Patterns of file names that are left out.

    Raises:
        FileNotFoundError: There is no such folder, or no photo is in it.
        ValueError: A file is no image.
    """
    paths = [p for p in find_images([folder]) if not any(fnmatch(p.name, e) for e in exclude)]
    images, annotations = [], []
    for number, path in enumerate(tqdm(paths, unit='photo', leave=False, disable=None)):
        mask = outline(image := read_image(path))
        if mask is None:
            continue
        height, width = image.shape[:2]
        x, y, box_width, box_height = cv2.boundingRect(mask)
        name = str(path.relative_to(folder))
        images.append({'id': number, 'file_name': name, 'height': height, 'width': width})
        annotations.append(
            {
                'id': number,
                'image_id': number,
                'category_id': 1,
                'iscrowd': 0,
                'bbox': [x, y, box_width, box_height],
                'area': int(mask.sum()),
                'segmentation': {'size': [height, width], 'counts': run_lengths(mask)},
            }
        )
    categories = [{'id': 1, 'name': 'thing'}]
    return {'images': images, 'annotations': annotations, 'categories': categories}, len(paths)


def main() -> int:
    """Outlines and writes."""
    parser = tool_parser(__doc__)
    parser.add_argument('photos', type=Path, metavar='PHOTOS')
    parser.add_argument('--exclude', nargs='*', default=(), metavar='PATTERN')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE.json')
    args = parser.parse_args()
    found, looked_at = outlined(args.photos, args.exclude)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found), encoding='utf-8')
    print(f'{len(found["images"])} of {looked_at} photos have an outline: {args.out}')
    return 0


if __name__ == '__main__':
    run_tool(main)
