"""Anomalous regions: of one frame, over frames, and as they are published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest

from anomaly_seg_ros.bags.fields import HEADER
from anomaly_seg_ros.bags.reader import TYPESTORE
from anomaly_seg_ros.classes import dynamic_ids, IGNORE
from anomaly_seg_ros.frames.ignore_mask import read_ignored, read_mask
from anomaly_seg_ros.frames.images import write_image
from anomaly_seg_ros.frames.maps import PipelineSettings
from anomaly_seg_ros.frames.persistence import Persistence
from anomaly_seg_ros.frames.pipeline import build_pipeline, Pipeline
from anomaly_seg_ros.frames.regions import find_regions, Regions
from anomaly_seg_ros.frames.tracks import COUNTED, follow, Tracks
from anomaly_seg_ros.node.config import NodeConfig
from anomaly_seg_ros.node.outputs import OUTPUTS
from anomaly_seg_ros.node.regions import detections_fields
from anomaly_seg_ros.whole_frame.health import FROZEN, HealthSettings

PICTURE = [
    '##....#',
    '##...#.',
    '.......',
    '#..###.',
]
"""Regions of 4, 2 (they touch at a corner), 1 and 3 pixels."""


ANY_OF_THREE = Persistence(1, 3)


def mask_of(picture: Sequence[str]) -> NDArray[np.uint8]:
    return np.array([[255 * (c != '.') for c in row] for row in picture], np.uint8)


def shown(regions: Regions, shape: tuple[int, int]) -> NDArray[np.uint8]:
    mask = np.zeros(shape, np.uint8)
    mask.ravel()[regions.pixels] = 255
    return mask


@pytest.mark.parametrize(
    ('min_area', 'areas'), [(0, [4, 2, 1, 3]), (2, [4, 2, 3]), (2.5, [4, 3]), (4, [4]), (5, [])]
)
def test_regions_below_the_area_are_dropped(min_area: float, areas: list[int]) -> None:
    regions = find_regions(mask_of(PICTURE), min_area)
    assert sorted(regions.areas.tolist()) == sorted(areas)
    assert (shown(regions, (4, 7)) != 0).sum() == sum(areas)


def test_boxes_and_means_by_hand() -> None:
    regions = find_regions(mask_of(PICTURE))
    found = {tuple(box): area for box, area in zip(regions.boxes, regions.areas, strict=True)}
    assert found == {(0, 0, 2, 2): 4, (5, 0, 2, 2): 2, (0, 3, 1, 1): 1, (3, 3, 3, 1): 3}
    columns = regions.means((regions.pixels % 7).astype(float))
    assert sorted(columns.tolist()) == [0, 0.5, 4, 5.5]


@pytest.mark.parametrize('share', [0.0, 0.02, 0.3, 0.6, 1.0])
def test_they_are_opencvs_own_in_the_order_of_their_first_pixels(share: float) -> None:
    noise = cv2.GaussianBlur(np.random.default_rng(3).random((90, 121)), (0, 0), 2)
    mask = np.where(noise >= np.quantile(noise, 1 - share), 255, 0).astype(np.uint8)
    mask[:] = mask if 0 < share < 1 else 255 * int(share)
    _, numbered, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    numbers, firsts = np.unique(numbered[mask != 0], return_index=True)
    regions = find_regions(mask)
    wanted = statistics[numbers[np.argsort(firsts)]]
    assert np.hstack([regions.boxes, regions.areas[:, None]]).tolist() == wanted.tolist()
    assert (shown(regions, mask.shape) == mask).all()


# --- over frames --------------------------------------------------------------------------------


def followed(
    frames: Sequence[Sequence[str]], persistence: Persistence = ANY_OF_THREE
) -> list[tuple[dict[int, int], list[int]]]:
    """Of each frame: id to how often it was seen, and the delays of what counts now."""
    tracks, result = Tracks(), []
    for frame in frames:
        mask = mask_of(frame)
        tracks, ids, seen, delays = follow(tracks, find_regions(mask), persistence)
        result.append((dict(zip(ids.tolist(), seen.tolist(), strict=True)), delays.tolist()))
    return result


def ids(frames: Sequence[Sequence[str]]) -> list[dict[int, int]]:
    return [found for found, _ in followed(frames)]


def test_an_id_stays_while_a_region_moves() -> None:
    assert ids([['##....'], ['.##...'], ['..##..'], ['...##.']]) == [
        {1: 1},
        {1: 2},
        {1: 3},
        {1: 3},
    ]


def test_many_regions_are_followed_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    random, known = np.random.default_rng(0), []
    masks = [(random.random((30, 40)) < 0.3).astype(np.uint8) for _ in range(4)]
    for counted in (COUNTED, 0):
        monkeypatch.setattr('anomaly_seg_ros.frames.tracks.COUNTED', counted)
        tracks = Tracks()
        for mask in masks:
            found = follow(tracks, find_regions(mask), ANY_OF_THREE)
            tracks = found.tracks
            known.append(found.ids.tolist())
    assert len(set(known[3])) > 20
    assert known[:4] == known[4:]


def test_a_region_without_overlap_is_new() -> None:
    assert ids([['##....'], ['....##']]) == [{1: 1}, {2: 1}]


def test_a_gap_is_remembered_as_long_as_the_frames_go_back() -> None:
    assert ids([['##'], ['..'], ['##']]) == [{1: 1}, {}, {1: 2}]
    assert ids([['##'], ['..'], ['..'], ['##']]) == [{1: 1}, {}, {}, {1: 1}]
    assert ids([['##'], ['..'], ['..'], ['..'], ['##']])[-1] == {2: 1}


def test_who_was_hidden_is_known_where_the_other_has_gone() -> None:
    """Two meet, and the larger keeps its id; then it moves on, and the other one comes back."""
    frames = [['##.####'], ['#######'], ['....###'], ['##..###']]
    assert ids(frames) == [{1: 1, 2: 1}, {2: 2}, {2: 3}, {1: 1, 2: 3}]
    assert ids([*frames[:2], ['#######'], ['##.####']])[-1] == {2: 3, 3: 3}


def test_where_a_region_was_before_does_not_count() -> None:
    assert ids([['##....'], ['.###..'], ['#..##.']])[-1] == {1: 3, 2: 1}


def test_parts_keep_the_past_and_the_largest_the_id() -> None:
    assert ids([['######'], ['#.####']]) == [{1: 1}, {1: 2, 2: 2}]
    assert ids([['#.####'], ['######']]) == [{1: 1, 2: 1}, {2: 2}]


def test_a_region_counts_once_and_with_its_delay() -> None:
    frames = [['##'], ['..'], ['##'], ['##'], ['..'], ['##'], ['##']]
    counted = [delays for _, delays in followed(frames, Persistence(3, 4))]
    assert counted == [[], [], [], [3], [], [], []]


def test_the_parts_of_what_has_counted_are_no_news() -> None:
    frames = [['#####'], ['##.##'], ['##...'], ['##..#']]
    assert [delays for _, delays in followed(frames, Persistence(1, 3))] == [[0], [], [], []]
    # Who has not counted yet does so in each of its parts.
    frames = [['#####'], ['##.##'], ['##.##']]
    assert [delays for _, delays in followed(frames, Persistence(2, 3))] == [[], [1, 1], []]


def test_two_regions_do_not_get_one_id() -> None:
    found = ids([['##..##'], ['##..##'], ['.####.']])
    assert found == [{1: 1, 2: 1}, {1: 2, 2: 2}, {1: 3}]


@pytest.mark.parametrize('text', ['', '3', '0/5', '4/3', '1/61', 'a/b', '-1/2', '1.5/2'])
def test_a_persistence_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match='persistence is'):
        NodeConfig(persistence=text)


def test_the_longest_persistence_counts_in_the_last_of_its_frames() -> None:
    found = followed([['#']] * 61, Persistence.parse('60/60'))
    assert [delays for _, delays in found] == [[]] * 59 + [[59], []]
    assert [seen for seen, _ in found[58:]] == [{1: 59}, {1: 60}, {1: 60}]


# --- of a frame as it is published --------------------------------------------------------------


@pytest.fixture
def pipeline(fake_engine: Any, make_fake_meta: Callable[..., Any]) -> Callable[..., Pipeline]:
    def make(ignored: NDArray[np.bool_] | None = None, **settings: Any) -> Pipeline:
        settings = {'threshold': 0.9, **settings}
        return build_pipeline(
            fake_engine, make_fake_meta(), PipelineSettings(**settings), True, ignored
        )

    return make


def frame(*boxes: tuple[int, int, int, int], height: int = 24, width: int = 32) -> Any:
    """Road with anomalies (the green channel is the score) in boxes (x, y, width, height)."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = 3
    for x, y, w, h in boxes:
        image[y : y + h, x : x + w, 1] = 255
    return image


