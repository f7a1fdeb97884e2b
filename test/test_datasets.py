"""Facts about the datasets, each on a two-image fixture in every layout it comes in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
import json
from pathlib import Path
import pickle
import re
from typing import Any

import cv2
import numpy as np
import pytest

from anomaly_seg_ros.classes import CAMVID, CITYSCAPES, STREETHAZARDS, STREETHAZARDS_ORIGINAL
from training.datasets import build_dataset, DATASETS, known_splits, NO_CLASSES
from training.datasets.bdd_anomaly import CLASSES as BDD_ANOMALY

SHARED = Path(__file__).resolve().parents[2] / 'shared' / 'data'
HEIGHT, WIDTH = 4, 6


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(cv2.imencode(path.suffix, pixels)[1]))


def write_image(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    write(path, np.full((*size, 3), 90, np.uint8))


def label_of(*values: int) -> np.ndarray:
    """A label map whose first row starts with `values`; the rest repeats the first one."""
    labels = np.full((HEIGHT, WIDTH), values[0], np.uint8)
    labels[0, : len(values)] = values
    return labels


def write_pairs(
    root: Path, image: str, label: str, names: tuple[str, str], values: tuple[int, ...]
) -> None:
    """Writes two frames; `{}` in the path patterns is the frame's name."""
    for name in names:
        write_image(root / image.format(name))
        write(root / label.format(name), label_of(*values))


NUMBERS = ('0', '1')
CITY = 'berlin_000000_000019'
LAF = ('01_Hanns_Klemm_Str_45_000000_000080', '04_Maurener_Weg_8_000001_000140')

