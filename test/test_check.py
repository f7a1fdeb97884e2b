"""`check`: a whole set passes in silence, and of each damaged one the damage is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
import re
import shutil
from typing import Any

import cv2
import numpy as np
from PIL import Image
import pytest

from anomaly_seg_ros.cli import main
from anomaly_seg_ros.frames.images import write_image

HEIGHT, WIDTH = 144, 192
CLASSES = """classes:
- {name: road, id: 7}
- {name: vehicle, id: [26, 27], dynamic: true}
- {name: sky, id: 3}
void: [255]
"""
FRAMES = [f'{index:02d}' for index in range(15)]


def photo(index: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """A picture like no other of these."""
    random = np.random.default_rng(index)
    coarse = random.integers(0, 256, (6, 8, 3), np.uint8)
    picture = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(picture, np.uint8)


def labels(index: int) -> np.ndarray:
    ids = np.full((HEIGHT, WIDTH), 7, np.uint8)
    ids[: 50 + index] = 3
    ids[80:110, 20 + index : 70] = 26 + index % 2
    ids[-8:] = 255
    return ids


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 15 frames with nothing wrong."""
    root = tmp_path_factory.mktemp('own') / 'whole'
    for folder in ('images', 'labels'):
        (root / folder).mkdir(parents=True)
    for index, name in enumerate(FRAMES):
        write_image(root / 'images' / f'{name}.jpg', photo(index))
        write_image(root / 'labels' / f'{name}.png', labels(index))
    (root / 'classes.yaml').write_text(CLASSES)
    return root


def check(root: Path, capsys: Any, *more: str) -> tuple[int, str]:
    status = main(['check', '--dataset', 'classes', '--root', str(root), *more])
    return status, capsys.readouterr().out


def image(root: Path, name: str = '04') -> Path:
    return root / 'images' / f'{name}.jpg'


def label(root: Path, name: str = '04') -> Path:
    return root / 'labels' / f'{name}.png'


