"""Back to the camera's size."""

import numpy as np
import pytest

from anomaly_seg_ros.frames.nearest import resize_ids
from anomaly_seg_ros.frames.postprocess import resize_linear


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
