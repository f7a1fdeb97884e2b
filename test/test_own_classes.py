"""A user's own classes: label files, what `classes.yaml` says, and how frames are parted."""

from __future__ import annotations

from collections.abc import Sequence
import logging
from pathlib import Path
import pickle
from typing import Any
import unicodedata

import numpy as np
from PIL import Image
import pytest

from anomaly_seg_ros.frames.images import write_image
from training.datasets import build_dataset
from training.datasets.classes_file import read_classes_file
from training.datasets.splits import part_frames, SplitRule

IDS = np.array([[7, 7, 26], [27, 255, 7]], np.uint16)
TRAIN_IDS = [[0, 0, 1], [1, 255, 0]]
CLASSES = 'classes: [{name: road, id: 7}, {name: vehicle, id: [26, 27]}]'
BY_COLOR = (
    'classes: [{name: road, color: [128, 64, 128]}, '
    '{name: vehicle, color: [[0, 0, 142], [0, 0, 70]]}]\nvoid: [[0, 0, 0]]'
)
COLORS = {7: (128, 64, 128), 26: (0, 0, 142), 27: (0, 0, 70), 255: (0, 0, 0)}


def picture(kind: str) -> tuple[Image.Image, str, list[list[int]]]:
    """A label image of a kind, the classes file for it, and the train ids that it means."""
    small = np.where(IDS == 255, 9, IDS % 25).astype(np.uint8)  # 7, 1, 2, 9
    in_palette = CLASSES.replace('26, 27', '1, 2') + '\nvoid: [9]'
    rgb = np.array([[COLORS[i] for i in row] for row in IDS.tolist()], np.uint8)
    palette = Image.fromarray(small)
    colors = [COLORS.get({1: 26, 2: 27, 9: 255}.get(i, i), (0, 0, 9)) for i in range(10)]
    palette.putpalette([value for color in colors for value in color])
    bits = np.array([[0, 0, 1], [1, 1, 0]], np.uint8)
    two = 'classes: [{name: ground, id: 0}, {name: grass, id: 1}]'
    return {
        '8 bits': (Image.fromarray(IDS.astype(np.uint8)), CLASSES, TRAIN_IDS),
        '16 bits': (
            Image.fromarray(np.where(IDS == 27, 40_000, IDS).astype(np.uint16)),
            CLASSES.replace('27', '40000'),
            TRAIN_IDS,
        ),
        'palette index': (palette, in_palette, TRAIN_IDS),
        'palette as colours': (palette, BY_COLOR, TRAIN_IDS),
        '1 bit': (Image.fromarray(bits * 255).convert('1'), two, bits.tolist()),
        'rgb': (Image.fromarray(rgb), BY_COLOR, TRAIN_IDS),
        'rgba': (Image.fromarray(rgb).convert('RGBA'), BY_COLOR, TRAIN_IDS),
        'grey in three channels': (
            Image.merge('RGB', [Image.fromarray(IDS.astype(np.uint8))] * 3), CLASSES, TRAIN_IDS,
        ),
    }[kind]  # fmt: skip


KINDS = (
    '8 bits', '16 bits', 'palette index', 'palette as colours', '1 bit', 'rgb', 'rgba',
    'grey in three channels',
)  # fmt: skip
CANNOT_HOLD = {('16 bits', '.bmp'), ('rgba', '.bmp')}


def write_frame(root: Path, key: str, label: Image.Image | None, suffix: str = '.png') -> None:
    """Writes an image, and its label file where there is one."""
    size = (3, 2) if label is None else label.size
    path = root / 'images' / f'{key}.jpg'
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.full((size[1], size[0], 3), 90, np.uint8))
    if label is not None:
        (root / 'labels' / key).parent.mkdir(parents=True, exist_ok=True)
        label.save(root / 'labels' / f'{key}{suffix}')


