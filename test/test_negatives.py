import json
from pathlib import Path
import pickle
from typing import Any

import cv2
import numpy as np
import pytest

from anomaly_seg_ros.classes import CITYSCAPES
from training.feeding.pasting import build_paster
from training.negatives import build_negatives, coco_masks
from training.negatives.coco import ROAD_CATEGORIES
from training.negatives.coco_masks import (
    decode_polygons,
    decode_runs,
    fill_polygon,
    unpack_runs,
)

RNG = np.random.default_rng


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(cv2.imencode(path.suffix, image)[1]))


def test_what_is_no_photo_is_left_out_before_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / 'red.png', np.zeros((4, 6, 3), np.uint8))
    (tmp_path / 'folder.png').mkdir()
    (tmp_path / 'gone.jpg').symlink_to('nowhere.jpg')
    (tmp_path / '._red.png').write_bytes(b'no data')
    source: Any = build_negatives('folder', {'root': str(tmp_path)})
    assert [path.name for path in source.paths] == ['red.png']
    assert 'folder.png' not in caplog.text  # whose photos, at any depth, belong to it
    assert "gone.jpg' is a link to 'nowhere.jpg', which is not there" in caplog.text
    assert '._red' not in caplog.text


def test_folder_gives_every_photo_as_rgb(tmp_path: Path) -> None:
    for name, color in (('red', (0, 0, 255)), ('blue', (255, 0, 0))):
        write(tmp_path / f'{name}.png', np.full((4, 6, 3), color, np.uint8))
    source = build_negatives('folder', {'root': tmp_path})
    rng = RNG(0)
    drawn = [source.draw(rng) for _ in range(20)]
    assert {tuple(photo.image[0, 0].tolist()) for photo in drawn} == {(255, 0, 0), (0, 0, 255)}
    assert all(photo.regions is None for photo in drawn)


def test_folder_leaves_out_excluded_names(tmp_path: Path) -> None:
    for name in ('n1_cab', 'n2_cabbage'):
        write(tmp_path / f'{name}.jpg', np.zeros((4, 4, 3), np.uint8))
    source: Any = build_negatives('folder', {'root': str(tmp_path), 'exclude': ['*_cab.*']})
    assert [path.stem for path in source.paths] == ['n2_cabbage']
    with pytest.raises(FileNotFoundError, match='all 2 images'):
        build_negatives('folder', {'root': tmp_path, 'exclude': ['n*']})


def test_a_broken_photo_is_named(tmp_path: Path) -> None:
    (tmp_path / 'cut.jpg').write_bytes(b'\xff\xd8\xff\xe0 and no more')
    with pytest.raises(ValueError, match=r'cut\.jpg'):
        build_negatives('folder', {'root': tmp_path}).draw(RNG(0))


def test_missing_folders_are_named(tmp_path: Path) -> None:
    gone = tmp_path / 'gone'
    for kind in ('folder', 'ade20k', 'coco'):
        with pytest.raises(FileNotFoundError, match='gone'):
            build_negatives(kind, {'root': gone})
    with pytest.raises(ValueError, match='split'):
        build_negatives('ade20k', {'root': gone, 'split': 'test'})


def test_ade20k_gives_the_label_map_as_regions(tmp_path: Path) -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    write(tmp_path / 'images/training/ADE_train_00000001.jpg', np.zeros((3, 4, 3), np.uint8))
    write(tmp_path / 'annotations/training/ADE_train_00000001.png', labels)
    photo = build_negatives('ade20k', {'root': tmp_path}).draw(RNG(0))
    assert photo.image.shape == (3, 4, 3)
    assert photo.regions is not None
    assert (photo.regions == labels).all()


def coco_folder(root: Path, annotations: list[dict[str, Any]]) -> Path:
    """Two photos of 6 x 8, the second with a car."""
    for name in ('000000000001', '000000000002'):
        image = np.arange(48, dtype=np.uint8).reshape(6, 8)
        write(root / f'train2017/{name}.png', np.repeat(image[..., None], 3, axis=2))
    content = {
        'images': [
            {'id': i, 'file_name': f'00000000000{i}.png', 'height': 6, 'width': 8} for i in (1, 2)
        ],
        'categories': [{'id': 3, 'name': 'car'}, {'id': 17, 'name': 'cat'}],
        'annotations': annotations,
    }
    (root / 'annotations').mkdir()
    (root / 'annotations/instances_train2017.json').write_text(json.dumps(content))
    return root


