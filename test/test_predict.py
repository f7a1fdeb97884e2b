from contextlib import suppress
import csv
import errno
import json
import os
from pathlib import Path
import shutil
from typing import Any

import cv2
import numpy as np
from PIL import Image
import pytest

from anomaly_seg_ros.checkpoint.folder import Checkpoint, DEFAULT_FOLDER
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.commands import predict
from anomaly_seg_ros.frames.images import encode_image, read_image, read_pixels, write_image
from anomaly_seg_ros.frames.resizing import resize_ids
from anomaly_seg_ros.process.shards import choose_shard, Shard

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
    arguments += ['--score', 'max_logit']
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
    bare = shutil.copytree(
        DEFAULT_FOLDER, tmp_path / 'bare', ignore=shutil.ignore_patterns('engines')
    )
    for name, engine, checkpoint in (
        ('torch', 'torch', 'default'),
        ('shipped', 'openvino', 'default'),
        ('anew', 'openvino', str(bare)),
    ):
        arguments = ['predict', str(ROAD_SAMPLES), '--engine', engine, '--precision', 'fp32']
        arguments += ['--checkpoint', checkpoint, '--save', 'labels,score']
        assert main([*arguments, '--out', str(tmp_path / name)]) == 0
    # The shipped engine holds its weights, norms folded in, in half precision.
    for name, labels_agree, scores_agree in (
        ('shipped', 0.998, 0.9998),
        ('anew', 0.9998, 0.99999),
    ):
        agree, correlations = [], []
        for path in sorted((tmp_path / 'torch').glob('*_labels.png')):
            labels = [stored(tmp_path / e / path.name) for e in ('torch', name)]
            agree.append((labels[0] == labels[1]).mean())
            file = path.name.replace('_labels.png', '_score.npy')
            scores = [np.load(tmp_path / e / file) for e in ('torch', name)]
            correlations.append(np.corrcoef(scores[0].ravel(), scores[1].ravel())[0, 1])
        assert len(agree) == 9
        assert np.mean(agree) >= labels_agree, name
        assert min(correlations) > scores_agree, name


def test_a_broken_image_is_named_and_the_others_are_done(
    photo: Path, tmp_path: Path, capsys
) -> None:
    folder, out = photo.parent, tmp_path / 'out'
    (folder / 'broken.png').write_bytes(b'not an image')
    (folder / 'cut.jpg').write_bytes(encode_image(read_image(photo), '.jpg')[:-9])
    (folder / 'gone.png').symlink_to('nowhere.png')
    (folder / 'inner.png').mkdir()  # a folder, whatever its name
    for name in ('._photo.png', '.hidden.png'):
        (folder / name).write_bytes(b'no data')
    photo.rename(folder / 'z.png')
    assert main(['predict', str(folder), '--out', str(out)]) == 1
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert len(lines) == 3
    for line, what in zip(
        lines,
        (
            "broken.png' as an image; is it truncated?",
            "cut.jpg' as an image; the JPEG of",
            "gone.png' is a link to 'nowhere.png', which is not there",
        ),
        strict=True,
    ):
        assert what in line
    assert 'overlay of 1 images' in said.out
    assert [path.name for path in out.iterdir()] == ['z_overlay.png']
    # What was there of an image that is broken now would be taken for its result.
    shutil.copy(folder / 'z.png', folder / 'y.png')
    (folder / 'z.png').write_bytes(b'not an image')
    assert main(['predict', str(folder), '--out', str(out)]) == 1
    assert [path.name for path in out.iterdir()] == ['y_overlay.png']


