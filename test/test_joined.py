from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly_seg_ros.classes import CAMVID, CITYSCAPES
from anomaly_seg_ros.frames.images import write_image
from training.datasets import build_dataset, Dataset
from training.datasets.joined import check_entry, join, Renamed


def store(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image)


def camvid(root: Path, names: str = 'ab') -> Dataset:
    for name in names:
        store(root / f'train/{name}.png', np.full((6, 8, 3), ord(name), np.uint8))
        store(root / f'trainannot/{name}.png', np.full((6, 8), 3, np.uint8))
    return build_dataset('camvid', root, 'train')


def cityscapes(root: Path) -> Path:
    labels = np.zeros((8, 16), np.uint8)
    labels[:, 4:8], labels[:, 8:12], labels[:, 12:] = 7, 24, 9  # road, person, parking
    image = root / 'leftImg8bit/train/ulm/ulm_0_0_leftImg8bit.png'
    store(image, np.full((8, 16, 3), 9, np.uint8))
    store(root / 'gtFine/train/ulm/ulm_0_0_gtFine_labelIds.png', labels)
    return root


def entry(root: Path, **more: Any) -> dict[str, Any]:
    return {'dataset': 'cityscapes', 'root': str(root), 'names': {'person': 'pedestrian'}} | more


def test_frames_follow_each_other_as_often_as_asked(tmp_path: Path) -> None:
    first = camvid(tmp_path / 'camvid')
    both = join(first, [entry(cityscapes(tmp_path / 'city'), repeat=3)])
    assert both.classes == CAMVID
    assert [both[i].name for i in range(len(both))] == ['a', 'b', *['ulm_0_0'] * 3]
    assert (both[1].labels == 3).all()
    assert join(first, []) is first


def test_ids_become_those_of_the_first_by_name(tmp_path: Path) -> None:
    both = join(camvid(tmp_path / 'camvid'), [entry(cityscapes(tmp_path / 'city'))])
    labels = both[2].labels
    assert (labels[:, 4:8] == CAMVID.names.index('road')).all()  # the same name in both
    assert (labels[:, 8:12] == CAMVID.names.index('pedestrian')).all()
    assert (labels[:, :4] == 255).all()
    assert (labels[:, 12:] == 255).all()


def test_every_city_class_of_the_recipe_has_its_place(tmp_path: Path) -> None:
    import yaml

    recipe = yaml.safe_load(Path('config/train/efficientnet_lite_cameras.yaml').read_text())
    names = recipe['also'][0]['names']
    renamed = Renamed(build_dataset('cityscapes', cityscapes(tmp_path), 'train'), CAMVID, names)
    table = {name: renamed.table[i] for i, name in enumerate(CITYSCAPES.names)}
    assert 255 not in table.values()
    assert {CAMVID.names[i] for n, i in table.items() if n in ('car', 'bus', 'truck')} == {'car'}
    assert CAMVID.names[table['traffic light']] == 'sign'
    assert CAMVID.names[table['rider']] == CAMVID.names[table['bicycle']] == 'bicyclist'


def test_frames_are_squeezed_to_the_size_with_their_labels(tmp_path: Path) -> None:
    both = join(camvid(tmp_path / 'camvid'), [entry(cityscapes(tmp_path / 'city'), size=[8, 8])])
    sample = both[2]
    assert sample.image.shape == (8, 8, 3)
    assert sample.labels[0].tolist() == [255, 255, 3, 3, 9, 9, 255, 255]


@pytest.mark.parametrize(
    ('wrong', 'text'),
    [
        ({'root': 'x'}, 'needs dataset and root'),
        ({'dataset': 'camvid', 'root': 'x', 'nmaes': {}}, 'may have split, names, repeat, size'),
        ({'dataset': 'camvid', 'root': 'x', 'labels': 'no'}, "labels is 'no'"),
        ({'dataset': 'camvid', 'root': 'x', 'labels': False, 'names': {'a': 'b'}}, 'has a name'),
        ({'dataset': 'camvid', 'root': 'x', 'repeat': 0}, 'repeat is 0'),
        ({'dataset': 'camvid', 'root': 'x', 'size': [4]}, r'size is \[4\]'),
        ({'dataset': 'camvid', 'root': 'x', 'names': ['a']}, 'names is'),
        ('camvid', "holds 'camvid'"),
    ],
)
def test_a_wrong_entry_is_said_before_anything_is_read(wrong: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        check_entry(wrong)


def test_frames_are_joined_without_their_labels(tmp_path: Path) -> None:
    first, root = camvid(tmp_path / 'camvid'), cityscapes(tmp_path / 'city')
    photos = {'dataset': 'frames', 'root': str(tmp_path / 'photos'), 'split': 'all'}
    store(tmp_path / 'photos' / 'deep' / 'bear.png', np.full((6, 10, 3), 40, np.uint8))
    both = join(
        first, [{**entry(root), 'labels': False}, {**photos, 'size': [3, 5], 'labels': False}]
    )
    assert both.classes == CAMVID
    assert both[2].name.startswith('ulm')
    assert (both[2].labels == 255).all()
    assert both[3].image.shape == (3, 5, 3)
    assert (both[3].image == 40).all()
    assert (both[3].labels == 255).all()
    # Nor needs a dataset have any: of these anomalies alone are known.
    store(tmp_path / 'set' / 'images' / 'a.png', np.full((6, 10, 3), 40, np.uint8))
    store(tmp_path / 'set' / 'labels_masks' / 'a.png', np.ones((6, 10), np.uint8))
    anomalies = {'dataset': 'folder', 'root': str(tmp_path / 'set'), 'split': 'all'}
    assert (join(first, [{**anomalies, 'labels': False}])[2].labels == 255).all()
    with pytest.raises(ValueError, match='no class is left of frame'):
        join(first, [photos])


def test_unknown_names_of_either_side_are_said(tmp_path: Path) -> None:
    first, root = camvid(tmp_path / 'camvid'), cityscapes(tmp_path / 'city')
    with pytest.raises(ValueError, match=r"unknown classes \['human'\]; there are: road, side"):
        join(first, [entry(root, names={'human': 'pedestrian'})])
    with pytest.raises(ValueError, match=r"unknown own classes \['person'\]; there are: sky, b"):
        join(first, [entry(root, names={'rider': 'person'})])
