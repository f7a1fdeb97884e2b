import cv2
import numpy as np
import pytest

from training.feeding.transforms import Augmentation, change_color, pixel_of_even_class


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


@pytest.mark.parametrize('upright', [False, True])
@pytest.mark.parametrize('scale', [0.5, 0.6, 0.75, 0.8, 0.93, 1.0, 1.07, 1.25, 1.5, 1.75, 2.0])
def test_labels_stay_under_their_image(scale: float, upright: bool) -> None:
    shift = []
    for edge in range(40, 81):
        labels = np.zeros((96, 120), np.uint8)
        labels[:, edge:] = 1
        labels = np.ascontiguousarray(labels.T) if upright else labels
        image = np.repeat((labels * 200)[..., None], 3, axis=2)
        crop = round(labels.shape[0] * scale), round(labels.shape[1] * scale)
        augmentation = Augmentation(crop, (scale, scale), flip=0, color=0)
        moved, ids = augmentation(image, labels, np.random.default_rng(0))
        # How much of a line is beyond the edge says where that is, to a part of a pixel.
        line = 0 if upright else 1
        shift.append((moved[..., 0] / 200 - ids).sum(axis=line).mean())
    assert abs(np.mean(shift)) < 0.05


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


@pytest.mark.parametrize('size', [(20, 64), (64, 20)])
def test_one_short_side_is_padded_alone(size: tuple[int, int]) -> None:
    image, labels = coded_pair(*size)
    augmentation = Augmentation((64, 64), (1.0, 1.0), flip=0, color=0.0)
    for seed in range(5):
        moved, ids = augmentation(image, labels, np.random.default_rng(seed))
        assert moved.shape == (64, 64, 3)
        assert (ids[: size[0], : size[1]] == labels).all()
        assert (ids[size[0] :] == 255).all()
        assert (ids[:, size[1] :] == 255).all()


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


@pytest.mark.parametrize(('draw', 'expected'), [('uniform', 1.25), ('log_uniform', 1.0)])
def test_scales_are_drawn_evenly_by_number_or_by_ratio(draw: str, expected: float) -> None:
    labels = np.zeros((200, 4), np.uint8)
    image = np.zeros((200, 4, 3), np.uint8)
    augmentation = Augmentation((400, 8), (0.5, 2.0), 0.0, 0.0, scale_draw=draw)
    random = np.random.default_rng(0)
    # What is not padding says how much a frame was enlarged.
    scales = [(augmentation(image, labels, random)[1][:, 0] == 0).sum() / 200 for _ in range(400)]
    assert min(scales) < 0.55
    assert max(scales) > 1.95
    assert np.median(scales) == pytest.approx(expected, abs=0.1)


def test_no_color_change_leaves_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    changed = change_color(image, 0.0, np.random.default_rng(0))
    assert np.abs(changed.astype(int) - image).max() <= 1


def test_color_change_stays_within_its_strength() -> None:
    image = np.full((8, 8, 3), 100, np.uint8)
    values = [change_color(image, 0.4, np.random.default_rng(s))[0, 0, 0] for s in range(50)]
    assert 58 <= min(values) < 80
    assert 120 < max(values) <= 142


class Factors:
    """In place of a generator: the three factors that are wanted."""

    def __init__(self, *factors: float):
        self.factors = np.array(factors)

    def uniform(self, low: float, high: float, count: int) -> np.ndarray:
        return self.factors


def test_more_contrast_leaves_dark_what_is_dark() -> None:
    # Mean 110: v becomes 1.4 v - 44, and what falls below 0 is black, 255 the brightest.
    row = np.uint8([0, 10, 28, 40, 110, 120, 217, 250, 215])
    image = np.repeat(np.repeat(row[None, :, None], 3, axis=2), 2, axis=0)
    assert row.mean() == 110
    found = change_color(image, 0.4, Factors(1.0, 1.4, 1.0))[0, :, 0]
    assert found.tolist() == [0, 0, 0, 12, 110, 124, 255, 255, 255]
    dark = change_color(image, 0.4, Factors(0.6, 1.4, 1.0))[0, :, 0].astype(int)
    assert (np.diff(dark[:-1]) >= 0).all()


