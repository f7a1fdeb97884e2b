"""Fishyscapes validation: Lost & Found (100 frames) and Static (30), 2048x1024.

Source: Blum et al., "The Fishyscapes Benchmark", 2021. Static comes in versions (1 plain paste,
2 better blending) whose numbers do not compare.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.frames.images import read_image

from .frames import Frames
from .label_ids import AS_IS
from .layout import expect_count, find_frames, Layout
from .missing import check_split

_LAF_TREE = r'(?:.+/)?leftImg8bit/.+/(?P<frame>[^/]+)_leftImg8bit\.png'
_OFFICIAL_MASKS = r'fishyscapes_lostandfound/\d+_(?P<frame>[^/]+)_labels\.png'
_NPY_HEAD_BYTES = 16_384
_IMAGE = r'\.(png|jpg|webp)'

LOST_AND_FOUND = (
    Layout('RbA', r'laf_images/(?P<frame>[^/]+)_leftImg8bit\.png', _OFFICIAL_MASKS, AS_IS, True),
    Layout('official masks', _LAF_TREE, _OFFICIAL_MASKS, AS_IS, True),
    Layout(
        'SMIYC',
        _LAF_TREE,
        r'(?:dataset_FishyLAF/)?labels/val/(?P<frame>[^/]+)_fishy-labels\.png',
        AS_IS,
        True,
    ),
    Layout(
        'DenseHybrid',
        r'leftImg8bit/(?:.+/)?(?P<frame>[^/]+)_leftImg8bit\.png',
        r'ood/(?:.+/)?(?P<frame>[^/]+)_ood_segmentation\.png',
        {0: 0, 1: 1, 2: IGNORE},
    ),
    Layout(
        'course bundle',
        r'(?:FS_LostFound_full/)?images/(?P<frame>\d+)' + _IMAGE,
        r'(?:FS_LostFound_full/)?labels_masks/(?P<frame>\d+)\.png',
        AS_IS,
    ),
    Layout(
        'SynBoost, PEBAL',
        r'LostAndFound/original/(?P<frame>[^/]+)' + _IMAGE,
        r'LostAndFound/labels/(?P<frame>[^/]+)\.png',
        AS_IS,
    ),
    Layout(
        'Meta-OOD',
        r'LostAndFound/(?P<frame>.+)\.jpg',
        r'LostAndFound/(?P<frame>.+)\.png',
        AS_IS,
    ),
)

STATIC = (
    Layout(
        'DenseHybrid',
        r'(?P<frame>(?:.+/)?[^/]+)_rgb\.jpg',
        r'(?P<frame>(?:.+/)?[^/]+)_labels\.png',
        AS_IS,
    ),
    Layout(
        'course bundle',
        r'(?:fs_static/)?images/(?P<frame>\d+)' + _IMAGE,
        r'(?:fs_static/)?labels_masks/(?P<frame>\d+)\.png',
        AS_IS,
    ),
    Layout(
        'SynBoost, PEBAL',
        r'Static/original/(?P<frame>[^/]+)' + _IMAGE,
        r'Static/labels/(?P<frame>[^/]+)\.png',
        AS_IS,
    ),
    Layout('Meta-OOD', r'Static/(?P<frame>.+)\.jpg', r'Static/(?P<frame>.+)\.png', AS_IS),
)


def _static(version: int) -> tuple[Layout, ...]:
    """Gives the layouts of one version: whole images, or the official overlays."""
    label = rf'fs_val_v{version}/(?P<frame>[^/]+)_labels\.png'
    return (
        Layout('RbA', rf'fs_static_images_v{version}/(?P<frame>[^/]+)_rgb\.png', label, AS_IS),
        Layout('official', rf'fs_val_v{version}/(?P<frame>[^/]+)_rgb\.npz', label, AS_IS),
    )


SPLITS = {
    'lost_and_found': (LOST_AND_FOUND, 100),
    'static': (STATIC, 30),
    'static_v1': (_static(1), 30),
    'static_v2': (_static(2), 30),
    'static_v3': (_static(3), 30),
}
"""Split to its layouts and how many frames were published. `static` are repacks that do not say
their version."""


def fishyscapes(root: Path, split: str = 'lost_and_found') -> Frames:
    """Gives one validation set in any of the layouts that `SPLITS` lists.

    The official overlays of Static also need Cityscapes' `leftImg8bit/val` below the root.

    Raises:
        ValueError: Unknown split.
        FileNotFoundError: No known layout, or a partner file is missing.
    """
    check_split('fishyscapes', split, tuple(SPLITS))
    layouts, count = SPLITS[split]
    layout, frames = find_frames('fishyscapes', root, layouts)
    expect_count('fishyscapes', split, frames, count)
    return Frames('fishyscapes', frames, anomaly=layout.ids, read=partial(_read, root=root))


def _read(path: Path, root: Path) -> NDArray[np.uint8]:
    """Reads an image file, or an overlay `<nnnn>_<cityscapes id>_rgb.npz` upon its image.

    Raises:
        FileNotFoundError: The Cityscapes image is missing.
        ValueError: The overlay cannot be read, or has no array 'rgb' of the image's size.
    """
    if path.suffix != '.npz':
        return read_image(path)
    frame = path.name.removesuffix('_rgb.npz').split('_', 1)[1].removesuffix('_leftImg8bit')
    base_path = root / 'leftImg8bit' / 'val' / frame.split('_')[0] / f'{frame}_leftImg8bit.png'
    if not base_path.is_file():
        raise FileNotFoundError(
            f'{str(path)!r} is an overlay and needs the Cityscapes image {str(base_path)!r}'
        )
    base = read_image(base_path)
    overlay = _read_overlay(path, 8 * base.size)
    if overlay is None or overlay.shape != base.shape:
        raise ValueError(f'{str(path)!r} holds no array "rgb" of shape {base.shape}')
    image: NDArray[np.uint8] = np.clip(base.astype(np.int64) + overlay, 0, 255).astype(np.uint8)
    return image


def _read_overlay(path: Path, most: int) -> NDArray[np.integer] | None:
    """Gives the array 'rgb' of an archive; None if it has none, or one of more than `most` bytes.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        # NumPy leaves a file open that it opened itself and cannot read.
        with path.open('rb') as file, np.load(file, allow_pickle=False) as arrays:
            sizes = {entry.filename: entry.file_size for entry in arrays.zip.infolist()}
            # A packed array may claim more than anyone has memory for.
            if sizes.get('rgb.npy', 0) > most + _NPY_HEAD_BYTES:
                return None
            overlay: NDArray[np.integer] | None = arrays.get('rgb')
    except (
        ValueError, EOFError, OSError, AttributeError, TypeError, MemoryError, BadZipFile,
    ) as error:  # fmt: skip
        raise ValueError(f'cannot read {str(path)!r} as an archive of arrays: {error}') from None
    return overlay