def content(result: Any, name: str) -> Any:
    return OUTPUTS[f'~/{name}'].content(result, NodeConfig())


def test_regions_json_by_hand(pipeline: Callable[..., Pipeline]) -> None:
    run = pipeline(persistence=Persistence(1, 5), max_regions=2)
    run(frame((2, 3, 4, 5)))
    found = content(run(frame((3, 3, 4, 5), (20, 10, 2, 2), (30, 20, 1, 1))), 'regions_json')
    assert json.loads(found) == {
        'schema': 1,
        'height': 24,
        'width': 32,
        'threshold': 0.9,
        'persistence': {'needed': 1, 'frames': 5, 'delay_frames': 0},
        'total': 3,
        'alarms': 2,
        'frame_score': 0.032552,
        'camera': {'fit': True, 'reason': ''},
        'regions': [
            {
                'id': 1,
                'box': {'x': 3, 'y': 3, 'width': 4, 'height': 5},
                'area': 20,
                'score': 1.0,
                'seen': 2,
                'persistence': 0.4,
            },
            {
                'id': 2,
                'box': {'x': 20, 'y': 10, 'width': 2, 'height': 2},
                'area': 4,
                'score': 1.0,
                'seen': 1,
                'persistence': 0.2,
            },
        ],
    }


@pytest.mark.parametrize('size', [(24, 32), (48, 64), (37, 51), (20, 30)])
def test_boxes_fit_the_published_mask(
    size: tuple[int, int], pipeline: Callable[..., Pipeline]
) -> None:
    height, width = size
    image = cv2.resize(
        frame((2, 3, 9, 5), (20, 10, 8, 12)), (width, height), interpolation=cv2.INTER_NEAREST
    )
    result = pipeline()(image)
    statistics = cv2.connectedComponentsWithStats(result.mask, connectivity=8)[2][1:]
    found = sorted(zip(*result.regions[1:6], strict=True))
    assert len(found) == 2
    assert np.abs(np.array(found) - sorted(statistics.tolist())).max(axis=0)[:4].max() <= 1
    assert found[0][4] == pytest.approx(sorted(statistics.tolist())[0][4], rel=0.2)


