"""The pictures: class colours, heat and outlines, pixel by pixel."""

import numpy as np
import pytest

from anomaly_seg_ros.classes import CAMVID, CITYSCAPES, LabelSet
from anomaly_seg_ros.frames.overlay import (
    ANOMALY_COLOR,
    color_table,
    colorize,
    draw_overlay,
    HEAT_START,
)

GREY = np.full((40, 60, 3), 100, np.uint8)
ROAD = np.full((40, 60, 3), (128, 64, 128), np.uint8)


@pytest.mark.parametrize('labels', [CAMVID, CITYSCAPES])
def test_every_id_gets_its_colour_in_rgb_and_others_are_black(labels: LabelSet) -> None:
    ids = np.arange(256, dtype=np.uint8)[None]
    picture = colorize(ids, color_table(labels.colors))
    assert picture.shape == (1, 256, 3)
    count = len(labels.colors)
    assert [tuple(color) for color in picture[0, :count].tolist()] == list(labels.colors)
    assert not picture[0, count:].any()


@pytest.mark.parametrize(
    ('alpha', 'expected'), [(0.0, (100, 100, 100)), (0.5, (114, 82, 114)), (1.0, (128, 64, 128))]
)
def test_alpha_is_the_share_of_the_colours(alpha: float, expected: tuple[int, ...]) -> None:
    picture = draw_overlay(GREY, ROAD, alpha)
    assert (picture == expected).all()
    assert picture.dtype == np.uint8
    assert not np.shares_memory(picture, GREY)
    assert (GREY == 100).all()


def test_heat_shows_only_above_its_start_and_grows() -> None:
    heat = np.arange(256, dtype=np.uint8)[None]
    image = np.full((1, 256, 3), 100, np.uint8)
    picture = draw_overlay(image, image, 0.5, heat).astype(int)
    cold = int(255 * HEAT_START)
    assert (picture[0, :cold] == 100).all()
    assert (np.diff(picture[0, :, 0]) >= 0).all()  # towards red 255
    assert (np.diff(picture[0, :, 2]) <= 0).all()  # and blue 0
    # Half at most, so that the class colour shows through.
    expected = [0.5 * hot + 0.5 * 100 for hot in ANOMALY_COLOR]
    assert picture[0, 255].tolist() == pytest.approx(expected, abs=2)


def test_a_region_is_outlined_and_not_filled() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:50] = 255
    picture = draw_overlay(GREY, GREY, 0.0, None, mask)
    for row, column in ((9, 35), (30, 35), (20, 19), (20, 50), (9, 19)):
        assert (picture[row, column] == 255).all()
    assert (picture[10:30, 20:50] == 100).all()
    assert (picture[2, 2] == 100).all()
    assert int((picture == 255).all(-1).sum()) == 32 * 22 - 30 * 20


def test_layers_of_half_the_size_lie_where_they_belong() -> None:
    image = np.full((80, 120, 3), 100, np.uint8)
    colors = np.zeros((40, 60, 3), np.uint8)
    colors[:, 30:] = 200
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:25] = 255
    picture = draw_overlay(image, colors, 0.5, None, mask)
    assert picture.shape == image.shape
    assert (picture[:, 80] == 150).all()
    assert (picture[40, :30] == 50).all()
    assert (picture[40, 42:48] == 50).all()  # inside of the region
    rows = np.flatnonzero(picture[:, 44, 0] > 200)
    assert rows.tolist() in ([18, 19, 60, 61], [17, 18, 19, 20, 59, 60, 61, 62])


def test_no_anomaly_changes_nothing() -> None:
    nothing = np.zeros((40, 60), np.uint8)
    with_nothing = draw_overlay(GREY, ROAD, 0.45, nothing, nothing)
    assert (with_nothing == draw_overlay(GREY, ROAD, 0.45)).all()