def write_set(root: Path, keys: Sequence[str], text: str = CLASSES) -> Path:
    for key in keys:
        write_frame(root, key, Image.fromarray(IDS.astype(np.uint8)))
    (root / 'classes.yaml').write_text(text, encoding='utf-8')
    return root


def keys_of(root: Path, split: str) -> list[str]:
    dataset = build_dataset('classes', root, split)
    return [str(f.image.relative_to(root / 'images').with_suffix('')) for f in dataset.frames]


@pytest.mark.parametrize(
    ('kind', 'suffix'),
    [
        (kind, suffix)
        for kind in KINDS
        for suffix in ('.png', '.tif', '.TIFF', '.bmp')
        if (kind, suffix) not in CANNOT_HOLD
    ],
)
def test_each_kind_of_label_file_means_what_the_classes_say(
    kind: str, suffix: str, tmp_path: Path
) -> None:
    label, text, meaning = picture(kind)
    write_frame(tmp_path, 'a', label, suffix)
    (tmp_path / 'classes.yaml').write_text(text)
    dataset = pickle.loads(pickle.dumps(build_dataset('classes', tmp_path, 'all')))
    assert dataset[0].labels.tolist() == meaning
    assert dataset[0].labels.dtype == np.uint8
    assert dataset[0].anomaly is None


def test_names_colours_and_dynamic_classes(tmp_path: Path) -> None:
    text = """
classes:
- {name: road, id: 0}
- {name: straße, id: 3, color: [1, 2, 3]}
- {name: cart, id: [1, 2], dynamic: true}
- {name: gate, id: 4}
void: [255, 65535]
"""
    classes = read_classes_file(write_set(tmp_path, [], text) / 'classes.yaml').classes
    assert classes.names == ('road', 'straße', 'cart', 'gate')
    assert classes.dynamic == ('cart',)
    assert classes.colors[:2] == ((128, 64, 128), (1, 2, 3))  # known by name, and given
    assert len(set(classes.colors)) == 4
    text = 'classes: [{name: a, id: 0}]'
    assert (
        read_classes_file(write_set(tmp_path, [], text) / 'classes.yaml').classes.dynamic is None
    )