# dataset, split, image path, label path, frame names, raw values, what they mean
ANOMALY_LAYOUTS = [
    ('folder', 'all', 'images/{}.jpg', 'labels_masks/{}.png', ('a', 'b'), (0, 1, 255),
     (0, 1, 255)),
    ('road_anomaly', 'all', 'frames/{}.jpg', 'frames/{}.labels/labels_semantic.png',
     ('animals01_x', 'cones07'), (0, 2), (0, 1)),
    ('road_anomaly', 'all', 'frames/{}.webp', 'frames/{}.labels/labels_semantic.png',
     ('animals01_x', 'cones07'), (0, 2), (0, 1)),
    ('road_anomaly', 'all', 'images/{}.jpg', 'labels_masks/{}.png', NUMBERS, (0, 2), (0, 1)),
    ('road_anomaly', 'all', 'original/{}.jpg', 'labels/{}.png', NUMBERS, (0, 1), (0, 1)),
    ('road_anomaly21', 'validation', 'images/{}.jpg', 'labels_masks/{}_labels_semantic.png',
     ('validation0000', 'validation0001'), (0, 1, 255), (0, 1, 255)),
    ('road_anomaly21', 'validation', 'images/{}.png', 'labels_masks/{}.png', NUMBERS,
     (0, 1, 255), (0, 1, 255)),
    ('road_obstacle21', 'validation', 'images/{}.webp', 'labels_masks/{}_labels_semantic.png',
     ('validation_1', 'validation_20'), (0, 1, 255), (0, 1, 255)),
    ('road_obstacle21', 'validation', 'images/{}.webp', 'labels_masks/{}.png', NUMBERS,
     (0, 1, 255), (0, 1, 255)),
    ('fishyscapes', 'lost_and_found', 'leftImg8bit/train/01_x/{}_leftImg8bit.png',
     'fishyscapes_lostandfound/0003_{}_labels.png', LAF, (0, 1, 255), (0, 1, 255)),
    ('fishyscapes', 'lost_and_found', 'laf_images/{}_leftImg8bit.png',
     'fishyscapes_lostandfound/0003_{}_labels.png', LAF, (0, 1, 255), (0, 1, 255)),
    ('fishyscapes', 'lost_and_found', 'leftImg8bit/train/01_x/{}_leftImg8bit.png',
     'dataset_FishyLAF/labels/val/{}_fishy-labels.png', LAF, (0, 1, 255), (0, 1, 255)),
    ('fishyscapes', 'lost_and_found', 'leftImg8bit/val/01_x/{}_leftImg8bit.png',
     'ood/val/01_x/{}_ood_segmentation.png', LAF, (0, 1, 2), (0, 1, 255)),
    ('fishyscapes', 'lost_and_found', 'LostAndFound/original/{}.png',
     'LostAndFound/labels/{}.png', LAF, (0, 1, 255), (0, 1, 255)),
    ('fishyscapes', 'lost_and_found', 'LostAndFound/x/{}.jpg', 'LostAndFound/x/{}.png', LAF,
     (0, 1, 255), (0, 1, 255)),
    ('fishyscapes', 'lost_and_found', 'FS_LostFound_full/images/{}.png',
     'FS_LostFound_full/labels_masks/{}.png', NUMBERS, (0, 1, 255), (0, 1, 255)),
    ('fishyscapes', 'lost_and_found', 'images/{}.png', 'labels_masks/{}.png', NUMBERS,
     (0, 1, 255), (0, 1, 255)),
    ('fishyscapes', 'static_v2', 'fs_static_images_v2/{}_rgb.png', 'fs_val_v2/{}_labels.png',
     ('0000_x', '0001_x'), (0, 1, 255), (0, 1, 255)),
    ('fishyscapes', 'static', '{}_rgb.jpg', '{}_labels.png', ('0000_x', '0001_x'), (0, 1, 255),
     (0, 1, 255)),
    ('fishyscapes', 'static', 'fs_static/images/{}.jpg', 'fs_static/labels_masks/{}.png',
     NUMBERS, (0, 1, 255), (0, 1, 255)),
    ('fishyscapes', 'static', 'Static/original/{}.png', 'Static/labels/{}.png', NUMBERS,
     (0, 1, 255), (0, 1, 255)),
    ('fishyscapes', 'static', 'Static/{}.jpg', 'Static/{}.png', NUMBERS, (0, 1, 255),
     (0, 1, 255)),
    ('lost_and_found', 'train', 'leftImg8bit/train/01_x/{}_leftImg8bit.png',
     'gtCoarse/train/01_x/{}_gtCoarse_labelIds.png', LAF, (0, 1, 2, 31, 40),
     (255, 0, 1, 1, 1)),
    ('lost_and_found', 'test', 'leftImg8bit/test/02_x/{}_leftImg8bit.png',
     'gtCoarse/test/02_x/{}_gtCoarse_labelTrainIds.png', LAF, (255, 1, 2, 0), (255, 0, 1, 1)),
    ('lost_and_found', 'test:meta_ood', 'leftImg8bit/test/02_x/{}_leftImg8bit.png',
     'gtCoarse/test/02_x/{}_gtCoarse_labelIds.png', LAF, (0, 1, 2, 31, 40),
     (255, 0, 1, 255, 1)),
    ('lost_and_found', 'test:rba', 'leftImg8bit/test/02_x/{}_leftImg8bit.png',
     'gtCoarse/test/02_x/{}_gtCoarse_labelTrainIds.png', LAF, (255, 1, 2, 0), (255, 0, 1, 0)),
    ('bdd_anomaly', 'test', 'seg/images/train/{}.jpg', 'seg/labels/train/{}_train_id.png',
     NUMBERS, (0, 15, 16, 17, 18, 255), (0, 0, 1, 1, 1, 255)),
    ('bdd_anomaly', 'test:original', 'seg/images/val/{}.jpg',
     'seg/train_labels/val/{}_train_id.png', NUMBERS, (2, 17, 18, 20, 1), (0, 0, 1, 1, 0)),
    ('bdd_anomaly', 'test', 'images/10k/val/{}.jpg', 'labels/sem_seg/masks/val/{}.png', NUMBERS,
     (0, 15, 16, 255), (0, 0, 1, 255)),
    ('streethazards', 'test', 'test/images/test/t5/{}.png', 'test/annotations/test/t5/{}.png',
     NUMBERS, (1, 4, 13, 14), (0, 255, 0, 1)),
    ('streethazards', 'test:original', 'test/images/test/t6/{}.png',
     'test/annotations/test/t6/{}.png', NUMBERS, (1, 4, 13, 14), (0, 0, 0, 1)),
]  # fmt: skip


