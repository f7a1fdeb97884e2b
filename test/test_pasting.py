from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from anomaly_seg_ros.classes import CAMVID, LabelSet
from anomaly_seg_ros.frames.images import write_image
from training.datasets import Sample
from training.feeding.pasting import (
    build_paster,
    fade,
    match_colors,
    PastedFrames,
    Paster,
    read_options,
)
from training.negatives import Negative
from training.negatives.shapes import blob, rectangle, union_of_regions

PATCH = 200
"""Grey value of every negative pixel here; images below are darker, so an origin is plain."""
RNG = np.random.default_rng(0)


class Plain:
    """Negatives of one grey value, with or without regions."""

    def __init__(self, size: tuple[int, int] = (64, 64), regions: np.ndarray | None = None):
        self.image = np.full((*size, 3), PATCH, np.uint8)
        self.regions = regions
        self.shapes: Mapping[str, float] = {'rectangle': 1.0, 'regions': 1.0, 'blob': 1.0}

    def draw(self, rng: np.random.Generator) -> Negative:
        return Negative(self.image, self.regions)


def paster(source: Plain | None = None, **options: Any) -> Paster:
    values: dict[str, Any] = {'short_side': 64, 'scale': (1.0, 1.0), 'crop': 48}
    values |= {'shapes': {'rectangle': 1.0}}
    return Paster(source=source or Plain(), **(values | options))


def road(height: int = 96, width: int = 128) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    image = rng.integers(0, 100, (height, width, 3), dtype=np.uint8)
    return image, rng.integers(0, 11, (height, width), dtype=np.uint8)


@pytest.mark.parametrize('shape', ['rectangle', 'blob'])
@pytest.mark.parametrize('seed', range(8))
def test_each_pixel_is_pasted_with_ignore_or_untouched(shape: str, seed: int) -> None:
    image, labels = road()
    paste = paster(shapes={shape: 1.0}, count=(1, 3))
    result, ids, outlier = paste(image, labels, np.random.default_rng(seed))
    assert outlier.any()
    assert outlier.dtype == np.bool_
    assert (result[outlier] == PATCH).all()
    assert (ids[outlier] == 255).all()
    assert (result[~outlier] == image[~outlier]).all()
    assert (ids[~outlier] == labels[~outlier]).all()


def test_the_inputs_are_left_as_they_were() -> None:
    image, labels = road()
    before = image.copy(), labels.copy()
    paster()(image, labels, np.random.default_rng(0))
    assert (image == before[0]).all()
    assert (labels == before[1]).all()


def test_the_generator_decides_everything() -> None:
    image, labels = road()
    paste = paster(count=(0, 3), shapes={'rectangle': 1.0, 'blob': 1.0}, scale=(0.5, 2.0))
    runs = [paste(image, labels, np.random.default_rng((1, 2))) for _ in range(2)]
    assert all((a == b).all() for a, b in zip(*runs, strict=True))


def test_rectangles_have_the_sides_of_the_paper() -> None:
    sides = set()
    for seed in range(200):
        mask = rectangle((48, 100), np.random.default_rng(seed))
        height, width = mask.any(axis=1).sum(), mask.any(axis=0).sum()
        assert mask.sum() == height * width
        sides.add(int(height))
    assert sides == {16, 24, 32, 40}


def test_a_square_too_small_for_a_rectangle_is_taken_whole() -> None:
    assert rectangle((16, 9), np.random.default_rng(0)).all()


@pytest.mark.parametrize('seed', range(10))
def test_blobs_are_one_piece_with_slanted_borders(seed: int) -> None:
    mask = blob((96, 96), np.random.default_rng(seed)).astype(np.uint8)
    pieces, _ = cv2.connectedComponents(mask)
    assert pieces == 2  # background and the blob
    rows, columns = mask.any(axis=1).sum(), mask.any(axis=0).sum()
    assert 0.3 < mask.sum() / (rows * columns) < 0.95


def test_regions_are_a_union_of_two_drawn_with_replacement() -> None:
    regions = np.repeat(np.array([[0, 3, 7, 9]], np.uint8), 4, axis=0)
    found = {
        tuple(np.unique(regions[union_of_regions(regions, np.random.default_rng(seed))]))
        for seed in range(60)
    }
    assert found == {(3,), (7,), (9,), (3, 7), (3, 9), (7, 9)}
    assert union_of_regions(np.zeros((2, 2), np.uint8), np.random.default_rng(0)) is None


