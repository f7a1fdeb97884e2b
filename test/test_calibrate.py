"""`~/calibrate`: the next frames are ordinary, and the file that keeps what they gave."""

from __future__ import annotations

from collections.abc import Callable
import errno
import json
from pathlib import Path
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pytest

from anomaly_seg_ros.calibration import Calibration
from anomaly_seg_ros.checkpoint.calibrated import CalibratedOn, CameraCalibration
from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.frame_fit import FrameShift
from anomaly_seg_ros.frames.images import write_image
from anomaly_seg_ros.frames.pipeline import build_pipeline
from anomaly_seg_ros.node import live_calibration, topics
from anomaly_seg_ros.node.calibration_file import camera_checkpoint, keep
from anomaly_seg_ros.node.live_calibration import LiveCalibration, said

BEFORE = Calibration.fit(np.linspace(-5, 5, 1001))
OWN = CameraCalibration(BEFORE, 0.98, CalibratedOn('/image', 'live', 9, 'abc', 0.02, (0.01, 0.04)))


def ordinary(number: int) -> NDArray[np.uint8]:
    """A frame of the fake engine, whose score is the green value: 0..100 where 255 is odd."""
    image = np.random.default_rng(number).integers(0, 100, (24, 32, 3), np.uint8)
    image[0, 0, 2] = number
    return image