def handed_over(dataset: Any) -> Any:
    """The dataset as a loading process gets it."""
    return pickle.loads(pickle.dumps(dataset))


@pytest.mark.parametrize('case', ANOMALY_LAYOUTS, ids=lambda case: f'{case[0]}-{case[2]}')
def test_each_layout_gives_its_frames_with_anomaly_0_1_255(tmp_path: Path, case) -> None:
    name, split, image, label, frames, raw, meaning = case
    write_pairs(tmp_path, image, label, frames, raw)
    dataset = handed_over(build_dataset(name, tmp_path, split))
    assert len(dataset) == 2
    assert [dataset.anomaly_ids[value] for value in raw] == list(meaning)
    samples = [dataset[i] for i in range(2)]
    assert sorted(s.name for s in samples) == [s.name for s in samples]
    for sample in samples:
        assert sample.image.shape == (HEIGHT, WIDTH, 3)
        assert sample.image.dtype == sample.anomaly.dtype == np.uint8
        assert sample.anomaly[0, : len(meaning)].tolist() == list(meaning)
        assert sample.anomaly.shape == (HEIGHT, WIDTH)
        assert '/' not in sample.name


# dataset, split, image path, label path, raw values, train ids, classes
CLASS_LAYOUTS = [
    ('camvid', 'val', 'val/{}.png', 'valannot/{}.png', (0, 10, 11), (0, 10, 255), CAMVID),
    ('cityscapes', 'val', 'leftImg8bit/val/berlin/{}_leftImg8bit.png',
     'gtFine/val/berlin/{}_gtFine_labelIds.png', (7, 33, 0, 29, 31, 255),
     (0, 18, 255, 255, 16, 255), CITYSCAPES),
    ('cityscapes', 'val', 'leftImg8bit/val/berlin/{}_leftImg8bit.png',
     'gtFine/val/berlin/{}_gtFine_labelTrainIds.png', (0, 18, 255), (0, 18, 255), CITYSCAPES),
    ('bdd_anomaly', 'train', 'seg/images/train/{}.jpg', 'seg/train_labels/train/{}_train_id.png',
     (2, 17, 1), (0, 15, 255), BDD_ANOMALY),
    ('bdd_anomaly', 'test', 'images/10k/val/{}.jpg', 'labels/sem_seg/masks/val/{}.png',
     (0, 15, 16, 18, 255), (0, 15, 255, 255, 255), BDD_ANOMALY),
    ('streethazards', 'train', 'train/images/training/t1/{}.png',
     'train/annotations/training/t1/{}.png', (1, 3, 4, 5, 13), (0, 2, 255, 3, 11), STREETHAZARDS),
    ('streethazards', 'test:original', 'test/images/test/t5/{}.png',
     'test/annotations/test/t5/{}.png', (1, 4, 13, 14), (0, 3, 12, 255), STREETHAZARDS_ORIGINAL),
]  # fmt: skip


@pytest.mark.parametrize('case', CLASS_LAYOUTS, ids=lambda case: f'{case[0]}-{case[1]}')
def test_each_layout_gives_its_frames_with_train_ids(tmp_path: Path, case) -> None:
    name, split, image, label, raw, meaning, classes = case
    write_pairs(tmp_path, image, label, ('0', '1'), raw)
    dataset = handed_over(build_dataset(name, tmp_path, split))
    assert dataset.classes == classes
    assert [dataset.class_ids[value] for value in raw] == list(meaning)
    labels = dataset[1].labels
    assert labels[0, : len(meaning)].tolist() == list(meaning)
    assert set(np.unique(labels).tolist()) <= {*range(len(classes.names)), 255}


WITH_BOTH = {'bdd_anomaly', 'streethazards'}
"""Their frames have classes and anomalies."""


def test_every_dataset_has_a_fixture_here() -> None:
    elsewhere = {'classes', 'frames'}  # test_own_classes.py, test_frame_methods.py
    assert {c[0] for c in [*ANOMALY_LAYOUTS, *CLASS_LAYOUTS]} | elsewhere == set(DATASETS)