def annotation(
    image: int, category: int, segmentation: Any, crowd: int = 0, side: float = 40
) -> dict[str, Any]:
    return {
        'image_id': image, 'category_id': category, 'segmentation': segmentation,
        'iscrowd': crowd, 'bbox': [0, 0, 80, side],
    }  # fmt: skip


def test_coco_leaves_out_objects_with_a_small_box(tmp_path: Path) -> None:
    point = [[4, 4, 4, 4, 4, 4]]
    box = [[0, 0, 3, 0, 3, 3, 0, 3]]
    entries = [annotation(1, 17, point, side=1), annotation(1, 17, box, side=32)]
    root = coco_folder(tmp_path, [*entries, annotation(1, 17, box, side=31.9)])
    source: Any = build_negatives('coco', {'root': root, 'min_side': 1})
    assert [segmentation for _, _, segmentation, _ in source.objects] == [box]
    with pytest.raises(ValueError, match=r'min_object \(33\)'):
        build_negatives('coco', {'root': root, 'min_side': 1, 'min_object': 33})


def test_a_point_of_an_object_is_pasted_as_a_patch_of_usual_size(tmp_path: Path) -> None:
    root = coco_folder(tmp_path, [annotation(1, 17, [[4, 4, 4, 4, 4, 4]], side=1)])
    options = {'kind': 'coco', 'root': str(root), 'min_side': 1, 'min_object': 1}
    paste = pickle.loads(pickle.dumps(build_paster(options)))  # a loading process gets it so
    assert (paste.short_side, paste.crop) == (128, 512)
    image, labels = np.zeros((300, 300, 3), np.uint8), np.zeros((300, 300), np.uint8)
    _, _, outlier = paste(image, labels, RNG(0))
    assert 64**2 <= outlier.sum() <= 256**2


def test_coco_knows_every_class_of_the_road() -> None:
    shared = {'bicycle', 'bus', 'car', 'motorcycle', 'person', 'traffic light', 'train', 'truck'}
    assert shared == set(CITYSCAPES.names) & set(ROAD_CATEGORIES)


def test_coco_cuts_the_object_along_its_box(tmp_path: Path) -> None:
    triangle = [[2, 1, 6.5, 1, 2, 5.5]]
    root = coco_folder(tmp_path, [annotation(1, 17, triangle)])
    photo = build_negatives('coco', {'root': root, 'min_side': 1}).draw(RNG(0))
    assert photo.regions is not None
    assert photo.regions.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]
    # Row 1, column 2 of the photo is 10.
    assert photo.image[0, 0].tolist() == [10, 10, 10]


def test_coco_leaves_out_road_scenes_crowds_and_small_photos(tmp_path: Path) -> None:
    box = [[0, 0, 3, 0, 3, 3, 0, 3]]
    entries = [annotation(1, 17, box), annotation(2, 17, box), annotation(2, 3, box)]
    entries.append(annotation(1, 17, {'counts': [48], 'size': [6, 8]}, crowd=1))
    root = coco_folder(tmp_path, entries)
    source: Any = build_negatives('coco', {'root': root, 'min_side': 6})
    assert [name for name, *_ in source.objects] == ['000000000001.png']
    with pytest.raises(ValueError, match='min_side'):
        build_negatives('coco', {'root': root, 'min_side': 7})


def test_coco_ids_may_be_texts_in_one_list_and_numbers_in_the_other(tmp_path: Path) -> None:
    box = [[0, 0, 3, 0, 3, 3, 0, 3]]
    texts = [{**annotation(i, c, box), 'image_id': f'{i}', 'category_id': f'{c}'}
             for i, c in ((1, 17), (2, 17), (2, 3))]  # fmt: skip
    source: Any = build_negatives('coco', {'root': coco_folder(tmp_path, texts), 'min_side': 6})
    assert [name for name, *_ in source.objects] == ['000000000001.png']


