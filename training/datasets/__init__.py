"""The datasets, by public name."""

from __future__ import annotations

from pathlib import Path

from anomaly_seg_ros.registry import lookup

from .dataset import Dataset, Sample

DATASETS = {
    'camvid': 'training.datasets.camvid:CamVid',
}


def build_dataset(name: str, root: Path, split: str) -> Dataset:
    """Gives one split of a dataset that lies under `root` in its official layout.

    Raises:
        ValueError: Unknown dataset or split.
        FileNotFoundError: A folder or a partner file is missing; the text names it.
    """
    dataset: Dataset = lookup('dataset', DATASETS, name)(root, split)
    return dataset


__all__ = ['DATASETS', 'Dataset', 'Sample', 'build_dataset']
