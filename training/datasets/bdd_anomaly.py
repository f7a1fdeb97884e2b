"""BDD-Anomaly: 8000 frames of BDD100K in which trains, motorcycles and bicycles are unknown.

Source: Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings", 2022.
A frame that shows one of the three belongs to the test split, whatever folder it is in. Two rules
for unlabelled pixels are in use: `void_ignored` (the default) leaves them out, `original` counts
them as normal, as the authors' code does. The benchmark's metrics are per-image means, see
`training/metrics/per_image.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from anomaly_seg_ros.classes import CITYSCAPES, IGNORE, LabelSet

from .frames import Frames
from .label_ids import ids_in, read_ids
from .layout import expect_count, find_frames, FrameFiles, Layout, split_rule

SPLITS = {'test': 810, 'train': 6280, 'validation': 910}
"""Split to how many frames were published."""
FOLDERS = {'train': 'train_', 'validation': 'val_', 'test': ''}
"""Split to how the names of its frames begin: with the folder that they are in."""

RULES = ('void_ignored', 'original')

ANOMALOUS = ('train', 'motorcycle', 'bicycle')
KNOWN = tuple(name for name in CITYSCAPES.names if name not in ANOMALOUS)
CLASSES = LabelSet(
    KNOWN,
    CITYSCAPES.colors[: len(KNOWN)],
    ('person', 'rider', 'car', 'truck', 'bus'),
)
"""Those of Cityscapes without the three, which are its last."""

_IMAGE = r'(?P<frame>(?:train|val)/[^/]+)\.jpg'


def _ids(first: int, void: int) -> dict[int, int]:
    """Gives stored id to train id of Cityscapes, 255 for unlabelled."""
    return {first + place: place for place in range(len(CITYSCAPES.names))} | {void: IGNORE}


LAYOUTS = (
    Layout(
        'BDD100K, 2018',
        r'seg/images/' + _IMAGE,
        r'seg/labels/(?P<frame>(?:train|val)/[^/]+)_train_id\.png',
        _ids(0, IGNORE),
    ),
    Layout(
        "the authors' labels",
        r'seg/images/' + _IMAGE,
        r'seg/train_labels/(?P<frame>(?:train|val)/[^/]+)_train_id\.png',
        _ids(2, 1),
    ),
    Layout(
        'BDD100K, 2020',
        r'images/10k/' + _IMAGE,
        r'labels/sem_seg/masks/(?P<frame>(?:train|val)/[^/]+)\.png',
        _ids(0, IGNORE),
    ),
)


def bdd_anomaly(root: Path, split: str = 'test') -> Frames:
    """Gives `ROOT/seg/images/{train,val}/ID.jpg` with their labels, or a later packing.

    Every label file is read once, to see which frames show an anomaly.

    Args:
        root: Folder that holds `seg`, or `images` and `labels`.
        split: train, validation or test; with ':original' for that rule.

    Raises:
        ValueError: Unknown split or rule, or a label file cannot be read.
        FileNotFoundError: No known layout, or a partner file is missing.
    """
    base, rule = split_rule('bdd_anomaly', split, tuple(SPLITS), RULES)
    layout, frames = find_frames(
        'bdd_anomaly', root, LAYOUTS, lambda frame: frame.startswith(FOLDERS[base])
    )
    chosen = _of_split(frames, layout.ids, anomalous=base == 'test')
    expect_count('bdd_anomaly', base, chosen, SPLITS[base])
    void = IGNORE if rule == 'void_ignored' else 0
    known = range(len(KNOWN))
    return Frames(
        'bdd_anomaly',
        chosen,
        anomaly={
            stored: void if meant == IGNORE else int(meant not in known)
            for stored, meant in layout.ids.items()
        },
        train_ids={
            stored: meant if meant in known else IGNORE for stored, meant in layout.ids.items()
        },
        classes=CLASSES,
    )


def _of_split(
    frames: Sequence[FrameFiles], ids: Mapping[int, int], anomalous: bool
) -> list[FrameFiles]:
    """Gives the frames that show an anomaly, or those that do not."""
    unknown = {stored for stored, meant in ids.items() if len(KNOWN) <= meant < IGNORE}

    def shows(frame: FrameFiles) -> bool:
        assert frame.label is not None, 'frames without one were refused'
        return bool(ids_in(read_ids(frame.label)) & unknown)

    with ThreadPoolExecutor() as threads:
        shown = list(threads.map(shows, frames))
    return [frame for frame, is_shown in zip(frames, shown, strict=True) if is_shown == anomalous]
