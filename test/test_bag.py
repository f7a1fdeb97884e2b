"""A bag through the node's core: `anomaly_seg bag`, with ROS and without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import csv
from dataclasses import replace
import json
import os
from pathlib import Path
import re
import resource
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from rosbags.rosbag2 import Reader

from anomaly_seg_ros.bags.mcap_file import McapFile
from anomaly_seg_ros.bags.reader import (
    BagReader,
    read_images,
    TEXT,
    TYPESTORE,
)
from anomaly_seg_ros.bags.storage import is_bag
from anomaly_seg_ros.bags.writer import BagWriter, Stamp
from anomaly_seg_ros.calibration import Calibration
from anomaly_seg_ros.checkpoint.calibrated import CalibratedOn, CameraCalibration
from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.frame_fit import FrameFit, FrameShift
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.commands.make_bag import of_files, START_NS, write_bag
from anomaly_seg_ros.frames.images import write_image
from anomaly_seg_ros.node import topics
from anomaly_seg_ros.node.calibration_file import keep
from anomaly_seg_ros.node.config import NodeConfig, parameters
from anomaly_seg_ros.node.message_types import COMPRESSED_IMAGE, IMAGE
from training.evaluation.bag.alarms import Alarms
from training.evaluation.bag.many import INSTEAD, MEANINGLESS, Plan
from training.results import read_frames, read_results

HEIGHT, WIDTH = 24, 32
STORAGES = pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
OUTPUT_TOPICS = {
    '/anomaly_seg/semantic_mask': 'mono8',
    '/anomaly_seg/anomaly_score': 'mono8',
    '/anomaly_seg/anomaly_mask': 'mono8',
    '/anomaly_seg/overlay': 'bgr8',
}


def pictures(count: int, height: int = HEIGHT, width: int = WIDTH) -> list[NDArray[np.uint8]]:
    """Noise, so that no two are alike and none can be packed away."""
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def quadrants() -> NDArray[np.uint8]:
    """Green (the fake engine's score) 255, 170 over 85, 0; red (its label) 3."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0] = 3
    image[:12, :16, 1], image[:12, 16:, 1], image[12:, :16, 1] = 255, 170, 85
    return image


def left_half() -> NDArray[np.uint8]:
    """Labels: the quadrants 255 and 85 are anomalies."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[:, :16] = 1
    return labels


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, fake_engine: Any, fake_checkpoint: Path, tmp_path: Path
) -> Callable[..., int]:
    """Gives `anomaly_seg bag` with an engine whose answers can be worked out by hand."""
    monkeypatch.setattr('training.commands.bag.open_engine', lambda *args: fake_engine)

    def command(bag: Path, *more: str, out: str = 'out') -> int:
        places = ['--checkpoint', str(fake_checkpoint), '--out', str(tmp_path / out)]
        return main(['bag', str(bag), *places, *more])

    return command


def timeline(out: Path) -> list[dict[str, str]]:
    with (out / 'timeline.csv').open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def summary(out: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((out / 'summary.json').read_text(encoding='utf-8'))
    return values


def row(out: Path) -> dict[str, Any]:
    (only,) = json.loads((out / 'results.json').read_text(encoding='utf-8'))['rows']
    values: dict[str, Any] = only
    return values


def images_of(bag: Path, topic: str) -> list[Any]:
    with BagReader(bag) as reader:
        return list(reader.images(topic))


def label_info_of(bag: Path) -> Any:
    with BagReader(bag) as reader:
        (message,) = reader.messages(['/anomaly_seg/label_info_json'])
    text: Any = TYPESTORE.deserialize_cdr(message.data, TEXT)
    return json.loads(text.data)


def data_file(bag: Path) -> Path:
    (path,) = [path for path in bag.iterdir() if path.suffix in ('.mcap', '.db3')]
    return path


def cut(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


# --- input --------------------------------------------------------------------------------------


def test_a_chosen_topic_gives_its_own_images_only(run: Callable[..., int], tmp_path: Path) -> None:
    left, right = pictures(2)
    with BagWriter(tmp_path / 'in') as bag:
        for topic, image in (('/left', left), ('/right', right)):
            bag.add_topic(topic, IMAGE)
            bag.add_image(topic, Stamp(7, 5, 'rig'), image, 'bgr8')
    ((stamp, pixels),) = read_images(tmp_path / 'in', '/right')
    assert stamp == 5
    assert (pixels == right).all()
    assert run(tmp_path / 'in') == 2
    assert run(tmp_path / 'in', '--topic', '/left') == 0
    assert summary(tmp_path / 'out')['topic'] == '/left'


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('a.mcap', b'', 'it is empty'),
        ('a.db3', b'some text', 'it is no mcap or sqlite3 file'),
        ('a.jpg', b'\xff\xd8\xff', 'it is no mcap or sqlite3 file'),
        ('a.bag', b'#ROSBAG V2.0\n', 'is a ROS 1 bag; make a rosbag2 of it: rosbags-convert'),
        ('a.mp4', b'\0\0\0\x18ftypisom', 'is a video; make a bag of it: anomaly_seg make_bag'),
        ('a.mcap', b'\x89MCAP0\r\n', 'has no image topic'),
        ('a.db3', b'SQLite format 3\0' + bytes(50), 'nothing of .* can be read'),
    ],
)
def test_files_that_are_no_bag(
    run: Callable[..., int],
    tmp_path: Path,
    name: str,
    content: bytes,
    message: str,
    capsys: Any,
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert run(path) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not (tmp_path / 'out').exists()


def test_folders_that_are_no_bag(run: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    assert run(tmp_path / 'nowhere') == 2
    assert "nowhere'; give a rosbag2 folder or file" in capsys.readouterr().err
    (tmp_path / 'photos').mkdir()
    assert run(tmp_path / 'photos') == 2
    assert 'is no rosbag2 folder: it holds no .mcap and no .db3 file' in capsys.readouterr().err
    assert not is_bag(tmp_path / 'photos')


@STORAGES
def test_an_empty_bag(run: Callable[..., int], tmp_path: Path, storage: str, capsys: Any) -> None:
    with BagWriter(tmp_path / 'in', storage) as bag:
        bag.add_topic('/image', IMAGE)
    assert run(tmp_path / 'in') == 2
    assert 'holds no message on /image' in capsys.readouterr().err


# --- outputs ------------------------------------------------------------------------------------


def test_the_outputs_are_those_of_the_node(
    run: Callable[..., int], tmp_path: Path, capsys: Any
) -> None:
    images = [quadrants(), *pictures(2, 48, 64)]
    with BagWriter(tmp_path / 'in') as bag:
        bag.add_topic('/front/image', IMAGE)
        for i, image in enumerate(images):
            at = Stamp(1000 + i, 3 * 10**9 + i, f'front_{i}')
            bag.add_image('/front/image', at, image, 'bgr8')
    assert run(tmp_path / 'in') == 0
    assert '3 frames of 3 messages on /front/image' in capsys.readouterr().out
    with BagReader(tmp_path / 'out' / 'bag') as reader:
        info_topic = '/anomaly_seg/label_info_json'
        texts = (info_topic, '/anomaly_seg/regions_json')
        assert reader.topics == {
            **dict.fromkeys(OUTPUT_TOPICS, IMAGE),
            **dict.fromkeys(texts, TEXT),
            '/anomaly_seg/label_info': 'vision_msgs/msg/LabelInfo',
        }
        assert reader.problems() == []
        for topic, encoding in OUTPUT_TOPICS.items():
            frames = list(reader.images(topic))
            assert [f.log_time for f in frames] == [1000, 1001, 1002]
            assert [f.stamp for f in frames] == [3 * 10**9 + i for i in range(3)]
            assert [f.frame_id for f in frames] == ['front_0', 'front_1', 'front_2']
            assert {f.message.encoding for f in frames} == {encoding}
            sizes = [(f.message.height, f.message.width) for f in frames]
            assert sizes == [(24, 32), (48, 64), (48, 64)]
        assert [message.log_time for message in reader.messages([info_topic])] == [1000]
    assert label_info_of(tmp_path / 'out' / 'bag')['engine']['name'] == 'fake'
    # By hand: labels red modulo 11; shares 1, 2/3, 1/3 and 0; the threshold is 0.9.
    first = {
        topic: images_of(tmp_path / 'out' / 'bag', topic)[0].frame().rgb for topic in OUTPUT_TOPICS
    }
    assert (first['/anomaly_seg/semantic_mask'] == 3).all()
    score = first['/anomaly_seg/anomaly_score'][..., 0]
    assert [int(score[y, x]) for y, x in ((0, 0), (0, 31), (23, 0), (23, 31))] == [255, 170, 85, 0]
    mask = first['/anomaly_seg/anomaly_mask'][..., 0]
    assert (mask[:12, :16] == 255).all()
    assert mask.sum() == 255 * 12 * 16


def test_every_output_is_read_by_others(
    run: Callable[..., int], make: Any, tmp_path: Path
) -> None:
    """`rosbags` alone, by the definitions in the bag: those of vision_msgs too."""
    from rosbags.highlevel import AnyReader

    from anomaly_seg_ros.node.outputs import OUTPUTS
    from training.evaluation.bag.outputs import output_names

    assert run(make([box(2)]), '--save', ','.join(output_names())) == 0
    with AnyReader([tmp_path / 'out' / 'bag']) as reader:
        found = {
            connection.topic.replace('/anomaly_seg/', '~/'): reader.deserialize(
                data, connection.msgtype
            )
            for connection, _, data in reader.messages()
        }
    assert set(found) == {*OUTPUTS, topics.LABEL_INFO, topics.LABEL_INFO_JSON}
    (detection,) = found['~/detections'].detections
    assert detection.header.frame_id == found['~/detections'].header.frame_id == 'camera'
    assert (detection.id, detection.bbox.size_x, detection.bbox.size_y) == ('1', 6.0, 6.0)
    assert (detection.bbox.center.position.x, detection.bbox.center.position.y) == (5.0, 7.0)
    (result,) = detection.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ('anomaly', 1.0)
    assert result.pose.covariance.tolist() == [0.0] * 36
    names = [entry.class_name for entry in found['~/label_info'].class_map]
    assert (names[3], names[11], len(names)) == ('road', 'anomaly', 12)
    assert 0 < found['~/frame_score'].data < 1
    assert found['~/overlay/compressed'].data[:2].tobytes() == b'\xff\xd8'
    assert json.loads(found['~/rle_mask'].data)['height'] == HEIGHT
    (region,) = json.loads(found['~/regions_json'].data)['regions']
    assert (region['id'], region['area']) == (1, 36)


def test_the_bag_offers_what_the_node_offers(run: Callable[..., int], make: Any) -> None:
    from rosbags.rosbag2 import Reader

    bag = make(pictures(1))
    assert run(bag, '--save', 'semantic_color') == 0
    with Reader(bag.parent / 'out' / 'bag') as reader:
        offered = {c.topic: c.ext.offered_qos_profiles[0] for c in reader.connections}
    assert {topic: qos.durability.name for topic, qos in offered.items()} == {
        '/anomaly_seg/label_info': 'TRANSIENT_LOCAL',
        '/anomaly_seg/label_info_json': 'TRANSIENT_LOCAL',
        '/anomaly_seg/semantic_color': 'VOLATILE',
    }
    assert {(qos.reliability.name, qos.history.name, qos.depth) for qos in offered.values()} == {
        ('RELIABLE', 'KEEP_LAST', 1)
    }
    # Masks are much alike from row to row: each chunk says that it is packed.
    assert b'zstd' in data_file(bag.parent / 'out' / 'bag').read_bytes()


def test_a_compressed_picture_has_the_times_of_its_frame(
    run: Callable[..., int], tmp_path: Path
) -> None:
    with BagWriter(tmp_path / 'in') as bag:
        bag.add_topic('/image', IMAGE)
        bag.add_image('/image', Stamp(1000, 3 * 10**9 + 7, 'front'), box(2), 'rgb8')
    assert run(tmp_path / 'in', '--save', 'overlay/compressed') == 0
    (frame,) = images_of(tmp_path / 'out' / 'bag', '/anomaly_seg/overlay/compressed')
    assert (frame.log_time, frame.stamp, frame.frame_id) == (1000, 3 * 10**9 + 7, 'front')


def test_every_frame_once_and_in_order(
    run: Callable[..., int], make: Callable[..., Path], fake_engine: Any, tmp_path: Path
) -> None:
    images = pictures(7)
    for i, image in enumerate(images):
        image[0, 0, 2] = 30 * i
    assert run(make(images)) == 0
    assert fake_engine.seen[2:] == [30 * i for i in range(7)]  # behind the warm-up
    assert fake_engine.closed == 1
    lines = timeline(tmp_path / 'out')
    assert [int(line['stamp']) for line in lines] == [START_NS + i * 10**8 for i in range(7)]
    assert [line['name'] for line in lines] == [f'f0{i}.png' for i in range(7)]


def test_the_timeline_by_hand(
    run: Callable[..., int], make: Callable[..., Path], tmp_path: Path
) -> None:
    two = quadrants()
    two[..., 1] = 0
    two[2:4, 2:6, 1] = 255  # 8 of 768 pixels, in two regions
    two[20, 20, 1] = 255
    blank = np.zeros_like(two)
    assert run(make([quadrants(), two, blank])) == 0
    lines = timeline(tmp_path / 'out')
    assert [float(line['mask_share']) for line in lines] == [0.25, round(9 / 768, 6), 0.0]
    assert [line['regions'] for line in lines] == ['1', '2', '0']
    scores = [float(line['frame_score']) for line in lines]
    assert scores == pytest.approx([(1 + 2 / 3 + 1 / 3 + 0) / 4, 9 / 768, 0], abs=1e-3)


def test_a_cameras_own_calibration_is_taken(
    run: Callable[..., int], make: Any, fake_checkpoint: Path, tmp_path: Path, capsys: Any
) -> None:
    checkpoint, file = Checkpoint.open(fake_checkpoint), tmp_path / 'kept.json'
    bag = make([quadrants()])
    levels = Calibration((-10.0, 10.0, 20.0))
    strict = CameraCalibration(levels, 0.9, CalibratedOn('a', 'b', 1, 'c'))
    checkpoint.with_meta(cameras={'car/left': {'max_logit': strict}})
    keep(checkpoint, 'front', 'max_logit', strict, str(file))
    kept = ('-p', f'calibration_file:={file}')
    shares = {}
    for out, more in {
        'common': (),
        'own': ('--camera', 'car/left'),
        'kept': ('--camera', 'front', *kept),
        'other': kept,
    }.items():
        assert run(bag, *more, out=out) == 0
        shares[out] = float(timeline(tmp_path / out)[0]['mask_share'])
    assert shares == {'common': 0.25, 'own': 0.0, 'kept': 0.0, 'other': 0.25}
    assert "holds no camera '' but 'front'" in capsys.readouterr().err
    assert run(bag, '--camera', 'rear', out='rear') == 2
    assert "no camera 'rear'; it has car/left" in capsys.readouterr().err


def test_two_runs_give_the_same_bytes(run: Callable[..., int], make: Any, tmp_path: Path) -> None:
    bag = make(pictures(4))
    for out in ('a', 'b'):
        assert run(bag, out=out) == 0
    for name in ('timeline.csv', 'summary.json', 'bag/bag.mcap', 'bag/metadata.yaml'):
        assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()


def test_broken_messages_are_counted_and_passed_over(
    run: Callable[..., int], tmp_path: Path, capsys: Any
) -> None:
    (image,) = pictures(1)
    with BagWriter(tmp_path / 'in') as bag:
        bag.add_topic('/image', IMAGE)
        for number in range(6):
            at = Stamp(number, number, 'c')
            bag.add_image('/image', at, image, 'rgb8')
    spoil(tmp_path / 'in', {1: 'encoding', 2: 'data', 4: 'cdr'})
    assert run(tmp_path / 'spoilt') == 1
    assert [line['problem'].split(' ')[0] for line in timeline(tmp_path / 'out')] == [
        '', 'unknown', 'data', '', 'Invalid', ''
    ]  # fmt: skip
    assert [line['stamp'] for line in timeline(tmp_path / 'out')] == ['0', '1', '2', '3', '', '5']
    values = summary(tmp_path / 'out')
    assert (values['messages'], values['frames']) == (6, 3)
    assert (values['first_stamp'], values['last_stamp']) == (0, 5)
    assert [entry['number'] for entry in values['broken']] == [1, 2, 4]
    assert "unknown encoding 'rgb9'" in capsys.readouterr().err
    masks = images_of(tmp_path / 'out' / 'bag', '/anomaly_seg/semantic_mask')
    assert [mask.stamp for mask in masks] == [0, 3, 5]


def write_raw(
    folder: Path,
    images: Sequence[NDArray[Any]],
    encoding: str,
    height: int,
    stamps: Sequence[int] = (),
) -> None:
    """Writes a bag of messages whose rows lie as in these arrays, whatever the encoding is."""
    from rosbags.rosbag2 import Writer

    with Writer(folder, version=8) as writer:
        connection = writer.add_connection('/image', IMAGE, typestore=TYPESTORE)
        types = TYPESTORE.types
        for number, image in enumerate(images):
            seconds = stamps[number] if stamps else number
            stamp = types['builtin_interfaces/msg/Time'](sec=seconds, nanosec=0)
            rows = np.ascontiguousarray(image).view(np.uint8).reshape(len(image), -1)
            message = types[IMAGE](
                header=types['std_msgs/msg/Header'](stamp=stamp, frame_id='c'),
                height=height,
                width=image.shape[1],
                encoding=encoding,
                is_bigendian=0,
                step=rows.shape[1],
                data=rows.reshape(-1),
            )
            writer.write(connection, number, bytes(TYPESTORE.serialize_cdr(message, IMAGE)))


def test_stamps_that_go_back_begin_anew_as_in_the_node(
    run: Callable[..., int], tmp_path: Path
) -> None:
    frames = [quadrants()] * 6
    write_raw(tmp_path / 'in', frames, 'rgb8', HEIGHT, stamps=[10, 11, 12, 5, 6, 13])
    assert run(tmp_path / 'in', '-p', 'persistence:=2/3') == 0
    shares = [float(line['mask_share']) for line in timeline(tmp_path / 'out')]
    assert shares == [0.0, 0.25, 0.25, 0.0, 0.25, 0.0]


def test_a_12_bit_camera_is_as_bright_as_an_8_bit_one(
    run: Callable[..., int], tmp_path: Path, capsys: Any
) -> None:
    grey = [image[..., 0] for image in pictures(3)]
    grey[1] //= 9
    write_raw(tmp_path / 'twelve', [g.astype('<u2') << 4 for g in grey], 'mono16', HEIGHT)
    with BagReader(tmp_path / 'twelve') as reader:
        for frame, expected in zip(reader.images('/image'), grey, strict=True):
            assert (frame.frame().rgb == expected[..., None]).all()
    assert run(tmp_path / 'twelve') == 0
    assert 'on /image (mono16, 12 significant bits); score' in capsys.readouterr().out
    assert summary(tmp_path / 'out')['encoding'] == 'mono16, 12 significant bits'


def test_the_bits_of_a_camera_may_be_given(
    run: Callable[..., int], make: Any, tmp_path: Path
) -> None:
    # White at 10 bits: score and mask of all pixels; a 64th of that at 16.
    write_raw(tmp_path / 'ten', [np.full((HEIGHT, WIDTH), 1023, '<u2')], 'mono16', HEIGHT)
    assert run(tmp_path / 'ten') == 0
    assert run(tmp_path / 'ten', '-p', 'significant_bits:=16', out='given') == 0
    assert summary(tmp_path / 'given')['encoding'] == 'mono16, 16 significant bits'
    shares = [float(timeline(tmp_path / out)[0]['mask_share']) for out in ('out', 'given')]
    assert shares == [1, 0]


@pytest.mark.parametrize('encoding', ['nv12', 'nv21'])
def test_planar_images_go_through(
    encoding: str, run: Callable[..., int], tmp_path: Path, capsys: Any
) -> None:
    write_raw(
        tmp_path / 'in', [np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)], encoding, HEIGHT
    )
    assert run(tmp_path / 'in') == 0
    (mask,) = images_of(tmp_path / 'out' / 'bag', '/anomaly_seg/semantic_mask')
    assert (mask.message.height, mask.message.width) == (HEIGHT, WIDTH)
    assert f'({encoding})' in capsys.readouterr().out


def spoil(source: Path, faults: dict[int, str]) -> None:
    """Writes the bag 'spoilt' beside another one, in which some messages are broken."""
    from rosbags.rosbag2 import Writer

    with (
        BagReader(source) as reader,
        Writer(source.parent / 'spoilt', version=8) as writer,
    ):
        connection = writer.add_connection('/image', IMAGE, typestore=TYPESTORE)
        for frame, plain in zip(reader.images('/image'), reader.messages(['/image']), strict=True):
            fault, message, data = faults.get(frame.number), frame.message, plain.data
            if fault == 'encoding':
                message.encoding = 'rgb9'
            elif fault == 'data':
                message.data = message.data[:100]
            if fault is not None:
                data = bytes(TYPESTORE.serialize_cdr(message, IMAGE))
            writer.write(connection, frame.log_time, data[:60] if fault == 'cdr' else data)


def test_nothing_usable_is_an_error(run: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    with BagWriter(tmp_path / 'in') as bag:
        bag.add_topic('/image', COMPRESSED_IMAGE)
        for number in range(5):
            bag.add_compressed('/image', Stamp(number, number, 'c'), b'nothing', 'jpeg')
    assert run(tmp_path / 'in') == 2
    error = capsys.readouterr().err
    assert 'warning: 5 messages are broken; see timeline.csv' in error
    assert 'no frame could be used: 5 messages on /image' in error


@STORAGES
def test_a_cut_bag_says_where_it_ended(
    run: Callable[..., int], make: Callable[..., Path], tmp_path: Path, storage: str, capsys: Any
) -> None:
    bag = make(pictures(30, 48, 64), storage)
    cut(data_file(bag), 0.5)
    assert run(bag) == 1
    values = summary(tmp_path / 'out')
    count = values['frames']
    assert 8 <= count <= 16
    assert values['last_stamp'] == START_NS + (count - 1) * 10**8
    error = capsys.readouterr().err
    assert f'the bag is not whole: {data_file(bag).name}: ' in error
    last = values['last_stamp']
    assert f'reading ended after {count} of 30 messages on /image, last stamp {last}' in error
    assert len(images_of(tmp_path / 'out' / 'bag', '/anomaly_seg/overlay')) == count


def test_uncalibrated_scores_are_refused(
    run: Callable[..., int], make: Callable[..., Path], fake_engine: Any, capsys: Any
) -> None:
    fake_engine.score_name = 'msp'
    assert run(make(pictures(1))) == 2
    assert "score 'msp' of this checkpoint has no calibration" in capsys.readouterr().err


# --- an end before the end -----------------------------------------------------------------------


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_a_whole_bag(
    run: Callable[..., int],
    make: Callable[..., Path],
    fake_engine: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: signal.Signals,
    capsys: Any,
) -> None:
    infer = fake_engine.infer

    def stop_at_the_third(image: NDArray[np.uint8]) -> Any:
        if len(fake_engine.seen) == 2 + 2:
            os.kill(os.getpid(), number)
        return infer(image)

    monkeypatch.setattr(fake_engine, 'infer', stop_at_the_third)
    before = signal.getsignal(number)
    assert run(make(pictures(9))) == 1
    assert signal.getsignal(number) is before
    assert 'stopped after 3 of 9 messages' in capsys.readouterr().err
    assert (tmp_path / 'out' / 'bag' / 'metadata.yaml').is_file()
    assert len(images_of(tmp_path / 'out' / 'bag', '/anomaly_seg/overlay')) == 3
    assert len(timeline(tmp_path / 'out')) == 3


def test_a_stop_ends_a_run_of_many_bags(
    run: Callable[..., int], make: Callable[..., Path], fake_engine: Any, tmp_path: Path,
    capsys: Any,
) -> None:  # fmt: skip
    bags = [make(pictures(3), name=name) for name in ('first', 'second')]
    infer = fake_engine.infer

    def stop_at_the_second(image: NDArray[np.uint8]) -> Any:
        if len(fake_engine.seen) == 2 + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return infer(image)

    fake_engine.infer = stop_at_the_second
    assert run(bags[0], str(bags[1])) == 1
    assert '0 of 2 bags are done' in capsys.readouterr().out
    assert summary(tmp_path / 'out' / 'first')['frames'] == 2
    assert not (tmp_path / 'out' / 'second').exists()


def test_a_crash_leaves_a_whole_bag(
    run: Callable[..., int], make: Callable[..., Path], fake_engine: Any, tmp_path: Path
) -> None:
    def crash(image: NDArray[np.uint8]) -> Any:
        if len(fake_engine.seen) == 2 + 2:
            raise RuntimeError('the device is gone')
        return infer(image)

    infer, fake_engine.infer = fake_engine.infer, crash
    with pytest.raises(RuntimeError, match='the device is gone'):
        run(make(pictures(5)))
    with BagReader(tmp_path / 'out' / 'bag') as reader:
        assert len(list(reader.images('/anomaly_seg/overlay'))) == 2
        assert reader.problems() == []


@pytest.mark.skipif(sys.platform != 'linux', reason='needs a limit of the size of files')
@pytest.mark.parametrize('left', [100, 100_000])
def test_a_file_that_may_not_grow_leaves_a_whole_bag(
    left: int, run: Callable[..., int], make: Callable[..., Path], tmp_path: Path, capsys: Any
) -> None:
    """As rosbags reads it, which asks for `metadata.yaml` and an index; these may not fit either.

    Args:
        left: Bytes that the file may have behind its second chunk.
    """
    bag = make(pictures(4, 400, 400))
    assert run(bag, out='whole') == 0
    ends = chunk_ends(tmp_path / 'whole' / 'bag')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ends[1] + left, limits[1]))
    try:
        assert run(bag) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith('file too large; choose another --out')
    whole, kept = (messages_of(tmp_path / out / 'bag') for out in ('whole', 'out'))
    assert kept == whole[: len(kept)]
    assert len(chunk_ends(tmp_path / 'out' / 'bag')) == (1 if left < 1000 else 2)


def chunk_ends(bag: Path) -> list[int]:
    file = McapFile(data_file(bag))
    file.close()
    return sorted(chunk.end for chunk in file._chunks)


def messages_of(bag: Path) -> list[tuple[str, int, bytes]]:
    with Reader(bag) as reader:
        found = [(c.topic, log_time, data) for c, log_time, data in reader.messages()]
        assert reader.message_count == len(found)
        assert reader.end_time == found[-1][1] + 1
    return found


# --- the result folder ---------------------------------------------------------------------------


def test_a_second_run_replaces_the_first(
    run: Callable[..., int], make: Callable[..., Path], tmp_path: Path
) -> None:
    labels = tmp_path / 'labels'
    write_labels(labels, {'f00': left_half()})
    assert run(make([quadrants(), quadrants()]), '--labels', str(labels)) == 0
    assert (tmp_path / 'out' / 'results.json').is_file()
    (tmp_path / 'out' / 'bag' / '._bag.mcap').write_bytes(b'what macOS puts on foreign disks')
    assert run(make(pictures(1), name='other')) == 0
    assert len(images_of(tmp_path / 'out' / 'bag', '/anomaly_seg/overlay')) == 1
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        'bag', 'summary.json', 'timeline.csv',
    ]  # fmt: skip


def test_neither_the_input_nor_foreign_files_are_removed(
    run: Callable[..., int], make: Callable[..., Path], tmp_path: Path, capsys: Any
) -> None:
    bag = make(pictures(1))
    (tmp_path / 'out').mkdir()
    shutil.copytree(bag, tmp_path / 'out' / 'bag')
    assert run(tmp_path / 'out' / 'bag') == 2
    assert 'lies where the new one goes; choose another --out' in capsys.readouterr().err
    assert run(bag) == 2
    assert 'is no bag of an earlier run; choose another --out' in capsys.readouterr().err
    assert data_file(tmp_path / 'out' / 'bag').is_file()


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('overlay,heat', "unknown output 'heat'; choose of: semantic_mask"),
        (',', 'nothing to save'),
    ],
)
def test_unknown_outputs(
    run: Callable[..., int], make: Any, text: str, message: str, capsys: Any
) -> None:
    assert run(make(pictures(1)), '--save', text) == 2
    assert message in capsys.readouterr().err


# --- labels --------------------------------------------------------------------------------------


def write_labels(folder: Path, labels: dict[str, NDArray[np.uint8]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, values in labels.items():
        write_image(folder / f'{stem}.png', values)


@pytest.mark.parametrize(
    ('stems', 'rule'),
    [
        (['f00', 'f02'], 'the stem of the image file'),
        ([f'{START_NS}', f'{START_NS + 2 * 10**8}'], "the frame's header stamp in nanoseconds"),
        (['000000', '000002'], 'the place of the message on its topic, counted from 0'),
    ],
)
def test_metrics_by_hand(
    run: Callable[..., int],
    make: Callable[..., Path],
    tmp_path: Path,
    stems: list[str],
    rule: str,
) -> None:
    """Four equal quadrants that score 255 (anomaly), 170, 85 (anomaly), 0; half is ignored once.

    AP = 1/2 * 1 + 1/2 * 2/3; AUROC: 3 of 4 pairs; the TPR reaches 0.95 at 85, with FPR 1/2; the
    best F1 takes 85 and above: 2 * 2 / (3 + 2).
    """
    images = [quadrants(), *pictures(1), quadrants()]
    ignored = left_half()
    ignored[::2] = 255
    labels = tmp_path / 'labels'
    write_labels(labels, {stems[0]: left_half(), stems[1]: ignored})
    assert run(make(images), '--labels', str(labels)) == 0
    values = row(tmp_path / 'out')
    assert values['ap'] == pytest.approx(5 / 6)
    assert values['auroc'] == 0.75
    assert values['fpr95'] == 0.5
    assert values['best_f1'] == pytest.approx(0.8)
    assert values['best_f1_threshold'] == pytest.approx(85 / 25.5 - 5)
    assert (values['n_images'], values['n_pixels']) == (2, 768 + 384)
    assert values['warnings'] == []
    assert rule in values['label_rule']
    assert (values['score'], values['engine'], values['split']) == ('max_logit', 'fake', '/image')
    with (tmp_path / 'out' / 'frames.csv').open(newline='', encoding='utf-8') as file:
        frames = list(csv.DictReader(file))
    assert [frame['frame'] for frame in frames] == ['f00', 'f02']
    assert [frame['n_anomaly'] for frame in frames] == ['384', '192']
    assert [float(frame['ap']) for frame in frames] == pytest.approx([5 / 6, 5 / 6])
    assert summary(tmp_path / 'out')['labels_matched'] == 2
    assert json.loads((tmp_path / 'out' / 'curves.json').read_text())['curves'][0]['pr']
    entries = json.loads((tmp_path / 'out' / 'pictures.json').read_text())['pictures']
    assert entries
    assert main(['report', str(tmp_path / 'out'), '--out', str(tmp_path / 'report.html')]) == 0
    assert '0.8333' in (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert all((tmp_path / 'out' / entry['image']).is_file() for entry in entries)


def test_a_foreign_bag_is_matched_by_stamp(run: Callable[..., int], tmp_path: Path) -> None:
    with BagWriter(tmp_path / 'in') as bag:
        bag.add_topic('/image', IMAGE)
        bag.add_image('/image', Stamp(99, 5_000_000_007, 'c'), quadrants(), 'rgb8')
    np.save(tmp_path / '5000000007.npy', left_half())
    (tmp_path / 'labels').mkdir()
    (tmp_path / '5000000007.npy').rename(tmp_path / 'labels' / '5000000007.npy')
    assert run(tmp_path / 'in', '--labels', str(tmp_path / 'labels')) == 0
    assert row(tmp_path / 'out')['auroc'] == 0.75
    assert 'header stamp' in row(tmp_path / 'out')['label_rule']


def test_frames_of_one_stamp_are_told_apart(run: Callable[..., int], tmp_path: Path) -> None:
    with BagWriter(tmp_path / 'in') as bag:
        bag.add_topic('/image', IMAGE)
        for number in range(3):
            bag.add_image('/image', Stamp(number, 7, 'c'), quadrants(), 'rgb8')
    write_labels(tmp_path / 'labels', {str(number): left_half() for number in range(3)})
    assert run(tmp_path / 'in', '--labels', str(tmp_path / 'labels')) == 0
    assert [frame.frame for frame in read_frames(tmp_path / 'out')] == ['7', '7_1', '7_2']


def test_numbers_that_may_count_from_one_are_refused(
    run: Callable[..., int], make: Callable[..., Path], tmp_path: Path, capsys: Any
) -> None:
    write_labels(tmp_path / 'labels', {'1': left_half(), '2': left_half()})
    assert run(make([quadrants()] * 3), '--labels', str(tmp_path / 'labels')) == 2
    error = capsys.readouterr().err
    assert 'none of the 2 labels' in error
    assert f"the first frame has source 'f00.png', stamp {START_NS} and number 0" in error
    assert not (tmp_path / 'out').exists()


def test_ignored_pixels_are_no_part_of_the_numbers(
    run: Callable[..., int], make: Any, tmp_path: Path, capsys: Any
) -> None:
    write_labels(tmp_path / 'labels', {'f00': left_half()})
    own = np.zeros((HEIGHT, WIDTH), np.uint8)
    own[12:] = 255  # below, 85 is an anomaly and 0 is none
    write_image(tmp_path / 'own.png', own)
    more = ['-p', f'ignore_mask:={tmp_path / "own.png"}', '-p', 'smoothing:=0.5']
    assert run(make([quadrants()]), '--labels', str(tmp_path / 'labels'), *more) == 0
    (row,) = json.loads((tmp_path / 'out' / 'results.json').read_text())['rows']
    assert row['n_pixels'] == 12 * WIDTH
    assert (row['ap'], row['fpr95'], row['operating']['recall']) == (1, 0, 1)
    assert 'the numbers are of the raw score, frame by frame' in row['warnings'][0]
    assert 'smoothing, min_region_area and persistence change the masks' in capsys.readouterr().err


def test_rates_are_at_the_threshold_of_the_mask(
    run: Callable[..., int], make: Any, tmp_path: Path, capsys: Any
) -> None:
    # By hand: calibrated the quadrants are 1 (anomaly), 2/3, 1/3 (anomaly) and 0.
    write_labels(tmp_path / 'labels', {'f00': left_half()})
    bag, labels = make([quadrants()]), str(tmp_path / 'labels')
    rates = {}
    for threshold in (0.9, 0.5, 0.2):
        out = f'at_{threshold}'
        assert run(bag, '--labels', labels, '-p', f'threshold:={threshold}', out=out) == 0
        (row,) = json.loads((tmp_path / out / 'results.json').read_text())['rows']
        rates[threshold] = row['operating']['precision'], row['operating']['recall']
    assert rates == {
        0.9: (1, 0.5),
        0.5: (pytest.approx(0.5), 0.5),
        0.2: (pytest.approx(2 / 3), 1),
    }
    said = capsys.readouterr().err
    assert "at threshold 0.5 as given, not at the checkpoint's 0.9" in said
    (given,) = read_results(tmp_path / 'at_0.5')
    assert given.extra['threshold_given'] == 0.5
    page = tmp_path / 'page.html'
    assert main(['report', str(tmp_path / 'at_0.5'), '--out', str(page)]) == 0
    text = page.read_text(encoding='utf-8')
    assert 'threshold 0.5 as given' in text
    assert 'shipped threshold' not in text
    assert 'at threshold 0.9' not in said


def test_labels_that_are_left_over_are_named(
    run: Callable[..., int], make: Callable[..., Path], tmp_path: Path, capsys: Any
) -> None:
    write_labels(tmp_path / 'labels', {'f01': left_half(), 'other': left_half()})
    assert run(make([quadrants()] * 2), '--labels', str(tmp_path / 'labels')) == 0
    text = "1 labels fit no frame of the bag; the first is 'other.png'"
    assert row(tmp_path / 'out')['warnings'] == [text]
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        (np.zeros((5, 5), np.uint8), "frame 'f00' is (24, 32), its labels"),
        (np.full((HEIGHT, WIDTH), 7, np.uint8), 'holds label 7; a label file has 0, 1, 255; say'),
    ],
)
def test_labels_that_do_not_fit(
    run: Callable[..., int],
    make: Callable[..., Path],
    tmp_path: Path,
    values: NDArray[np.uint8],
    message: str,
    capsys: Any,
) -> None:
    write_labels(tmp_path / 'labels', {'f00': values})
    assert run(make([quadrants()]), '--labels', str(tmp_path / 'labels')) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'out' / 'results.json').exists()


def test_labels_that_mean_nothing_are_a_warning(
    run: Callable[..., int], make: Callable[..., Path], tmp_path: Path, capsys: Any
) -> None:
    bag = make([quadrants()])
    write_labels(tmp_path / 'labels', {'f00': left_half() * 255})
    (tmp_path / 'labels' / '._f00.png').write_bytes(b'no data')
    assert run(bag, '--labels', str(tmp_path / 'labels')) == 0
    text = (
        'not a single pixel of 1 frames is anomalous; the label files hold 0 (normal), '
        '255 (ignored); if 255 marks the anomaly, add --label-map 255=1'
    )
    assert row(tmp_path / 'out')['warnings'] == [text]
    assert f'warning: {text}' in capsys.readouterr().err
    assert run(bag, '--labels', str(tmp_path / 'labels'), '--label-map', '255=1') == 0
    assert row(tmp_path / 'out')['auroc'] == 0.75
    assert run(bag, '--labels', str(tmp_path / 'labels'), '--label-map', '255') == 2
    assert "label map '255' must be ID=MEANING" in capsys.readouterr().err


def test_two_labels_of_one_frame_are_refused(
    run: Callable[..., int], make: Callable[..., Path], tmp_path: Path, capsys: Any
) -> None:
    write_labels(tmp_path / 'labels', {'f00': left_half()})
    write_image(tmp_path / 'labels' / 'f00.tif', left_half())
    assert run(make([quadrants()]), '--labels', str(tmp_path / 'labels')) == 2
    assert 'are of the same stem; keep one of them' in capsys.readouterr().err
    (tmp_path / 'labels' / 'f00.png').unlink()
    assert run(make([quadrants()], name='again'), '--labels', str(tmp_path / 'labels')) == 0


def test_a_label_is_matched_by_any_name(run: Callable[..., int], tmp_path: Path) -> None:
    name = os.fsdecode(b'stra\xdfe')
    (tmp_path / 'images').mkdir()
    write_image(tmp_path / 'images' / f'{name}.png', quadrants())
    assert main(['make_bag', str(tmp_path / 'images'), '--out', str(tmp_path / 'in')]) == 0
    write_labels(tmp_path / 'labels', {name: left_half()})
    assert run(tmp_path / 'in', '--labels', str(tmp_path / 'labels')) == 0
    assert 'stem of the image file' in row(tmp_path / 'out')['label_rule']


def test_no_labels_there(
    run: Callable[..., int], make: Callable[..., Path], tmp_path: Path, capsys: Any
) -> None:
    bag = make([quadrants()])
    assert run(bag, '--labels', str(tmp_path / 'nowhere')) == 2
    assert f"no folder '{tmp_path / 'nowhere'}'" in capsys.readouterr().err
    (tmp_path / 'none').mkdir()
    assert run(bag, '--labels', str(tmp_path / 'none')) == 2
    assert 'no .png, .tif, .tiff, .bmp, .npy files in' in capsys.readouterr().err


# --- with and without ROS ------------------------------------------------------------------------

FORBID = """
import importlib.abc, sys

class Forbid(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        root = name.split('.')[0]
        if root in ('rclpy', 'rcl_interfaces', 'launch', 'rosbag2_py') or root.endswith('_msgs'):
            raise ImportError(f'{name} is ROS')

sys.meta_path.insert(0, Forbid())
from anomaly_seg_ros.cli import main

images, bag, checkpoint, out, labels = sys.argv[1:]
assert main(['make_bag', images, '--out', bag]) == 0
common = ['--checkpoint', checkpoint, '--engine', 'torch', '--labels', labels, '--out', out]
assert main(['bag', bag, *common]) == 0
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_command_without_ros(
    save: Callable[..., list[Path]], tiny_checkpoint: Path, tmp_path: Path, root: Path
) -> None:
    save(tmp_path / 'images', pictures(3, 64, 96))
    write_labels(tmp_path / 'labels', {'f01': np.eye(64, 96, dtype=np.uint8)})
    places = ['images', 'bag', str(tiny_checkpoint), 'out', 'labels']
    result = subprocess.run(
        [sys.executable, '-c', FORBID, *places],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert row(tmp_path / 'out')['n_images'] == 1
    assert len(images_of(tmp_path / 'out' / 'bag', '/anomaly_seg/overlay')) == 3


@pytest.mark.slow
def test_masks_need_no_more_than_the_node(
    make: Any, exported_checkpoint: Path, tmp_path: Path, root: Path
) -> None:
    """What `make demo` installs; only labels want more."""
    bag = make([quadrants()], 'mcap', 'png')
    code = (
        'import sys\n'
        "for name in ('rclpy', 'torch', 'lightning', 'PIL', 'matplotlib', 'scipy'):\n"
        '    sys.modules[name] = None\n'
        'from anomaly_seg_ros.cli import main\n'
        'sys.exit(main(sys.argv[1:]))\n'
    )
    command = ['bag', str(bag), '--checkpoint', str(exported_checkpoint), '--engine', 'openvino']
    result = subprocess.run(
        [sys.executable, '-c', code, *command, '--out', str(tmp_path / 'out')],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert len(images_of(tmp_path / 'out' / 'bag', '/anomaly_seg/overlay')) == 1


@pytest.mark.ros
def test_ros_itself_reads_what_is_written(run: Callable[..., int], make: Any) -> None:
    pytest.importorskip('rclpy')
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import CompressedImage, Image
    from std_msgs.msg import String

    bag = make([quadrants()], 'mcap', 'png')
    assert run(bag) == 0
    kinds = {IMAGE: Image, COMPRESSED_IMAGE: CompressedImage, TEXT: String}
    found = {}
    for path in (bag, bag.parent / 'out' / 'bag'):
        with BagReader(path) as reader:
            # vision_msgs is not on PyPI.
            own = [topic for topic, kind in reader.topics.items() if kind in kinds]
            for topic, _, _, data in reader.messages(own):
                found[topic] = deserialize_message(data, kinds[reader.topics[topic]])
    assert found['/image/compressed'].format == 'rgb8; png compressed bgr8'
    assert found['/image/name'].data == 'f00.png'
    mask = found['/anomaly_seg/anomaly_mask']
    assert (mask.encoding, mask.step, mask.height) == ('mono8', WIDTH, HEIGHT)
    assert mask.header.stamp.sec == START_NS // 10**9
    assert mask.header.frame_id == 'camera'
    assert bytes(mask.data).count(255) == 12 * 16


LIVE = """
import json, os, sys
from pathlib import Path
import numpy as np
from anomaly_seg_ros.demo import play
from anomaly_seg_ros.demo.frame_source import open_frames
from anomaly_seg_ros.demo.running_node import running_node
from anomaly_seg_ros.ros.frame_client import connected_client

play.START_TIMEOUT_S, play.FRAME_TIMEOUT_S = 300.0, 60.0
images, checkpoint, out = sys.argv[1:]
found = {}

def collect(number, messages):
    for topic, message in messages.items():
        found[f'{topic[2:]}_{number}'] = np.frombuffer(message.data, np.uint8)

namespace = f'/live_{os.getpid()}'
with (
    running_node(namespace, Path(checkpoint), 'auto') as process,
    connected_client(namespace, collect) as client,
):
    play.wait_until_ready(client, process)
    sent = play.send_all(client, open_frames(images), 50.0)
    client.spin_until(lambda: client.complete() >= sent, 60.0)
    assert client.complete() == sent
np.savez(out, label_info=json.dumps(client.label_info), **found)
"""


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.timeout(600)  # three processes that load torch and OpenVINO, beside other work
def test_the_masks_are_those_of_the_live_node(
    save: Callable[..., list[Path]], tiny_checkpoint: Path, tmp_path: Path, root: Path
) -> None:
    pytest.importorskip('rclpy')
    images = [cv2.GaussianBlur(image, (9, 9), 3) for image in pictures(6, 90, 130)]
    paths = save(tmp_path / 'images', images)
    environment = {**os.environ, 'PYTHONPATH': str(root)}
    environment.pop('_ROS_WHEELS_BOOTSTRAP_COMPLETE', None)
    live = subprocess.run(
        [sys.executable, '-c', LIVE, 'images', str(tiny_checkpoint), 'live.npz'],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert live.returncode == 0, live.stderr
    write_bag(of_files(paths), tmp_path / 'in', '/image')
    argv = ['bag', str(tmp_path / 'in'), '--checkpoint', str(tiny_checkpoint)]
    assert main([*argv, '--out', str(tmp_path / 'out')]) == 0
    heard = np.load(tmp_path / 'live.npz')
    assert len(heard.files) == 6 * len(OUTPUT_TOPICS) + 1
    assert label_info_of(tmp_path / 'out' / 'bag') == json.loads(str(heard['label_info']))
    varied = set()
    for topic in OUTPUT_TOPICS:
        for frame in images_of(tmp_path / 'out' / 'bag', topic):
            name = topic.removeprefix(topics.resolve('~') + '/')
            assert (frame.message.data == heard[f'{name}_{frame.number}']).all(), (topic, frame)
            varied |= set(np.unique(frame.message.data).tolist())
    assert len(varied) > 50


# --- alarms, and many bags ----------------------------------------------------------------------


def box(*columns: int) -> NDArray[np.uint8]:
    """Road with an anomaly of 6x6 pixels at each of these columns."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0] = 3
    for column in columns:
        image[4:10, column : column + 6, 1] = 255
    return image


def test_alarms_by_hand(run: Callable[..., int], make: Any, tmp_path: Path, capsys: Any) -> None:
    # At 10 Hz: one region for three frames, gone for one, another one for a single frame.
    frames = [box(2), box(3), box(4), box(), box(20), box()]
    assert run(make(frames), '-p', 'persistence:=2/3') == 0
    found = summary(tmp_path / 'out')['alarms']
    assert (found['events'], found['alarmed'], found['frames']) == (1, 2, 6)
    assert found['hours'] == pytest.approx(0.5 / 3600, rel=1e-2)
    assert found['per_hour'] == pytest.approx(7200)
    assert found['per_hour_95'] == pytest.approx([0.02532 * 7200, 5.57164 * 7200], rel=1e-3)
    assert found['duty_cycle'] == pytest.approx(2 / 6, abs=1e-5)
    assert found['delay_frames'] == {'median': 1, 'max': 1}
    rows = timeline(tmp_path / 'out')
    assert [row['alarms'] for row in rows] == ['0', '1', '0', '0', '0', '0']
    assert [row['regions'] for row in rows] == ['0', '1', '1', '0', '0', '0']
    assert '1 alarms in 0.000139 hours: 7.2e+03 an hour' in capsys.readouterr().out
    assert run(make([box()] * 3, name='calm'), out='calm_out') == 0
    found = summary(tmp_path / 'calm_out')['alarms']
    assert (found['events'], found['delay_frames']['max']) == (0, None)
    assert found['per_hour_95'] == pytest.approx([0, 2.9957 * 3600 / 0.2], rel=1e-3)
    assert 'no alarm in 5.6e-05 hours: that proves no more than under' in capsys.readouterr().out


def test_regions_that_are_not_listed_are_counted(
    run: Callable[..., int], make: Any, tmp_path: Path
) -> None:
    assert run(make([box(2, 20)]), '-p', 'max_regions:=1') == 0
    (row,) = timeline(tmp_path / 'out')
    assert (row['regions'], row['alarms']) == ('2', '2')


def test_breaks_of_a_recording_were_not_watched_and_bags_come_together() -> None:
    parts = []
    for stamps_s, delays in (
        ([0, 1, 5.9, 11, 10, 10.5], [[0, 3], [], [], [], [], []]),  # 1 + 4.9 + .5 s
        ([100, 100.25], [[], [1]]),
    ):
        alarms = Alarms()
        for stamp_s, new in zip(stamps_s, delays, strict=True):
            found: Any = SimpleNamespace(total=2 * len(new), delays=np.array(new, np.intp))
            alarms.add(round(stamp_s * 1e9), found)
        parts.append(alarms.counts())
    assert [part['watched_s'] for part in parts] == pytest.approx([6.4, 0.25])
    assert [part['alarmed'] for part in parts] == [1, 1], 'frames, not regions'
    whole = Alarms.merged(parts).report()
    assert (whole['events'], whole['duty_cycle']) == (3, 2 / 8)
    assert whole['per_hour'] == pytest.approx(3 / (6.65 / 3600), rel=1e-3)
    assert whole['delay_frames'] == {'median': 1, 'max': 3}


@pytest.mark.parametrize(
    ('text', 'why'),
    [
        ('persistence', 'not of the form NAME:=VALUE'),
        ('persistance:=3/5', 'did you mean'),
        ('min_region_area:=x', 'min_region_area'),
        ('a:=[', 'cannot be read'),
        ('checkpoint:=default', 'parameter checkpoint does nothing here; give --checkpoint\n'),
        ('engine:=onnx', 'parameter engine does nothing here; give --engine\n'),
        ('cameras:=[front]', 'parameter cameras does nothing here; give --topic\n'),
        ('max_age_s:=0.5', 'parameter max_age_s has no meaning for a bag; leave it out'),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused(
    text: str, why: str, run: Callable[..., int], make: Any, capsys: Any
) -> None:
    assert run(make([box()]), '-p', text) == 2
    assert why in capsys.readouterr().err


def test_each_parameter_of_the_node_is_taken_or_refused() -> None:
    taken = {
        'calibration_file', 'frame_score', 'frame_threshold', 'frozen_frames', 'health_frames',
        'ignore_mask', 'max_regions', 'min_region_area', 'output_resolution', 'overlay_alpha',
        'persistence',
        'score_encoding', 'score_scale', 'significant_bits', 'smoothing', 'static_mask_inverted',
        'threshold',
    }  # fmt: skip
    known = [row.name for row in parameters()]
    assert sorted([*taken, *INSTEAD, *MEANINGLESS]) == sorted(known)


def test_shards_come_to_the_same_numbers_as_one(
    run: Callable[..., int], make: Any, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    bags = [
        make([box(2 + step) for step in range(count)], name=f'drive{count}') for count in (2, 3, 4)
    ]
    first, *others = bags
    names = list(map(str, others))
    assert run(first, *names, out='whole') == 0
    assert '9 frames of 3 bags; 3 alarms' in capsys.readouterr().out
    assert run(first, *names, '--shard', '1/2', out='parts') == 0
    assert '2 of 3 bags are done' in capsys.readouterr().out
    assert not (tmp_path / 'parts' / 'summary.json').exists()
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setenv('WORLD_SIZE', '2')
    assert run(first, *names, out='parts') == 0
    assert summary(tmp_path / 'parts') == summary(tmp_path / 'whole')
    assert summary(tmp_path / 'whole')['alarms']['watched_s'] == pytest.approx(0.1 + 0.2 + 0.3)
    capsys.readouterr()
    written = (tmp_path / 'parts' / 'drive3' / 'timeline.csv').stat().st_mtime_ns
    assert run(first, *names, '--shard', '2/2', out='parts') == 0
    assert 'drive3: done already' in capsys.readouterr().out
    assert (tmp_path / 'parts' / 'drive3' / 'timeline.csv').stat().st_mtime_ns == written
    # Other parameters are another run, and a broken bag keeps none of the others back.
    cut(data_file(first), 0.0)
    more = ['-p', 'min_region_area:=5']
    assert run(first, *names, *more, '--shard', '1/1', out='parts') == 1
    said = capsys.readouterr()
    assert 'drive3: done already' not in said.out
    assert 'warning' in said.err
    assert '2 of 3 bags are done' in said.out


def test_what_was_left_out_is_no_success_the_second_time_either(
    run: Callable[..., int], make: Any, capsys: Any
) -> None:
    whole, bad = (make([box()] * 4, name=name) for name in ('whole', 'bad'))
    metadata = (bad / 'metadata.yaml').read_bytes()
    (bad / 'metadata.yaml').unlink()
    for line in ('bad: ', 'bad: done already'):
        assert run(whole, str(bad), out='many') == 1
        said = capsys.readouterr()
        assert line in said.out
        assert 'warning: the bag is not whole: there is no metadata.yaml' in said.err
    (bad / 'metadata.yaml').write_bytes(metadata)
    assert run(whole, str(bad), out='many') == 0
    said = capsys.readouterr()
    assert 'whole: done already' in said.out
    assert 'bad: done already' not in said.out


def test_what_could_not_be_used_is_no_bag_that_is_done_and_is_counted(
    run: Callable[..., int], make: Any, tmp_path: Path, capsys: Any
) -> None:
    for name, broken in (('some', (1, 2, 4)), ('all', range(5))):
        with BagWriter(tmp_path / name) as bag:
            bag.add_topic('/image', COMPRESSED_IMAGE)
            picture = cv2.imencode('.png', box(2))[1].tobytes()
            for number in range(5):
                data = b'nothing' if number in broken else picture
                bag.add_compressed('/image', Stamp(number, number, 'c'), data, 'png')
    some, whole = tmp_path / 'some', make([box()] * 3, name='whole')
    for _ in range(2):
        assert run(some, str(tmp_path / 'all')) == 1
        said = capsys.readouterr().out
        assert 'all: done already' not in said
        assert '1 of 2 bags are done' in said
    assert run(some, str(whole)) == 1
    found = summary(tmp_path / 'out')
    assert (found['messages'], found['frames'], found['broken']) == (8, 5, 3)


def test_a_result_that_was_begun_anew_is_not_taken_for_the_old_whole_one(
    run: Callable[..., int], make: Any, fake_engine: Any, tmp_path: Path, capsys: Any
) -> None:
    bags = [make([box()] * 4, name=name) for name in ('a', 'b')]
    names = (bags[0], str(bags[1]))
    assert run(*names) == 0
    (tmp_path / 'out' / 'b' / '.labelled_of_a_killed_run').mkdir()
    infer = fake_engine.infer

    def killed_at_the_first_frame(image: NDArray[np.uint8]) -> Any:
        if image.any():  # not that of the warm-up
            raise MemoryError
        return infer(image)

    fake_engine.infer = killed_at_the_first_frame
    assert run(*names, '-p', 'threshold:=0.5') == 1
    fake_engine.infer = infer
    assert not (tmp_path / 'out' / 'summary.json').exists()
    assert not (tmp_path / 'out' / 'a' / 'summary.json').exists()
    capsys.readouterr()
    assert run(*names) == 0
    said = capsys.readouterr().out
    assert 'a: done already' not in said
    assert 'b: done already' in said
    assert len(timeline(tmp_path / 'out' / 'a')) == 4
    assert run(*names, '-p', 'threshold:=0.5') == 0
    assert not list((tmp_path / 'out' / 'b').glob('.labelled_*'))


def test_results_never_go_into_the_recording(
    run: Callable[..., int], make: Any, tmp_path: Path, capsys: Any
) -> None:
    bag = make([box()])
    assert run(bag, out=bag.name) == 2
    assert 'lies where the new one goes; choose another --out' in capsys.readouterr().err
    assert not (bag / 'summary.json').exists()


def test_another_fit_or_ignore_mask_is_another_run(
    fake_checkpoint: Path, make_fake_engine: Callable[..., Any], tmp_path: Path
) -> None:
    checkpoint, engine = Checkpoint.open(fake_checkpoint), make_fake_engine()
    mask = np.zeros((24, 32), np.uint8)
    write_image(tmp_path / 'own.png', mask)
    plain = Plan((), NodeConfig(), None)
    masked = Plan((), NodeConfig(ignore_mask=str(tmp_path / 'own.png')), None)
    fit = FrameFit(
        method='dfkde', threshold=1.0, false_alarms=5.0, fitted_on='a', frames=9,
        threshold_on='b', commit='c',
    )  # fmt: skip
    judged = checkpoint.in_memory(replace(checkpoint.meta, frame=fit))
    moved = checkpoint.in_memory(
        replace(judged.meta, frame_cameras={'': FrameShift((0.5,), 3.0, 10, 'camera')})
    )
    keys = [plain.key(each, engine) for each in (checkpoint, judged, moved)]
    keys.append(masked.key(checkpoint, engine))
    keys.append(Plan((), NodeConfig(), None, 'front').key(checkpoint, engine))
    mask[:4] = 255
    write_image(tmp_path / 'own.png', mask)
    keys.append(masked.key(checkpoint, engine))
    score = engine.score_name
    for changed in (
        {'thresholds': {score: 0.75}},
        {'calibrations': {score: Calibration.fit(np.linspace(0, 9, 100))}},
    ):
        other = checkpoint.in_memory(replace(checkpoint.meta, **changed))
        keys.append(plain.key(other, engine))
    halves = make_fake_engine()
    halves.precision = 'fp16'
    keys.append(plain.key(checkpoint, halves))
    assert len(set(keys)) == len(keys)
    assert plain.key(checkpoint, engine) == keys[0]


def test_what_many_bags_do_not_take(
    run: Callable[..., int], make: Any, tmp_path: Path, capsys: Any
) -> None:
    bag = make([box()])
    assert run(bag, str(bag)) == 2
    assert "two bags are called 'in', and so would be their results" in capsys.readouterr().err
    other = str(make([box()], name='other'))
    assert run(bag, other, '--labels', str(tmp_path)) == 2
    assert '--labels goes with one bag' in capsys.readouterr().err
