"""The health of a camera over real DDS: good frames, noise, black, good frames again."""

from collections.abc import Callable
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pytest

pytest.importorskip('torch')
pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from std_msgs.msg import Float32, String
from std_srvs.srv import Trigger

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.frame_fit import FrameFit
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.node import topics
from anomaly_seg_ros.node.config import NodeConfig
from anomaly_seg_ros.node.label_info import label_info
from anomaly_seg_ros.node.node_pipeline import node_pipeline
from anomaly_seg_ros.whole_frame.methods import fit_method
from training.frame_level.corruptions import corrupt

Image = NDArray[np.uint8]


def good(seed: int) -> Image:
    """A smooth scene, no two alike."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(40, 200, (3, 4, 3))
    return np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)


def pooled(image: Image) -> NDArray[np.float32]:
    """What the fake engine gives of a whole frame."""
    return np.concatenate([image.mean((0, 1)), image.std((0, 1))]).astype(np.float32)


@pytest.fixture
def judging(fake_checkpoint: Path) -> None:
    """Gives the fake checkpoint a method that knows good frames."""
    values = np.stack([pooled(good(seed)) for seed in range(100)])
    method = fit_method('dfkde', values)
    threshold = 2 * float(method.raw(values).max())
    fit = FrameFit('dfkde', threshold, 5.0, 'good frames', 100, 'good frames', '')
    Checkpoint.open(fake_checkpoint).with_frame(fit, method.arrays)


@pytest.mark.usefixtures('judging')
def test_health_changes_and_recovers_while_masks_go_on(
    rig: Any,
    image_message: Callable[..., Any],
    make: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig.activate(health_frames=2)
    rig.connect(topics.ANOMALY_MASK)
    rig.listen(topics.DIAGNOSTICS, kind=DiagnosticArray)
    rig.listen(topics.REGIONS_JSON, kind=String)
    rig.listen(topics.FRAME_SCORE, kind=Float32)

    def status() -> Any:
        heard = rig.heard[topics.DIAGNOSTICS]
        heard.clear()
        name = f'{rig.namespace.lstrip("/")}/anomaly_seg: camera health'

        def found() -> list[Any]:  # other nodes of this machine are heard too
            return [s for array in heard for s in array.status if s.name == name]

        rig.spin_until(found, 'a diagnostic of the camera')
        return found()[-1]

    shown: list[Image] = []
    reasons: list[str] = []
    published: list[float] = []

    def show(images: list[Image]) -> tuple[list[tuple[bool, str]], list[float], Any]:
        regions, scores = rig.heard[topics.REGIONS_JSON], rig.heard[topics.FRAME_SCORE]
        regions.clear()
        scores.clear()
        for image in images:
            rig.answer(image_message(image), topics.ANOMALY_MASK)
        rig.spin_until(lambda: len(regions) == len(scores) == len(images), 'all outputs')
        cameras = [json.loads(text.data)['camera'] for text in regions]
        said = [(camera['fit'], camera['reason']) for camera in cameras]
        values = [score.data for score in scores]
        shown.extend(images)
        reasons.extend(reason for _, reason in said)
        published.extend(values)
        return said, values, status()

    fit, out, dark = (True, ''), (False, 'out of domain'), (False, 'dark')
    said, scores, health = show([good(seed) for seed in range(200, 203)])
    assert said == 3 * [fit]
    assert max(scores) < 0.5
    assert (health.level, health.message) == (DiagnosticStatus.OK, 'fit')

    noisy = [corrupt(good(seed), 'noise', 5, str(seed)) for seed in range(210, 213)]
    said, scores, health = show(noisy)
    assert said == [fit, out, out]
    assert min(scores) >= 0.5
    assert health.level == DiagnosticStatus.ERROR
    assert health.message.startswith('out of domain: the picture is unlike those')

    said, _, health = show([np.zeros((24, 32, 3), np.uint8)] * 3)
    assert said == 3 * [dark]
    assert health.message.startswith('dark: the picture is black')

    said, scores, health = show([good(seed) for seed in range(220, 223)])
    assert said == [dark, fit, fit]
    assert max(scores) < 0.5
    assert {v.key: v.value for v in health.values}['fit'] == 'True'

    said, _, health = show([good(230)] * 6)
    assert said == 4 * [fit] + 2 * [(False, 'frozen')]
    assert health.message.startswith('frozen: the same picture')

    # A bag of the same frames holds the same.
    monkeypatch.setattr('training.commands.bag.open_engine', lambda *args: rig.engine)
    out = tmp_path / 'out'
    command = ['bag', str(make(shown)), '--checkpoint', str(rig.checkpoint)]
    assert main([*command, '-p', 'health_frames:=2', '--out', str(out)]) == 0
    with (out / 'timeline.csv').open() as file:
        lines = list(csv.DictReader(file))
    assert [line['unfit'] for line in lines] == reasons
    assert [float(line['frame_score']) for line in lines] == pytest.approx(published, abs=1e-6)


@pytest.mark.usefixtures('judging')
def test_a_camera_that_differs_is_fit_once_it_is_calibrated(
    rig: Any, image_message: Callable[..., Any]
) -> None:
    rig.activate(health_frames=1, calibration_frames=10)
    rig.connect(topics.ANOMALY_MASK)
    rig.listen(topics.REGIONS_JSON, kind=String)
    regions = rig.heard[topics.REGIONS_JSON]

    def fit_of(images: list[Image]) -> list[bool]:
        regions.clear()
        for image in images:
            rig.answer(image_message(image), topics.ANOMALY_MASK)
        rig.spin_until(lambda: len(regions) == len(images), 'all regions')
        return [json.loads(text.data)['camera']['fit'] for text in regions]

    def tinted(seed: int) -> Image:
        return (good(seed) * np.array([1.0, 0.6, 0.2])).astype(np.uint8)

    assert fit_of([tinted(seed) for seed in range(300, 303)]) == 3 * [False]
    client = rig.user.create_client(Trigger, rig.name(topics.CALIBRATE))
    rig.spin_until(client.service_is_ready, 'the service')
    future = client.call_async(Trigger.Request())
    rig.spin_until(lambda: rig.node.cameras[0].calibrator.at_work, 'it to begin')
    for seed in range(310, 320):
        rig.answer(image_message(tinted(seed)), topics.ANOMALY_MASK)
    rig.spin_until(future.done, 'the answer')
    answer = future.result()
    assert answer.success, answer.message
    share = 'whole frames out of domain: 10 of 10 before, 0 once the others are known'
    assert share in answer.message
    assert fit_of([tinted(seed) for seed in range(320, 323)]) == 3 * [True]
    # What is out of the ordinary still is, and so are the frames of before.
    noisy = [corrupt(tinted(seed), 'noise', 5, str(seed)) for seed in range(330, 333)]
    assert fit_of([*noisy, good(340)]) == 4 * [False]


@pytest.mark.usefixtures('judging')
def test_a_frame_score_by_the_mean_asks_no_method(
    fake_checkpoint: Path, make_fake_engine: Callable[..., Any]
) -> None:
    checkpoint, engine = Checkpoint.open(fake_checkpoint), make_fake_engine()
    judges = {
        rule: node_pipeline(engine, checkpoint, NodeConfig(frame_score=rule)).judge
        for rule in ('auto', 'mean')
    }
    assert judges['auto'] is not None
    assert judges['mean'] is None
    said = {
        rule: label_info(checkpoint, engine, 0.9, NodeConfig(frame_score=rule))['frame_score']
        for rule in judges
    }
    assert said['auto']['method'] == checkpoint.meta.frame.method
    assert said['mean'] is None
