"""The datasets, by public name."""

from __future__ import annotations

from pathlib import Path

from anomaly_seg_ros.registry import lookup

from .dataset import Dataset, NO_CLASSES, Sample

DATASETS = {
    'camvid': 'training.datasets.camvid:CamVid',
    'cityscapes': 'training.datasets.cityscapes:cityscapes',
    'fishyscapes': 'training.datasets.fishyscapes:fishyscapes',
    'folder': 'training.datasets.folder:folder',
    'lost_and_found': 'training.datasets.lost_and_found:lost_and_found',
    'road_anomaly': 'training.datasets.road_anomaly:road_anomaly',
    'road_anomaly21': 'training.datasets.road_anomaly21:road_anomaly21',
    'road_obstacle21': 'training.datasets.road_obstacle21:road_obstacle21',
    'streethazards': 'training.datasets.streethazards:streethazards',
}


def build_dataset(name: str, root: Path, split: str | None = None) -> Dataset:
    """Gives one split of a dataset that lies under `root` in its official layout or a known one.

    Args:
        name: Public name.
        root: The folder.
        split: Which part; None takes the one that benchmarks report.

    Raises:
        ValueError: Unknown dataset or split.
        FileNotFoundError: A folder or a partner file is missing; the text names it.
    """
    build = lookup('dataset', DATASETS, name)
    dataset: Dataset = build(root) if split is None else build(root, split)
    return dataset


__all__ = ['DATASETS', 'NO_CLASSES', 'Dataset', 'Sample', 'build_dataset']