@pytest.mark.parametrize(
    ('text', 'error'),
    [
        ('- road', r"the file is \['road'\]; it must be keys with values: classes, void, splits"),
        ('clases: []', r"unknown key 'clases' of the file; did you mean 'classes'\?"),
        ('void: [1]', r"'classes' must be a list, as classes: \[\{name: road, id: 7\}"),
        ('classes: [road]', "a class is 'road'; it must be keys with values: name, id, color"),
        ('classes: [{id: 1}]', 'name is None; each class needs a text'),
        ('classes: [{name: on, id: 1}]', 'name is True; each class needs a text, in quotes'),
        ('classes: [{name: a, id: 1}, {name: a, id: 2}]', "name 'a' stands there twice"),
        ('classes: [{name: a, id: 1}, {name: b}]', "class 'a' has an id and class 'b' has none"),
        ('classes: [{name: a}]', r"color of 'a' is None; it must be .*, or give the class an id"),
        ('classes: [{name: a, id: "7"}]', "id of 'a' is '7'; it must be a number from 0 to 65535"),
        ('classes: [{name: a, id: []}]', r"id of 'a' is \[\]; it must be a number"),
        ('classes: [{name: a, id: 65536}]', "id of 'a' is 65536; it must be a number"),
        ('classes: [{name: a, id: true}]', "id of 'a' is True; it must be a number"),
        (
            'classes: [{name: a, color: [1.0, 2.0, 3.0]}]',
            r'is \[1.0, 2.0, 3.0\]; it must be',
        ),
        ('classes: [{name: a, id: 1}]\nsplits: {val: 0.2, seed: .inf}', 'it must be shares, as'),
        ('classes: [{name: a, id: 1}]\nsplits: {val: .nan}', 'the shares must leave some frames'),
        ('classes: [{name: a, id: 1, color: [1, 2]}]', r"color of 'a' is \[1, 2\]; it must be"),
        ('classes: [{name: a, id: 1, color: [1, 2, 256]}]', r"color of 'a' is \[1, 2, 256\]; it"),
        ('classes: [{name: a, id: 1, dynamic: often}]', "dynamic of 'a' is 'often'; it must be t"),
        ('classes: [{name: a, id: 1}, {name: b, id: [2, 1]}]', "id 1 means both 'a' and 'b'"),
        ('classes: [{name: a, id: 1}]\nvoid: [1]', "id 1 is void and class 'a'; it can be one"),
        ('classes: [{name: a, color: [1, 2, 3]}]\nvoid: [[1, 2, 3]]', r'color \[1, 2, 3\] is voi'),
        ('classes: [{name: a, id: 1}]\nsplits: 0.2', r'splits is 0.2; it must be shares, as'),
        ('classes: [{name: a, id: 1}]\nsplits: {val: 1}', 'the shares must leave some frames'),
        ('classes: [{name: a, id: 1}]\nsplits: {train: 0.8}', 'it must be shares, as .*the rest'),
        ('classes: [{name: a, id: 1}]\nsplits: {val: [a], seed: 1}', 'it must be shares, as'),
        ('classes: [', 'is not valid YAML'),
        ('\x80', 'is not valid YAML|no text in UTF-8'),
    ],
)
def test_a_wrong_classes_file_says_what_is_wrong(text: str, error: str, tmp_path: Path) -> None:
    write_set(tmp_path, ['a'], text)
    with pytest.raises(ValueError, match=rf"classes.yaml'.*{error}|{error}") as found:
        build_dataset('classes', tmp_path, 'all')
    assert 'classes.yaml' in str(found.value)
    assert '\n' not in str(found.value)


def test_an_id_without_a_meaning_is_named_with_the_way_out(tmp_path: Path) -> None:
    write_set(tmp_path, ['a'], 'classes: [{name: road, id: 7}, {name: car, id: 26}]')
    with pytest.raises(
        ValueError, match=r"a.png' holds label 27; classes.yaml has 7, 26, 255; give 27 to a class"
    ):
        _ = build_dataset('classes', tmp_path, 'all')[0]


def test_a_colour_without_a_meaning_is_named_with_its_place(tmp_path: Path) -> None:
    write_frame(tmp_path, 'a', picture('rgb')[0])
    (tmp_path / 'classes.yaml').write_text(BY_COLOR.replace('[0, 0, 70]', '[0, 0, 71]'))
    with pytest.raises(
        ValueError, match=r'holds colour \[0, 0, 70\] at row 1, column 0 and 1 unknown pixels'
    ):
        _ = build_dataset('classes', tmp_path, 'all')[0]


def test_labels_in_jpeg_are_refused(tmp_path: Path) -> None:
    write_frame(tmp_path, 'a', picture('rgb')[0], '.jpg')
    (tmp_path / 'classes.yaml').write_text(BY_COLOR)
    with pytest.raises(ValueError, match='1 label files are JPEG, which changes ids and colours'):
        build_dataset('classes', tmp_path, 'all')


def test_frames_are_found_in_any_depth_behind_links_and_under_any_name(tmp_path: Path) -> None:
    root = write_set(tmp_path / 'set', ['top', 'a b/Straße (1)/x.y', 'drive/deep/er/1'])
    elsewhere = write_set(tmp_path / 'elsewhere', ['in/2'])
    for folder in ('images', 'labels'):
        (root / folder / 'linked').symlink_to(elsewhere / folder)
        (root / folder / 'circle').symlink_to(root / folder)
        (root / folder / '.hidden').mkdir()
        (root / folder / '.hidden' / 'h.png').write_bytes(b'')
        (root / folder / 'notes.txt').write_text('no data')
    keys = keys_of(root, 'all')
    assert keys == ['a b/Straße (1)/x.y', 'drive/deep/er/1', 'linked/in/2', 'top']
    dataset = build_dataset('classes', root, 'all')
    names = [sample.name for sample in dataset]
    assert names == ['a b_Straße (1)_x.y', 'drive_deep_er_1', 'linked_in_2', 'top']
    assert all(sample.labels.tolist() == TRAIN_IDS for sample in dataset)


