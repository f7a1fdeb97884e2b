"""Frames from saved score maps and label files."""

from __future__ import annotations

from collections.abc import Mapping
import logging
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from training.datasets import NO_CLASSES
from training.datasets.dataset import files_by_stem
from training.datasets.label_ids import (
    AS_IS,
    BY_LABEL_MAP,
    ids_in,
    LABEL_SUFFIXES,
    LabelTable,
    read_ids,
)

from .frame import Bytes, Floats, Frame
from .resizing import truth_size

_logger = logging.getLogger(__name__)

SAMPLED = 1 << 14
"""Scores of a map that are looked at for what float32 makes of them, about."""
LEAST_KEPT = 0.9
"""Share of the different ones that is kept where nothing is said."""

SUFFIX = '_score'
"""What `predict --save score` puts behind the stem."""


class MapFrames:
    """A `FrameSource` over `SCORES/STEM.npy` with `LABELS/STEM.png`, `.npy` and others.

    Args:
        scores: Folder of the maps.
        labels: Folder of the label files.
        protocol: A key of `PROTOCOLS`.
        label_map: What the ids of the label files mean: 0, 1 or 255.

    Raises:
        FileNotFoundError: A folder is missing or empty, or a file has no partner.
        ValueError: Two label files for one stem.
    """

    has_anomalies = True
    has_images = False
    classes = NO_CLASSES

    def __init__(
        self, scores: Path, labels: Path, protocol: str, label_map: Mapping[int, int] = AS_IS
    ):
        self.scores: tuple[str, ...] = (scores.resolve().name,)
        self._protocol = protocol
        self._table = truth_table(label_map)
        self._said = False
        label_files = files_by_stem(labels, LABEL_SUFFIXES)
        score_files = _without_suffix(files_by_stem(scores, ('.npy',)), label_files)
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
        score, merged = read_map(score_path)
        if merged and not self._said:
            self._said = True  # the others of the folder are mostly like it
            _logger.warning('%s', merged)
        truth, stored = read_truth(label_path, self._table)
        size = (score.shape[0], score.shape[1])
        truth = truth_size(truth, size, self._protocol)
        if truth.shape != size:
            raise ValueError(
                f'map {str(score_path)!r} is {size}, labels {str(label_path)!r} are '
                f'{truth.shape}; save the maps at the size of the labels'
            )
        return Frame(stem, truth, {self.scores[0]: score}, stored=stored)

    def again(self, index: int) -> Frame:
        """Reads a frame once more."""
        return self.first(index)


def read_map(path: Path) -> tuple[Floats, str]:
    """Reads a score map of any float type as float32.

    Returns:
        (H, W), and what a user should know where float32 makes one score of many: their order, and
        with it AP, is lost; '' where it does not.

    Raises:
        ValueError: No NumPy file, not an (H, W) array of a float type, or one that holds numbers
            beyond float32.
    """
    values = _load(path)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating):
        raise ValueError(
            f'{str(path)!r} holds {values.dtype} of shape {values.shape}; a score map is an '
            '(H, W) array of a float type'
        )
    with np.errstate(over='ignore', under='ignore'):
        found = values.astype(np.float32)
    if values.dtype.itemsize > found.dtype.itemsize:
        if np.isinf(found).sum() > np.isinf(values).sum():
            raise ValueError(
                f'{str(path)!r} holds {values.dtype} scores beyond float32, in which they are '
                'measured; save them scaled, or their logarithm'
            )
        return found, _merged(values, found, path)
    return found, ''


def _merged(values: NDArray[Any], found: Floats, path: Path) -> str:
    step = max(values.size // SAMPLED, 1)
    kept, had = (np.unique(each.ravel()[::step]).size for each in (found, values))
    if kept >= LEAST_KEPT * had:
        return ''
    return (
        f'{str(path)!r}: float32, in which scores are measured, keeps {kept} of {had} different '
        f'{values.dtype} scores; save logits or log-odds instead of probabilities near 0 or 1'
    )


def read_truth(path: Path, table: LabelTable) -> tuple[Bytes, frozenset[int]]:
    """Reads anomaly labels from an image or NumPy file.

    Args:
        path: The file.
        table: What its ids mean.

    Returns:
        (H, W) 0, 1 and 255, and the ids that are stored.

    Raises:
        ValueError: The file cannot be read, or an id is not known.
    """
    ids = _load(path) if path.suffix.lower() == '.npy' else read_ids(path)
    if ids.ndim != 2 or ids.dtype.kind not in 'biu':
        raise ValueError(
            f'{str(path)!r} holds {ids.dtype} of shape {ids.shape}; labels are an (H, W) '
            'array of whole numbers'
        )
    found = ids_in(ids)
    # True and False are no places in a table.
    return table.meaning(ids.view(np.uint8) if ids.dtype == np.bool_ else ids, found, path), found


def truth_table(label_map: Mapping[int, int]) -> LabelTable:
    """Gives the table for `read_truth` of labels that somebody brings along."""
    return LabelTable(label_map, 'a label file', BY_LABEL_MAP)


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


def _without_suffix(scores: Mapping[str, Path], labels: Mapping[str, Path]) -> dict[str, Path]:
    """Takes what `predict` wrote: of its maps only the scores, by the stem of their image."""
    named = {stem: path for stem, path in scores.items() if stem.endswith(SUFFIX)}
    if not named or named.keys() & labels.keys():
        return dict(scores)
    return {stem.removesuffix(SUFFIX): path for stem, path in named.items()}
