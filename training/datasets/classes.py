"""A user's own classes: `images/`, `labels/` and `classes.yaml`, in any depth of folders."""

from __future__ import annotations

from collections.abc import Sequence
import logging
from pathlib import Path
from typing import NamedTuple
import unicodedata

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.frames.images import (
    checked_file,
    is_hidden,
    printable,
    read_image,
    SUFFIXES,
    walk,
)

from .classes_file import ClassesFile, FILE_NAME, read_classes_file
from .dataset import check_size, Dataset, Sample
from .label_ids import ids_in, LabelTable, read_ids
from .layout import FrameFiles
from .missing import check_split
from .splits import part_frames, SPLITS

logger = logging.getLogger(__name__)


class OwnFiles(NamedTuple):
    """What lies in the folders of a set, each by its path below them without suffix.

    Attributes:
        frames: Those with an image and a label file, sorted.
        unlabelled: Images without a label file.
        alone: Label files without an image.
    """

    frames: dict[str, tuple[Path, Path]]
    unlabelled: dict[str, Path]
    alone: dict[str, Path]


class OwnClasses(Dataset):
    """Frames whose label files mean what `classes.yaml` says.

    Attributes:
        file: What it says.
        frames: The files, in order.
    """

    def __init__(self, file: ClassesFile, frames: Sequence[FrameFiles]):
        self.file, self.frames, self.classes = file, list(frames), file.classes
        self.class_ids = file.meanings
        way_out = f'; give {{}} to a class, or to void, in {str(file.path)!r}'
        self._table = LabelTable({} if file.by_color else file.meanings, FILE_NAME, way_out)

    def __len__(self) -> int:
        return len(self.frames)

    def files(self, index: int) -> tuple[Path, Path | None]:
        """Gives the image and label file of a frame."""
        return self.frames[index][1:]

    def image(self, index: int) -> NDArray[np.uint8]:
        """Reads the image of a frame."""
        return read_image(self.frames[index].image)

    def __getitem__(self, index: int) -> Sample:
        """Reads one frame.

        Raises:
            ValueError: A file cannot be decoded, sizes differ, or an id or colour is unknown.
        """
        frame = self.frames[index]
        assert frame.label is not None
        image = self.image(index)
        if self.file.by_color:
            codes = read_colors(frame.label)
            check_size(frame.image, image, frame.label, codes)
            return Sample(frame.name, image, color_meaning(codes, self.file, frame.label))
        ids = read_ids(frame.label)
        check_size(frame.image, image, frame.label, ids)
        return Sample(frame.name, image, self._table.meaning(ids, ids_in(ids), frame.label))


def read_colors(path: Path) -> NDArray[np.int32]:
    """Gives the colour of each pixel of a label file, of its palette where it has one.

    Returns:
        (H, W), as `color_code` numbers them.
    """
    red, green, blue = np.moveaxis(read_image(path).astype(np.int32), 2, 0)
    codes: NDArray[np.int32] = red << 16 | green << 8 | blue
    return codes


def color_meaning(codes: NDArray[np.int32], file: ClassesFile, path: Path) -> NDArray[np.uint8]:
    """Gives the train ids of a label file that holds colours.

    Raises:
        ValueError: A colour is not known.
    """
    known = np.array(sorted(file.meanings), np.int32)
    train_ids = np.array([file.meanings[int(code)] for code in known], np.uint8)
    place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    if (strange := known[place] != codes).any():
        row, column = np.argwhere(strange)[0].tolist()
        code = int(codes[row, column])
        color = [code >> 16, code >> 8 & 255, code & 255]
        raise ValueError(
            f'{str(path)!r} holds colour {color} at row {row}, column {column} and '
            f'{int(strange.sum())} unknown pixels in all; give it to a class, or to void, in '
            f'{str(file.path)!r}'
        )
    return train_ids[place]