def test_accents_of_macos_are_those_of_others(tmp_path: Path) -> None:
    write_set(tmp_path, ['caf\u00e9'])
    label = tmp_path / 'labels' / 'caf\u00e9.png'
    label.rename(label.with_name(unicodedata.normalize('NFD', label.name)))
    assert len(build_dataset('classes', tmp_path, 'all')) == 1


def test_two_frames_never_share_a_name(tmp_path: Path) -> None:
    write_set(tmp_path, ['a/b_c', 'a_b/c'])
    assert [s.name for s in build_dataset('classes', tmp_path, 'all')] == ['a_b_c', 'a_b_c_2']


def test_images_without_labels_are_left_out_and_said(tmp_path: Path, caplog: Any) -> None:
    write_set(tmp_path, ['a', 'b'])
    write_frame(tmp_path, 'c', None)
    with caplog.at_level(logging.WARNING):
        assert keys_of(tmp_path, 'all') == ['a', 'b']
    assert '1 of 3 images in' in caplog.text


def break_set(root: Path, how: str) -> None:
    if how == 'no classes':
        (root / 'classes.yaml').unlink()
    if how == 'no labels':
        (root / 'labels').rename(root / 'masks')
    if how == 'label alone':
        (root / 'images' / 'a.jpg').unlink()
    if how == 'no pair':
        for image in (root / 'images').iterdir():
            image.unlink()
        for label in (root / 'labels').iterdir():
            label.unlink()
    if how == 'twice':
        write_image(root / 'images' / 'a.png', np.zeros((2, 3, 3), np.uint8))


@pytest.mark.parametrize(
    ('how', 'text'),
    [
        ('no classes', r"no '.*classes.yaml'; it names the classes .* anomaly_seg convert"),
        ('no labels', r"no folder '.*labels'; a set has images/ and labels/"),
        ('label alone', r"1 label files in .* have no image of the same path .*a.png'"),
        ('no pair', 'no image in .* has a label file of the same path'),
        ('twice', "a.jpg' and '.*a.png' are of the same frame; keep one"),
    ],
)
def test_a_set_that_is_not_whole_says_so(how: str, text: str, tmp_path: Path) -> None:
    break_set(write_set(tmp_path, ['a', 'b']), how)
    with pytest.raises((FileNotFoundError, ValueError), match=text):
        build_dataset('classes', tmp_path, 'all')


# --- splits --------------------------------------------------------------------------------------

THIRTY = [f'{index:03d}' for index in range(30)]


def part(frames: Sequence[str], splits: Any = None, root: Path = Path('nowhere')) -> Any:
    return part_frames(root, frames, SplitRule.from_value(splits))[0]


def test_a_fifth_is_validated_on_where_nobody_says() -> None:
    parts = part(THIRTY)
    assert (len(parts['train']), len(parts['val']), len(parts['test'])) == (24, 6, 0)
    assert part(THIRTY) == parts
    assert part(THIRTY, {'val': 0.2, 'seed': 0}) == parts
    assert part(THIRTY, {'val': 0.2, 'seed': 1}) != parts
    shares = part(THIRTY, {'val': 0.1, 'test': 0.5})
    assert (len(shares['train']), len(shares['val']), len(shares['test'])) == (12, 3, 15)
    assert sorted(frame for own in shares.values() for frame in own) == THIRTY