def test_coco_leaves_out_objects_without_a_box(tmp_path: Path) -> None:
    triangle = [[2, 1, 5, 1, 2, 4]]
    empty = [{**annotation(1, 17, triangle), 'bbox': box} for box in ([], None)]
    root = coco_folder(tmp_path, [*empty, annotation(1, 17, triangle)])
    source: Any = build_negatives('coco', {'root': root, 'min_side': 1})
    assert len(source.objects) == 1


@pytest.mark.parametrize('far', [20, 1e12, -1e12])
def test_coco_names_an_outline_outside_of_the_photo(tmp_path: Path, far: float) -> None:
    outside = [[far, far, far + 4, far, far, far + 4]]
    root = coco_folder(tmp_path, [annotation(1, 17, outside)])
    source = build_negatives('coco', {'root': root, 'min_side': 1})
    with pytest.raises(ValueError, match=r"outline of '000000000001\.png'.*outside of the photo"):
        source.draw(RNG(0))


def test_a_polygon_may_reach_over_the_border() -> None:
    assert decode_polygons([[-9, -9, 1e12, -9, 1e12, 1e12, -9, 1e12]], (2, 3)).all()


def inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Asks each pixel whether a ray from its centre to the left meets the outline oddly often."""
    y, x = (at + 0.5 for at in np.mgrid[: size[0], : size[1]])
    odd = np.zeros(size, np.bool_)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, 0), strict=True):
        if y0 != y1:
            odd ^= ((y0 <= y) != (y1 <= y)) & (x0 + (y - y0) * ((x1 - x0) / (y1 - y0)) <= x)
    return odd


@pytest.mark.parametrize('parts', [1, 2])
@pytest.mark.parametrize('crossings', [1 << 20, 7])
def test_a_polygon_holds_the_pixels_whose_centre_it_encloses(
    parts: int, crossings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco_masks, '_CROSSINGS', crossings)
    rng = RNG(0)
    for reach in (0.7, 3, 12, 40):
        for corners in range(1, 9):
            size = int(rng.integers(1, 30)), int(rng.integers(1, 30))
            points = (
                np.round(rng.uniform(-reach, reach, (corners, 2)) * parts) / parts + size[0] // 2
            )
            mask = np.zeros(size, np.uint8)
            fill_polygon(mask, points, 7)
            assert ((mask == 7) == inside(points, size)).all()


@pytest.mark.parametrize('shift', [0, 0.5])
def test_a_square_is_as_large_as_its_sides(shift: float) -> None:
    corners = np.array([10, 10, 20, 10, 20, 20, 10, 20]) + shift
    mask = decode_polygons([corners.tolist()], (30, 30))
    assert mask.sum() == mask[10:20, 10:20].sum() == 100


def test_an_object_smaller_than_a_pixel_is_where_it_lies() -> None:
    assert decode_polygons([[3.6, 3.6, 4.4, 3.6, 4.4, 4.4]], (6, 8)).nonzero() == ([4], [4])


def test_coco_says_what_is_wrong_with_its_file(tmp_path: Path) -> None:
    root = coco_folder(tmp_path, [annotation(1, 17, {'counts': [3, 4], 'size': [6, 8]})])
    source = build_negatives('coco', {'root': root, 'min_side': 1})
    with pytest.raises(ValueError, match=r'000000000001\.png.*add up to 7'):
        source.draw(RNG(0))
    file = root / 'annotations/instances_train2017.json'
    file.write_text('{"images": []}')
    with pytest.raises(ValueError, match=r'instances_train2017\.json'):
        build_negatives('coco', {'root': root})
    for broken in ('{"images"', '[' * 20_000):
        file.write_text(broken)
        with pytest.raises(ValueError, match='not valid JSON'):
            build_negatives('coco', {'root': root})


@pytest.mark.parametrize(
    ('outline', 'text'),
    [
        ({'counts': [0.5, 47.5]}, 'run lengths that are not all whole numbers from 0 on'),
        ({'counts': [-5, 53]}, 'run lengths that are not all whole numbers from 0 on'),
        ({'counts': 48}, 'run lengths that are not all whole numbers from 0 on'),
        ([[{'x': 1}]], 'corners that are no numbers'),
        ([[0, 0, 9, 9, float('nan'), 1]], "a corner at 'nan, 1.0'"),
    ],
)
def test_coco_names_an_outline_of_another_form(tmp_path: Path, outline: Any, text: str) -> None:
    root = coco_folder(tmp_path, [annotation(1, 17, outline)])
    source = build_negatives('coco', {'root': root, 'min_side': 1})
    with pytest.raises(ValueError, match=rf"outline of '000000000001\.png'.*{text}"):
        source.draw(RNG(0))


def test_runs_go_down_the_columns_and_begin_with_zeros() -> None:
    mask = decode_runs([1, 3, 2], (3, 2))
    assert mask.tolist() == [[0, 1], [1, 0], [1, 0]]
    assert decode_runs([0, 2], (1, 2)).tolist() == [[1, 1]]
    with pytest.raises(ValueError, match='add up to 5'):
        decode_runs([2, 3], (2, 2))


def test_overlapping_polygons_leave_no_hole() -> None:
    mask = decode_polygons([[0, 0, 4, 0, 4, 4, 0, 4], [2, 2, 6, 2, 6, 6, 2, 6]], (6, 6))
    assert mask.sum() == 16 + 16 - 4


def test_packed_runs() -> None:
    # One character a number below 16: '1' is 1. 40 = 8 + 1 * 32: low five bits 8 with bit 5 set
    # is 40, chr(48 + 40) = 'X', then '1'.
    assert unpack_runs('132') == [1, 3, 2]
    assert unpack_runs('X1') == [40]
    # The fourth number is a difference to the second: 3 + 2 = 5; '0' + 31 = 'O' is -1, so 2 - 1.
    assert unpack_runs('1322O') == [1, 3, 2, 5, 1]
    # 17 does not fit four bits and a sign: 17 + 32 = 49 -> 'a', then '0'.
    assert unpack_runs('a0') == [17]
    assert unpack_runs('oooooo0') == [2**30 - 1]
    with pytest.raises(ValueError, match='a number of more than 7 characters'):
        unpack_runs('ooooooo0')


def test_coco_leaves_out_objects_alone_where_photos_may_show_a_road(tmp_path: Path) -> None:
    box = [[0, 0, 3, 0, 3, 3, 0, 3]]
    entries = [annotation(2, 3, box), annotation(2, 17, box), annotation(1, 17, box)]
    root = coco_folder(tmp_path, entries)
    options = {'root': root, 'min_side': 1}
    usual: Any = build_negatives('coco', options)
    assert [name for name, *_ in usual.objects] == ['000000000001.png']
    more: Any = build_negatives('coco', options | {'exclude_photos': False})
    assert [(name, category) for name, *_, category in more.objects] == [
        ('000000000002.png', '17'),
        ('000000000001.png', '17'),
    ]
    fewer: Any = build_negatives('coco', options | {'exclude_files': ['*1.png'], 'exclude': []})
    assert {name for name, *_ in fewer.objects} == {'000000000002.png'}


def test_coco_draws_each_category_as_often(tmp_path: Path) -> None:
    box = [[0, 0, 3, 0, 3, 3, 0, 3]]
    entries = [annotation(1, 17, box) for _ in range(30)] + [
        annotation(2, 3, [[0, 0, 8, 0, 8, 6, 0, 6]])
    ]
    root = coco_folder(tmp_path, entries)
    options = {'root': root, 'min_side': 1, 'exclude': []}
    shares = []
    for even in (False, True):
        source = build_negatives('coco', options | {'even': even})
        rng = RNG(0)
        drawn = [source.draw(rng).image.shape for _ in range(200)]
        shares.append(drawn.count((6, 8, 3)) / 200)
    assert shares[0] < 0.1
    assert abs(shares[1] - 0.5) < 0.1