def classes(root: Path, split: str = 'val', file: Path | None = None) -> OwnClasses:
    """Gives the frames of a split of `ROOT/images/**/NAME.*` with `ROOT/labels/**/NAME.*`.

    An image and its label file have the same path below their folders, but for the suffix. Images
    without one are left out, with a warning: whoever labels begins with some.

    Args:
        root: Folder of the set.
        split: 'train', 'val', 'test', as `part_frames` parts them, or 'all'.
        file: The classes; None takes `ROOT/classes.yaml`.

    Raises:
        FileNotFoundError: A folder or the file is missing, or a label file has no image.
        ValueError: Unknown split, an empty one, labels in JPEG, or `classes.yaml` does not follow
            its form.
    """
    check_split('classes', split, (*SPLITS, 'all'))
    if not root.is_dir():
        raise FileNotFoundError(f'no folder {str(root)!r}; check --root')
    content = read_classes_file(root / FILE_NAME if file is None else file)
    found = own_files(root)
    if found.alone:
        first = next(iter(found.alone.values()))
        raise FileNotFoundError(
            f'{len(found.alone)} label files in {str(root / "labels")!r} have no image of the '
            f'same path in images/, the first is {str(first)!r}'
        )
    if not found.frames:
        raise FileNotFoundError(
            f'no image in {str(root / "images")!r} has a label file of the same path in labels/, '
            'but for the suffix'
        )
    if lossy := [pair[1] for pair in found.frames.values() if is_lossy(pair[1])]:
        raise ValueError(
            f'{len(lossy)} label files are JPEG, which changes ids and colours, the first is '
            f'{str(lossy[0])!r}; export them as PNG'
        )
    if found.unlabelled:
        logger.warning(
            '%d of %d images in %s have no label file and are left out',
            len(found.unlabelled), len(found.unlabelled) + len(found.frames), root / 'images',
        )  # fmt: skip
    keys = list(found.frames)
    if split != 'all':
        parts, how = part_frames(root, keys, content.rule)
        keys = parts[split]
        if not keys:
            raise ValueError(
                f'split {split!r} of {str(root)!r} holds no frame, as parted by {how}; list its '
                f'frames in {split}.txt, or give it a share or folders by splits: in {FILE_NAME}'
            )
    names = frame_names(list(found.frames))
    return OwnClasses(content, [FrameFiles(names[key], *found.frames[key]) for key in keys])


def is_lossy(label: Path) -> bool:
    """Whether a label file is of a format that changes what is stored."""
    return label.suffix.lower() in ('.jpg', '.jpeg')


def own_files(root: Path) -> OwnFiles:
    """Finds the images and label files of a set.

    Raises:
        FileNotFoundError: A folder is missing, or a link leads nowhere.
        ValueError: Two files of one path but for the suffix.
    """
    images, labels = (_files_below(root / folder) for folder in ('images', 'labels'))
    return OwnFiles(
        {key: (images[key], labels[key]) for key in sorted(images.keys() & labels.keys())},
        {key: images[key] for key in sorted(images.keys() - labels.keys())},
        {key: labels[key] for key in sorted(labels.keys() - images.keys())},
    )


def frame_names(keys: Sequence[str]) -> dict[str, str]:
    """Gives each frame a name that is fit for a file and nobody else's."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for key in keys:
        name = base = printable(key).replace('/', '_')
        count = 1
        while name in taken:
            count += 1
            name = f'{base}_{count}'
        taken.add(name)
        names[key] = name
    return names


def _files_below(folder: Path) -> dict[str, Path]:
    """Gives the image files below a folder by path without suffix; follows links, not in circles.

    Accents are compared as characters: macOS writes them as two.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'no folder {str(folder)!r}; a set has images/ and labels/')
    found: dict[str, Path] = {}
    for inner, folders, names in walk(folder):
        here = Path(inner)
        above = {parent.resolve() for parent in (here, *here.parents)}
        folders[:] = sorted(
            name for name in folders
            if not is_hidden(name) and (here / name).resolve() not in above
        )  # fmt: skip
        for name in sorted(names):
            path = here / name
            if is_hidden(name) or path.suffix.lower() not in SUFFIXES:
                continue
            key = unicodedata.normalize('NFC', path.relative_to(folder).with_suffix('').as_posix())
            if key in found:
                raise ValueError(
                    f'{str(found[key])!r} and {str(path)!r} are of the same frame; keep one'
                )
            found[key] = checked_file(path)
    return found
