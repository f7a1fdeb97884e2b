"""Ids and scores at another size: under each other, and nothing mixed that must not be."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image
import pytest

from anomaly_seg_ros.frames.resizing import resize_ids, resize_linear
from training.evaluation.resizing import labels_at, truth_size


def shift_of(taken: np.ndarray, side: int) -> float:
    """Mean distance from where the taken pixels lie to where they were wanted, pixels.

    Of the coarser of the two grids.
    """
    wanted = (np.arange(len(taken)) + 0.5) * side / len(taken) - 0.5
    return float((taken - wanted).mean() * min(1.0, len(taken) / side))


@pytest.mark.parametrize('side', [360, 481, 640])
def test_ids_stay_in_place_at_every_size(side: int) -> None:
    places = np.arange(side, dtype=np.int32)
    for wanted in range(side // 2, 2 * side + 1):
        across = resize_ids(places[None].repeat(2, 0), (2, wanted))[0]
        down = resize_ids(places[:, None].repeat(2, 1), (wanted, 2))[:, 0]
        assert np.array_equal(across, down)
        assert abs(shift_of(across, side)) < 0.01
        # Each from the nearest, never from a neighbour of that.
        centres = (np.arange(wanted) + 0.5) * side / wanted - 0.5
        assert np.abs(across - centres).max() <= 0.5 + 1e-9


@pytest.mark.parametrize('size', [(4, 6), (9, 13), (40, 3), (1, 1)])
def test_values_type_and_channels_are_kept(size: tuple[int, int]) -> None:
    ids = np.random.default_rng(1).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    resized = resize_ids(ids, size)
    assert resized.shape == (*size, 3)
    assert resized.dtype == np.uint8
    assert resized.flags.c_contiguous
    assert np.array_equal(resized[..., 1], resize_ids(ids[..., 1], size))
    assert resize_ids(ids, (8, 12)) is ids


@pytest.mark.parametrize('size', [(4, 6), (9, 13), (40, 3), (8, 48), (1, 1)])
def test_a_mask_of_bytes_takes_the_same_places_as_any_other(size: tuple[int, int]) -> None:
    ids = np.random.default_rng(4).integers(0, 256, (8, 12), dtype=np.uint8)
    for values in (ids, ids[::-1, ::-1], ids.repeat(2, 1)[:, ::2]):
        resized = resize_ids(values, size)
        assert resized.flags.c_contiguous
        assert np.array_equal(resized, resize_ids(values.astype(np.int64), size))


def test_the_course_resizes_labels_as_pil_does_and_nothing_else_does() -> None:
    labels = np.random.default_rng(2).integers(0, 19, (16, 32), dtype=np.uint8)
    by_pil = np.array(Image.fromarray(labels).resize((16, 8), Image.Resampling.NEAREST))
    assert np.array_equal(truth_size(labels, (8, 16), 'course'), by_pil)
    assert truth_size(labels, (8, 16), 'exact') is labels
    assert np.array_equal(labels_at(labels, (8, 16), 'exact'), resize_ids(labels, (8, 16)))
    # At half the size, where PIL's labels lie a quarter of a pixel beside the image.
    places = np.arange(32, dtype=np.uint8)[None].repeat(2, 0)
    assert shift_of(labels_at(places, (2, 16), 'course')[0], 32) == 0.25
    assert shift_of(labels_at(places, (2, 16), 'exact')[0], 32) == 0


def test_between_ties_it_is_what_opencv_calls_exact() -> None:
    ids = np.random.default_rng(3).integers(0, 19, (45, 60), dtype=np.uint8)
    expected = cv2.resize(ids, (240, 135), interpolation=cv2.INTER_NEAREST_EXACT)
    assert np.array_equal(resize_ids(ids, (135, 240)), expected)


def test_nearest_makes_blocks_and_no_new_values() -> None:
    ids = np.array([[3, 255], [0, 10]], np.uint8)
    expected = [[3, 3, 255, 255], [3, 3, 255, 255], [0, 0, 10, 10], [0, 0, 10, 10]]
    assert resize_ids(ids, (4, 4)).tolist() == expected
    assert set(np.unique(resize_ids(ids, (7, 5)))) == {0, 3, 10, 255}


def test_linear_interpolates_between_pixel_centres() -> None:
    values = np.array([[0.0, 4.0]], np.float32)
    assert resize_linear(values, (1, 4)).tolist() == [[0, 1, 3, 4]]
    assert resize_linear(np.array([[0, 200]], np.uint8), (1, 4)).tolist() == [[0, 50, 150, 200]]


@pytest.mark.parametrize('wanted', [640, 720, 800, 1000, 1080, 1280, 1440, 1920, 2048])
def test_ids_stay_under_the_score(wanted: int) -> None:
    shift = []
    for edge in range(200, 281):
        ids = np.zeros((2, 480), np.uint8)
        ids[:, edge:] = 1
        score = resize_linear(ids.astype(np.float32), (2, wanted))
        shift.append((score - resize_ids(ids, (2, wanted))).sum(axis=1).mean())
    assert abs(np.mean(shift)) < 0.05


def test_what_fits_is_not_copied() -> None:
    ids, score = np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.float32)
    assert resize_ids(ids, (4, 6)) is ids
    assert resize_linear(score, (4, 6)) is score


@pytest.mark.parametrize('size', [(3, 5), (40, 7), (1, 1)])
def test_size_and_type(size: tuple[int, int]) -> None:
    ids = resize_ids(np.zeros((4, 6), np.uint8), size)
    score = resize_linear(np.zeros((4, 6), np.float32), size)
    assert ids.shape == score.shape == size
    assert ids.dtype == np.uint8
    assert score.dtype == np.float32