def test_regions_of_a_smaller_camera_have_a_size(pipeline: Callable[..., Pipeline]) -> None:
    """A pixel of the network may lie between the centres of the camera's, which are larger."""
    run = pipeline()
    picture = frame(*((x, y, 1, 1) for x in range(1, 32, 2) for y in range(0, 24, 2)))
    prediction = run(picture).prediction
    camera = np.zeros((10, 15, 3), np.uint8)
    found = run.finish(run.prepare(camera), prediction).regions
    assert len(found.ids) == 100
    assert min(*found.widths, *found.heights, *found.areas) == 1
    assert min(*found.x, *found.y) >= 0
    assert max(np.add(found.x, found.widths)) <= 15
    assert max(np.add(found.y, found.heights)) <= 10


def test_a_threshold_of_nothing_leaves_what_is_ignored(
    pipeline: Callable[..., Pipeline],
) -> None:
    run = pipeline(threshold=0.0)
    run.ignored = np.zeros((24, 32), bool)
    run.ignored[:, :8] = True
    for smoothing in (0.0, 0.5):
        run.settings = replace(run.settings, smoothing=smoothing)
        result = run(frame())
        assert not result.mask[:, :8].any()
        assert (result.mask[:, 8:] == 255).all()
        assert (result.labels[:, :8] == 255).all()


def test_what_flickers_is_no_anomaly(pipeline: Callable[..., Pipeline]) -> None:
    run = pipeline(persistence=Persistence(2, 3))
    steady, flicker = (2, 3, 4, 5), (20, 10, 6, 6)
    results = [run(frame(steady, *extra)) for extra in ([flicker], [], [], [flicker])]
    assert [(result.mask != 0).sum() for result in results] == [0, 20, 20, 20]
    assert [len(result.regions.ids) for result in results] == [0, 1, 1, 1]
    assert [result.maps.anomalies.delays.tolist() for result in results] == [[], [1], [], []]
    assert (results[1].open_set == 11).sum() == 20


def test_what_nobody_asks_for_waits_until_the_masks_are_out(
    pipeline: Callable[..., Pipeline],
) -> None:
    run = pipeline(persistence=Persistence(1, 5))
    first = run(frame((2, 3, 4, 5)))
    assert first.labels.any()
    assert not {'anomalies', 'health', 'judged'} & first.maps.__dict__.keys()
    assert run(frame((2, 3, 4, 5))).regions.seen == [2], 'the next frame knows of it'