def one_bright_pixel() -> tuple[np.ndarray, np.ndarray]:
    """A frame of road with a single pixel of another class, far from the middle."""
    labels = np.zeros((60, 80), np.uint8)
    labels[:, :10] = 255
    labels[50, 70] = 8
    return np.repeat((labels * 20)[..., None], 3, axis=2), labels


def test_each_class_of_a_frame_is_drawn_as_often_and_ignore_never() -> None:
    _, labels = one_bright_pixel()
    random = np.random.default_rng(0)
    drawn = [labels[pixel_of_even_class(labels, random)] for _ in range(400)]
    assert set(drawn) == {0, 8}
    # Half of 400 draws, within four standard deviations.
    assert abs(drawn.count(8) - 200) < 40


def test_a_frame_without_labels_has_no_class_to_draw() -> None:
    assert pixel_of_even_class(np.full((4, 4), 255, np.uint8), np.random.default_rng(0)) is None


def test_balanced_crops_hold_a_rare_class_half_of_the_time() -> None:
    image, labels = one_bright_pixel()
    shares = []
    for balance in (0.0, 1.0):
        crop = Augmentation((16, 16), (1.0, 1.0), flip=0.0, color=0.0, class_balance=balance)
        held = [(crop(image, labels, np.random.default_rng(s))[1] == 8).any() for s in range(200)]
        shares.append(np.mean(held))
    assert shares[0] < 0.2
    assert 0.4 < shares[1] < 0.7


@pytest.mark.parametrize('scale', [0.5, 1.0, 2.0])
def test_a_balanced_crop_is_centred_on_the_drawn_pixel_where_the_frame_allows(scale) -> None:
    labels = np.full((60, 80), 255, np.uint8)
    labels[30:34, 40:44] = 5
    image = np.zeros((60, 80, 3), np.uint8)
    crop = Augmentation((20, 20), (scale, scale), flip=0.0, color=0.0, class_balance=1.0)
    _, ids = crop(image, labels, np.random.default_rng(0))
    rows, columns = np.nonzero(ids == 5)
    # The centre is one pixel of the 4 by 4 block, times the scale.
    assert abs(rows.mean() - 10) <= 2 * scale + 1
    assert abs(columns.mean() - 10) <= 2 * scale + 1


def test_without_balance_older_recipes_keep_their_crops() -> None:
    image, labels = coded_pair()
    plain = Augmentation((24, 24))(image, labels, np.random.default_rng(5))
    random = np.random.default_rng(5)
    scale = float(np.exp(random.uniform(*np.log((0.75, 2.0)))))
    height, width = round(40 * scale), round(60 * scale)
    top, left = random.integers(0, height - 24 + 1), random.integers(0, width - 24 + 1)
    ids = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    ids = ids[top : top + 24, left : left + 24]
    assert (plain[1] == (ids[:, ::-1] if random.random() < 0.5 else ids)).all()


def test_a_stretched_frame_fills_the_crop_and_is_drawn_by_ratio() -> None:
    image, labels = coded_pair(40, 60)
    labels[:] = 1
    augmentation = Augmentation((64, 64), (0.1, 0.1), flip=0, stretch=(0.5, 2.0))
    for seed in range(20):
        _, ids = augmentation(image, labels, np.random.default_rng(seed))
        assert (ids == 1).all()


def test_a_stretch_changes_the_width_alone() -> None:
    labels = np.tile(np.arange(60, dtype=np.uint8), (40, 1))
    image = np.repeat(labels[..., None], 3, 2)
    augmentation = Augmentation((40, 30), (1.0, 1.0), flip=0, color=0, stretch=(0.5, 0.5))
    _, ids = augmentation(image, labels, np.random.default_rng(0))
    # Column j of the half is column 2j or 2j + 1 of the whole.
    assert (ids // 2 == np.arange(30)).all()
