"""Marks on the ground that stay normal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anomaly_seg_ros.classes import LabelSet
from training.datasets import build_dataset
from training.feeding.ground import ground_ids, mark_ground
from training.feeding.loading import AugmentedFrames
from training.feeding.transforms import Augmentation


def frame() -> tuple[np.ndarray, np.ndarray]:
    """Sky above road above a strip without a class."""
    labels = np.zeros((90, 120), np.uint8)
    labels[30:80], labels[80:] = 3, 255
    return np.full((90, 120, 3), 100, np.uint8), labels


def test_the_ground_of_a_dataset_goes_by_its_names() -> None:
    names = ('sky', 'road', 'car', 'pavement')
    assert ground_ids(LabelSet(names, np.zeros((4, 3), np.uint8))) == (1, 3)


def test_only_the_ground_changes_and_most_of_its_pixels_stay() -> None:
    image, labels = frame()
    before = image.copy()
    shares = []
    for seed in range(20):
        marked = mark_ground(image, labels, (3,), 1.0, np.random.default_rng(seed))
        different = (marked != image).any(-1)
        assert not different[labels != 3].any()
        shares.append(different[labels == 3].mean())
    assert (image == before).all()
    assert 0.1 < np.mean(shares) < 0.95
    assert min(shares) > 0


@pytest.mark.parametrize(('ground', 'probability'), [((3,), 0.0), ((7,), 1.0)])
def test_nothing_changes_without_a_ground_or_a_chance(
    ground: tuple[int, ...], probability: float
) -> None:
    image, labels = frame()
    random = np.random.default_rng(0)
    assert mark_ground(image, labels, ground, probability, random) is image


def test_marks_are_half_as_often_where_the_chance_is_half() -> None:
    image, labels = frame()
    random = np.random.default_rng(1)
    marked = [mark_ground(image, labels, (3,), 0.5, random) is not image for _ in range(200)]
    assert 70 < sum(marked) < 130


def test_a_recipe_marks_the_ground_of_its_crops(camvid_root: Path) -> None:
    frames = build_dataset('camvid', camvid_root, 'train')
    plain = Augmentation((64, 64), (1.0, 1.0), flip=0, color=0)
    as_is = AugmentedFrames(frames, plain, 0)
    marked = AugmentedFrames(frames, plain, 0, ground_changes=1.0)
    pairs = [(as_is[0, i], marked[0, i]) for i in range(len(frames))]
    assert any((one.images != other.images).any() for one, other in pairs)
    assert all((one.labels == other.labels).all() for one, other in pairs)
    assert not any(other.outlier.any() for _, other in pairs)