def test_smoothing_takes_frames_together(pipeline: Callable[..., Pipeline]) -> None:
    box = (4, 4, 8, 8)
    # The score of the box: 0, 1/2, 3/4, 3/8, 3/16.
    for threshold, expected in ((0.7, [0, 0, 1, 0, 0]), (0.1, [0, 1, 1, 1, 1])):
        run = pipeline(smoothing=0.5, threshold=threshold)
        masks = [run(frame(*seen)).mask.any() for seen in ([], [box], [box], [], [])]
        assert masks == expected


def test_frames_that_do_not_follow_each_other_know_nothing_of_each_other(
    fake_engine: Any, make_fake_meta: Callable[..., Any]
) -> None:
    run = build_pipeline(fake_engine, make_fake_meta())
    for _ in range(2):
        regions = run(frame((2, 3, 4, 5))).regions
        assert (regions.ids, regions.seen) == ([1], [1])


@pytest.mark.parametrize(
    ('taken', 'seen'),
    [
        ([10.0, 10.2, 10.4], [1, 2, 3]),
        ([10.0, 10.2, 9.9], [1, 2, 3]),  # frames that come in another order
        ([10.0, 10.2, 8.0], [1, 2, 1]),
        ([10.0, 10.2, 15.2], [1, 2, 3]),
        ([10.0, 10.2, 15.3], [1, 2, 1]),
        ([0.0, 0.0, 0.0], [1, 2, 3]),  # no stamps
        ([10.0, 16.0, 22.0, 28.0], [1, 1, 2, 3]),  # a slow camera
        ([10.0, 16.0, 22.0, 41.0], [1, 1, 2, 1]),
    ],
)
def test_what_the_frames_before_left_holds_while_stamps_follow_on(
    pipeline: Callable[..., Pipeline], taken: list[float], seen: list[int]
) -> None:
    run = pipeline(persistence=Persistence(1, 5), smoothing=0.5, threshold=0.9)
    results = [run(frame((2, 3, 4, 5)), taken_s) for taken_s in taken]
    assert [result.regions.seen for result in results] == [[number] for number in seen]
    anew = seen[-1] == 1
    assert results[-1].regions.ids == [seen.count(1)], 'no id comes twice'
    assert (results[-1].maps.before.smoothed is None) == anew


def test_the_health_of_a_camera_does_not_depend_on_its_stamps(
    pipeline: Callable[..., Pipeline],
) -> None:
    run = pipeline(health=HealthSettings(frozen_frames=3))
    health = [run(frame((2, 3, 4, 5)), taken_s).health for taken_s in (50.0, 40.0, 30.0, 20.0)]
    assert [one.reason for one in health][-1] == FROZEN


def test_ignored_pixels_are_not_in_the_shares(pipeline: Callable[..., Pipeline]) -> None:
    anomalous = np.zeros((24, 32), np.bool_)
    anomalous[:6] = True
    ignored = np.zeros((24, 32), np.bool_)
    ignored[12:] = True
    plain, masked = (pipeline(pixels)(frame((0, 0, 32, 6))).maps for pixels in (None, ignored))
    assert plain.anomalous_share == 0.25
    assert masked.anomalous_share == 0.5, 'of the half that counts'
    assert masked.frame_score > 1.5 * plain.frame_score


def test_a_mask_says_what_it_does(tmp_path: Path) -> None:
    picture = np.zeros((40, 60), np.uint8)
    write_image(tmp_path / 'black.png', picture)
    picture[30:] = 255
    write_image(tmp_path / 'front.png', picture)
    assert read_mask('', 'front') is None
    mask = read_mask(str(tmp_path / '{camera}.png'), 'front')
    assert mask is not None
    said = f"ignore_mask '{tmp_path / 'front.png'}' leaves out 25 % of the picture"
    assert mask.said((480, 720)) == (said, True)
    stretched, fits = mask.said((480, 480))
    assert not fits
    assert (
        stretched == f'{said}, stretched: it is 40x60, and the images 480x480; draw it on an '
        'image of this camera'
    )
    black = read_mask(str(tmp_path / 'black.png'), '')
    assert black is not None
    text, fits = black.said((480, 720))
    assert not fits
    assert '0 % of the picture: it is black all over' in text