@pytest.mark.parametrize(
    'name',
    [n for n in sorted(DATASETS) if n in {c[0] for c in ANOMALY_LAYOUTS} - WITH_BOTH],
)
def test_anomaly_datasets_have_no_classes_and_say_so(tmp_path: Path, name: str) -> None:
    _, split, image, label, frames, raw, _ = next(c for c in ANOMALY_LAYOUTS if c[0] == name)
    write_pairs(tmp_path, image, label, frames, raw)
    dataset = build_dataset(name, tmp_path, split)
    assert dataset.classes == NO_CLASSES
    assert dataset[0].train_ids is None
    with pytest.raises(ValueError, match='has no class labels'):
        _ = dataset[0].labels


# ---- errors


def simple(root: Path, values: tuple[int, ...] = (0, 1)) -> None:
    write_pairs(root, 'images/{}.jpg', 'labels_masks/{}.png', ('a', 'b'), values)


def test_an_unknown_dataset_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown dataset 'kitti'.*camvid.*road_anomaly"):
        build_dataset('kitti', tmp_path)


@pytest.mark.parametrize('name', sorted(DATASETS))
def test_an_unknown_split_lists_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"unknown split 'nope' of .*choose one of"):
        build_dataset(name, tmp_path, 'nope')


@pytest.mark.parametrize('name', sorted(DATASETS))
def test_an_empty_root_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        build_dataset(name, tmp_path)


@pytest.mark.parametrize('name', sorted(DATASETS))
def test_known_layouts_are_said_as_people_write_paths(tmp_path: Path, name: str) -> None:
    for split in known_splits(name, tmp_path):
        with pytest.raises(FileNotFoundError) as caught:
            build_dataset(name, tmp_path, split)
        assert not re.search(r'\\|\(\?|\)\?|\[\^|\+', str(caught.value)), caught.value


@pytest.mark.parametrize('name', sorted(DATASETS))
def test_a_missing_root_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match='gone'):
        build_dataset(name, tmp_path / 'gone')


def test_an_unknown_label_rule_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown label rule 'x'.*test:smiyc, test:meta"):
        build_dataset('lost_and_found', tmp_path, 'test:x')


def test_a_label_outside_the_rule_is_an_error_that_names_file_and_value(tmp_path: Path) -> None:
    simple(tmp_path, (0, 2))
    with pytest.raises(ValueError, match=r'a\.png.* holds label 2; folder has 0, 1, 255'):
        _ = build_dataset('folder', tmp_path)[0]


def test_the_rule_of_road_anomaly_does_not_leak_into_road_anomaly21(tmp_path: Path) -> None:
    root = tmp_path / 'RoadAnomaly' / 'dataset_AnomalyTrack'
    write_pairs(root, 'images/{}.png', 'labels_masks/{}.png', NUMBERS, (0, 2))
    with pytest.raises(ValueError, match='holds label 2'):
        _ = build_dataset('road_anomaly21', root)[0]


def test_a_label_of_another_size_is_an_error_with_both_sizes(tmp_path: Path) -> None:
    simple(tmp_path)
    write_image(tmp_path / 'images' / 'a.jpg', (HEIGHT + 1, WIDTH))
    with pytest.raises(
        ValueError, match=r"a.jpg' is \(5, 6\), its labels '.*a.png' are \(4, 6\)$"
    ):
        _ = build_dataset('folder', tmp_path)[0]


@pytest.mark.parametrize('gone', ['images/a.jpg', 'labels_masks/b.png'])
def test_a_file_without_partner_is_an_error(tmp_path: Path, gone: str) -> None:
    simple(tmp_path)
    (tmp_path / gone).unlink()
    with pytest.raises(FileNotFoundError, match='no partner'):
        build_dataset('folder', tmp_path)


@pytest.mark.parametrize(
    ('gone', 'text'),
    [('images/1.png', 'have no image.*1.png'), ('labels_masks/1.png', 'no label file.*1.png')],
)
def test_a_layout_file_without_partner_is_an_error_that_names_it(
    tmp_path: Path, gone: str, text: str
) -> None:
    write_pairs(tmp_path, 'images/{}.png', 'labels_masks/{}.png', NUMBERS, (0, 1))
    (tmp_path / gone).unlink()
    with pytest.raises(FileNotFoundError, match=text):
        build_dataset('road_anomaly21', tmp_path)


