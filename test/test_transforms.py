import numpy as np
import pytest

from training.transforms import Augmentation, change_color


def coded_pair(height: int = 40, width: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """An image whose colour is a function of its label, so that the two can be compared."""
    labels = np.zeros((height, width), np.uint8)
    labels[:, width // 2 :] = 7
    labels[height // 2 :] = 3
    image = np.repeat((labels * 20)[..., None], 3, axis=2)
    return image, labels


@pytest.mark.parametrize('seed', range(20))
def test_image_and_labels_move_together(seed: int) -> None:
    image, labels = coded_pair()
    augmentation = Augmentation(crop=(32, 48), scale=(0.5, 2.0), color=0.0)
    moved, ids = augmentation(image, labels, np.random.default_rng(seed))
    assert moved.shape == (32, 48, 3)
    assert ids.shape == (32, 48)
    inside = ids != 255
    difference = np.abs(moved[..., 0].astype(int) - ids.astype(int) * 20)[inside]
    # Only pixels on a border between two labels may differ, by interpolation.
    assert (difference > 1).mean() < 0.12


def test_labels_are_never_interpolated() -> None:
    image, labels = coded_pair()
    for seed in range(30):
        _, ids = Augmentation((32, 32), (0.3, 3.0))(image, labels, np.random.default_rng(seed))
        assert set(np.unique(ids)) <= {0, 3, 7, 255}


def test_small_images_are_padded_with_ignore() -> None:
    image, labels = coded_pair(20, 20)
    _, ids = Augmentation((64, 64), (1.0, 1.0), flip=0)(image, labels, np.random.default_rng(0))
    assert (ids[20:] == 255).all()
    assert (ids[:, 20:] == 255).all()
    assert (ids[:20, :20] == labels).all()


def test_flip_mirrors_both() -> None:
    image, labels = coded_pair(32, 32)
    augmentation = Augmentation((32, 32), (1.0, 1.0), flip=1.0, color=0.0)
    flipped, ids = augmentation(image, labels, np.random.default_rng(0))
    assert (ids == labels[:, ::-1]).all()
    assert (flipped == image[:, ::-1]).all()


def test_the_same_generator_gives_the_same_sample() -> None:
    image, labels = coded_pair()
    first, second = (
        Augmentation((32, 32))(image, labels, np.random.default_rng((1, 2, 3))) for _ in range(2)
    )
    assert (first[0] == second[0]).all()
    assert (first[1] == second[1]).all()


def test_no_color_change_leaves_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    changed = change_color(image, 0.0, np.random.default_rng(0))
    assert np.abs(changed.astype(int) - image).max() <= 1


def test_color_change_stays_within_its_strength() -> None:
    image = np.full((8, 8, 3), 100, np.uint8)
    values = [change_color(image, 0.4, np.random.default_rng(s))[0, 0, 0] for s in range(50)]
    assert 58 <= min(values) < 80
    assert 120 < max(values) <= 142
