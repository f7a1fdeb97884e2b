"""Frames of several datasets as one, with the classes of the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from anomaly_seg_ros.classes import IGNORE, LabelSet
from anomaly_seg_ros.frames.resizing import resize_ids

from . import build_dataset
from .dataset import Dataset, Sample

KEYS = ('dataset', 'root', 'split', 'names', 'repeat', 'size', 'labels')


class Renamed(Dataset):
    """A dataset's frames with the train ids of other classes.

    Args:
        dataset: Samples with train ids.
        classes: What the ids shall mean.
        names: The dataset's class names to those of `classes`; a name that stands in both needs
            no entry, and pixels of all others become 255. None: all pixels do.
        size: (height, width) that frames are resized to; None: as they are.

    Raises:
        ValueError: A name that one of the two does not have, or no class is left.
    """

    def __init__(
        self,
        dataset: Dataset,
        classes: LabelSet,
        names: Mapping[str, str] | None,
        size: tuple[int, int] | None = None,
    ):
        self.dataset, self.classes, self.size = dataset, classes, size
        self.table = np.full(256, IGNORE, np.uint8)
        self.labelled = names is not None
        if names is None:
            return
        theirs, ours = dataset.classes.names, classes.names
        for kind, given, known in (('', names, theirs), ('own ', names.values(), ours)):
            if unknown := sorted(set(given) - set(known)):
                raise ValueError(
                    f'names has the unknown {kind}classes {unknown}; there are: {", ".join(known)}'
                )
        for number, name in enumerate(theirs):
            if (renamed := names.get(name, name)) in ours:
                self.table[number] = ours.index(renamed)
        if (self.table == IGNORE).all():
            raise ValueError(
                f'no class is left of {", ".join(theirs)}; say in names which of '
                f'{", ".join(ours)} they are'
            )

    def __len__(self) -> int:
        return len(self.dataset)

    def files(self, index: int) -> tuple[Path, Path | None] | None:
        """Gives the files of a frame."""
        return self.dataset.files(index)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        image = sample.image
        if self.labelled:
            labels = self.table[sample.labels]
        else:
            labels = np.full(image.shape[:2], IGNORE, np.uint8)
        if self.size is not None:
            height, width = self.size
            resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            image = resized.astype(np.uint8, copy=False)
            labels = resize_ids(labels, self.size)
        return Sample(sample.name, image, labels)


class Joined(Dataset):
    """The frames of the first dataset, then those of the others, each as often as asked."""

    def __init__(self, first: Dataset, others: Sequence[tuple[Dataset, int]]):
        self.classes = first.classes
        self.frames = [(first, index) for index in range(len(first))]
        for dataset, repeat in others:
            self.frames += [(dataset, index) for index in range(len(dataset))] * repeat

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        dataset, place = self.frames[index]
        return dataset[place]

    def files(self, index: int) -> tuple[Path, Path | None] | None:
        """Gives the files of a frame, as its own dataset does."""
        dataset, place = self.frames[index]
        return dataset.files(place)


def join(first: Dataset, also: Sequence[Mapping[str, Any]]) -> Dataset:
    """Gives a dataset and beside it those that a recipe names in `also`.

    Args:
        first: Its classes are those of all.
        also: Mappings that `check_entry` lets through: `dataset` and `root`, perhaps `split`
            ('train'), `names` and `size` as in `Renamed`, `repeat` (1), how often each frame comes
            in an epoch, and `labels` (true); false: all pixels are 255, whatever its labels say,
            so that a dataset without classes can be joined.

    Raises:
        ValueError: Unknown dataset or split, or names that do not fit.
        FileNotFoundError: A dataset is not under its `root`.
    """
    others = []
    for entry in also:
        dataset = build_dataset(
            str(entry['dataset']),
            Path(str(entry['root'])).expanduser(),
            entry.get('split', 'train'),
        )
        size = entry.get('size')
        names = entry.get('names', {}) if entry.get('labels', True) else None
        renamed = Renamed(dataset, first.classes, names, None if size is None else tuple(size))
        others.append((renamed, int(entry.get('repeat', 1))))
    return Joined(first, others) if others else first


def entry_name(entry: Mapping[str, Any]) -> str:
    """Gives what a checkpoint calls frames that it was trained on, by one mapping as of `also`.

    >>> entry_name({'dataset': 'cityscapes', 'root': '/data/cityscapes'})
    'cityscapes train'
    >>> entry_name({'dataset': 'classes', 'root': 'out/dashcam'})
    'classes dashcam train'
    >>> entry_name({'dataset': 'frames', 'root': '/data/photos', 'split': 'all'})
    'frames photos all'
    """
    own = [Path(str(entry['root'])).name] if entry['dataset'] in ('classes', 'frames') else []
    return ' '.join([str(entry['dataset']), *own, str(entry.get('split', 'train'))])


def check_entry(entry: Mapping[str, Any]) -> None:
    """Checks one mapping of `also`, without reading anything of its dataset.

    Raises:
        ValueError: A key or value that does not fit.
    """
    if not isinstance(entry, Mapping) or not {'dataset', 'root'} <= entry.keys() <= set(KEYS):
        raise ValueError(
            f'also holds {entry!r}; each entry needs dataset and root, and may have '
            f'{", ".join(KEYS[2:])}'
        )
    repeat, size, names = entry.get('repeat', 1), entry.get('size'), entry.get('names', {})
    if not isinstance(repeat, int) or repeat < 1:
        raise ValueError(f'also: repeat is {repeat!r}; it must be a whole number above 0')
    if size is not None and not (
        isinstance(size, (list, tuple))
        and len(size) == 2
        and all(isinstance(side, int) and side > 0 for side in size)
    ):
        raise ValueError(f'also: size is {size!r}; it must be [height, width]')
    labels = entry.get('labels', True)
    if not isinstance(labels, bool) or (names and not labels):
        raise ValueError(
            f'also: labels is {labels!r} beside names {names!r}; it must be true or false, and '
            'without labels nothing has a name'
        )
    if not isinstance(names, Mapping):
        raise ValueError(f'also: names is {names!r}; it must map their classes to ours')