def test_two_images_for_one_frame_are_an_error(tmp_path: Path) -> None:
    write_pairs(tmp_path, 'images/{}.png', 'labels_masks/{}.png', NUMBERS, (0, 1))
    write_image(tmp_path / 'images' / '1.webp')
    with pytest.raises(ValueError, match="two files for frame '1'"):
        build_dataset('road_anomaly21', tmp_path)


def test_a_truncated_label_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    simple(tmp_path)
    path = tmp_path / 'labels_masks' / 'a.png'
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=r'cannot decode .*a\.png.*; is it truncated'):
        _ = build_dataset('folder', tmp_path)[0]


def test_a_colour_picture_is_not_taken_for_labels(tmp_path: Path) -> None:
    simple(tmp_path)
    colours = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    colours[..., 2] = 1
    write(tmp_path / 'labels_masks' / 'a.png', colours)
    with pytest.raises(ValueError, match='colour picture'):
        _ = build_dataset('folder', tmp_path)[0]


def test_labels_with_equal_channels_are_read_from_the_first(tmp_path: Path) -> None:
    simple(tmp_path)
    grey = label_of(0, 1, 255)
    write(tmp_path / 'labels_masks' / 'a.png', np.repeat(grey[..., None], 3, axis=2))
    sample = build_dataset('folder', tmp_path)[0]
    assert (sample.anomaly == grey).all()


# ---- what belongs to a split


def test_road_obstacle_validation_leaves_out_the_frames_that_only_carry_the_name(
    tmp_path: Path,
) -> None:
    label = 'labels_masks/{}_labels_semantic.png'
    write_pairs(tmp_path, 'images/{}.webp', label, ('validation_2', 'validation_20'), (0,))
    write_pairs(tmp_path, 'images/{}.webp', label, ('validation_19', 'validation_25'), (0,))
    dataset = build_dataset('road_obstacle21', tmp_path)
    assert [dataset[i].name for i in range(len(dataset))] == ['validation_2', 'validation_20']


def test_the_test_frames_of_smiyc_come_without_truth(tmp_path: Path) -> None:
    write_image(tmp_path / 'images' / 'gravel_1.webp')
    write_image(tmp_path / 'images' / 'driveway_1.webp')
    dataset = build_dataset('road_obstacle21', tmp_path, 'test')
    assert [dataset[i].name for i in range(len(dataset))] == ['gravel_1']
    assert dataset[0].anomaly is None
    assert len(build_dataset('road_obstacle21', tmp_path, 'test_night')) == 1


def test_no_known_leaves_out_children_and_bicycles(tmp_path: Path) -> None:
    for name in ('02_a_000000_000010', '15_Rechbergstr_Deckenpfronn_000001_000020'):
        write_image(tmp_path / 'leftImg8bit/test/s' / f'{name}_leftImg8bit.png')
        write(tmp_path / 'gtCoarse/test/s' / f'{name}_gtCoarse_labelIds.png', label_of(1, 2))
    assert len(build_dataset('lost_and_found', tmp_path, 'test')) == 2
    assert len(build_dataset('lost_and_found', tmp_path, 'test_no_known')) == 1


def test_lost_and_found_drops_its_invalid_frames_by_place(tmp_path: Path) -> None:
    names = [f'01_s_{i:06}_000000' for i in range(1036)]
    write_image(tmp_path / 'leftImg8bit/train/s' / 'one_leftImg8bit.png')
    first = tmp_path / 'leftImg8bit/train/s' / 'one_leftImg8bit.png'
    for name in names:
        (tmp_path / 'leftImg8bit/train/s' / f'{name}_leftImg8bit.png').hardlink_to(first)
        label = tmp_path / 'gtCoarse/train/s' / f'{name}_gtCoarse_labelIds.png'
        label.parent.mkdir(parents=True, exist_ok=True)
        label.hardlink_to(first)
    first.unlink()
    dataset = build_dataset('lost_and_found', tmp_path, 'train')
    kept = {frame.name for frame in dataset.frames}  # type: ignore[attr-defined]
    assert set(names) - kept == {names[i] for i in (44, 67, 88, 109, 131, 614)}


