"""StreetHazards: synthetic towns, 5125 train, 1031 validation and 1500 test frames of 1280x720.

Source: Hendrycks et al., "Scaling Out-of-Distribution Detection", 2019 (part of CAOS). Two label
rules are in use. `densehybrid` (the default, for mIoU and open-mIoU): 12 classes, "other" is
ignored by class and by anomaly. `original`: 13 classes, nothing is ignored. The benchmark's
metrics are per-image means, see `training/metrics/per_image.py`.
"""

from __future__ import annotations

from pathlib import Path

from anomaly_seg_ros.classes import IGNORE, STREETHAZARDS, STREETHAZARDS_ORIGINAL

from .frames import Frames
from .layout import find_frames, Layout, split_rule

SPLITS = {
    'train': ('train', 'training', '[^/]+'),
    'validation': ('train', 'validation', '[^/]+'),
    'test': ('test', 'test', '[^/]+'),
    'test_t5': ('test', 'test', 't5'),
    'test_t6': ('test', 'test', 't6'),
}
"""Split to archive, folder and town; the towns t5 and t6 are the folds of open-mIoU."""

RULES = ('densehybrid', 'original')

OTHER, ANOMALY = 4, 14

_KNOWN = [value for value in range(1, ANOMALY) if value != OTHER]

TRAIN_IDS = {
    'densehybrid': {value: i for i, value in enumerate(_KNOWN)} | {OTHER: IGNORE, ANOMALY: IGNORE},
    'original': {value: value - 1 for value in range(1, ANOMALY)} | {ANOMALY: IGNORE},
}

ANOMALIES = {
    'densehybrid': dict.fromkeys(_KNOWN, 0) | {OTHER: IGNORE, ANOMALY: 1},
    'original': dict.fromkeys(range(1, ANOMALY), 0) | {ANOMALY: 1},
}


def streethazards(root: Path, split: str = 'test') -> Frames:
    """Gives `ROOT/{train,test}/images/...` with `ROOT/{train,test}/annotations/...`.

    Args:
        root: Folder that holds `train` and `test`.
        split: train, validation, test, test_t5 or test_t6; with ':original' for that rule.

    Raises:
        ValueError: Unknown split or rule.
        FileNotFoundError: A folder or a partner file is missing.
    """
    base, rule = split_rule('streethazards', split, tuple(SPLITS), RULES)
    archive, part, town = SPLITS[base]
    layout = Layout(
        'official',
        rf'{archive}/images/{part}/(?P<frame>{town}/[^/]+)\.png',
        rf'{archive}/annotations/{part}/(?P<frame>{town}/[^/]+)\.png',
        TRAIN_IDS[rule],
    )
    _, frames = find_frames('streethazards', root, (layout,))
    return Frames(
        'streethazards',
        frames,
        anomaly=ANOMALIES[rule],
        train_ids=TRAIN_IDS[rule],
        classes=STREETHAZARDS if rule == 'densehybrid' else STREETHAZARDS_ORIGINAL,
        towns=True,
    )
