"""Frames from saved score maps and label files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE
from training.datasets import NO_CLASSES
from training.datasets.dataset import read_labels

from .frame import Bytes, Floats, Frame
from .resizing import nearest

SUFFIX = '_score'
"""What `predict --save score` puts behind the stem."""


class MapFrames:
    """A `FrameSource` over `SCORES/STEM.npy` with `LABELS/STEM.png` or `.npy`.

    Raises:
        FileNotFoundError: A folder is missing or empty, or a file has no partner.
        ValueError: Two label files for one stem.
    """

    has_anomalies = True
    has_images = False
    classes = NO_CLASSES

    def __init__(self, scores: Path, labels: Path, protocol: str):
        self.scores: tuple[str, ...] = (scores.resolve().name,)
        self._protocol = protocol
        label_files = _by_stem(labels, ('.png', '.npy'))
        score_files = _without_suffix(_by_stem(scores, ('.npy',)), label_files)
        if alone := sorted(score_files.keys() ^ label_files.keys()):
            where, other = (scores, labels) if alone[0] in score_files else (labels, scores)
            raise FileNotFoundError(
                f'{len(alone)} files have no partner; the first is {alone[0]!r} of '
                f'{str(where)!r}, which {str(other)!r} lacks'
            )
        self._pairs = [
            (stem, score_files[stem], label_files[stem]) for stem in sorted(label_files)
        ]

    def __len__(self) -> int:
        return len(self._pairs)

    def first(self, index: int) -> Frame:
        """Reads a frame.

        Raises:
            ValueError: A file cannot be read, or the sizes differ.
        """
        stem, score_path, label_path = self._pairs[index]
        score, truth = read_map(score_path), read_truth(label_path)
        size = (score.shape[0], score.shape[1])
        if self._protocol == 'course':
            truth = nearest(truth, size)
        if truth.shape != size:
            raise ValueError(
                f'map {str(score_path)!r} is {size}, labels {str(label_path)!r} are '
                f'{truth.shape}; save the maps at the size of the labels'
            )
        return Frame(stem, truth, {self.scores[0]: score})

    def again(self, index: int) -> Frame:
        """Reads a frame once more."""
        return self.first(index)


def read_map(path: Path) -> Floats:
    """Reads a score map of any float type as float32.

    Raises:
        ValueError: No NumPy file, or not an (H, W) array of a float type.
    """
    values = _load(path)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating):
        raise ValueError(
            f'{str(path)!r} holds {values.dtype} of shape {values.shape}; a score map is an '
            '(H, W) array of a float type'
        )
    with np.errstate(over='ignore'):
        return values.astype(np.float32)


def read_truth(path: Path) -> Bytes:
    """Reads anomaly labels 0, 1 and 255 from an image or NumPy file.

    Raises:
        ValueError: The file cannot be read, or holds other values.
    """
    labels = _load(path) if path.suffix == '.npy' else read_labels(path)
    if labels.ndim != 2 or labels.dtype.kind not in 'biu':
        raise ValueError(
            f'{str(path)!r} holds {labels.dtype} of shape {labels.shape}; labels are an (H, W) '
            'array of whole numbers'
        )
    strange = sorted(set(np.unique(labels).tolist()) - {0, 1, IGNORE})
    if strange:
        raise ValueError(f'{str(path)!r} holds label {strange[0]}; use 0, 1 and 255')
    return labels.astype(np.uint8)


def _load(path: Path) -> NDArray[np.generic]:
    try:
        # Mapped first: the shape in the head is then held against the size of the file, where a
        # plain load would ask for as much memory as the head claims.
        values = np.load(path, mmap_mode='r', allow_pickle=False)
    except (ValueError, EOFError, OSError, BadZipFile) as error:
        raise ValueError(f'cannot read {str(path)!r} as a NumPy file: {error}') from None
    if not isinstance(values, np.ndarray):
        values.close()
        raise ValueError(f'{str(path)!r} is an archive of arrays; save each map with numpy.save')
    return np.array(values)


def _by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f'no folder {str(folder)!r}')
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes:
            continue
        if path.stem in found:
            raise ValueError(f'{str(path)!r} and {str(found[path.stem])!r} are of the same stem')
        found[path.stem] = path
    if not found:
        raise FileNotFoundError(f'no {" or ".join(suffixes)} files in {str(folder)!r}')
    return found


def _without_suffix(scores: Mapping[str, Path], labels: Mapping[str, Path]) -> dict[str, Path]:
    """Takes what `predict` wrote: of its maps only the scores, by the stem of their image."""
    named = {stem: path for stem, path in scores.items() if stem.endswith(SUFFIX)}
    if not named or named.keys() & labels.keys():
        return dict(scores)
    return {stem.removesuffix(SUFFIX): path for stem, path in named.items()}
