from pathlib import Path

import cv2
import numpy as np
from PIL import Image
import pytest

from anomaly_seg_ros.checkpoint.folder import Checkpoint, DEFAULT_FOLDER
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.commands import predict
from anomaly_seg_ros.frames.images import encode_image, read_image, read_pixels, write_image
from anomaly_seg_ros.frames.nearest import resize_ids

ROAD_SAMPLES = Path(__file__).resolve().parent.parent.parent / 'shared' / 'data' / 'road_samples'


def stored(path: Path) -> np.ndarray:
    return read_pixels(path, cv2.IMREAD_UNCHANGED)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    image = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)
    path = tmp_path / 'in' / 'photo.png'
    path.parent.mkdir()
    write_image(path, cv2.GaussianBlur(image, (0, 0), 5)[..., ::-1])
    return path


def test_every_output_has_the_image_size_and_type(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    saved = 'overlay,labels,score,mask'
    assert main(['predict', str(photo), '--save', saved, '--out', str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        'photo_labels.png', 'photo_mask.png', 'photo_overlay.png', 'photo_score.npy',
    ]  # fmt: skip
    labels = stored(out / 'photo_labels.png')
    mask = stored(out / 'photo_mask.png')
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
    small = resize_ids(logits.argmax(0), (120, 200))
    labels = stored(out / 'photo_labels.png')
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
        labels = [stored(tmp_path / e / path.name) for e in ('torch', 'openvino')]
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
    folder, out = photo.parent, tmp_path / 'out'
    (folder / 'broken.png').write_bytes(b'not an image')
    (folder / 'cut.jpg').write_bytes(encode_image(read_image(photo), '.jpg')[:-9])
    (folder / 'gone.png').symlink_to('nowhere.png')
    (folder / 'inner.png').mkdir()
    for name in ('._photo.png', '.hidden.png'):
        (folder / name).write_bytes(b'no data')
    photo.rename(folder / 'z.png')
    assert main(['predict', str(folder), '--out', str(out)]) == 1
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert len(lines) == 4
    for line, what in zip(
        lines,
        (
            "broken.png' as an image; is it truncated?",
            "cut.jpg' as an image; the JPEG of",
            "gone.png' is a link to 'nowhere.png', which is not there",
            "inner.png' is a folder, not an image file",
        ),
        strict=True,
    ):
        assert what in line
    assert 'overlay of 1 images' in said.out
    assert [path.name for path in out.iterdir()] == ['z_overlay.png']


def test_nothing_that_can_be_read_is_bad_input(tmp_path: Path, capsys) -> None:
    (tmp_path / 'broken.png').write_bytes(b'not an image')
    assert main(['predict', str(tmp_path), '--out', str(tmp_path / 'out')]) == 2
    assert 'none of the 1 images could be read' in capsys.readouterr().err


def test_a_full_disk_is_not_taken_for_a_broken_image(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(predict, 'save', full)
    assert main(['predict', str(photo), '--out', str(tmp_path / 'out')]) == 1
    assert 'no space left on device; make room' in capsys.readouterr().err


def test_16_bit_images_are_as_bright_as_8_bit_ones(photo: Path, tmp_path: Path, capsys) -> None:
    """Of a folder that starts with a bright image; the second, dark one is not brightened."""
    eight = read_image(photo)[..., 0]
    eight[0, 0] = 255
    for depth in ('eight', 'twelve'):
        (tmp_path / depth).mkdir()
    for name, values in (('a', eight), ('b', eight // 9)):
        write_image(tmp_path / 'eight' / f'{name}.png', values)
        write_image(tmp_path / 'twelve' / f'{name}.png', values.astype(np.uint16) << 4)
    for depth in ('eight', 'twelve'):
        arguments = ['--save', 'labels,score', '--out', str(tmp_path / 'out' / depth)]
        assert main(['predict', str(tmp_path / depth), *arguments]) == 0
    assert 'twelve: images of 16 bits, 12 of them significant' in capsys.readouterr().out
    for path in (tmp_path / 'out' / 'eight').iterdir():
        assert path.read_bytes() == (tmp_path / 'out' / 'twelve' / path.name).read_bytes()


def test_a_turned_photo_gives_upright_results(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / 'photo.jpg', exif=exif)
    out = tmp_path / 'out'
    assert main(['predict', str(tmp_path / 'photo.jpg'), '--save', 'mask', '--out', str(out)]) == 0
    assert stored(out / 'photo_mask.png').shape == (60, 40)


def test_two_images_of_one_name_are_refused(photo: Path, tmp_path: Path, capsys) -> None:
    other = tmp_path / 'other' / 'photo.png'
    other.parent.mkdir()
    other.write_bytes(photo.read_bytes())
    assert main(['predict', str(photo), str(other), '--out', str(tmp_path / 'out')]) == 2
    said = capsys.readouterr().err
    assert f"2 images are named 'photo', as '{photo}' and '{other}'" in said
    assert 'run each folder with an --out of its own' in said
    other.rename(photo.with_suffix('.jpg'))
    assert main(['predict', str(photo.parent), '--out', str(tmp_path / 'out')]) == 2
    assert "2 images are named 'photo', as" in capsys.readouterr().err


@pytest.mark.parametrize(
    ('extra', 'message'),
    [
        (
            ['--score', 'msx'],
            "unknown score 'msx'; choose one of: dense_hybrid, energy, entropy,",
        ),
        (['--score', 'void'], "score 'void' needs logits, void_logit; model 'bisenetv2' gives"),
        (['--engine', 'tensorflow'], "unknown engine 'tensorflow'; choose one of: auto"),
        (['--precision', 'fp8'], "unknown precision 'fp8'; choose one of: auto, fp16"),
        (['--save', 'logits', '--engine', 'openvino'], 'logits come from engine torch only'),
        (['--checkpoint', '/nowhere'], "no checkpoint folder '/nowhere'"),
    ],
)
def test_wrong_choices_name_the_right_ones(photo, tmp_path, capsys, extra, message) -> None:
    assert main(['predict', str(photo), '--out', str(tmp_path / 'out'), *extra]) == 2
    assert message in capsys.readouterr().err