def edit(root: Path, old: str, new: str) -> None:
    path = root / 'classes.yaml'
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def relabel(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for index, name in enumerate(FRAMES):
        write_image(label(root, name), change(labels(index)))


def cut(path: Path, share: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def turn(path: Path, how: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = how
    Image.open(path).save(path, exif=exif)


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to('gone.jpg')


def as_16_bits(root: Path, name: str, bits: int) -> None:
    image(root, name).unlink()
    values = photo(int(name)).astype(np.uint16) << (bits - 8)
    write_image(root / 'images' / f'{name}.png', values)


def smooth(root: Path) -> None:
    relabel(root, lambda ids: cv2.resize(ids[::3, ::3], (WIDTH, HEIGHT)))


def swap(root: Path) -> None:
    (root / 'images').rename(root / 'x')
    (root / 'labels').rename(root / 'images')
    (root / 'x').rename(root / 'labels')
    shutil.copytree(root / 'images', root / 'labels', dirs_exist_ok=True)
    for path in (root / 'labels').glob('*.jpg'):
        path.unlink()


def lists(root: Path, train: str, val: str) -> None:
    (root / 'train.txt').write_text(train)
    (root / 'val.txt').write_text(val)


def copy_frame(root: Path, one: str, other: str, quality: int = 95) -> None:
    """Saves a picture once more, as another frame with its own truth."""
    data = cv2.imencode('.jpg', photo(int(one))[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    image(root, other).write_bytes(data[1].tobytes())
    shutil.copy(label(root, one), label(root, other))


def drives(root: Path) -> None:
    for folder in ('images', 'labels'):
        for index, name in enumerate(FRAMES):
            (root / folder / f'drive{index % 2}').mkdir(exist_ok=True)
            (path,) = (root / folder).glob(f'{name}.*')
            path.rename(root / folder / f'drive{index % 2}' / path.name)
    lists(root, 'drive0/00\ndrive1/01\n', 'drive0/02\ndrive1/03\n')


def only(root: Path, *names: str) -> None:
    for name in set(FRAMES) - set(names):
        image(root, name).unlink()
        label(root, name).unlink()


# name: what is done, exit status, what must be said
DAMAGES: dict[str, tuple[Callable[[Path], Any], int, str]] = {
    'no classes.yaml': (
        lambda root: (root / 'classes.yaml').unlink(), 1,
        r'with their names classes.yaml is: classes: \[\{name: ..., id: 3\}, \{name: ..., id: 7\}',
    ),
    'no YAML': (lambda root: edit(root, 'void: [', 'void: [['), 1, 'is not valid YAML'),
    'unknown key': (
        lambda root: edit(root, 'void:', 'viod:'), 1, "unknown key 'viod' .* did you mean 'void'",
    ),
    'id twice': (
        lambda root: edit(root, 'id: 3}', 'id: 7}'), 1, "id 7 means both 'road' and 'sky'",
    ),
    'id without a meaning': (
        lambda root: edit(root, '[26, 27]', '[26]'), 1,
        r'id 27 has no meaning: \d.\d\d% of the pixels in 7 frames, the first .*01.png.*; in '
        r'classes.yaml add - \{name: ..., id: 27\}, or void: \[255, 27\]',
    ),
    'void without a meaning': (
        lambda root: edit(root, 'void: [255]', 'void: []'), 1, 'id 255 has no meaning',
    ),
    'labels in colour': (
        lambda root: write_image(label(root), photo(3)), 1,
        '1 label files cannot be read, the first: .*04.png. is a colour picture, not label ids',
    ),
    'smoothed labels': (
        smooth, 1, r'11 ids have no meaning, from 4 to 172: .* smoothed or resized as pictures',
    ),
    'labels in JPEG': (
        lambda root: label(root).rename(label(root).with_suffix('.jpg')), 1,
        '1 label files are JPEG, which changes ids and colours, .* export them as PNG',
    ),
    'cut image': (
        lambda root: cut(image(root)), 1,
        '1 image files cannot be read, the first: .*04.jpg.*is cut short.*; copy them again',
    ),
    'empty image': (
        lambda root: image(root).write_bytes(b''), 1, '1 image files cannot be read.*04.jpg',
    ),
    'cut label file': (
        lambda root: cut(label(root)), 1, '1 label files cannot be read, the first: .*04.png',
    ),
    'labels of floats': (
        lambda root: [label(root).unlink(), Image.fromarray(np.ones((HEIGHT, WIDTH), np.float32))
                      .save(label(root).with_suffix('.tif'))], 1,
        '1 label files cannot be read, the first: .*04.tif. holds float32, not label ids',
    ),
    'labels of half size': (
        lambda root: write_image(label(root), labels(4)[::2, ::2]), 1,
        r'1 label files are of another size .*\(144, 192\), its labels .* \(72, 96\); export',
    ),
    'image on its side': (
        lambda root: turn(image(root), 6), 1,
        r'1 label files are of another size .*\(192, 144\).* was turned as its Exif says',
    ),
    'image upside down': (
        lambda root: turn(image(root), 3), 0,
        '1 images are turned round or mirrored by Exif, the first .*04.jpg.*contact sheet',
    ),
    'label file alone': (
        lambda root: image(root).unlink(), 1,
        '1 label files have no image of the same path, the first is .*04.png.; add the image',
    ),
    'label file in another folder': (
        lambda root: [(root / 'labels/a').mkdir(), label(root).rename(root / 'labels/a/04.png')],
        1,
        r'the first is .*a/04.png.; is it that of images/04\? The paths must be the same',
    ),
    'image without label file': (
        lambda root: label(root).unlink(), 0, '1 of 15 images have no label file and are left out',
    ),
    'no label file fits': (
        lambda root: [p.rename(p.with_name(f'mask_{p.name}')) for p in
                      list((root / 'labels').iterdir())], 1, 'there is nothing to learn',
    ),
    'no labels folder': (
        lambda root: (root / 'labels').rename(root / 'masks'),
        1, "no folder '.*labels'; a set has",
    ),
    'two files of one frame': (
        lambda root: shutil.copy(image(root), root / 'images' / '04.jpeg'), 1,
        "04.jpeg' and '.*04.jpg' are of the same frame; keep one",
    ),
    'broken link': (
        lambda root: link_to_nothing(image(root)), 1, "04.jpg' is a link to 'gone.jpg', which is",
    ),
    'list of strangers': (
        lambda root: lists(root, '00\n01\n', '02\n99.jpg\n'), 1,
        "val.txt' line 2: no frame '99' with image and label",
    ),
    'frame in two lists': (
        lambda root: lists(root, '00\n01\n', '01\n'), 1, "'01' stands in train.txt too",
    ),
    'two ways to part': (
        lambda root: [lists(root, '00\n', '01\n'), edit(root, 'void', 'splits: {val: 0.3}\nvoid')],
        1, "val.txt'|train.txt' and 'splits' of classes.yaml both part the frames; delete one",
    ),
    'a drive in two lists': (
        drives, 0, 'drive images/drive0 stands in train and val: frames of one drive are alike',
    ),
    'one frame': (lambda root: only(root, '03'), 1, '1 frames cannot be dealt into train, val'),
    'few frames': (
        lambda root: only(root, '01', '02', '03', '04', '05', '06'), 0,
        '5 frames to learn from are few; 20 to 30',
    ),
    'picture in two splits': (
        lambda root: [lists(root, '00\n01\n02\n03\n05\n', '04\n'), copy_frame(root, '00', '04')],
        1,
        '1 pictures stand in two splits, the first .*00.jpg. .train. as .*04.jpg. .val.: what is',
    ),
    'picture with two truths': (
        lambda root: [copy_frame(root, '00', '04', 80), write_image(label(root), labels(7)),
                      lists(root, '\n'.join(FRAMES[:9]), '\n'.join(FRAMES[9:]))], 1,
        '1 pictures have two different truths, the first .*00.jpg. and .*04.jpg.; keep the right',
    ),
    'one truth for many pictures': (
        lambda root: shutil.copy(label(root, '00'), label(root)), 0,
        '2 different pictures have the very same labels, .*00.jpg. and .*04.jpg.; was one file',
    ),
    'class that is nowhere': (
        lambda root: edit(root, 'void', '- {name: bicycle, id: 12}\nvoid'), 1,
        "class 'bicycle' is nowhere in the labels, which hold no id 12; correct it in classes.yam",
    ),
    'mask of 0 and 255': (
        lambda root: [relabel(root, lambda ids: np.where(ids == 7, 255, 0).astype(np.uint8)),
                      (root / 'classes.yaml').write_text(
                          'classes: [{name: other, id: 0}, {name: road, id: 1}]')], 1,
        r"class 'road' is nowhere .*hold no id 1; .*\(\d+% of the pixels are void: is it one of",
    ),
    'class in val alone': (
        lambda root: [relabel(root, lambda ids: np.where(ids == 26, 7, ids)),
                      write_image(label(root), labels(4)),
                      edit(root, '[26, 27], dynamic: true}', '27}\n- {name: bus, id: 26}'),
                      lists(root, '\n'.join(FRAMES[:4]), '\n'.join(FRAMES[4:]))], 1,
        "class 'bus' is in 1 frames, but in none of train, so that it cannot be learned; part",
    ),
    'rare class': (
        lambda root: [relabel(root, lambda ids: np.where(ids > 25, 7, ids)),
                      write_image(label(root, '00'), labels(0))], 0,
        "class 'vehicle' is (rare: |in no frame of val)",
    ),
    'nothing labelled': (
        lambda root: relabel(root, lambda ids: np.full_like(ids, 255)), 1,
        r'no pixel of the 12 frames of train has a class; correct void in classes.yaml',
    ),
    'one class': (
        lambda root: [relabel(root, lambda ids: np.full_like(ids, 7)),
                      (root / 'classes.yaml').write_text('classes: [{name: road, id: 7}]')], 1,
        "all labelled pixels are 'road': with one class there is nothing to tell apart",
    ),
    'mostly unlabelled': (
        lambda root: relabel(root, lambda ids: np.concatenate([ids[40:90], np.full_like(
            ids[50:], 255)])), 0,
        r'6\d% of the pixels are unlabelled; what is there is not learned',
    ),
    'tiny image': (
        lambda root: [write_image(image(root), photo(4, (24, 32))),
                      write_image(label(root), labels(4)[::6, ::6])], 1,
        'an image has a side of 24 pixels, too few to learn from: .*04.jpg',
    ),
    'images of other shapes': (
        lambda root: [write_image(image(root), photo(4, (HEIGHT, WIDTH // 2))),
                      write_image(label(root), labels(4)[:, ::2])], 0,
        r'the shapes of the images differ, width / height 0.7 to 1.3',
    ),
    'bit depths': (
        lambda root: [as_16_bits(root, '03', 12), as_16_bits(root, '04', 16)], 0,
        'the images have 8, 12, 16 bits a value',
    ),
    'grey among colours': (
        lambda root: write_image(image(root), photo(4)[..., 0]), 0, 'some images are grey, others',
    ),
    'black image': (
        lambda root: write_image(image(root), np.zeros((HEIGHT, WIDTH, 3), np.uint8)), 0,
        '1 images are of one colour, the first .*04.jpg.; delete them',
    ),
    'images and labels swapped': (swap, 1, 'are images/ and labels/ swapped'),
}  # fmt: skip


def test_a_whole_set_passes_and_is_described(whole: Path, tmp_path: Path, capsys: Any) -> None:
    status, said = check(whole, capsys, '--out', str(tmp_path / 'out'))
    assert status == 0
    assert 'classes, 15 frames (train 12, val 3, parted by shares of frames (val 0.2, se' in said
    assert 'images    192x144; 8 bits; colour\n' in said
    assert 'labels    ids; 5.6% of the pixels unlabelled\n' in said
    assert re.search(r'road +7 +[\d.]+%  12, 3\n', said)
    assert re.search(r'vehicle +26 27 +[\d.]+%  12, 3\n', said)
    assert 'would be learned: 3 of 3 classes from 12 frames, validated on 3\n' in said
    assert '0 errors, 0 warnings' in said
    assert len(said.splitlines()) < 24
    sheet = np.asarray(Image.open(tmp_path / 'out' / 'contact_sheet.png'))
    assert sheet.shape[1] == 2400
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['contact_sheet.png']


@pytest.mark.parametrize('damage', DAMAGES)
def test_each_damage_is_named(damage: str, whole: Path, tmp_path: Path, capsys: Any) -> None:
    break_it, expected, text = DAMAGES[damage]
    root = tmp_path / 'set'
    shutil.copytree(whole, root)
    break_it(root)
    status, said = check(root, capsys)
    found = [line for line in said.splitlines() if line.startswith(('error', 'warning'))]
    assert any(re.search(text, line) for line in found), said
    assert status == expected, said
    assert len(found) <= 4, said


def test_there_are_damages_enough() -> None:
    assert len(DAMAGES) >= 25


def test_colours_without_a_meaning_are_named_as_colours(tmp_path: Path, capsys: Any) -> None:
    for folder in ('images', 'labels'):
        (tmp_path / folder).mkdir()
    for index, name in enumerate(FRAMES):
        write_image(image(tmp_path, name), photo(index))
        colors = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        colors[: 40 + index], colors[100:] = (128, 64, 128), (0, 0, 142)
        write_image(label(tmp_path, name), colors)
    text = 'classes: [{name: road, color: [128, 64, 128]}, {name: sky, color: [0, 0, 142]}]'
    (tmp_path / 'classes.yaml').write_text(text)
    status, said = check(tmp_path, capsys)
    assert status == 1
    assert 'colour [0, 0, 0] has no meaning: ' in said
    assert 'add - {name: ..., color: [0, 0, 0]}, or void: [[0, 0, 0]]' in said


def test_the_classes_may_lie_elsewhere(whole: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / 'two.yaml').write_text(
        'classes: [{name: ground, id: 7}, {name: other, id: [3, 26, 27]}]'
    )
    status, said = check(whole, capsys, '--classes', str(tmp_path / 'two.yaml'), '--split', 'val')
    assert status == 0
    assert 'ground' in said
    assert '3 frames (val 3' in said


def test_other_datasets_are_looked_at_too(camvid_root: Path, capsys: Any) -> None:
    argv = ['check', '--dataset', 'camvid', '--root', str(camvid_root)]
    assert main(argv) == 1
    said = capsys.readouterr().out
    assert 'camvid, 10 frames (train 6, val 2, test 2)' in said
    assert "class 'car' is nowhere in the labels" in said
    cut(camvid_root / 'val' / '001.png')
    assert main(argv) == 1
    assert '1 image files cannot be read, the first: ' in capsys.readouterr().out


@pytest.mark.parametrize('more', [(), ('--split', 'train')])
def test_a_frame_without_partner_is_an_error_beside_what_the_others_are(
    more: tuple[str, ...], camvid_root: Path, capsys: Any
) -> None:
    (camvid_root / 'trainannot' / '004.png').unlink()
    assert main(['check', '--dataset', 'camvid', '--root', str(camvid_root), *more]) == 1
    said = capsys.readouterr().out
    assert 'train 5' in said
    assert re.search(r"error: split 'train': 1 files of .* the first is '004'; add the", said)
    assert 'would be learned: 2 of 11 classes from 5 frames' in said


def test_a_split_that_cannot_be_opened_is_an_error(camvid_root: Path, capsys: Any) -> None:
    shutil.copy(camvid_root / 'train' / '000.png', camvid_root / 'train' / '000.jpg')
    shutil.rmtree(camvid_root / 'testannot')
    assert main(['check', '--dataset', 'camvid', '--root', str(camvid_root)]) == 1
    said = capsys.readouterr().out
    assert re.search(r"error: split 'train': .*000.* are of the same stem; keep one of them", said)
    assert re.search(r"error: split 'test': no folder .*testannot'", said)


@pytest.mark.parametrize(
    ('gone', 'text'),
    [
        ('val', r"error: split 'val': no folder .*/val'; check --root and --split"),
        ('test', r'warning: there is nothing of the splits test; with --split'),
    ],
)
def test_a_split_that_is_not_there_is_said(
    gone: str, text: str, camvid_root: Path, capsys: Any
) -> None:
    shutil.rmtree(camvid_root / gone)
    shutil.rmtree(camvid_root / f'{gone}annot')
    main(['check', '--dataset', 'camvid', '--root', str(camvid_root)])
    assert re.search(text, capsys.readouterr().out)


def pairs(root: Path, image: str, label: str, numbers: Iterable[int], ids: Sequence[int]) -> None:
    """Writes frames of a known set: pictures like no other, labels in stripes of these ids."""
    for number in numbers:
        for path in (image, label):
            (root / path.format(number)).parent.mkdir(parents=True, exist_ok=True)
        stripes = np.array(ids, np.uint8).repeat(-(-WIDTH // len(ids)))[:WIDTH]
        write_image(root / label.format(number), np.tile(stripes, (HEIGHT - number, 1)))
        write_image(root / image.format(number), photo(number, (HEIGHT - number, WIDTH)))


def test_every_split_of_a_set_is_looked_at_under_its_own_name(tmp_path: Path, capsys: Any) -> None:
    every = range(1, 14)
    for split, numbers in {'train/{}/training': (1, 2), 'train/{}/validation': (3,)}.items():
        image, label = (f'{split.format(kind)}/t1/{{}}.png' for kind in ('images', 'annotations'))
        pairs(tmp_path, image, label, numbers, every)
    pairs(tmp_path, 'test/images/test/t5/{}.png', 'test/annotations/test/t5/{}.png', (4,), every)
    argv = ['check', '--dataset', 'streethazards', '--root', str(tmp_path)]
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert '4 frames (train 2, validation 1, test 1)' in said
    assert 'would be learned: 12 of 12 classes from 2 frames, validated on 1' in said
    assert 'warning: there is nothing of the splits test_t6;' in said
    assert main([*argv, '--split', 'test_t5']) == 0
    assert '1 frames (test_t5 1)' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('dataset', 'image', 'label', 'ids', 'rows'),
    [
        ('road_anomaly', 'frames/{}.jpg', 'frames/{}.labels/labels_semantic.png', (0, 2),
         ('normal 0', 'anomaly 2')),
        ('cityscapes', 'leftImg8bit/train/a/{}_leftImg8bit.png',
         'gtFine/train/a/{}_gtFine_labelIds.png', (0, 7, 26), ('road 7', 'car 26')),
        ('cityscapes', 'leftImg8bit/val/a/{}_leftImg8bit.png',
         'gtFine/val/a/{}_gtFine_labelTrainIds.png', (0, 13), ('road 0', 'car 13')),
        ('streethazards', 'train/images/training/t1/{}.png',
         'train/annotations/training/t1/{}.png', range(1, 14), ('pedestrian 5', 'car 11')),
        ('lost_and_found', 'leftImg8bit/train/a/{}_leftImg8bit.png',
         'gtCoarse/train/a/{}_gtCoarse_labelIds.png', range(48), ('normal 1', 'anomaly 2-47')),
        ('camvid', 'val/{}.png', 'valannot/{}.png', (3, 8), ('road 3', 'car 8')),
    ],
)  # fmt: skip
def test_the_table_says_what_the_files_store(
    dataset: str, image: str, label: str, ids: Sequence[int], rows: tuple[str, ...],
    tmp_path: Path, capsys: Any,
) -> None:  # fmt: skip
    pairs(tmp_path, image, label, range(3), ids)
    main(['check', '--dataset', dataset, '--root', str(tmp_path)])
    said = capsys.readouterr().out
    for row in rows:
        name, stored = row.split()
        assert re.search(rf'\n{name} +{stored} +[\d.]+%  3\n', said), said


def test_of_ids_that_mean_the_same_those_that_occur_are_said(tmp_path: Path, capsys: Any) -> None:
    pairs(tmp_path, 'images/{}.png', 'labels_masks/{}.png', range(3), (0, 255))
    argv = ['check', '--dataset', 'folder', '--root', str(tmp_path), '--label-map', '255=1']
    assert main(argv) == 0
    assert re.search(r'anomaly +255 +50.00%  3\n', capsys.readouterr().out)
    pairs(tmp_path, 'images/{}.png', 'labels_masks/{}.png', range(3), (0, 1, 255))
    assert main(argv) == 0
    assert re.search(r'anomaly +1 255 +66.67%  3\n', capsys.readouterr().out)


def test_what_files_store_is_left_out_where_nobody_knows(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs(tmp_path, 'val/{}.png', 'valannot/{}.png', range(3), (3, 8))
    monkeypatch.setattr('training.datasets.camvid.CamVid.class_ids', {})
    main(['check', '--dataset', 'camvid', '--root', str(tmp_path)])
    said = capsys.readouterr().out
    assert 'stored as' not in said
    assert re.search(r'\nclass +pixels  frames: val\nroad +50.00%  3\n', said)


def test_tiny_frames_can_be_evaluated_on(tmp_path: Path, capsys: Any) -> None:
    pairs(tmp_path, 'images/{}.png', 'labels_masks/{}.png', range(2), (0, 1))
    write_image(tmp_path / 'images' / '0.png', photo(0, (24, 32)))
    write_image(tmp_path / 'labels_masks' / '0.png', np.eye(24, 32, dtype=np.uint8))
    assert main(['check', '--dataset', 'folder', '--root', str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert re.search(r'warning: an image has a side of only 24 pixels: .*0.png', said)
    assert 'learn from' not in said


def test_a_repack_without_versions_is_looked_at_too(tmp_path: Path, capsys: Any) -> None:
    pairs(tmp_path, 'Static/original/{}.png', 'Static/labels/{}.png', range(3), (0, 1))
    assert main(['check', '--dataset', 'fishyscapes', '--root', str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert '3 frames (static 3)' in said
    assert 'warning: fishyscapes static holds 3 frames, the published split has 30' in said
    assert 'nothing of the splits lost_and_found, static_v1, static_v2, static_v3;' in said


def test_labels_that_a_benchmark_keeps_are_no_table_of_zeros(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / 'images').mkdir()
    for index in range(3):
        write_image(tmp_path / 'images' / f'dog000{index}.jpg', photo(index))
    argv = ['check', '--dataset', 'road_anomaly21', '--split', 'test', '--root', str(tmp_path)]
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert 'labels    none: who made the set keeps them\n' in said
    assert 'class' not in said
    assert 'evaluated' not in said


def test_whole_frames_have_no_labels_to_complain_of(tmp_path: Path, capsys: Any) -> None:
    root = tmp_path / 'frames'
    for index in range(6):
        folder = root / ('abnormal' if index > 3 else 'normal')
        folder.mkdir(parents=True, exist_ok=True)
        write_image(folder / f'{index}.png', photo(index))
    argv = ['check', '--dataset', 'frames', '--root', str(root)]
    assert main([*argv, '--out', str(tmp_path / 'out')]) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == [
        f'{root}: frames, 6 frames (all 6)', 'images    192x144; 8 bits; colour',
        'labels    none: whole frames', '0 errors, 0 warnings',
    ]  # fmt: skip
    sheet = np.asarray(Image.open(tmp_path / 'out' / 'contact_sheet.png'))
    assert sheet.shape[:2] == (2 * (225 + 18), 4 * 300)
    shutil.copy(root / 'normal' / '0.png', root / 'normal' / '9.png')
    assert main(argv) == 0
    assert 'warning: 1 pictures stand twice in a split, the first ' in capsys.readouterr().out
    cut(root / 'normal' / '1.png')
    write_image(root / 'normal' / '2.png', photo(2, (24, 32)))
    assert main(argv) == 1
    said = capsys.readouterr().out
    assert 'error: 1 image files cannot be read, the first: ' in said
    assert 'error: an image has a side of 24 pixels, too few to learn from: ' in said


def test_images_are_read_as_the_set_itself_reads_them(tmp_path: Path, capsys: Any) -> None:
    """Fishyscapes Static comes as overlays upon images of Cityscapes."""
    for index in range(3):
        city = f'lindau_{index:06d}_000019'
        base = tmp_path / 'leftImg8bit' / 'val' / 'lindau' / f'{city}_leftImg8bit.png'
        overlay = tmp_path / 'fs_val_v1' / f'{index:04d}_{city}_rgb.npz'
        for path in (base, overlay):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_image(base, photo(index))
        np.savez(overlay, rgb=np.full((HEIGHT, WIDTH, 3), 5, np.int16))
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[: 20 + index] = 1
        write_image(overlay.with_name(f'{index:04d}_{city}_labels.png'), mask)
    argv = ['check', '--dataset', 'fishyscapes', '--split', 'static_v1', '--root', str(tmp_path)]
    assert main([*argv, '--out', str(tmp_path / 'out')]) == 0
    said = capsys.readouterr().out
    assert 'images    192x144; 8 bits; colour\n' in said
    assert re.search(r'anomaly +1 +14.58%  3\n', said)
    assert (tmp_path / 'out' / 'contact_sheet.png').is_file()
    cut(overlay)
    assert main(argv) == 1
    said = capsys.readouterr().out
    assert re.search('error: 1 image files cannot be read, the first: .*as an archive of', said)
    base.unlink()
    np.savez(overlay, rgb=np.zeros((HEIGHT, WIDTH, 3), np.int16))
    assert main(argv) == 1
    assert 'is an overlay and needs the Cityscapes image' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('ids', 'lacks', 'more'),
    [
        ((0, 255), 'anomalous', '; if 255 marks the anomaly, add --label-map 255=1'),
        ((1, 255), 'normal', ''),
        ((0, 0), 'anomalous', ''),
    ],
)
def test_masks_that_leave_nothing_to_measure_are_said(
    ids: tuple[int, int], lacks: str, more: str, tmp_path: Path, capsys: Any
) -> None:
    pairs(tmp_path, 'images/{}.png', 'labels_masks/{}.png', range(3), ids)
    assert main(['check', '--dataset', 'folder', '--root', str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f'warning: not a single pixel of 3 frames is {lacks}: no AP, no FPR95{more}\n' in said


def test_a_set_of_known_labels_is_given_no_advice_that_it_refuses(
    tmp_path: Path, capsys: Any
) -> None:
    pairs(tmp_path, 'Static/original/{}.png', 'Static/labels/{}.png', range(3), (0, 255))
    main(['check', '--dataset', 'fishyscapes', '--root', str(tmp_path)])
    said = capsys.readouterr().out
    assert 'not a single pixel of 3 frames is anomalous: no AP, no FPR95\n' in said
    assert '--label-map' not in said


def test_anomalies_beside_classes_are_counted_and_missed(tmp_path: Path, capsys: Any) -> None:
    for kind, numbers in {'training': (1, 2), 'validation': (3,)}.items():
        paths = (f'train/{folder}/{kind}/t1/{{}}.png' for folder in ('images', 'annotations'))
        pairs(tmp_path, *paths, numbers, range(1, 13))
    test = 'test/images/test/t5/{}.png', 'test/annotations/test/t5/{}.png'
    pairs(tmp_path, *test, (4,), (*range(1, 13), 14, 14, 14, 14))
    argv = ['check', '--dataset', 'streethazards', '--root', str(tmp_path)]
    main([*argv, '--split', 'test', '--out', str(tmp_path / 'out')])
    said = capsys.readouterr().out
    assert 'labels    ids; 6.2% of the pixels unlabelled\n' in said
    assert re.search(r'\nroad +8 +6.67%  1\n', said)
    assert re.search(r'\nanomaly +14 +26.67%  1\n', said)
    sheet = np.asarray(Image.open(tmp_path / 'out' / 'contact_sheet.png'))
    painted = 0.4 * sheet[-100, 290] + 0.6 * np.array((255, 60, 0))
    assert np.abs(sheet[-100, 590] - painted).max() < 2
    main(argv)
    said = capsys.readouterr().out
    assert re.search(r'\nanomaly +14 +[\d.]+%  0, 0, 1\n', said)
    assert 'not a single pixel' not in said
    pairs(tmp_path, *test, (4,), range(1, 13))
    main(argv)
    missed = 'warning: not a single pixel of 1 frames is anomalous: no AP, no FPR95\n'
    assert missed in capsys.readouterr().out
    main([*argv, '--split', 'train:original'])
    assert 'not a single pixel' not in capsys.readouterr().out


def test_what_an_id_means_can_be_said(tmp_path: Path, capsys: Any) -> None:
    pairs(tmp_path, 'images/{}.png', 'labels_masks/{}.png', range(3), (0, 7))
    argv = ['check', '--dataset', 'folder', '--root', str(tmp_path)]
    assert main(argv) == 1
    assert 'say what it means, as --label-map 7=1' in capsys.readouterr().out
    assert main([*argv, '--label-map', '7=1']) == 0
    assert re.search(r'anomaly +7 +50.00%  3\n', capsys.readouterr().out)


@pytest.mark.parametrize(
    ('argv', 'text'),
    [
        (['camvid', '--root', 'docs'], "no folder 'docs/train'; check --root and --"),
        (['camvid', '--root', '.', '--split', 'x'], "unknown split 'x' of camvid; choose one"),
        (
            ['camvid', '--root', '.', '--label-map', '7=1'],
            "--label-map does not go with dataset '",
        ),
        (['classes', '--root', '.', '--label-map', '7=1'], '--label-map does not go with'),
        (['classes', '--root', 'nowhere'], "no folder 'nowhere'; check --root"),
        (['clases', '--root', '.'], "unknown dataset 'clases'; choose one of"),
        (['classes', '--root', '.', '--split', 'x'], "unknown split 'x' of classes; choose one"),
        (['classes', '--root', '.', '--classes', 'x'], "no file 'x'; check --classes"),
        (['camvid', '--root', '.', '--classes', 'x'], "--classes does not go with dataset 'camvi"),
    ],
)
def test_wrong_usage_is_one_line(argv: list[str], text: str, capsys: Any) -> None:
    assert main(['check', '--dataset', *argv]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count('\n') == 1