def test_only_the_pixels_of_the_region_are_pasted() -> None:
    regions = np.zeros((64, 64), np.uint8)
    cv2.circle(regions, (32, 32), 10, (4,), -1)
    source = Plain(regions=regions)
    paste = paster(source, crop=64, shapes={'regions': 1.0})
    result, _, outlier = paste(*road(), np.random.default_rng(3))
    assert outlier.sum() == (regions == 4).sum()
    assert (result[outlier] == PATCH).all()
    rows, columns = outlier.any(axis=1).nonzero()[0], outlier.any(axis=0).nonzero()[0]
    pasted = outlier[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert (pasted == (regions == 4)[22:43, 22:43]).all()


@pytest.mark.parametrize('factor', [0.5, 0.6, 0.75, 1.25, 1.5, 2.0])
def test_regions_stay_over_what_they_show(factor: float) -> None:
    shift = []
    for edge in range(20, 41):
        regions = np.zeros((60, 60), np.uint8)
        regions[:, edge:] = 1
        source = Plain((60, 60), regions)
        source.image = np.repeat((regions * 200)[..., None], 3, axis=2)
        paste = paster(source, short_side=round(60 * factor), crop=200)
        square, ids = paste._square(source.draw(np.random.default_rng(0)), (200, 200), RNG)
        assert ids is not None
        shift.append((square[..., 0] / 200 - ids).sum(axis=1).mean())
    assert abs(np.mean(shift)) < 0.05


def test_a_square_of_background_alone_falls_back_to_a_rectangle() -> None:
    source = Plain(regions=np.zeros((64, 64), np.uint8))
    _, _, outlier = paster(source, shapes={'regions': 1.0})(*road(), np.random.default_rng(0))
    assert outlier.sum() == outlier.any(axis=1).sum() * outlier.any(axis=0).sum() > 0


def test_scale_stays_within_its_limits() -> None:
    # The one region is the whole photo, so the pasted size is the photo's enlarged size.
    source = Plain((40, 60), np.ones((40, 60), np.uint8))
    paste = paster(source, short_side=20, scale=(0.5, 2.0), crop=200, shapes={'regions': 1.0})
    heights = set()
    for seed in range(80):
        _, _, outlier = paste(*road(), np.random.default_rng(seed))
        height, width = outlier.any(axis=1).sum(), outlier.any(axis=0).sum()
        assert abs(width - 1.5 * height) <= 1.5
        heights.add(int(height))
    assert 10 <= min(heights) <= 12
    assert 36 <= max(heights) <= 40


@pytest.mark.parametrize(('draw', 'expected'), [('uniform', 25), ('log_uniform', 20)])
def test_factors_are_drawn_evenly_by_number_or_by_ratio(draw: str, expected: float) -> None:
    source = Plain((40, 60), np.ones((40, 60), np.uint8))
    options: dict[str, Any] = {'short_side': 20, 'scale': (0.5, 2.0), 'crop': 200}
    paste = paster(source, scale_draw=draw, shapes={'regions': 1.0}, **options)
    rng = np.random.default_rng(0)
    heights = [int(paste(*road(), rng)[2].any(axis=1).sum()) for _ in range(300)]
    assert np.median(heights) == pytest.approx(expected, abs=2)


def test_a_tiny_photo_never_becomes_a_huge_one() -> None:
    source = Plain((1, 400), np.ones((1, 400), np.uint8))
    paste = paster(source, short_side=128, scale=(2.0, 2.0), crop=48, shapes={'regions': 1.0})
    sizes = []
    resize = cv2.resize

    def counted(image: np.ndarray, size: tuple[int, int], **how: Any) -> np.ndarray:
        sizes.append(size)
        return resize(image, size, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cv2, 'resize', counted)
        _, _, outlier = paste(*road(), np.random.default_rng(0))
    # 256 times larger: one pixel of the photo is more than a square of 48 needs.
    assert sizes == [(256, 256)]
    assert outlier.sum() == 48 * 48


def test_positions_reach_every_border() -> None:
    source = Plain((20, 20), np.ones((20, 20), np.uint8))
    paste = paster(source, short_side=20, crop=20, shapes={'regions': 1.0})
    hit = np.zeros((24, 26), np.int64)
    for seed in range(200):
        hit += paste(*road(24, 26), np.random.default_rng(seed))[2]
    assert hit[0, 0] > 0
    assert hit[-1, -1] > 0
    assert hit.max() == 200  # the middle is under every patch


def test_the_number_of_patches_and_the_probability() -> None:
    source = Plain((8, 8), np.ones((8, 8), np.uint8))
    options = {'short_side': 8, 'crop': 8, 'shapes': {'regions': 1.0}}
    image, labels = road(200, 200)
    pieces = []
    for seed in range(60):
        _, _, outlier = paster(source, count=(0, 2), **options)(
            image, labels, np.random.default_rng(seed)
        )
        pieces.append(round(outlier.sum() / 64, 1))
    assert {0.0, 1.0, 2.0} <= set(pieces)
    assert max(pieces) == 2
    never = paster(source, probability=0.0, count=(2, 2), **options)
    result, ids, outlier = never(image, labels, np.random.default_rng(0))
    assert not outlier.any()
    assert (result == image).all()
    assert (ids == labels).all()


def test_overlapping_patches_are_outliers_once() -> None:
    source = Plain((30, 30), np.ones((30, 30), np.uint8))
    paste = paster(source, short_side=30, crop=30, count=(4, 4), shapes={'regions': 1.0})
    result, ids, outlier = paste(*road(40, 40), np.random.default_rng(0))
    assert 900 < outlier.sum() < 4 * 900
    assert (ids[outlier] == 255).all()
    assert (result[outlier] == PATCH).all()


def test_an_image_smaller_than_the_patch_is_covered_at_most() -> None:
    source = Plain((64, 64), np.ones((64, 64), np.uint8))
    image, labels = road(20, 30)
    result, ids, outlier = paster(source, crop=64, shapes={'regions': 1.0})(
        image, labels, np.random.default_rng(0)
    )
    assert result.shape == (20, 30, 3)
    assert outlier.all()
    assert (ids == 255).all()


def test_fading_goes_inwards_from_the_border() -> None:
    mask = np.zeros((9, 9), np.bool_)
    mask[1:8, 1:8] = True
    alpha = fade(mask, 2.0)
    # Centres of border pixels lie half a pixel inside: 0.5 / 2, then 1.5 / 2, then all opaque.
    np.testing.assert_allclose(alpha[4], [0, 0.25, 0.75, 1, 1, 1, 0.75, 0.25, 0])
    assert (fade(mask, 0.0) == mask).all()
    # The end of the array is a border, too.
    np.testing.assert_allclose(fade(np.ones((1, 3), np.bool_), 2.0), 0.25)


def test_feathered_pixels_are_ignored_and_outliers_to_the_last_of_the_rim() -> None:
    source = Plain((12, 12), np.ones((12, 12), np.uint8))
    paste = paster(source, short_side=12, crop=12, feather=2.0, shapes={'regions': 1.0})
    image = np.zeros((40, 40, 3), np.uint8)
    labels = np.full((40, 40), 4, np.uint8)
    result, ids, outlier = paste(image, labels, np.random.default_rng(0))
    assert (ids == 255).sum() == 144
    assert (outlier == (ids == 255)).all()
    assert set(np.unique(result)) == {0, PATCH // 4, 3 * PATCH // 4, PATCH}
    assert (result[ids == 4] == 0).all()


def test_colors_take_mean_and_contrast_of_what_they_cover() -> None:
    patch = np.array([[[100] * 3, [120] * 3]], np.uint8)
    covered = np.array([[[40] * 3, [70] * 3]], np.uint8)
    whole = np.ones((1, 2), np.bool_)
    # Mean 110, deviation 10 -> mean 55, deviation 15.
    assert match_colors(patch, covered, whole, 1.0)[0, :, 0].tolist() == [40, 70]
    # Half way: mean 82.5, deviation 12.5.
    assert match_colors(patch, covered, whole, 0.5)[0, :, 0].tolist() == [70, 95]
    # A flat image would flatten the patch: its deviation is at least halved, not more.
    flat = np.full((1, 2, 3), 40, np.uint8)
    assert match_colors(patch, flat, whole, 1.0)[0, :, 0].tolist() == [35, 45]


def test_matched_colors_are_used() -> None:
    image, labels = road()
    result, _, outlier = paster(color_match=1.0)(image, labels, np.random.default_rng(0))
    assert abs(result[outlier].mean() - image.mean()) < 5


def test_build_from_a_configuration(tmp_path: Path) -> None:
    write_image(tmp_path / 'tench.png', np.full((50, 50, 3), PATCH, np.uint8))
    options = {'kind': 'folder', 'root': str(tmp_path), 'count': [1, 2], 'short_side': 60}
    paste = build_paster(options)
    assert paste.count == (1, 2)
    assert paste.shapes == {'rectangle': 0.5, 'blob': 0.5}
    result, _, outlier = paste(*road(), np.random.default_rng(0))
    assert (result[outlier] == PATCH).all()


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        ({'kind': None}, "need a 'kind', one of: ade20k, coco, folder, inliers"),
        ({'count': [0.5, 1]}, 'count is 0.5; it must be of type int'),
        ({'count': [None, 1]}, 'count is None; it must be of type int'),
        ({'shapes': {'blob': 'much'}}, "shapes.blob is 'much'; it must be of type float"),
        ({'kind': 'fodler'}, 'choose one of: ade20k, coco, folder, inliers'),
        ({'probability': 1.5}, r'must lie in 0\.\.1'),
        ({'count': [2, 1]}, 'count is'),
        ({'count': 2}, 'count is 2'),
        ({'scale': [0, 1]}, 'scale is'),
        ({'scale_draw': 'even'}, "unknown scale_draw 'even'; choose one of: log_uniform, uniform"),
        ({'crop': 0}, 'must be above 0'),
        ({'crop': 'big'}, "crop is 'big'; it must be of type int"),
        ({'shapes': {'star': 1}}, 'blob, rectangle, regions'),
        ({'shapes': {'blob': 0}}, 'above 0'),
        ({'shapes': 'blob'}, "shapes is 'blob'; it must be a mapping"),
        ({'shapes': {'regions': 1}}, 'have no regions'),
        ({'fether': 1}, r"\['fether'\] of outliers kind 'folder'; .* root, exclude, prob"),
    ],
)
def test_wrong_options_say_what_is_right(
    tmp_path: Path, change: dict[str, Any], text: str
) -> None:
    write_image(tmp_path / 'tench.png', np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(ValueError, match=text):
        build_paster({'kind': 'folder', 'root': str(tmp_path)} | change)


class TwoRoads:
    """Two frames; the first row is unlabelled."""

    classes = LabelSet(tuple('abcdefghijk'), tuple((i, i, i) for i in range(11)))

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        image, labels = road()
        labels[0] = 255
        return Sample(f'road{index}', image, labels)


def test_pasted_frames_are_the_same_every_time_and_know_their_anomalies() -> None:
    frames = PastedFrames(TwoRoads(), paster(count=(2, 2)))
    assert len(frames) == 2
    assert frames.classes == TwoRoads.classes
    first, again, second = frames[0], frames[0], frames[1]
    assert first.anomaly is not None
    assert second.anomaly is not None
    assert (first.image == again.image).all()
    assert (first.image != second.image).any()
    pasted = (first.image == PATCH).all(axis=2)
    assert 0 < pasted.sum() < pasted.size / 2
    assert ((first.anomaly == 1) == pasted).all()
    assert (first.labels[pasted] == 255).all()
    unlabelled = ~pasted
    unlabelled[1:] = False
    assert (first.anomaly[unlabelled] == 255).all()
    assert (first.anomaly[1:][~pasted[1:]] == 0).all()
    assert (first.labels[1:][~pasted[1:]] == road()[1][1:][~pasted[1:]]).all()


def test_what_stands_on_the_ground_has_the_middle_of_its_lower_side_there() -> None:
    source = Plain((10, 10), np.ones((10, 10), np.uint8))
    options: dict[str, Any] = {'short_side': 10, 'crop': 10, 'shapes': {'regions': 1.0}}
    paste = paster(source, on_ground=1.0, ground=(3,), **options)
    labels = np.zeros((96, 128), np.uint8)
    labels[60:70, 40:60] = 3
    image = np.zeros((96, 128, 3), np.uint8)
    for seed in range(40):
        _, _, outlier = paste(image, labels, np.random.default_rng(seed))
        rows, columns = outlier.any(axis=1).nonzero()[0], outlier.any(axis=0).nonzero()[0]
        assert labels[rows[-1], columns[0] + 5] == 3
        assert outlier.sum() == 100


def test_without_ground_in_the_frame_it_lies_anywhere() -> None:
    image, labels = road()
    paste = paster(on_ground=1.0, ground=(200,))
    _, _, outlier = paste(image, labels, np.random.default_rng(0))
    assert outlier.any()


def test_older_recipes_keep_their_places() -> None:
    image, labels = road()
    one, other = (
        paste(image, labels, np.random.default_rng(4))[0]
        for paste in (paster(), paster(ground=(3,)))
    )
    assert (one == other).all()


def test_the_ground_is_known_by_name_and_missed_in_time(tmp_path: Path) -> None:
    write_image(tmp_path / 'tench.png', np.zeros((9, 9, 3), np.uint8))
    options = {'kind': 'folder', 'root': str(tmp_path), 'on_ground': 0.5}
    assert build_paster(options, CAMVID).ground == (3, 4)
    with pytest.raises(ValueError, match='no class of the dataset is named road, pavement'):
        build_paster(options, TwoRoads.classes)


def test_a_wrong_option_beside_is_said_without_reading() -> None:
    options = {'kind': 'folder', 'root': 'gone', 'beside': [{'kind': 'coco', 'evn': True}]}
    with pytest.raises(ValueError, match=r"\['evn'\] of outliers kind 'coco'"):
        read_options(options)


def test_a_photo_may_keep_its_own_size() -> None:
    source = Plain((30, 20), np.ones((30, 20), np.uint8))
    paste = paster(source, short_side=0, crop=200, shapes={'regions': 1.0})
    _, _, outlier = paste(*road(), np.random.default_rng(0))
    assert outlier.sum() == 600