def test_a_drive_never_stands_in_two_splits() -> None:
    frames = [f'town/drive{d}/{side}/{i}' for d in range(9) for side in 'lr' for i in range(4)]
    for seed in range(20):
        parts = part(frames, {'val': 0.2, 'test': 0.2, 'seed': seed})
        drives = {name: {f.split('/')[1] for f in own} for name, own in parts.items()}
        assert sum(map(len, drives.values())) == 9
        assert len(drives['val']) == len(drives['test']) == 2
    assert {len(own) for own in part(['a/1', 'a/2', 'b/1']).values()} <= {0, 1, 2}
    with pytest.raises(ValueError, match='2 drives cannot be dealt into train, val, test; label'):
        part(['a/1', 'a/2', 'b/1'], {'val': 0.2, 'test': 0.2})


def test_folders_named_train_and_val_are_the_splits() -> None:
    frames = ['train/a/1', 'Validation/2', 'testing/3']
    assert part(frames) == {'train': frames[:1], 'val': frames[1:2], 'test': frames[2:]}
    with pytest.raises(
        ValueError, match='images/ holds train, val and beside them more, of which'
    ):
        part(['train/1', 'val/2', 'more/3'])
    assert len(part(['train/1', 'train/2', 'train/3'])['val']) == 1  # no splits, one folder


def test_folders_that_the_file_names() -> None:
    frames = ['mon/1', 'tue/2', 'fri/town/3', 'fri/field/4']
    parts = part(frames, {'val': 'tue', 'test': ['fri/town/']})
    assert parts == {'train': ['mon/1', 'fri/field/4'], 'val': ['tue/2'], 'test': ['fri/town/3']}
    assert part(frames, {'train': ['mon'], 'val': ['tue']})['test'] == []
    with pytest.raises(ValueError, match='no frame lies in images/sun, which is val'):
        part(frames, {'val': ['sun']})
    with pytest.raises(
        ValueError, match=r'images/fri/town is test in .* lies in images/fri, which'
    ):
        part(frames, {'val': ['fri'], 'test': ['fri/town']})


@pytest.mark.parametrize('folder', ['', 'splits'])
def test_list_files(folder: str, tmp_path: Path) -> None:
    lists = tmp_path / folder
    lists.mkdir(exist_ok=True)
    (lists / 'val.txt').write_bytes('\ufeff# chosen by hand\r\n./b.jpg\r\n\r\nd/ö.x\r\n'.encode())
    frames = ['a', 'b', 'c', 'd/ö.x']
    assert part(frames, root=tmp_path) == {'train': ['a', 'c'], 'val': ['b', 'd/ö.x'], 'test': []}
    (lists / 'train.txt').write_text('images/c.png')
    assert part(frames, root=tmp_path)['train'] == ['c']
    (lists / 'train.txt').write_text('images/c.png\nimages/a.jpg\n')  # of images/images/ too
    assert part([*frames, 'images/c', 'images/a.jpg'], root=tmp_path)['train'] == [
        'images/c', 'images/a.jpg'
    ]  # fmt: skip
    (lists / 'train.txt').write_text('c\nb\n')
    with pytest.raises(ValueError, match=r"line 1: frame 'b' stands in train.txt too|line 2"):
        part(frames, root=tmp_path)
    (lists / 'train.txt').write_text('a\nnope.jpg\n')
    with pytest.raises(
        ValueError, match=r"train.txt' line 2: no frame 'nope' with image and label"
    ):
        part(frames, root=tmp_path)
    with pytest.raises(ValueError, match='both part the frames; delete one'):
        part(frames, {'val': 0.2}, tmp_path)


def test_an_empty_split_says_what_parted_the_frames(tmp_path: Path) -> None:
    write_set(tmp_path, THIRTY[:5])
    with pytest.raises(
        ValueError,
        match=r"split 'test' of .* no frame, as parted by shares of frames \(val 0.2, s",
    ):
        build_dataset('classes', tmp_path, 'test')
    assert len(build_dataset('classes', tmp_path)) == 1
