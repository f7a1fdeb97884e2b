"""Mapillary Vistas, all versions: `config*.json` and palette images in folders of splits.

Source: Neuhold et al., "The Mapillary Vistas Dataset", 2017, and the README of version 2.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anomaly_seg_ros.classes import IGNORE
from training.datasets.label_ids import read_ids
from training.datasets.splits import SPELLINGS

from .drawing import check_size
from .export import Export, Labelled, Labels
from .files import image_files, key_of, read_json

MOVING = ('human--', 'animal--', 'object--vehicle--')
"""How the names of classes begin that can move by themselves."""


def mapillary(folder: Path) -> Export:
    """Reads the newest version in the folder; classes that are not evaluated mean nothing.

    Raises:
        FileNotFoundError: No `config*.json`, or no label images.
        ValueError: A file is broken.
    """
    configs = sorted(folder.glob('config*.json'))
    for config in reversed(configs):
        version = config.stem.removeprefix('config').removeprefix('_')
        found = [
            (split, images, labels)
            for split in sorted(SPELLINGS)
            if (images := folder / split / 'images').is_dir()
            and (labels := folder / split / version / 'labels').is_dir()
        ]
        if found:
            return _read(config, found)
    raise FileNotFoundError(
        f'no config*.json with labels of its version in {str(folder)!r}; Mapillary has '
        'config_v2.0.json and training/{images,v2.0/labels}, before 1.2 config.json and '
        'training/{images,labels}'
    )


def _read(config: Path, parts: Sequence[tuple[str, Path, Path]]) -> Export:
    classes: list[dict[str, Any]] = []
    table = []
    try:
        for label in read_json(config)['labels']:
            if not label.get('evaluate', True):
                table.append(IGNORE)
                continue
            table.append(len(classes))
            entry = {'name': str(label['readable']), 'color': tuple(map(int, label['color']))}
            classes.append(entry | {'dynamic': str(label['name']).startswith(MOVING)})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'{str(config)!r} is no configuration of Mapillary: {error!r}') from None
    files = [
        (split, image, labels / f'{key_of(image, images)}.png')
        for split, images, labels in parts
        for image in image_files(images)
    ]
    with_labels = [part for part in files if part[2].is_file()]
    left_out = []
    if count := len(files) - len(with_labels):
        left_out.append(f'{count} images without a label file')
    return Export(classes, _frames(with_labels, table), len(with_labels), left_out)


def _frames(files: Sequence[tuple[str, Path, Path]], table: Sequence[int]) -> Iterator[Labelled]:
    meaning: Labels = np.array(table, np.uint8)
    for split, image, label in files:
        ids = read_ids(label)
        if ids.max() >= len(table):
            raise ValueError(f'{str(label)!r} holds label {ids.max()}; there are {len(table)}')
        check_size(image, ids.shape)
        yield Labelled(f'{split}/{image.stem}', image, meaning[ids], SPELLINGS[split])
