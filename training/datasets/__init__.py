"""The datasets, by public name."""

from __future__ import annotations

from collections.abc import Mapping
import inspect
from pathlib import Path
from typing import Any

from anomaly_seg_ros.registry import lookup

from .dataset import Dataset, NO_CLASSES, Sample
from .missing import UnknownSplitError
from .splits import SPLITS

DATASETS = {
    'bdd_anomaly': 'training.datasets.bdd_anomaly:bdd_anomaly',
    'camvid': 'training.datasets.camvid:CamVid',
    'cityscapes': 'training.datasets.cityscapes:cityscapes',
    'classes': 'training.datasets.classes:classes',
    'fishyscapes': 'training.datasets.fishyscapes:fishyscapes',
    'folder': 'training.datasets.folder:folder',
    'frames': 'training.datasets.frame_folders:frame_folders',
    'lost_and_found': 'training.datasets.lost_and_found:lost_and_found',
    'road_anomaly': 'training.datasets.road_anomaly:road_anomaly',
    'road_anomaly21': 'training.datasets.road_anomaly21:road_anomaly21',
    'road_obstacle21': 'training.datasets.road_obstacle21:road_obstacle21',
    'streethazards': 'training.datasets.streethazards:streethazards',
}


def build_dataset(
    name: str,
    root: Path,
    split: str | None = None,
    label_map: Mapping[int, int] | None = None,
) -> Dataset:
    """Gives one split of a dataset that lies under `root` in its official layout or a known one.

    Args:
        name: Public name.
        root: The folder.
        split: Which part; None takes the one that benchmarks report.
        label_map: What the ids of its label files mean, where the dataset leaves that open.

    Raises:
        ValueError: Unknown dataset or split, or the ids of its labels have a fixed meaning.
        FileNotFoundError: A folder or a partner file is missing; the text names it.
    """
    build = lookup('dataset', DATASETS, name)
    options: dict[str, Any] = {} if split is None else {'split': split}
    if label_map is not None:
        refuse_label_map(name)
        options['label_map'] = label_map
    dataset: Dataset = build(root, **options)
    return dataset


def known_splits(name: str, root: Path) -> tuple[str, ...]:
    """Gives the splits that a dataset knows, whether they are there or not.

    One that refuses no split has those that people train, validate and test on.
    """
    try:
        build_dataset(name, root, '?')
    except UnknownSplitError as error:
        return error.splits
    except (ValueError, OSError):
        pass
    return SPLITS


def takes_label_map(name: str) -> bool:
    """Whether the user may say what the ids in a dataset's label files mean."""
    return 'label_map' in inspect.signature(lookup('dataset', DATASETS, name)).parameters


def refuse_label_map(name: str) -> None:
    """Refuses a label map for a dataset that takes none.

    Raises:
        ValueError: It is one whose labels are known.
    """
    if not takes_label_map(name):
        raise ValueError(
            f'--label-map does not go with dataset {name!r}, whose labels are known; it is '
            f'for: {", ".join(filter(takes_label_map, DATASETS))}'
        )


__all__ = [
    'DATASETS',
    'NO_CLASSES',
    'Dataset',
    'Sample',
    'build_dataset',
    'known_splits',
    'refuse_label_map',
    'takes_label_map',
]
