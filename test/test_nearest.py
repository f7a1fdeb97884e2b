from __future__ import annotations

import cv2
import numpy as np
from PIL import Image
import pytest

from anomaly_seg_ros.frames.nearest import resize_ids
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