def test_a_stopped_run_leaves_no_half_summary(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr('anomaly_seg_ros.commands.predict.predict_one', stop)
    with suppress(KeyboardInterrupt):
        main(['predict', str(photo), '--summary', '--out', str(tmp_path / 'out')])
    assert not list((tmp_path / 'out').iterdir())


def test_nothing_that_can_be_read_is_bad_input(tmp_path: Path, capsys) -> None:
    images = tmp_path / 'images'
    images.mkdir()
    (images / 'broken.png').write_bytes(b'not an image')
    assert main(['predict', str(images), '--out', str(tmp_path / 'out')]) == 2
    # Of one image one line says it all.
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert "broken.png' as an image; is it truncated?" in error
    (images / 'other.png').write_bytes(b'not an image')
    assert main(['predict', str(images), '--out', str(tmp_path / 'out')]) == 2
    assert 'none of the 2 images could be read' in capsys.readouterr().err


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
            "unknown score 'msx'; choose one of: cdnp, dense_hybrid,",
        ),
        (['--score', 'void'], "score 'void' needs logits, void_logit; model 'efficientnet_l"),
        (['--score', 'rba'], 'features.last, logits, ood_logits; choose one of: cdnp, dense_'),
        (['--engine', 'tensorflow'], "unknown engine 'tensorflow'; choose one of: auto"),
        (['--precision', 'fp8'], "unknown precision 'fp8'; choose one of: auto, fp16"),
        (['--save', 'logits', '--engine', 'openvino'], 'logits come from engine torch only'),
        (['--checkpoint', '/nowhere'], "no checkpoint folder '/nowhere'"),
    ],
)
def test_wrong_choices_name_the_right_ones(photo, tmp_path, capsys, extra, message) -> None:
    assert main(['predict', str(photo), '--out', str(tmp_path / 'out'), *extra]) == 2
    assert message in capsys.readouterr().err


# At scale


@pytest.fixture
def drives(photo: Path, tmp_path: Path) -> Path:
    """Photos at three depths, two of one name, one broken, and what no one means."""
    root = tmp_path / 'drives'
    for place in ('top', 'monday/a', 'monday/b', 'tuesday/late/a', 'tuesday/late/ä b'):
        path = root / f'{place}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo.read_bytes())
    (root / 'monday' / 'c.jpg').write_bytes(b'cut')
    (root / '.cache').mkdir()
    (root / '.cache' / 'z.png').write_bytes(photo.read_bytes())
    return root


def summary_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def test_a_folder_is_done_at_any_depth_with_a_summary(
    drives: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = drives / 'results'  # its own results are no images of the next run
    for _ in range(2):
        arguments = ['--save', 'mask,score', '--summary', '--out', str(out)]
        assert main(['predict', str(drives), *arguments]) == 1
        assert 'mask, score, summary of 5 images; score' in capsys.readouterr().out
    found = sorted(str(path.relative_to(out)) for path in out.rglob('*_mask.png'))
    assert found == [
        'monday/a_mask.png', 'monday/b_mask.png', 'top_mask.png', 'tuesday/late/a_mask.png',
        'tuesday/late/ä b_mask.png',
    ]  # fmt: skip
    rows = summary_of(out / 'summary.csv')
    assert [Path(row['file']).name for row in rows] == [
        'top.png', 'a.png', 'b.png', 'c.jpg', 'a.png', 'ä b.png',
    ]  # fmt: skip
    assert "c.jpg' as an image" in rows[3]['problem']
    assert rows[3]['anomalous_share'] == rows[3]['regions'] == ''
    mask = stored(out / 'top_mask.png')
    assert float(rows[0]['anomalous_share']) == pytest.approx((mask > 0).mean(), abs=0.01)
    assert 0 <= float(rows[0]['frame_score']) <= 1
    assert int(rows[0]['regions']) >= (mask > 0).any()
    assert (rows[0]['height'], rows[0]['width']) == ('120', '200')


def test_a_folder_below_out_is_done_as_well(photo: Path, tmp_path: Path) -> None:
    top, other = tmp_path / 'top' / 'frames', tmp_path / 'other'
    for path in (top / 'a.png', top / 'deep' / 'b.png', other / 'c.png'):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo.read_bytes())
    jobs = predict.find_jobs([top, other], tmp_path / 'top')
    assert [job.path.name for job in jobs] == ['a.png', 'b.png', 'c.png']
    # Beside the images, results of before are known by their names.
    for name in ('a_overlay.png', 'a_mask.png', 'x_mask.png', 'deep/b_labels.png'):
        (top / name).write_bytes(photo.read_bytes())
    jobs = predict.find_jobs([top], top)
    assert [job.path.name for job in jobs] == ['a.png', 'x_mask.png', 'b.png']


