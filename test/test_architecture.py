"""The picture of the rooms: drawn from the imports as they are, arrows downwards only."""

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from docs.architecture import (
    Graph,
    Layers,
    named,
    PICTURE,
    picture,
    room_of,
    rooms,
    shortest,
    within,
)

SVG = '{http://www.w3.org/2000/svg}'


def tree(root: Path, files: dict[str, str]) -> Path:
    """A small pair of packages; the command names one room of each as text."""
    command = "VERBS = ('training.commands', 'anomaly_seg_ros.commands')\n"
    for name, code in {'anomaly_seg_ros/cli.py': command, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    return root


SMALL = {
    'anomaly_seg_ros/base.py': '',
    'anomaly_seg_ros/low/a.py': 'from anomaly_seg_ros import base\n',
    'anomaly_seg_ros/high/b.py': 'import numpy\ndef f():\n from anomaly_seg_ros.low.a import x\n',
    'anomaly_seg_ros/commands/c.py': (
        'from anomaly_seg_ros.high import b\nimport anomaly_seg_ros.low.a'
    ),
    'training/base.py': '',
    'training/commands/d.py': 'from .e import y\nfrom anomaly_seg_ros.low import a\n',
    'training/commands/e.py': 'from training import base',
}


def test_imports_fold_to_rooms(tmp_path: Path) -> None:
    runtime = 'anomaly_seg_ros'
    assert rooms(tree(tmp_path, SMALL)) == {
        'anomaly_seg_ros/*': set(),
        'anomaly_seg_ros/cli.py': set(),
        'anomaly_seg_ros/low': {f'{runtime}/*'},
        'anomaly_seg_ros/high': {f'{runtime}/low'},
        'anomaly_seg_ros/commands': {f'{runtime}/high', f'{runtime}/low'},
        'training/*': set(),
        'training/commands': {'training/*', f'{runtime}/low'},
    }
    assert named(tmp_path) == {'training/commands', f'{runtime}/commands'}
    assert room_of('numpy.linalg') is None


def test_an_arrow_that_a_longer_way_says_is_left_out() -> None:
    graph = {'a': {'b', 'c'}, 'b': {'c'}, 'c': set[str]()}
    assert shortest(graph) == {'a': {'b'}, 'b': {'c'}, 'c': set()}


def test_a_circle_is_refused(tmp_path: Path) -> None:
    circle = {'anomaly_seg_ros/low/z.py': 'import anomaly_seg_ros.high'}
    with pytest.raises(ValueError, match=r'in a circle: (\S+) -> \S+ -> \1$'):
        picture(tree(tmp_path, SMALL | circle))


def test_arrows_point_down_and_boxes_stay_apart() -> None:
    graph: Graph = {'a': {'b', 'c', 'd'}, 'b': {'d'}, 'c': {'d'}, 'd': set(), 'e': {'d'}}
    layers = Layers(graph, lambda name: 60.0)
    boxes = layers.boxes()
    assert layers.ways
    for way in layers.ways:
        heights = [boxes[name].y for name in way]
        assert heights == sorted(set(heights))
    for row in layers.rows:
        ordered = sorted(boxes[name] for name in row)
        for left, right in pairwise(ordered):
            assert left.x + left.width / 2 < right.x - right.width / 2


def test_every_room_and_no_other_is_in_the_picture(tmp_path: Path) -> None:
    text = picture(tree(tmp_path, SMALL))
    names = [node.text for node in ElementTree.fromstring(text).iter(f'{SVG}text')]
    assert {'low', 'high', 'base.py', 'commands'} <= set(names)
    assert names.count('commands') == 2
    assert 'cli.py' not in names


def test_the_picture_is_what_the_code_says_now() -> None:
    assert PICTURE.read_text(encoding='utf-8') == picture(), 'run: python docs/architecture.py'


def test_no_room_stands_aside() -> None:
    graph = rooms()
    for package in ('anomaly_seg_ros', 'training'):
        inner = within(graph, package)
        used = set().union(*inner.values())
        assert [room for room, found in inner.items() if not found and room not in used] == []
