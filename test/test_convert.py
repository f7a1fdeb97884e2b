"""What label tools export, as a set of own classes: every pixel is what was drawn there."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from itertools import pairwise
import json
from pathlib import Path
import re
import shutil
import tracemalloc
from typing import Any
import zipfile

import numpy as np
from PIL import Image
import pytest

from anomaly_seg_ros.cli import main
from anomaly_seg_ros.frames.images import encode_image, write_image
from training.converting import CONVERTERS
from training.converting.coco import _draw_instances
from training.converting.drawing import empty_labels
from training.converting.label_studio import unpack_brush
from training.datasets import build_dataset

HEIGHT, WIDTH = 20, 30
SQUARE = [[2, 3], [10, 3], [10, 9], [2, 9]]
"""Corners of the car, which lies over the road, where pixel 0 ends at 1."""


def photo(path: Path, suffix: str = '.jpg') -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path.with_suffix(suffix), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))


def truth(road: int, car: int) -> np.ndarray:
    """Road in the rows from 2 on, a car on it, nothing above."""
    labels = np.full((HEIGHT, WIDTH), 255, np.uint8)
    labels[2:] = road
    labels[3:9, 2:10] = car
    return labels


def road_points(width: int = WIDTH, height: int = HEIGHT) -> list[list[int]]:
    return [[0, 2], [width, 2], [width, height], [0, height]]


def flat(points: list[list[int]]) -> list[int]:
    return [value for point in points for value in point]


def text_of(points: list[list[int]]) -> str:
    return ';'.join(f'{x:.2f},{y:.2f}' for x, y in points)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding='utf-8')


def car_runs() -> list[int]:
    """Run lengths of the car in its box, background first."""
    return [0, 8 * 6]


def make_cvat(root: Path) -> None:
    photo(root / 'images' / 'sub' / 'a b')
    photo(root / 'images' / 'c')
    photo(root / 'images' / 'empty')
    road = f'<polygon label="road" z_order="0" points="{text_of(road_points())}"/>'
    car = (
        f'<mask label="car" z_order="1" rle="{str(car_runs())[1:-1]}" left="2" top="3" '
        'width="8" height="6"/>'
    )
    box = '<box label="car" z_order="1" xtl="2" ytl="3" xbr="10" ybr="9"/>'
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    (root / 'annotations.xml').write_text(
        '<annotations><version>1.1</version><meta><job><labels>'
        '<label><name>road</name><color>#804080</color></label>'
        '<label><name>car</name><color>#00008e</color></label></labels></job></meta>'
        f'<image id="0" name="sub/a b.jpg" subset="Train" {size}>{car}{road}</image>'
        f'<image id="1" name="c.jpg" subset="Validation" {size}>{road}{box}</image>'
        f'<image id="2" name="empty.jpg" {size}><points label="car" points="1,1"/></image>'
        '</annotations>'
    )


def make_cvat_masks(root: Path) -> None:
    colors = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    labels = truth(0, 1)
    colors[labels == 0], colors[labels == 1] = (128, 64, 128), (0, 0, 142)
    for name in ('a', 'b'):
        photo(root / 'JPEGImages' / name)
        (root / 'SegmentationClass').mkdir(exist_ok=True)
        write_image(root / 'SegmentationClass' / f'{name}.png', colors)
    (root / 'labelmap.txt').write_text(
        '# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\ncar:0,0,142::\n'
    )
    lists = root / 'ImageSets' / 'Segmentation'
    lists.mkdir(parents=True)
    (lists / 'Train.txt').write_text('a\n')
    (lists / 'Validation.txt').write_text('b\n')


def make_labelme(root: Path) -> None:
    def shape(label: str, points: Any, kind: str = 'polygon', **more: Any) -> dict[str, Any]:
        return {'label': label, 'points': points, 'shape_type': kind, **more}

    def content(name: str, *shapes: Any, **more: Any) -> dict[str, Any]:
        size = {'imageHeight': HEIGHT, 'imageWidth': WIDTH}
        return {'version': '5.4.1', 'imagePath': name, 'shapes': shapes} | size | more

    photo(root / 'deep' / 'a')
    mask = b64encode(encode_image(np.full((6, 8), 255, np.uint8), '.png')).decode()
    road = shape('road', road_points(WIDTH - 1, HEIGHT - 1))
    write_json(
        root / 'deep' / 'a.json',
        content('a.jpg', road, shape('car', [[2, 3], [9, 8]], 'mask', mask=mask)),
    )
    data = b64encode(encode_image(np.full((HEIGHT, WIDTH, 3), 90, np.uint8), '.jpg')).decode()
    write_json(
        root / 'b.json',
        content(
            r'..\elsewhere\b.jpg',
            road,
            shape('car', [[9, 8], [2, 3]], 'rectangle'),
            shape('__ignore__', [[20, 0], [29, 0], [29, 1], [20, 1]]),
            shape('note', [[1, 1]], 'point'),
            imageData=data,
        ),
    )


def brush(mask: np.ndarray) -> list[int]:
    """Packs a mask as Label Studio does: runs of RGBA, one of them spelled out."""
    values = np.repeat(mask.astype(np.uint8).ravel() * 255, 4)
    bits = f'{values.size:032b}{7:05b}{3:04b}{7:04b}{11:04b}{15:04b}'
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), values.size]
    for number, (start, end) in enumerate(pairwise(edges)):
        if number == 1:
            size, index = (12, 2)
            bits += f'0{index:02b}{end - start - 1:0{size}b}'
            bits += ''.join(f'{value:08b}' for value in values[start:end])
            continue
        size, index = (16, 3)
        bits += f'1{index:02b}{end - start - 1:0{size}b}{values[start]:08b}'
    bits += '0' * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def make_label_studio(root: Path) -> None:
    def percent(points: list[list[int]]) -> list[list[float]]:
        return [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in points]

    def part(kind: str, label: str, **value: Any) -> dict[str, Any]:
        size = {'original_width': WIDTH, 'original_height': HEIGHT}
        return {'type': kind, 'value': {kind: [label], **value}} | size

    road = part('polygonlabels', 'road', points=percent(road_points()))
    car = part('brushlabels', 'car', format='rle', rle=brush(truth(0, 1) == 1))
    box = part(
        'rectanglelabels', 'car', rotation=0,
        x=200 / WIDTH, y=300 / HEIGHT, width=800 / WIDTH, height=600 / HEIGHT,
    )  # fmt: skip
    photo(root / 'a name')
    photo(root / 'media' / 'b')
    cancelled = {'was_cancelled': True, 'result': [box]}
    choice = {'type': 'choices', 'value': {'choices': ['dry']}}
    tasks: dict[str, list[Any]] = {
        '/data/upload/3/0a1b2c3d-a%20name.jpg': [cancelled, {'result': [road, choice, car]}],
        '/data/local-files/?d=media/b.jpg': [{'result': [road, box]}],
        'x.jpg': [],
    }
    write_json(
        root / 'project-3.json',
        [{'data': {'image': image}, 'annotations': parts} for image, parts in tasks.items()],
    )


def make_coco_panoptic(root: Path) -> None:
    for split, name in (('train', 'a'), ('val', 'b')):
        photo(root / f'{split}2017' / name, '.png')
        labels = truth(0, 1).astype(np.int64)
        segments = np.select([labels == 0, labels == 1], [70_000, 5], 0)
        rgb = np.stack([segments % 256, segments // 256 % 256, segments // 65536], 2)
        folder = root / 'annotations' / f'panoptic_{split}2017'
        folder.mkdir(parents=True)
        write_image(folder / f'{name}.png', rgb.astype(np.uint8))
        image = {'id': 9, 'file_name': f'{name}.png', 'height': HEIGHT, 'width': WIDTH}
        write_json(
            folder.with_suffix('.json'),
            {
                'images': [image],
                'annotations': [{
                    'image_id': 9, 'file_name': f'{name}.png',
                    'segments_info': [
                        {'id': 70_000, 'category_id': 149}, {'id': 5, 'category_id': 3},
                    ],
                }],
                'categories': [
                    {'id': 149, 'name': 'road', 'color': [128, 64, 128], 'isthing': 0},
                    {'id': 3, 'name': 'car', 'color': [0, 0, 142], 'isthing': 1},
                ],
            },
        )  # fmt: skip


def make_coco(root: Path) -> None:
    for split, name in (('train', 'a'), ('valid', 'b')):
        photo(root / split / name)
        outline = {'image_id': 1, 'iscrowd': 0}
        write_json(
            root / split / '_annotations.coco.json',
            {
                'images': [
                    {'id': 1, 'file_name': f'{name}.jpg', 'height': HEIGHT, 'width': WIDTH},
                    {'id': 2, 'file_name': 'none.jpg', 'height': HEIGHT, 'width': WIDTH},
                ],
                'annotations': [
                    {'id': 1, 'category_id': 2, 'segmentation': [flat(SQUARE)], **outline},
                    {'id': 2, 'category_id': 1, 'segmentation': [flat(road_points())], **outline},
                ],
                'categories': [{'id': 1, 'name': 'road'}, {'id': 2, 'name': 'car'}],
            },
        )


def make_mapillary(root: Path) -> None:
    stored = np.select([truth(0, 1) == 0, truth(0, 1) == 1], [2, 0], 1).astype(np.uint8)
    for split, name in (('training', 'a'), ('validation', 'b')):
        photo(root / split / 'images' / name)
        folder = root / split / 'v1.2' / 'labels'
        folder.mkdir(parents=True)
        picture = Image.fromarray(stored)
        picture.putpalette([0, 0, 142, 0, 0, 0, 128, 64, 128])
        picture.save(folder / f'{name}.png')
    photo(root / 'testing' / 'images' / 'c')
    (root / 'testing' / 'v1.2' / 'labels').mkdir(parents=True)
    names = ('object--vehicle--car', 'void--ego-vehicle', 'construction--flat--road')
    write_json(
        root / 'config_v1.2.json',
        {
            'labels': [
                {'name': name, 'readable': name.split('--')[-1], 'color': [1, 2, index],
                 'evaluate': not name.startswith('void'), 'instances': index == 0}
                for index, name in enumerate(names)
            ],
        },
    )  # fmt: skip
    write_json(root / 'config_v2.0.json', {'labels': []})


SHARED_SPLITS = {'train': 1, 'val': 1}
CASES: dict[str, tuple[str, Callable[[Path], None], dict[str, int]]] = {
    'cvat for images': ('cvat', make_cvat, SHARED_SPLITS),
    'cvat masks': ('cvat', make_cvat_masks, SHARED_SPLITS),
    'labelme': ('labelme', make_labelme, {}),
    'label studio': ('Label-Studio', make_label_studio, {}),
    'coco panoptic': ('coco_panoptic', make_coco_panoptic, SHARED_SPLITS),
    'coco': ('coco', make_coco, SHARED_SPLITS),
    'mapillary': ('mapillary', make_mapillary, SHARED_SPLITS),
}


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('packed', [False, True], ids=['folder', 'zip'])
def test_every_pixel_is_what_was_drawn_there(
    case: str, packed: bool, tmp_path: Path, capsys: Any
) -> None:
    kind, make, splits = CASES[case]
    source, out = tmp_path / 'in', tmp_path / 'out'
    source.mkdir()
    make(source)
    if packed:
        with zipfile.ZipFile(tmp_path / 'in.zip', 'w') as archive:
            for path in source.rglob('*'):
                archive.write(path, path.relative_to(source))
        source = tmp_path / 'in.zip'
    assert main(['convert', kind, str(source), '--out', str(out)]) == 0
    dataset = build_dataset('classes', out, 'all')
    road, car = (dataset.classes.names.index(name) for name in ('road', 'car'))
    assert len(dataset) == 2
    for sample in dataset:
        assert sample.image.shape == (HEIGHT, WIDTH, 3)
        assert (sample.labels == truth(road, car)).all()
    for split, count in splits.items():
        assert len(build_dataset('classes', out, split)) == count
    said = capsys.readouterr().out
    assert '2 frames; class and the frames that show it:' in said
    assert 'anomaly_seg check --dataset classes' in said


def test_every_converter_has_a_case() -> None:
    assert {kind.lower().replace('-', '_') for kind, *_ in CASES.values()} == set(CONVERTERS)


def test_what_an_export_knows_of_its_classes_is_kept(tmp_path: Path) -> None:
    make_mapillary(tmp_path / 'in')
    assert (
        main(['convert', 'mapillary', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 0
    )
    text = (tmp_path / 'out' / 'classes.yaml').read_text()
    assert '- {name: "car", id: 0, color: [1, 2, 0], dynamic: true}\n' in text
    assert '- {name: "road", id: 1, color: [1, 2, 2]}\n' in text


def test_what_is_left_out_is_said(tmp_path: Path, capsys: Any) -> None:
    make_cvat(tmp_path / 'in')
    assert main(['convert', 'cvat', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 0
    said = capsys.readouterr().out
    assert 'left out: 1 images without polygon, mask, box or ellipse' in said
    assert 'left out: 1 shapes of type points (car)' in said
    make_labelme(tmp_path / 'lm')
    assert main(['convert', 'labelme', str(tmp_path / 'lm'), '--out', str(tmp_path / 'o2')]) == 0
    assert 'left out: 1 shapes of type point (note)' in capsys.readouterr().out


def test_a_full_folder_is_left_as_it_is(tmp_path: Path, capsys: Any) -> None:
    make_cvat(tmp_path / 'in')
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'classes.yaml').write_text('mine')
    assert main(['convert', 'cvat', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 2
    assert 'already holds files; choose another --out' in capsys.readouterr().err
    assert (tmp_path / 'out' / 'classes.yaml').read_text() == 'mine'


def test_names_of_an_export_stay_below_the_new_folder(tmp_path: Path) -> None:
    make_cvat(tmp_path / 'in')
    file = tmp_path / 'in' / 'annotations.xml'
    file.write_text(file.read_text().replace('"c.jpg"', '"../../.images/c.jpg"'))
    assert main(['convert', 'cvat', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 0
    assert (tmp_path / 'out' / 'images' / 'images' / 'c.jpg').is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in', 'out']


def damage(case: str, root: Path) -> None:
    if case == 'no image':
        for path in (root / 'images').rglob('c.jpg'):
            path.unlink()
    if case == 'xml':
        file = root / 'annotations.xml'
        file.write_text(file.read_text()[:-30])
    if case == 'runs':
        file = root / 'annotations.xml'
        file.write_text(file.read_text().replace('rle="0, 48"', 'rle="0, 49"'))
    if case == 'label':
        file = root / 'annotations.xml'
        file.write_text(file.read_text().replace('<polygon label="road"', '<polygon label="no"'))
    if case == 'size':
        file = root / 'annotations.xml'
        file.write_text(file.read_text().replace(f'width="{WIDTH}"', 'width="-1"'))
    if case == 'colour':
        file = root / 'annotations.xml'
        file.write_text(file.read_text().replace('#804080', '#f00'))
    if case == 'empty':
        (root / 'annotations.xml').unlink()


@pytest.mark.parametrize(
    ('case', 'text'),
    [
        ('no image', 'image \'c.jpg\' of .* is not in .*; export with "Save images"'),
        ('xml', 'annotations.xml. is not valid XML'),
        ('runs', r"image 'sub/a b.jpg' of .*: run lengths add up to 49, the mask is \(6, 8\)"),
        ('label', "image 'sub/a b.jpg' of .*: 'no'"),
        ('size', "image 'sub/a b.jpg' of .*: a frame of -1x20 pixels"),
        ('colour', "annotations.xml.: colour '#f00' of label 'road' is not of the form #rrggbb"),
        ('empty', 'no annotations.xml and no labelmap.txt in .*; export as "CVAT for images 1.1"'),
    ],
)
def test_a_broken_export_is_one_line_and_leaves_nothing(
    case: str, text: str, tmp_path: Path, capsys: Any
) -> None:
    make_cvat(tmp_path / 'in')
    damage(case, tmp_path / 'in')
    assert main(['convert', 'cvat', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert not (tmp_path / 'out').exists()
    assert re.search(text, error)


@pytest.mark.parametrize(
    ('kind', 'make', 'old', 'new', 'text'),
    [
        ('coco', make_coco, '[2, 3, 10', '[NaN, 3, 10', "valid JSON: it holds 'NaN' for a number"),
        ('coco', make_coco, '[2, 3, 10', '[1e999, 3, 10', "'a.jpg' of .*: a corner at 'inf, 3.0'"),
        ('coco', make_coco, '"height": 20', '"height": 1e999', 'a frame of 30xinf pixels'),
        ('cvat', make_cvat, '30.00,2.00;', '30,nan;', "a b.jpg' of .*: a corner at '30.0, nan'"),
        ('cvat', make_cvat, 'left="2"', 'left="inf"', "a b.jpg' of .*: left 'inf' of a shape"),
        ('labelme', make_labelme, '[9, 8]', '[9, 1e999]', "b.json.*: a corner at '9.0, inf'"),
        ('label_studio', make_label_studio, '"x": 6.', '"x": 1e999', "task None.*x 'inf' of"),
    ],
)  # fmt: skip
def test_numbers_that_are_not_finite_are_refused(
    kind: str, make: Callable[[Path], None], old: str, new: str, text: str, tmp_path: Path,
    capsys: Any,
) -> None:  # fmt: skip
    (tmp_path / 'in').mkdir()
    make(tmp_path / 'in')
    for file in [*(tmp_path / 'in').rglob('*.json'), *(tmp_path / 'in').rglob('*.xml')]:
        file.write_text(file.read_text().replace(old, new))
    assert main(['convert', kind, str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert re.search(text, error)


@pytest.mark.parametrize(
    ('case', 'old'),
    [
        ('coco', f'"width": {WIDTH}'),
        ('coco panoptic', f'"width": {WIDTH}'),
        ('cvat for images', f'width="{WIDTH}"'),
        ('label studio', f'"original_width": {WIDTH}'),
        ('labelme', f'"imageWidth": {WIDTH}'),
    ],
)
def test_a_stated_size_that_is_not_that_of_the_image_is_refused(
    case: str, old: str, tmp_path: Path, capsys: Any
) -> None:
    kind, make, _ = CASES[case]
    (tmp_path / 'in').mkdir()
    make(tmp_path / 'in')
    for file in [*(tmp_path / 'in').rglob('*.json'), *(tmp_path / 'in').rglob('*.xml')]:
        file.write_text(file.read_text().replace(old, old.replace(str(WIDTH), '800')))
    assert main(['convert', kind, str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert f' is {WIDTH}x{HEIGHT}, its labels are for 800x{HEIGHT}; export' in error


@pytest.mark.parametrize('case', ['cvat masks', 'mapillary'])
def test_label_images_of_another_size_than_their_image_are_refused(
    case: str, tmp_path: Path, capsys: Any
) -> None:
    kind, make, _ = CASES[case]
    (tmp_path / 'in').mkdir()
    make(tmp_path / 'in')
    (image,) = (tmp_path / 'in').rglob('b.jpg')
    write_image(image, np.zeros((HEIGHT, 2 * WIDTH, 3), np.uint8))
    assert main(['convert', kind, str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 2
    assert re.search(
        rf"b.jpg' is {2 * WIDTH}x{HEIGHT}, its labels are for {WIDTH}x{HEIGHT}; export",
        capsys.readouterr().err,
    )


def test_points_of_label_studio_are_counted(tmp_path: Path, capsys: Any) -> None:
    make_label_studio(tmp_path / 'in')
    file = tmp_path / 'in' / 'project-3.json'
    tasks = json.loads(file.read_text())
    size = {'original_width': WIDTH, 'original_height': HEIGHT}
    point = {'type': 'keypointlabels', 'value': {'keypointlabels': ['wheel'], 'x': 1, 'y': 2}}
    tasks[0]['annotations'][-1]['result'] += [point | size, point | size]
    tasks[2]['annotations'] = [{'result': [point | size]}]
    write_json(file, tasks)
    argv = ['convert', 'label_studio', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert 'left out: 3 shapes of type keypoint (wheel)\n' in said
    assert 'left out: 1 tasks without polygon, brush, rectangle or ellipse\n' in said


def test_labelme_may_leave_the_size_to_the_image(tmp_path: Path) -> None:
    make_labelme(tmp_path / 'in')
    for file in (tmp_path / 'in').rglob('*.json'):
        content = json.loads(file.read_text())
        del content['imageHeight'], content['imageWidth']
        write_json(file, content)
    assert main(['convert', 'labelme', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 0
    dataset = build_dataset('classes', tmp_path / 'out', 'all')
    road, car = (dataset.classes.names.index(name) for name in ('road', 'car'))
    assert all((sample.labels == truth(road, car)).all() for sample in dataset)


@pytest.mark.parametrize('data', [5, 'a', 'abcd', [1]])
def test_labelme_names_the_file_whose_image_is_broken(
    data: Any, tmp_path: Path, capsys: Any
) -> None:
    make_labelme(tmp_path / 'in')
    file = tmp_path / 'in' / 'b.json'
    write_json(file, json.loads(file.read_text()) | {'imageData': data})
    assert main(['convert', 'labelme', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert f'cannot read {str(file)!r} as a file of LabelMe: ' in error


def test_of_many_objects_one_mask_is_held_at_a_time() -> None:
    labels = empty_labels((1000, 1000))
    objects = [
        {'segmentation': {'counts': [0, size, 10**6 - size]}, 'category_id': size}
        for size in range(1, 21)
    ]
    tracemalloc.start()
    _draw_instances(labels, objects, {str(size): size for size in range(1, 21)})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * labels.nbytes
    assert labels[:21, 0].tolist() == [*range(1, 21), 255]


@pytest.mark.parametrize('case', [case for case in CASES if case != 'mapillary'])
def test_what_macos_and_notebooks_put_beside_the_files_is_no_data(
    case: str, tmp_path: Path
) -> None:
    kind, make, _ = CASES[case]
    source = tmp_path / 'in'
    source.mkdir()
    make(source)
    for path in [path for path in source.rglob('*') if path.is_file()]:
        inner = path.relative_to(source)
        for copy in (
            path.with_name(f'._{path.name}'),
            source / '__MACOSX' / inner,
            source / '.ipynb_checkpoints' / inner,
        ):
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(b'\0\5\26\7')
    assert main(['convert', kind, str(source), '--out', str(tmp_path / 'out')]) == 0
    assert len(build_dataset('classes', tmp_path / 'out', 'all')) == 2


def with_coco(root: Path, change: Callable[[Any], None], name: str = '_annotations') -> None:
    make_coco(root)
    file = root / 'train' / '_annotations.coco.json'
    content = json.loads(file.read_text())
    change(content)
    write_json(file.with_name(f'{name}.coco.json'), content)


@pytest.mark.parametrize('place', [0, 1], ids=['first', 'later'])
@pytest.mark.parametrize('outline', [None, []])
def test_boxes_of_coco_are_told_of(place: int, outline: Any, tmp_path: Path, capsys: Any) -> None:
    box: dict[str, Any] = {'id': 9, 'image_id': 1, 'category_id': 1, 'bbox': [0, 0, 5, 5]}
    box |= {} if outline is None else {'segmentation': outline}
    only = [{**box, 'image_id': 2}, box]
    with_coco(tmp_path / 'in', lambda content: content['annotations'].insert(place, box))
    assert main(['convert', 'coco', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 0
    said = capsys.readouterr().out
    assert 'left out: 2 images without an outline\n' in said
    assert 'left out: 1 annotations without an outline (boxes only)\n' in said
    assert '2 frames;' in said

    with_coco(
        tmp_path / 'in',
        lambda content: content.update(annotations=[*only, {**box, 'segmentation': []}]),
    )
    (tmp_path / 'in' / 'valid' / '_annotations.coco.json').unlink()
    assert main(['convert', 'coco', str(tmp_path / 'in'), '--out', str(tmp_path / 'o2')]) == 2
    assert capsys.readouterr().err.endswith(
        'the export holds no labelled frame; 3 annotations without an outline (boxes only); 2 '
        'images without an outline\n'
    )


@pytest.mark.parametrize(
    ('color', 'kept'),
    [
        ('#1f5b9f', ', color: [31, 91, 159]'), ([31, 91, 159], ', color: [31, 91, 159]'),
        ('blue', ''), ([1, 2], ''), ([1, 2, 256], ''), ([1, 2, 0.5], ''), (5, ''), (None, ''),
    ],
)  # fmt: skip
def test_a_colour_of_coco_is_kept_where_it_is_one(color: Any, kept: str, tmp_path: Path) -> None:
    with_coco(tmp_path / 'in', lambda content: content['categories'][0].update(color=color))
    assert main(['convert', 'coco', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 0
    text = (tmp_path / 'out' / 'classes.yaml').read_text()
    assert f'- {{name: "road", id: 0{kept}}}\n' in text


def test_an_image_is_labelled_once(tmp_path: Path, capsys: Any) -> None:
    with_coco(tmp_path / 'in', lambda content: None, 'person_keypoints')
    assert main(['convert', 'coco', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 2
    assert re.search(
        r"a.jpg' is labelled in '.*_annotations.coco.json' \(id 1\) and in "
        r"'.*person_keypoints.coco.json' \(id 1\); keep one of them\n$",
        capsys.readouterr().err,
    )
    make_label_studio(tmp_path / 'ls')
    file = tmp_path / 'ls' / 'project-3.json'
    tasks = json.loads(file.read_text())
    write_json(file, [{**task, 'id': number} for number, task in enumerate([*tasks, tasks[0]])])
    assert main(['convert', 'label_studio', str(tmp_path / 'ls'), '--out', str(tmp_path / 'out')])
    assert re.search(
        r"a name.jpg' is labelled in task 0 of .* and in task 3 of ", capsys.readouterr().err
    )
    make_labelme(tmp_path / 'lm')
    file = tmp_path / 'lm' / 'deep' / 'a.json'
    file.with_name('a_old.json').write_bytes(file.read_bytes())
    assert main(['convert', 'labelme', str(tmp_path / 'lm'), '--out', str(tmp_path / 'out')]) == 2
    assert re.search(
        r"a.jpg' is labelled in '.*a.json' and in '.*a_old.json'; keep", capsys.readouterr().err
    )
    make_cvat(tmp_path / 'cvat')
    file = tmp_path / 'cvat' / 'annotations.xml'
    file.write_text(file.read_text().replace('"sub/a b.jpg"', '"c.jpg"'))
    assert main(['convert', 'cvat', str(tmp_path / 'cvat'), '--out', str(tmp_path / 'out')]) == 2
    assert re.search(
        r"c.jpg' is labelled in '.*xml' \(id 0\) and in '.*xml' \(id 1\)", capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ('old', 'new', 'text'),
    [
        ('128,64,128', '0,0,142', r"labels 'road' and 'car' have the same colour \[0, 0, 142\]"),
        (
            '128,64,128',
            '0,0,0',
            r"labels 'background' and 'road' have the same colour \[0, 0, 0\]",
        ),
    ],
)
def test_labels_of_one_colour_are_not_taken_for_one(
    old: str, new: str, text: str, tmp_path: Path, capsys: Any
) -> None:
    make_cvat_masks(tmp_path / 'in')
    file = tmp_path / 'in' / 'labelmap.txt'
    file.write_text(file.read_text().replace(old, new))
    assert main(['convert', 'cvat', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 2
    assert re.search(f'labelmap.txt.: {text}; give one of them', capsys.readouterr().err)


@pytest.mark.parametrize('absolute', [False, True])
@pytest.mark.parametrize('secret', ['secret.txt', 'secret.jpg'])
def test_labelme_takes_no_file_from_elsewhere(
    secret: str, absolute: bool, tmp_path: Path, capsys: Any
) -> None:
    make_labelme(tmp_path / 'in')
    photo(tmp_path / 'secret')
    (tmp_path / 'secret.txt').write_bytes((tmp_path / 'secret.jpg').read_bytes())
    file = tmp_path / 'in' / 'deep' / 'a.json'
    name = str(tmp_path / secret) if absolute else f'../../{secret}'
    write_json(file, json.loads(file.read_text()) | {'imagePath': name})
    out = tmp_path / 'out'
    assert main(['convert', 'labelme', str(tmp_path / 'in'), '--out', str(out)]) == 2
    error = capsys.readouterr().err
    assert f'image {name!r} of {str(file)!r} is neither below {str(tmp_path / "in")!r}' in error
    (tmp_path / 'secret.jpg').rename(file.with_name('secret.jpg'))
    assert (main(['convert', 'labelme', str(tmp_path / 'in'), '--out', str(out)]) == 0) == (
        secret == 'secret.jpg'
    )


def test_labelme_may_name_an_image_in_another_folder_of_the_export(tmp_path: Path) -> None:
    make_labelme(tmp_path / 'in')
    file = tmp_path / 'in' / 'deep' / 'a.json'
    photo(tmp_path / 'in' / 'images' / 'a')
    file.with_name('a.jpg').unlink()
    write_json(file, json.loads(file.read_text()) | {'imagePath': '../images/a.jpg'})
    assert main(['convert', 'labelme', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 0


def test_panoptic_segments_are_not_read_from_elsewhere(tmp_path: Path, capsys: Any) -> None:
    make_coco_panoptic(tmp_path / 'in')
    file = tmp_path / 'in' / 'annotations' / 'panoptic_val2017.json'
    content = json.loads(file.read_text())
    content['annotations'][0]['file_name'] = '../panoptic_train2017/a.png'
    write_json(file, content)
    source = str(tmp_path / 'in')
    assert main(['convert', 'coco-panoptic', source, '--out', str(tmp_path / 'out')]) == 2
    assert re.search(r'its segments .*a.png. are not below .*val2017', capsys.readouterr().err)


def test_two_exports_of_cvat_are_not_taken_for_one(tmp_path: Path, capsys: Any) -> None:
    for name in ('a', 'b'):
        make_cvat(tmp_path / 'in' / name)
    assert main(['convert', 'cvat', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 2
    error = capsys.readouterr().err
    assert 'holds 2 exports' in error
    assert 'convert each folder by itself' in error
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('kind', sorted(CONVERTERS))
def test_a_folder_of_something_else_says_what_is_missing(
    kind: str, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / 'in').mkdir()
    write_json(tmp_path / 'in' / 'other.json', {'a': [1]})
    assert main(['convert', kind, str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 2
    error = capsys.readouterr().err
    assert error.startswith('anomaly_seg convert: no ')
    assert str(tmp_path / 'in') in error


def test_a_cut_brush_is_an_error() -> None:
    data = bytes(brush(truth(0, 1) == 1))
    assert unpack_brush(data).sum() == 255 * 4 * 48
    for length in (3, 9, len(data) - 2):
        with pytest.raises(ValueError, match='cut short'):
            unpack_brush(data[:length])


def test_annotations_of_images_that_are_not_listed_are_told_of(
    tmp_path: Path, capsys: Any
) -> None:
    make_coco(tmp_path / 'in')
    file = tmp_path / 'in' / 'train' / '_annotations.coco.json'
    content = json.loads(file.read_text())
    content['annotations'].append({**content['annotations'][0], 'id': 9, 'image_id': 99})
    write_json(file, content)
    assert main(['convert', 'coco', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 0
    assert 'left out: 1 annotations of images that no file lists' in capsys.readouterr().out


def test_no_zip_is_one_line(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / 'in.zip').write_bytes(b'PK no')
    assert main(['convert', 'cvat', str(tmp_path / 'in.zip'), '--out', str(tmp_path / 'o')]) == 2
    assert 'as a .zip' in capsys.readouterr().err
    (tmp_path / 'x.json').write_text('{}')
    assert main(['convert', 'cvat', str(tmp_path / 'x.json'), '--out', str(tmp_path / 'o')]) == 2
    assert 'give the folder of the export, or its .zip' in capsys.readouterr().err
    assert main(['convert', 'voc', str(tmp_path), '--out', str(tmp_path / 'o')]) == 2
    assert "unknown kind 'voc'; choose one of: coco, coco_panoptic" in capsys.readouterr().err


@pytest.mark.parametrize('method', [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
@pytest.mark.parametrize('start', [0, 9])
def test_a_damaged_zip_is_one_line(method: int, start: int, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / 'in.zip'
    with zipfile.ZipFile(file, 'w', method) as archive:
        archive.writestr('a.json', 'abcdefgh' * 2000)
    data = bytearray(file.read_bytes())
    at = data.find(b'a.json') + 6 + start
    data[at : at + 6] = b'\xff' * 6
    file.write_bytes(data)
    assert main(['convert', 'coco', str(file), '--out', str(tmp_path / 'out')]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert f'cannot unpack {str(file)!r} as a .zip: ' in error


def test_a_zip_leaves_room_on_the_disk(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / 'in.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
        for name in ('a', 'b'):
            archive.writestr(name, bytes(5 << 20))
    free = shutil.disk_usage(tmp_path)._replace(free=16 << 20)
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: free)
    assert main(['convert', 'coco', str(tmp_path / 'in.zip'), '--out', str(tmp_path / 'o')]) == 2
    assert "in.zip' unpacks to 10 MiB, more than 8 MiB, half of what is" in capsys.readouterr().err