def test_what_a_frame_of_bdd_shows_says_which_split_it_is_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shown = {'train/a': 15, 'train/b': 17, 'val/c': 255, 'val/d': 18, 'val/e': 0}
    for name, value in shown.items():
        write_image(tmp_path / f'seg/images/{name}.jpg')
        write(tmp_path / f'seg/labels/{name}_train_id.png', label_of(3, value))
    parts = {
        split: [build_dataset('bdd_anomaly', tmp_path, split)[i].name for i in range(count)]
        for split, count in (('train', 1), ('validation', 2), ('test', 2))
    }
    assert parts == {
        'train': ['train_a'],
        'validation': ['val_c', 'val_e'],
        'test': ['train_b', 'val_d'],
    }
    assert 'bdd_anomaly test holds 2 frames, the published split has 810' in caplog.text
    assert [len(build_dataset('bdd_anomaly', tmp_path, split)) for split in parts] == [1, 2, 2]


def test_the_folds_of_streethazards_look_only_below_the_root(tmp_path: Path) -> None:
    root = tmp_path / 't5' / 'data'
    for town in ('t5', 't6'):
        folder = f'test/{{}}/test/{town}'
        write_image(root / folder.format('images') / '7.png')
        write(root / folder.format('annotations') / '7.png', label_of(1))
    assert len(build_dataset('streethazards', root, 'test')) == 2
    fold = build_dataset('streethazards', root, 'test_t6')
    assert [fold[i].name for i in range(len(fold))] == ['t6_7']


def test_an_alpha_channel_of_an_image_is_dropped(tmp_path: Path) -> None:
    image = 'test/images/test/t5/{}.png'
    write_pairs(tmp_path, image, 'test/annotations/test/t5/{}.png', NUMBERS, (1,))
    write(tmp_path / image.format('0'), np.full((HEIGHT, WIDTH, 4), 7, np.uint8))
    assert build_dataset('streethazards', tmp_path)[0].image.shape == (HEIGHT, WIDTH, 3)


def test_the_static_overlay_is_added_to_the_cityscapes_image_and_clipped(tmp_path: Path) -> None:
    name = f'0000_{CITY}'
    write_image(tmp_path / 'leftImg8bit/val/berlin' / f'{CITY}_leftImg8bit.png')
    write(tmp_path / 'fs_val_v1' / f'{name}_labels.png', label_of(0, 1))
    overlay = np.zeros((HEIGHT, WIDTH, 3), np.int16)
    overlay[0, :3, 0] = (-200, 10, 300)
    np.savez(tmp_path / 'fs_val_v1' / f'{name}_rgb.npz', rgb=overlay)
    sample = build_dataset('fishyscapes', tmp_path, 'static_v1')[0]
    assert sample.image[0, :4, 0].tolist() == [0, 100, 255, 90]
    (tmp_path / 'leftImg8bit/val/berlin' / f'{CITY}_leftImg8bit.png').unlink()
    with pytest.raises(FileNotFoundError, match='needs the Cityscapes image'):
        _ = build_dataset('fishyscapes', tmp_path, 'static_v1')[0]


def test_an_overlay_that_is_no_array_of_the_images_size_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / 'leftImg8bit/val/berlin' / f'{CITY}_leftImg8bit.png')
    write(tmp_path / 'fs_val_v1' / f'0000_{CITY}_labels.png', label_of(0, 1))
    path = tmp_path / 'fs_val_v1' / f'0000_{CITY}_rgb.npz'
    np.savez_compressed(path, rgb=np.zeros(2**22, np.uint8))
    dataset = build_dataset('fishyscapes', tmp_path, 'static_v1')
    with pytest.raises(ValueError, match='holds no array "rgb" of shape'):
        _ = dataset[0]
    np.savez(path, other=np.zeros((HEIGHT, WIDTH, 3)))
    with pytest.raises(ValueError, match='holds no array "rgb" of shape'):
        _ = dataset[0]
    array = BytesIO()
    np.save(array, np.zeros((HEIGHT, WIDTH, 3)))
    cut = path.read_bytes()[:-30]
    for content in (b'', b'no archive', cut, array.getvalue()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r'cannot read .*_rgb.npz. as an archive of arrays'):
            _ = dataset[0]