def test_two_images_of_one_stem_are_refused_where_each_has_results(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / 'both'
    folder.mkdir()
    for name in ('a.png', 'a.jpg'):
        write_image(folder / name, read_image(photo))
    command = ['predict', str(folder), '--out', str(tmp_path / 'out')]
    assert main(command) == 2
    assert 'rename one, or name the images that you want' in capsys.readouterr().err
    assert main([*command, '--save', 'nothing', '--summary']) == 0
    assert len(summary_of(tmp_path / 'out' / 'summary.csv')) == 2


def test_a_folder_that_cannot_be_read_is_an_error(
    drives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    listed = os.scandir

    def refuse(path: str) -> Any:  # root may read everything
        if str(path).endswith('late'):
            raise PermissionError(errno.EACCES, 'Permission denied', str(path))
        return listed(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    assert main(['predict', str(drives), '--out', str(tmp_path / 'out')]) == 2
    assert "late': permission denied" in capsys.readouterr().err


def test_a_network_that_this_package_does_not_know_is_one_line(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(DEFAULT_FOLDER, tmp_path / 'newer'))
    meta = json.loads((folder / 'meta.json').read_text())
    (folder / 'meta.json').write_text(json.dumps({**meta, 'model': 'newer_net'}))
    command = ['predict', str(photo), '--checkpoint', str(folder), '--out', str(tmp_path / 'out')]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "unknown model 'newer_net'" in error
    assert error.count('\n') == 1


def test_parts_together_do_what_one_run_does(
    drives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ['predict', str(drives), '--save', 'nothing', '--summary', '--out']
    assert main([*arguments, str(tmp_path / 'whole')]) == 1
    parts = tmp_path / 'parts'
    statuses = [main([*arguments, str(parts), '--shard', f'{part}/3']) for part in (1, 2)]
    monkeypatch.setenv('RANK', '2')
    monkeypatch.setenv('WORLD_SIZE', '3')
    statuses.append(main([*arguments, str(parts)]))
    assert sorted(statuses) == [0, 0, 1]
    names = sorted(path.name for path in parts.iterdir())
    assert names == [f'summary-{part}-of-3.csv' for part in (1, 2, 3)]
    rows = [row for name in names for row in summary_of(parts / name)]
    whole = summary_of(tmp_path / 'whole' / 'summary.csv')
    assert sorted(map(str, rows)) == sorted(map(str, whole))


@pytest.mark.parametrize('text', ['0/3', '4/3', '3', '1/0', 'a/b', '-1/3'])
def test_a_part_that_is_none_is_refused(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    command = ['predict', str(photo), f'--shard={text}', '--out', str(tmp_path / 'out')]
    assert main(command) == 2
    assert f'shard {text!r} is not of the form K/N' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('environ', 'shard'),
    [
        ({'SLURM_ARRAY_TASK_ID': '7', 'SLURM_ARRAY_TASK_MIN': '5', 'SLURM_ARRAY_TASK_COUNT': '4'},
         Shard(3, 4)),
        ({'JOB_COMPLETION_INDEX': '0', 'JOB_COMPLETIONS': '9'}, Shard(1, 9)),
        ({'JOB_COMPLETION_INDEX': '0'}, Shard(1, 1)),
        ({'RANK': '3', 'WORLD_SIZE': '4'}, Shard(4, 4)),
    ],
)  # fmt: skip
def test_what_starts_many_processes_names_the_part(environ: dict[str, str], shard: Shard) -> None:
    assert choose_shard(None, environ) == shard
    assert choose_shard('1/2', environ) == Shard(1, 2)


def test_a_part_that_the_environment_cannot_mean_is_refused() -> None:
    with pytest.raises(ValueError, match="SLURM_ARRAY_TASK_ID is '9' and SLURM_ARRAY_TASK_COUNT"):
        choose_shard(None, {'SLURM_ARRAY_TASK_ID': '9', 'SLURM_ARRAY_TASK_COUNT': '4'})
    with pytest.raises(ValueError, match=r'RANK is None and WORLD_SIZE is .*--shard K/N'):
        choose_shard(None, {'WORLD_SIZE': '4'})


def test_what_leaves_nothing_to_do_is_refused(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / 'out')
    assert main(['predict', str(photo), '--save', 'nothing', '--out', out]) == 2
    assert '--summary to be made; give it too' in capsys.readouterr().err
    assert main(['predict', str(photo), '--camera', 'front', '--out', out]) == 2
    assert "no camera 'front'; it has none" in capsys.readouterr().err
