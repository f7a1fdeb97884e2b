"""The synthetic street: what a frame holds, that it repeats, and that it moves like a drive."""

import numpy as np
from numpy.typing import NDArray
import pytest

from anomaly_seg_ros.classes import CAMVID, IGNORE
from anomaly_seg_ros.demo.synthetic import SyntheticFrame, SyntheticRoad
from anomaly_seg_ros.demo.synthetic.measures import CENTRE_M, STEP_M
from anomaly_seg_ros.demo.synthetic.view import CAMERA_M, FOCAL, HORIZON

NAMES = {name: index for index, name in enumerate(CAMVID.names)}
SIZE = (180, 240)
IN_VIEW = (0, 20, 40, 48, 130, 200, 320, 420)
"""Frames whose nearest odd object is 6 to 26 m ahead."""


@pytest.fixture(scope='module')
def road() -> SyntheticRoad:
    return SyntheticRoad(SIZE)


@pytest.fixture(scope='module')
def start(road: SyntheticRoad) -> SyntheticFrame:
    return road.frame(0)


def brightness(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    return image.astype(np.float64).mean(-1)


def test_a_frame_depends_on_seed_and_index_only(
    road: SyntheticRoad, start: SyntheticFrame
) -> None:
    again = SyntheticRoad(SIZE)
    again.frame(250)
    for own, other in zip(start, again.frame(0), strict=True):
        np.testing.assert_array_equal(own, other)
    for own, other in zip(start, road.frame(0), strict=True):
        np.testing.assert_array_equal(own, other)


def test_another_seed_is_another_street(start: SyntheticFrame) -> None:
    other = SyntheticRoad(SIZE, seed=1).frame(0)
    assert (other.labels != start.labels).mean() > 0.05
    assert np.abs(brightness(other.image) - brightness(start.image)).mean() > 10


def test_a_frame_handed_out_stays_as_it_is(road: SyntheticRoad) -> None:
    frame = road.frame(5)
    copies = [part.copy() for part in frame]
    road.frame(6).image[:] = 0
    for part, copy in zip(frame, copies, strict=True):
        np.testing.assert_array_equal(part, copy)


@pytest.mark.parametrize('size', [(64, 64), (65, 97), (131, 64), (90, 333)])
def test_shapes_and_types_at_any_size(size: tuple[int, int]) -> None:
    frame = SyntheticRoad(size).frame(3)
    assert frame.image.shape == (*size, 3)
    assert frame.labels.shape == frame.anomaly.shape == size
    assert {part.dtype for part in frame} == {np.dtype(np.uint8)}
    assert all(part.flags.c_contiguous for part in frame)


@pytest.mark.parametrize('size', [(63, 200), (200, 63), (0, 0)])
def test_too_small_a_size_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r'too small for a street; use at least \(64, 64\)'):
        SyntheticRoad(size)


def test_a_negative_index_is_refused(road: SyntheticRoad) -> None:
    with pytest.raises(ValueError, match='frame -1 is before the first; use 0 or more'):
        road.frame(-1)


@pytest.mark.parametrize('index', [0, 77, 240, 999, 100_000])
def test_labels_are_camvid_ids_or_ignore(road: SyntheticRoad, index: int) -> None:
    frame = road.frame(index)
    assert set(np.unique(frame.labels)) <= {*range(len(CAMVID.names)), IGNORE}
    assert set(np.unique(frame.anomaly)) <= {0, 1}
    np.testing.assert_array_equal(frame.labels == IGNORE, frame.anomaly == 1)


def test_the_street_holds_what_streets_hold(road: SyntheticRoad) -> None:
    labels = np.stack([road.frame(index).labels for index in range(0, 240, 30)])
    share = {name: (labels == number).mean() for name, number in NAMES.items()}
    assert 0.3 < share['road'] < 0.55
    assert 0.15 < share['building'] < 0.45
    assert 0.05 < share['sky'] < 0.3
    for name in ('pole', 'pavement', 'tree', 'sign', 'car', 'pedestrian'):
        assert share[name] > 0.0003, name


