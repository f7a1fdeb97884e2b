from pathlib import Path

import cv2
import numpy as np
import pytest

from anomaly_seg_ros.frames.images import write_image
from training.datasets import build_dataset
from training.feeding import camera
from training.feeding.camera import change_camera, CHANGES
from training.feeding.loading import AugmentedFrames
from training.feeding.transforms import Augmentation


def store(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image)


def street(height: int = 64, width: int = 96) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[:, width // 2 :] = (200, 120, 40)
    return image


@pytest.mark.parametrize('change', CHANGES, ids=lambda change: change.__name__)
def test_every_change_leaves_a_frame_and_follows_its_generator(change) -> None:
    image = street()
    first, again, other = (change(image, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first.shape == image.shape
    assert first.dtype == np.uint8
    assert (first == again).all()
    assert (first != other).any()
    assert (image == street()).all()


def test_changes_come_as_often_as_asked() -> None:
    image, rng = street(), np.random.default_rng(0)
    assert change_camera(image, 0.0, rng) is image
    assert rng.random() == np.random.default_rng(0).random()  # older recipes draw as before
    changed = sum((change_camera(image, 0.2, rng) != image).any() for _ in range(400)) / 400
    assert abs(changed - (1 - 0.8 ** len(CHANGES))) < 0.08


def test_haze_gamma_and_white_balance_are_what_their_formulas_say(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    for name, limits in (('HAZE', (0.25, 0.25)), ('HAZE_GREY', (160, 160))):
        monkeypatch.setattr(camera, name, limits)
    assert camera.haze(street(), rng)[0, -1].tolist() == [190, 130, 70]  # 0.75 v + 40
    monkeypatch.setattr(camera, 'GAMMA', (2.0, 2.0))
    assert camera.gamma(street(), rng)[0, -1].tolist() == [157, 56, 6]  # 255 (v / 255)^2
    monkeypatch.setattr(camera, 'GAIN', (1.5, 1.5))
    assert camera.white_balance(street(), rng)[0, -1].tolist() == [255, 180, 60]


def test_sharpness_noise_and_jpeg_change_what_they_are_named_after(monkeypatch) -> None:
    edge = slice(44, 52)
    for seed in range(6):  # both ways to lose sharpness
        soft = camera.less_sharp(street(), np.random.default_rng(seed))
        assert np.abs(np.diff(soft[32, edge, 0].astype(int))).max() < 200
        assert (soft[:, :30] == 0).all()
    monkeypatch.setattr(camera, 'NOISE', (5.0, 5.0))
    grey = np.full((200, 200, 3), 128, np.uint8)
    grain = camera.noise(grey, np.random.default_rng(0)).astype(int) - 128
    assert abs(grain.std() - 5) < 0.1
    assert abs(grain.mean()) < 0.1
    monkeypatch.setattr(camera, 'JPEG', (90, 90))
    stored = cv2.imencode('.jpg', street()[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 90))[1]
    expected = cv2.imdecode(stored, cv2.IMREAD_COLOR)[..., ::-1]
    assert (camera.jpeg(street(), np.random.default_rng(0)) == expected).all()


def test_training_frames_are_changed_behind_all_else(tmp_path: Path) -> None:
    for part, image in (('train', street()), ('trainannot', street()[..., 0] // 200)):
        store(tmp_path / part / 'a.png', image)
    frames = build_dataset('camvid', tmp_path, 'train')
    plain = Augmentation((64, 96), (1.0, 1.0), flip=0, color=0)
    same = AugmentedFrames(frames, plain, 0)[0, 0]
    changed = AugmentedFrames(frames, plain, 0, camera_changes=1.0)[0, 0]
    assert not isinstance(same, Exception)
    assert not isinstance(changed, Exception)
    assert (same.images.permute(1, 2, 0).numpy() == street()).all()
    assert (changed.images != same.images).any()
    assert (changed.labels == same.labels).all()