def test_ignored_pixels_are_no_class_and_nothing_anomalous(
    pipeline: Callable[..., Pipeline],
) -> None:
    ignored = np.zeros((24, 32), np.bool_)
    ignored[12:] = True
    result = pipeline(ignored)(frame((0, 0, 8, 24), height=48, width=64))
    assert (result.labels[24:] == IGNORE).all()
    assert (result.labels[:24] == 3).all()
    assert not result.mask[24:].any()
    assert result.mask[:24, :8].all()
    assert not result.at(False).heat[12:].any()
    assert np.isfinite(result.score).all()
    assert not result.static[24:].any()


def test_an_ignore_mask_is_a_picture_of_any_size(tmp_path: Path) -> None:
    picture = np.zeros((40, 60), np.uint8)
    picture[30:] = 1
    write_image(tmp_path / 'front.png', picture)
    ignored = read_ignored(str(tmp_path / '{camera}.png'), 'front', (20, 30))
    assert ignored is not None
    assert [ignored[:15].any(), ignored[15:].all()] == [False, True]
    assert read_ignored('', 'front', (20, 30)) is None
    with pytest.raises(FileNotFoundError, match=r'left\.png'):
        read_ignored(str(tmp_path / '{camera}.png'), 'left', (20, 30))
    write_image(tmp_path / 'front.png', picture | 255)
    with pytest.raises(ValueError, match='nothing would be left'):
        read_ignored(str(tmp_path / 'front.png'), '', (20, 30))


def test_static_and_open_set_by_hand(pipeline: Callable[..., Pipeline]) -> None:
    image = frame((0, 0, 8, 8))
    image[16:, :, 0] = 8  # car
    result = pipeline()(image)
    assert [result.static[y, 20] for y in (0, 20)] == [255, 0]
    assert [result.static[y, 2] for y in (0, 10)] == [0, 255]
    assert [result.open_set[y, 2] for y in (0, 10, 20)] == [11, 3, 8]
    assert dynamic_ids(('road', 'car', 'person')) == (1, 2)


def test_detections_are_the_regions(pipeline: Callable[..., Pipeline]) -> None:
    result = pipeline()(frame((2, 3, 4, 5)))
    (found,) = detections_fields(content(result, 'detections'))['detections']
    assert found['id'] == '1'
    assert found['results'] == [{'hypothesis': {'class_id': 'anomaly', 'score': 1.0}}]
    assert found['bbox'] == {
        'center': {'position': {'x': 4.0, 'y': 5.5}},
        'size_x': 4.0,
        'size_y': 5.0,
    }


# --- vision_msgs, which PyPI does not have ------------------------------------------------------


class PlainMessage:
    """A message as rclpy makes it, of the definitions that bags are written by."""

    def __init__(self, kind: str) -> None:
        self._types = {}
        for name, (_, more) in TYPESTORE.get_msgdef(kind).fields:
            short = more.replace('/msg/', '/') if isinstance(more, str) else ''
            value: Any = 0
            if isinstance(more, str):
                value = PlainMessage(more)
            elif isinstance(more[0], tuple) and isinstance(more[0][1], str):
                short, value = f'sequence<{more[0][1].replace("/msg/", "/")}>', []
            self._types[name] = short
            setattr(self, name, value)

    def get_fields_and_field_types(self) -> dict[str, str]:
        return self._types


def test_a_message_of_any_type_is_filled_by_its_fields(
    pipeline: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('rclpy')
    from std_msgs.msg import Header

    from anomaly_seg_ros.ros import conversions

    monkeypatch.setattr(conversions, 'message_type', lambda kind: lambda: PlainMessage(kind))
    run = pipeline(persistence=Persistence(1, 5))
    writer = conversions.message_writer('vision_msgs/msg/Detection2DArray', '')
    both = content(run(frame((20, 10, 6, 6), (2, 3, 4, 5))), 'detections')
    assert [found.id for found in writer.fill(both, Header()).detections] == ['2', '1']
    header = Header(frame_id='front')
    message = writer.fill(content(run(frame((2, 3, 4, 5))), 'detections'), header)
    (detection,) = message.detections
    assert message.header is detection.header is header
    assert (detection.id, detection.bbox.size_x) == ('1', 4.0)
    assert (detection.bbox.center.position.x, detection.bbox.center.position.y) == (4.0, 5.5)
    (result,) = detection.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ('anomaly', 1.0)
    assert HEADER in TYPESTORE.types
