from pathlib import Path

import cv2
import numpy as np
import pytest

from anomaly_seg_ros.checkpoint.folder import Checkpoint, DEFAULT_FOLDER
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.frames.images import read_image

ROAD_SAMPLES = Path(__file__).resolve().parent.parent.parent / 'shared' / 'data' / 'road_samples'


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    image = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)
    path = tmp_path / 'in' / 'photo.png'
    path.parent.mkdir()
    cv2.imwrite(str(path), cv2.GaussianBlur(image, (0, 0), 5))
    return path


def test_every_output_has_the_image_size_and_type(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    saved = 'overlay,labels,score,mask'
    assert main(['predict', str(photo), '--save', saved, '--out', str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        'photo_labels.png', 'photo_mask.png', 'photo_overlay.png', 'photo_score.npy',
    ]  # fmt: skip
    labels = cv2.imread(str(out / 'photo_labels.png'), cv2.IMREAD_UNCHANGED)
    mask = cv2.imread(str(out / 'photo_mask.png'), cv2.IMREAD_UNCHANGED)
    score = np.load(out / 'photo_score.npy')
    assert labels.shape == mask.shape == score.shape == (120, 200)
    assert labels.dtype == mask.dtype == np.uint8
    assert score.dtype == np.float32
    assert labels.max() < len(Checkpoint.open(DEFAULT_FOLDER).meta.class_names)
    assert set(np.unique(mask)) <= {0, 255}
    assert read_image(out / 'photo_overlay.png').shape == (120, 200, 3)


def test_logits_come_at_network_size_in_train_id_order(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    arguments = ['predict', str(photo), '--out', str(out), '--save', 'logits,labels,score']
    assert main(arguments) == 0
    logits = np.load(out / 'photo_logits.npy')
    meta = Checkpoint.open(DEFAULT_FOLDER).meta
    assert logits.shape == (len(meta.class_names), *meta.input_size)
    assert logits.dtype == np.float32
    small = cv2.resize(logits.argmax(0).astype(np.uint8), (200, 120),
                       interpolation=cv2.INTER_NEAREST_EXACT)  # fmt: skip
    labels = cv2.imread(str(out / 'photo_labels.png'), cv2.IMREAD_UNCHANGED)
    assert (small == labels).all()
    score = np.load(out / 'photo_score.npy')
    assert score.min() >= -logits.max() - 1e-4


def test_engines_agree_on_real_frames(tmp_path: Path) -> None:
    if not ROAD_SAMPLES.is_dir():
        pytest.skip('no ../shared/data/road_samples')
    for engine in ('torch', 'openvino'):
        arguments = ['predict', str(ROAD_SAMPLES), '--engine', engine, '--precision', 'fp32']
        arguments += ['--save', 'labels,score', '--out', str(tmp_path / engine)]
        assert main(arguments) == 0
    agree, correlations = [], []
    for path in sorted((tmp_path / 'torch').glob('*_labels.png')):
        labels = [cv2.imread(str(tmp_path / e / path.name), 0) for e in ('torch', 'openvino')]
        agree.append((labels[0] == labels[1]).mean())
        name = path.name.replace('_labels.png', '_score.npy')
        scores = [np.load(tmp_path / e / name) for e in ('torch', 'openvino')]
        correlations.append(np.corrcoef(scores[0].ravel(), scores[1].ravel())[0, 1])
    assert len(agree) == 9
    # The shipped engine holds its weights, norms folded in, in half precision.
    assert np.mean(agree) >= 0.999
    assert min(correlations) > 0.9999


def test_a_broken_image_is_named_and_the_others_are_done(
    photo: Path, tmp_path: Path, capsys
) -> None:
    (photo.parent / 'broken.png').write_bytes(b'not an image')
    out = tmp_path / 'out'
    assert main(['predict', str(photo.parent), '--out', str(out)]) == 2
    assert 'broken.png' in capsys.readouterr().err
    assert (out / 'photo_overlay.png').is_file()


def test_two_images_of_one_name_are_refused(photo: Path, tmp_path: Path, capsys) -> None:
    other = tmp_path / 'other' / 'photo.png'
    other.parent.mkdir()
    other.write_bytes(photo.read_bytes())
    assert main(['predict', str(photo), str(other), '--out', str(tmp_path / 'out')]) == 2
    assert "2 images are named 'photo'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ('extra', 'message'),
    [
        (
            ['--score', 'msx'],
            "unknown score 'msx'; choose one of: dense_hybrid, energy, entropy,",
        ),
        (['--score', 'void'], "score 'void' needs logits, void_logit; model 'bisenetv2' gives"),
        (['--engine', 'tensorflow'], "unknown engine 'tensorflow'; choose one of: auto"),
        (['--precision', 'fp8'], "unknown precision 'fp8'; choose one of: auto, fp32"),
        (['--save', 'logits', '--engine', 'openvino'], 'logits come from engine torch only'),
        (['--checkpoint', '/nowhere'], "no checkpoint folder '/nowhere'"),
    ],
)
def test_wrong_choices_name_the_right_ones(photo, tmp_path, capsys, extra, message) -> None:
    assert main(['predict', str(photo), '--out', str(tmp_path / 'out'), *extra]) == 2
    assert message in capsys.readouterr().err