def test_sky_is_above_the_horizon_and_road_below(road: SyntheticRoad) -> None:
    horizon = round(HORIZON * SIZE[0])
    for index in (0, 50, 500):
        labels = road.frame(index).labels
        assert not (labels[horizon + 4 :] == NAMES['sky']).any()
        assert not (labels[: horizon - 1] == NAMES['road']).any()
        assert (labels[-1] == NAMES['road']).mean() > 0.5


def test_image_and_labels_agree(road: SyntheticRoad) -> None:
    for index in (0, 90, 400):
        frame = road.frame(index)
        light = brightness(frame.image)
        mean = {name: light[frame.labels == NAMES[name]].mean() for name in ('sky', 'road')}
        wall = light[frame.labels == NAMES['building']]
        ground = light[frame.labels == NAMES['road']]
        assert mean['sky'] > 200
        assert 50 < mean['road'] < 120
        assert wall.std() > 1.4 * ground.std()  # windows, doors, brick


@pytest.mark.parametrize('index', IN_VIEW)
def test_the_odd_object_stands_on_the_road(road: SyntheticRoad, index: int) -> None:
    frame = road.frame(index)
    depth, x = road.odd_objects(index)[0]
    assert 5.9 < depth < 26.1
    focal = FOCAL * SIZE[0]
    row = round(HORIZON * SIZE[0] + CAMERA_M * focal / depth)
    rows, columns = np.nonzero(frame.anomaly)
    near = np.abs(columns - (0.46 * SIZE[1] + x * focal / depth)) < 1.5 * focal / depth
    assert near.sum() > 25
    assert abs(rows[near].max() - row) <= 3
    below = frame.labels[row + 2 : row + 6, columns[near].min() : columns[near].max()]
    assert (below == NAMES['road']).mean() > 0.9


def test_the_odd_object_comes_closer_then_is_passed(road: SyntheticRoad) -> None:
    areas = [int(road.frame(index).anomaly.sum()) for index in (0, 20, 40, 50)]
    assert areas == sorted(areas)
    assert areas[-1] > 10 * areas[0]
    assert road.frame(62).anomaly.sum() < areas[-1] / 20
    assert road.odd_objects(62)[0][0] == pytest.approx(41.2)


def test_each_odd_object_is_of_another_kind(road: SyntheticRoad) -> None:
    tones = []
    for number in range(5):
        frame = road.frame(47 + 100 * number)
        tones.append(frame.image[frame.anomaly == 1].mean(0))
    gaps = [np.abs(a - b).max() for k, a in enumerate(tones) for b in tones[:k]]
    assert min(gaps) > 8


def test_frames_move_a_little(road: SyntheticRoad) -> None:
    first, second, far = (brightness(road.frame(index).image) for index in (30, 31, 80))
    step = np.abs(first - second).mean()
    assert 1 < step < 0.6 * np.abs(first - far).mean()
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.9


def test_odd_objects_come_closer_by_one_step_a_frame(road: SyntheticRoad) -> None:
    before, after = road.odd_objects(10), road.odd_objects(11)
    assert [depth for depth, _ in before] == pytest.approx([d + STEP_M for d, _ in after])
    assert [x for _, x in before] == [x for _, x in after]


def test_the_road_slides_towards_the_camera_by_one_step_a_frame() -> None:
    """The centre line's dashes are where the frame before had them, a step further off."""
    road = SyntheticRoad((360, 480))
    focal = FOCAL * 360
    depths = np.linspace(7, 13, 200)

    def profile(index: int, ahead: float) -> NDArray[np.float64]:
        scale = focal / (depths + ahead)
        rows = np.round(HORIZON * 360 + CAMERA_M * scale).astype(int)
        columns = np.round(0.46 * 480 + CENTRE_M * scale).astype(int)
        return brightness(road.frame(index).image)[rows, columns]

    now = profile(70, 0)
    assert np.corrcoef(now, profile(69, STEP_M))[0, 1] > 0.93
    assert np.corrcoef(now, profile(69, -STEP_M))[0, 1] < 0.85
