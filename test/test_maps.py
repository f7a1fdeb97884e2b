"""Masks, regions and what follows from them, by hand: odd sizes, several frames and regions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
import pytest

from anomaly_seg_ros.calibration import Calibration
from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.frames.label_tables import LabelTables
from anomaly_seg_ros.frames.maps import PipelineSettings
from anomaly_seg_ros.frames.persistence import Persistence
from anomaly_seg_ros.frames.pipeline import LEAST_SCORE, Pipeline
from anomaly_seg_ros.prediction import Prediction

SHARE = Calibration(tuple((1 - (1 - np.linspace(0, 1, 257)) ** 4).tolist()))
"""Under which a score between 0 and 1 is its own share."""


class Said:
    """An engine that says what it is told."""

    score_name = 'msp'

    def __init__(self, scores: tuple[NDArray[np.float16], ...]):
        self.left, self.input_size = list(scores), scores[0].shape

    def infer_batch(self, images: list[Any]) -> list[Prediction]:
        labels = np.zeros(self.input_size, np.uint8)
        return [Prediction(labels, self.left.pop(0)) for _ in images]


def pipeline(*scores: NDArray[np.float16], **settings: Any) -> Pipeline:
    tables = LabelTables([(0, 0, 0)] * 11)
    held = PipelineSettings(**{'threshold': 0.5, **settings})
    return Pipeline(Said(scores), tables, SHARE, held, True)  # type: ignore[arg-type]


def scored(rows: slice, columns: slice, value: float = 1.0) -> NDArray[np.float16]:
    score = np.zeros((4, 8), np.float16)
    score[rows, columns] = value
    return score


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.zeros((height, width, 3), np.uint8)


def test_regions_are_listed_by_size_times_score() -> None:
    score = scored(slice(1), slice(5), 0.6) + scored(slice(2, 3), slice(4))
    assert pipeline(score)(picture(4, 8)).regions.areas == [4, 5]
    assert pipeline(score, max_regions=1)(picture(4, 8)).regions.y == [2]


@pytest.mark.parametrize('size', [(8, 16), (7, 13), (3, 5)])
def test_the_raw_score_beside_what_is_ignored_is_a_neighbours(size: tuple[int, int]) -> None:
    frames = pipeline(scored(slice(None), slice(0)) + np.float16(2))
    frames.ignored = np.zeros((4, 8), np.bool_)
    frames.ignored[2:, :] = True
    result = frames(picture(*size))
    assert (result.labels == IGNORE).any()
    assert (result.score[result.labels == IGNORE] == LEAST_SCORE).all()
    assert (result.score[result.labels != IGNORE] == 2).all()


def test_an_area_is_counted_in_pixels_of_the_camera() -> None:
    """Two and three times as large: 4 pixels are 24, as in the mask."""
    result = pipeline(scored(slice(1, 3), slice(2, 4)))(picture(8, 24))
    assert (result.regions.areas, np.count_nonzero(result.mask)) == ([24], 24)


@pytest.mark.parametrize('size', [(6, 12), (9, 18), (4, 8), (8, 16), (5, 11), (7, 13), (10, 9)])
def test_a_box_encloses_its_region_in_the_mask(size: tuple[int, int]) -> None:
    for top in range(4):
        for left in range(8):
            for height, width in ((1, 1), (4 - top, 8 - left)):
                score = scored(slice(top, top + height), slice(left, left + width))
                result = pipeline(score)(picture(*size))
                found, listed = np.nonzero(result.mask), result.regions
                begin, end = (edge(found, axis=1) for edge in (np.min, np.max))
                assert (listed.y, listed.x) == ([begin[0]], [begin[1]])
                assert [listed.heights[0], listed.widths[0]] == (end - begin + 1).tolist()


def test_where_the_camera_has_fewer_pixels_a_box_stays_inside() -> None:
    listed = pipeline(scored(slice(3, 4), slice(7, 8)))(picture(2, 3)).regions
    assert (listed.x, listed.y, listed.widths, listed.heights) == ([2], [1], [1], [1])


def test_what_does_not_persist_is_in_no_mask() -> None:
    score = scored(slice(1, 2), slice(1, 2))
    run = pipeline(score, score.copy(), persistence=Persistence(2, 2))
    first, second = (run(picture(4, 8)) for _ in range(2))
    assert [image[1, 1] for image in (first.mask, first.open_set, first.static)] == [0, 0, 255]
    assert [image[1, 1] for image in (second.mask, second.open_set, second.static)] == [255, 11, 0]


def test_smoothing_keeps_its_share_of_the_frame_before() -> None:
    """.75 of 0 and .25 of 1 is .25, below a threshold of .3."""
    whole = scored(slice(4), slice(8))
    run = pipeline(whole, np.zeros_like(whole), smoothing=0.25, threshold=0.3)
    assert run(picture(4, 8)).maps.above.all()
    assert not run(picture(4, 8)).maps.above.any()