def test_a_published_split_that_lacks_frames_names_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image, label = 'frames/{}.jpg', 'frames/{}.labels/labels_semantic.png'
    write_pairs(tmp_path, image, label, ('a', 'b'), (0, 2))
    build_dataset('road_anomaly', tmp_path)
    assert '2 frames, the published split has 60' in caplog.text
    caplog.clear()
    (tmp_path / 'frame_list.json').write_text(json.dumps(['a.jpg', 'b.jpg', 'cones01.webp']))
    build_dataset('road_anomaly', tmp_path)
    assert 'lacks 1 published frames, numbers will not compare: cones01' in caplog.text


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'["a.jpg', 'is no JSON'),
        (b'\xff\xfe', 'is no JSON'),
        (b'[1, 2]', 'is no list of file names'),
        (b'{"a.jpg": 1}', 'is no list of file names'),
    ],
)
def test_a_damaged_list_of_frames_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    image, label = 'frames/{}.jpg', 'frames/{}.labels/labels_semantic.png'
    write_pairs(tmp_path, image, label, ('a', 'b'), (0, 2))
    (tmp_path / 'frame_list.json').write_bytes(content)
    with pytest.raises(ValueError, match=rf"frame_list.json' {words}.*; copy it again, or remove"):
        build_dataset('road_anomaly', tmp_path)


def test_links_that_lead_back_up_are_followed_once(tmp_path: Path) -> None:
    image, label = 'frames/{}.jpg', 'frames/{}.labels/labels_semantic.png'
    write_pairs(tmp_path / 'set', image, label, ('a', 'b'), (0, 2))
    for name in ('x', 'y'):
        (tmp_path / 'set' / name).symlink_to(tmp_path / 'set')
    assert len(build_dataset('road_anomaly', tmp_path / 'set')) == 2
    (tmp_path / 'linked').mkdir()
    (tmp_path / 'linked' / 'frames').symlink_to(tmp_path / 'set' / 'frames')
    assert len(build_dataset('road_anomaly', tmp_path / 'linked')) == 2


# ---- real data


def real(folder: str) -> Path:
    root = SHARED / folder
    if not root.is_dir():
        pytest.skip(f'no data in {root}')
    return root


def shares(dataset, attribute: Callable[[object], np.ndarray]) -> Mapping[int, int]:
    counts = np.zeros(256, np.int64)
    for index in range(len(dataset)):
        sample = dataset[index]
        assert attribute(sample).shape == sample.image.shape[:2]
        counts += np.bincount(attribute(sample).ravel(), minlength=256)
    return {int(i): int(counts[i]) for i in np.flatnonzero(counts)}


def test_camvid_on_the_real_data_has_its_published_counts_and_classes() -> None:
    root = real('camvid')
    for split, count in (('train', 367), ('val', 101), ('test', 233)):
        assert len(build_dataset('camvid', root, split)) == count
    seen = shares(build_dataset('camvid', root, 'val'), lambda sample: sample.labels)
    assert set(seen) == {*range(11), 255}


def test_folder_on_the_real_data_holds_anomalies_in_every_frame() -> None:
    dataset = build_dataset('folder', real('camvid_anomaly_val'))
    assert len(dataset) == 100
    assert all((dataset[i].anomaly == 1).any() for i in range(len(dataset)))
    assert set(shares(dataset, lambda sample: sample.anomaly)) == {0, 1, 255}


def test_road_anomaly_on_the_real_data_ignores_nothing() -> None:
    dataset = build_dataset('road_anomaly', real('road_anomaly_val'))
    assert len(dataset) == 20
    assert dataset[0].image.shape == (720, 1280, 3)
    seen = shares(dataset, lambda sample: sample.anomaly)
    assert set(seen) == {0, 1}
    assert 0.02 < seen[1] / sum(seen.values()) < 0.2