def score(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return (image[..., 1] / np.float32(25.5) - 5).astype(np.float32)


# Without ROS


def test_the_last_frame_gives_the_calibration() -> None:
    work = LiveCalibration(10)
    taken = [work.take(ordinary(i), score(ordinary(i))) for i in range(10)]
    assert taken == [False] * 9 + [True]
    fit = work.fit(0.9, BEFORE)
    assert fit.normal.promise.share == pytest.approx(0.1, abs=0.02)
    assert fit.before is not None
    assert fit.before.share == 0
    assert said(fit, 0.9).startswith(
        'calibrated on 10 of 10 frames; share of pixels above the threshold: before 0.00 %'
    )


def test_unfit_frames_are_refused_as_soon_as_they_are_too_many() -> None:
    work = LiveCalibration(20)
    black = [np.full((24, 32, 3), grey, np.uint8) for grey in range(1, 6)]
    for image in black[:4]:
        assert not work.take(image, score(image))
    with pytest.raises(ValueError, match='5 of 5 frames are unfit, the last is black: is the'):
        work.take(black[4], score(black[4]))


def test_a_camera_that_stands_still_is_refused() -> None:
    work = LiveCalibration(10)
    image = ordinary(1)
    for _ in range(10):
        work.take(image, score(image))
    with pytest.raises(ValueError, match=r'1 of 10 frames are fit.*same image as frame 0'):
        work.fit(0.9, BEFORE)


def test_frames_of_which_many_differ_are_refused() -> None:
    work = LiveCalibration(20)
    for number in range(20):
        image = ordinary(number)
        work.take(image, score(image) + (8 if number % 4 == 0 else 0))
    with pytest.raises(ValueError, match='5 of 20 frames score unlike the others'):
        work.fit(0.99, BEFORE)


def test_the_file_holds_cameras_and_scores_apart(fake_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint, file = Checkpoint.open(fake_checkpoint), str(tmp_path / 'new' / 'kept.json')
    assert camera_checkpoint(checkpoint, 'front', 'max_logit', file) == (checkpoint, '')
    keep(checkpoint, 'front', 'max_logit', OWN, file)
    keep(checkpoint, 'left', 'max_logit', OWN, file)
    keep(checkpoint, 'front', 'msp', OWN, file)
    for camera in ('front', 'left'):
        own, note = camera_checkpoint(checkpoint, camera, 'max_logit', file)
        assert note == ''
        assert own.meta.thresholds['max_logit'] == 0.98
        assert own.meta.calibrated_on['max_logit'] == OWN.calibrated_on
    unknown, note = camera_checkpoint(checkpoint, '', 'max_logit', file)
    assert unknown.meta == checkpoint.meta
    assert "holds no camera '' but 'front', 'left'; call ~/calibrate once" in note
    assert camera_checkpoint(checkpoint, 'left', 'msp', file) == (checkpoint, '')
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['kept.json']


def test_the_file_of_another_network_is_left_alone(fake_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint, file = Checkpoint.open(fake_checkpoint), str(tmp_path / 'kept.json')
    keep(checkpoint, '', 'max_logit', OWN, file)
    other = checkpoint.with_meta(gamma=0.5)
    found, note = camera_checkpoint(other, '', 'max_logit', file)
    assert found.meta == other.meta
    assert 'was made with another network' in note
    assert 'call ~/calibrate anew' in note


def test_whole_frames_of_another_fit_are_left_alone(fake_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint, file = Checkpoint.open(fake_checkpoint), str(tmp_path / 'kept.json')
    shift = FrameShift((0.5, 2.0), 3.0, 10, 'the camera')
    keep(checkpoint, '', 'max_logit', OWN, file, shift)
    keep(checkpoint, 'left', 'max_logit', OWN, file)  # writes the first anew
    assert camera_checkpoint(checkpoint, '', 'max_logit', file)[0].meta.frame_shift() == shift
    content = json.loads(Path(file).read_text())
    content['cameras']['']['max_logit']['frame_weights'] = '0' * 64
    Path(file).write_text(json.dumps(content))
    found, note = camera_checkpoint(checkpoint, '', 'max_logit', file)
    assert found.meta.frame_shift() is None
    assert found.meta.thresholds['max_logit'] == 0.98
    assert 'whole frames was found with another fit' in note


@pytest.mark.parametrize(
    'content',
    ['', '[]', '{"format": 2, "cameras": {}}', '{"format": 1}',
     '{"format": 1, "cameras": {"": 3}}',
     '{"format": 1, "cameras": {"": {"max_logit": {"key": "a", "levels": [1, 0]}}}}',
     '{"format": 1, "cameras": {"": {"max_logit": {"levels": [0, 1]}}}}'],
)  # fmt: skip
def test_a_broken_file_is_one_clear_error(
    content: str, fake_checkpoint: Path, tmp_path: Path
) -> None:
    file = tmp_path / 'kept.json'
    file.write_text(content)
    with pytest.raises(ValueError, match=r'cannot use calibration_file .*remove it and call'):
        camera_checkpoint(Checkpoint.open(fake_checkpoint), '', 'max_logit', str(file))


def test_a_file_that_cannot_be_read_is_one_clear_error(
    fake_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint.open(fake_checkpoint)
    said = f'cannot use calibration_file {str(tmp_path)!r}: is a directory; give a file'
    with pytest.raises(ValueError, match=re.escape(said)):
        camera_checkpoint(checkpoint, '', 'max_logit', str(tmp_path))
    with pytest.raises(ValueError, match=re.escape(said)):
        keep(checkpoint, '', 'max_logit', OWN, str(tmp_path))

    def refuse(self: Path) -> bool:
        raise PermissionError(errno.EACCES, 'Permission denied', str(self))

    monkeypatch.setattr(Path, 'exists', refuse)  # root may read everything
    with pytest.raises(ValueError, match="calibration_file '/kept': permission denied; change"):
        camera_checkpoint(checkpoint, '', 'max_logit', '/kept')


def test_a_camera_of_the_checkpoint_comes_before_the_common_calibration(
    fake_checkpoint: Path,
) -> None:
    checkpoint = Checkpoint.open(fake_checkpoint).with_meta(cameras={'left': {'max_logit': OWN}})
    left, _ = camera_checkpoint(checkpoint, 'left', 'max_logit', '')
    front, _ = camera_checkpoint(checkpoint, 'front', 'max_logit', '')
    assert left.meta.thresholds['max_logit'] == 0.98
    assert front.meta.thresholds == checkpoint.meta.thresholds


# The service


class Caller:
    """Somebody who calls the service."""

    def __init__(self, rig: Any, camera: str = ''):
        from std_srvs.srv import Trigger

        self.rig = rig
        name = rig.name(topics.of_camera(topics.CALIBRATE, camera))
        self.client = rig.user.create_client(Trigger, name)
        rig.spin_until(self.client.service_is_ready, 'the service')
        self.request = Trigger.Request()

    def call(self) -> Any:
        return self.client.call_async(self.request)

    def answer(self, future: Any) -> Any:
        self.rig.spin_until(future.done, 'the answer')
        return future.result()


@pytest.mark.ros
@pytest.mark.timeout(180)
def test_the_next_frames_calibrate_the_node_and_outlive_it(
    rig: Any, image_message: Callable[..., Any], tmp_path: Path
) -> None:
    from rclpy.lifecycle import TransitionCallbackReturn
    from std_msgs.msg import String
    from std_srvs.srv import Trigger

    file = tmp_path / 'kept.json'
    before = list(Checkpoint.open(rig.checkpoint).meta.calibrations['max_logit'].levels)
    node = rig.activate(
        calibration_file=str(file),
        calibration_frames=10,
        idle_without_listeners=True,
        snapshot_dir=str(tmp_path / 'shots'),
    )
    rig.listen(topics.LABEL_INFO_JSON, kind=String, latched=True)
    caller = Caller(rig)
    future = caller.call()
    rig.spin_until(lambda: node.cameras[0].calibrator.at_work, 'it to begin')
    # Nobody listens to a mask, and the images are taken all the same.
    rig.connect()
    refused = caller.answer(caller.call())
    assert not refused.success
    assert 'it is at work already, 0 of 10 frames' in refused.message
    for number in range(10):
        rig.send(image_message(ordinary(number)))
        rig.settle()
    answer = caller.answer(future)
    assert answer.success, answer.message
    assert 'calibrated on 10 of 10 frames' in answer.message
    assert f'kept in {str(file)!r}' in answer.message

    heard = rig.heard[topics.LABEL_INFO_JSON]
    rig.spin_until(lambda: len(heard) > 1, 'the new label info')
    info = json.loads(heard[-1].data)['score']
    assert info['threshold'] == 0.9
    assert info['calibration']['raw_scores'][-1] == pytest.approx(99 / 25.5 - 5, abs=1e-3)
    assert info['calibrated_on']['frames'] == 10
    low, high = info['calibrated_on']['interval']
    assert low < info['calibrated_on']['share'] < high
    # Nodes of a camera each may share the file: it is called by the node's namespace.
    assert list(json.loads(file.read_text())['cameras']) == [node.get_namespace().strip('/')]

    # The last frame was marked by the calibration before, and so it is once more.
    snapshots = rig.user.create_client(Trigger, rig.name(topics.SNAPSHOT))
    rig.spin_until(snapshots.service_is_ready, 'the service')
    future = snapshots.call_async(Trigger.Request())
    rig.spin_until(future.done, 'the snapshot')
    (shot,) = (tmp_path / 'shots').iterdir()
    assert json.loads((shot / 'snapshot.json').read_text())['calibration'] == before

    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    rig.spin_until(lambda: len(heard) > 2, 'the label info of the next start')
    again = json.loads(heard[-1].data)['score']
    assert again['calibration'] == info['calibration']


@pytest.mark.ros
@pytest.mark.timeout(180)
def test_it_says_why_it_does_not_calibrate(
    rig: Any,
    image_message: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = rig.start(calibration_frames=10, calibration_file=str(tmp_path / 'kept.json'))
    caller = Caller(rig)
    answer = caller.answer(caller.call())
    assert (answer.success, answer.message) == (False, 'the node is not active, so no frame comes')

    node.trigger_configure()
    node.trigger_activate()
    rig.connect()
    before = node.cameras[0].calibrator
    future = caller.call()
    rig.spin_until(lambda: before.at_work, 'it to begin')
    for grey in range(1, 4):
        rig.send(image_message(np.full((24, 32, 3), grey, np.uint8)))
        rig.settle()
    answer = caller.answer(future)
    assert not answer.success
    assert '3 of 3 frames are unfit, the last is black: is the lens covered?' in answer.message
    assert not (tmp_path / 'kept.json').exists()

    monkeypatch.setattr(live_calibration, 'PATIENCE_S', 0.5)
    answer = caller.answer(caller.call())
    assert not answer.success
    assert answer.message.endswith('after 0 of 10 frames')

    monkeypatch.setattr(live_calibration, 'PATIENCE_S', 60.0)
    future = caller.call()
    rig.spin_until(lambda: before.at_work, 'it to begin')
    node.trigger_deactivate()
    assert 'the node is not active any more' in caller.answer(future).message


@pytest.mark.ros
@pytest.mark.timeout(180)
def test_a_pause_ends_it_and_keeps_it_from_beginning(rig: Any) -> None:
    from std_srvs.srv import SetBool

    node = rig.activate(cameras=['front', 'left'])
    enable = rig.user.create_client(SetBool, rig.name('~/front/enable'))
    rig.spin_until(enable.service_is_ready, 'the service')
    front, left = node.cameras
    caller, other = Caller(rig, 'front'), Caller(rig, 'left')
    future, its = caller.call(), other.call()
    rig.spin_until(lambda: front.calibrator.at_work and left.calibrator.at_work, 'both to begin')
    paused = enable.call_async(SetBool.Request(data=False))
    rig.spin_until(paused.done, 'the pause')
    said = 'paused by ~/enable, so no frame comes; call that with true, then ~/calibrate'
    for answer in (caller.answer(future), caller.answer(caller.call())):
        assert (answer.success, answer.message) == (False, f'front: {said}')
    assert not its.done()
    again = enable.call_async(SetBool.Request(data=True))
    rig.spin_until(again.done, 'the end of the pause')
    caller.call()
    rig.spin_until(lambda: front.calibrator.at_work, 'it to begin')


@pytest.mark.ros
@pytest.mark.timeout(180)
def test_what_cannot_be_kept_is_in_force_and_said(
    rig: Any, image_message: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / 'file').write_text('no folder')
    node = rig.start(
        cameras=('front', 'left'),
        calibration_frames=10,
        calibration_file=str(tmp_path / 'file' / 'kept.json'),
    )
    node.trigger_configure()
    node.trigger_activate()
    rig.connect(topic=rig.name('front/image'))
    caller = Caller(rig, 'front')
    future = caller.call()
    front, left = node.cameras
    rig.spin_until(lambda: front.calibrator.at_work, 'it to begin')
    assert not left.calibrator.at_work
    for number in range(10):
        rig.send(image_message(ordinary(number)))
        rig.settle()
    answer = caller.answer(future)
    assert not answer.success
    assert answer.message.startswith('front: calibrated on 10 of 10 frames')
    assert 'in force until cleanup, not kept: ' in answer.message
    # Somebody has put a folder there since the start.
    (tmp_path / 'file').unlink()
    (tmp_path / 'file' / 'kept.json').mkdir(parents=True)
    future = caller.call()
    rig.spin_until(lambda: front.calibrator.at_work, 'it to begin')
    for number in range(10):
        rig.send(image_message(ordinary(number)))
        rig.settle()
    answer = caller.answer(future)
    assert 'in force until cleanup, not kept: cannot use calibration_file ' in answer.message
    assert front._checkpoint.meta.calibrations != left._checkpoint.meta.calibrations


def test_pixels_that_are_ignored_are_no_part_of_it(
    fake_engine: Any, make_fake_meta: Callable[..., Any]
) -> None:
    ignored = np.zeros((24, 32), np.bool_)
    ignored[20:] = True
    pipeline = build_pipeline(fake_engine, make_fake_meta(), ignored=ignored)
    values = score(ordinary(1))
    assert (pipeline.counted(values) == values[:20].ravel()).all()


@pytest.mark.ros
def test_what_was_calibrated_is_in_force_and_knows_the_ignored_part(
    rig: Any, image_message: Callable[..., Any], tmp_path: Path
) -> None:
    from anomaly_seg_ros.ros.frame_client import pixels

    own = np.zeros((24, 32), np.uint8)
    own[20:] = 255
    write_image(tmp_path / 'own.png', own)
    node = rig.activate(
        calibration_frames=10, ignore_mask=str(tmp_path / 'own.png'), score_encoding='mono8'
    )
    rig.connect(topics.ANOMALY_MASK)
    (before,) = rig.answer(image_message(ordinary(0)), topics.ANOMALY_MASK)
    future = Caller(rig).call()
    rig.spin_until(lambda: node.cameras[0].calibrator.at_work, 'it to begin')
    for number in range(10):
        image = ordinary(number)
        image[20:, :, 1] = 255  # the own bonnet scores highest of all
        rig.answer(image_message(image), topics.ANOMALY_MASK)
    rig.spin_until(future.done, 'answer')
    assert future.result().success, future.result().message
    levels = node.cameras[0]._checkpoint.meta.calibrations['max_logit'].levels
    assert levels[-1] == pytest.approx(99 / 25.5 - 5, abs=1e-2)
    (after,) = rig.answer(image_message(ordinary(0)), topics.ANOMALY_MASK)
    # The threshold is 0.9: a tenth of the ordinary pixels lies above it, by what a calibration is.
    shares = [float((pixels(mask)[:20] > 0).mean()) for mask in (before, after)]
    assert shares == [0, pytest.approx(0.1, abs=0.03)]
