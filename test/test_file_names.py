"""No file name ends the process: OpenCV gets bytes, not names, and texts take any name."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest

from anomaly_seg_ros.bags.reader import BagReader
from anomaly_seg_ros.bags.storage import is_bag
from anomaly_seg_ros.bags.writer import BagWriter
from anomaly_seg_ros.frames.images import read_image, write_image

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(
    path
    for folder in ('anomaly_seg_ros', 'training', 'launch', 'docs', 'test')
    for path in (ROOT / folder).rglob('*.py')
)
BY_NAME = {
    'imread', 'imreadmulti', 'imreadanimation', 'imwrite', 'imwritemulti', 'imwriteanimation',
    'imcount', 'haveImageReader', 'haveImageWriter', 'VideoCapture', 'VideoWriter', 'FileStorage',
    'FileNode', 'samples', 'dnn',
}  # fmt: skip
"""What of OpenCV takes the name of a file."""
PLAIN_NAMES = {
    'anomaly_seg_ros/demo/film.py': {'VideoWriter'},
    'anomaly_seg_ros/frames/video.py': {'VideoCapture'},
    'test/test_demo.py': {'VideoCapture'},
    'test/test_video.py': {'VideoWriter'},
}
"""Who gives it a name that is ASCII in any case."""
NAME = os.fsdecode(b'stra\xdfe')
"""As Latin-1 has it, which is no UTF-8."""


def test_opencv_sees_no_file_names() -> None:
    guilty = {}
    for path in FILES:
        text = path.read_text(encoding='utf-8')
        if 'cv2' not in text:
            continue
        tree = ast.parse(text)
        used = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == 'cv2'
        }
        used |= {
            name.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == 'cv2'
            for name in node.names
        }
        name = path.relative_to(ROOT).as_posix()
        if found := used & BY_NAME - PLAIN_NAMES.get(name, set()):
            guilty[name] = found
    assert guilty == {}


@pytest.fixture(params=['C', 'C.UTF-8'])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    return os.environ | {'LC_ALL': request.param}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two images with labels and score maps, all of names that are not ASCII."""
    result = tmp_path / f'b\xe4{NAME}'
    rng = np.random.default_rng(0)
    for name in ('images', 'labels', 'scores'):
        (result / name).mkdir(parents=True)
    for name in (NAME, 'fl\xfcsse'):
        image = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        write_image(result / 'images' / f'{name}.png', image)
        write_image(result / 'labels' / f'{name}.png', image[..., 0] % 2)
        np.save(result / 'scores' / f'{name}.npy', rng.random((24, 32), np.float32))
    return result


def run(environment: dict[str, str], *arguments: str | Path) -> str:
    """Runs a command in a process of its own, and gives what it said."""
    command = [sys.executable, '-m', 'anomaly_seg_ros', *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode('utf-8', 'replace')[-2000:]
    return done.stdout.decode('utf-8', 'replace')


@pytest.mark.slow
def test_predict(folder: Path, environment: dict[str, str]) -> None:
    out = folder / 'out'
    run(environment, 'predict', folder / 'images', '--save', 'overlay,labels', '--out', out)
    assert sorted(out.iterdir()) == sorted(
        out / f'{name}_{what}.png'
        for name in (NAME, 'fl\xfcsse')
        for what in ('overlay', 'labels')
    )
    assert read_image(out / f'{NAME}_overlay.png').shape == (24, 32, 3)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_make_bag(folder: Path, environment: dict[str, str], storage: str) -> None:
    out = folder / f'{NAME}_bag'
    run(environment, 'make_bag', folder / 'images', '--out', out, '--storage', storage)
    with BagReader(out) as reader:
        assert [image.frame().size for image in reader.images('/image')] == [(24, 32)] * 2
        assert sorted(reader.image_names('/image').values()) == ['fl\xfcsse.png', 'stra\\xdfe.png']
        assert reader.problems() == []


FILM = """
import cv2, os, sys
from pathlib import Path
import numpy as np
from anomaly_seg_ros.demo.film import Film
out = Path(sys.argv[1])
film = Film(out, 10.0)
for number in range(3):
    film.add(number, np.full((48, 64, 3), 40 * number, np.uint8))
film.close()
os.link(out / 'demo.mp4', 'plain.mp4')
film = cv2.VideoCapture('plain.mp4')
assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 3
"""


def test_the_film_of_the_demo(folder: Path, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / 'temporary').mkdir()
    environment |= {'PYTHONPATH': str(ROOT), 'TMPDIR': str(tmp_path / 'temporary')}
    out = folder / NAME
    out.mkdir()
    command = [sys.executable, '-c', FILM, str(out)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        'demo.mp4', 'overlay_000.png', 'overlay_001.png', 'overlay_002.png',
    ]  # fmt: skip
    assert list((tmp_path / 'temporary').iterdir()) == []


@pytest.mark.parametrize('name', ['a#1', 'what?', '100%41'])
def test_sqlite_never_writes_to_another_file(name: str, tmp_path: Path) -> None:
    """Of 'a#1' it would take 'a'."""
    with pytest.raises(ValueError, match='sqlite3 would write to another file; take storage mcap'):
        BagWriter(tmp_path / name, 'sqlite3')
    assert list(tmp_path.iterdir()) == []
    with BagWriter(tmp_path / name):
        pass
    assert is_bag(tmp_path / name)


@pytest.mark.slow
def test_pictures_of_evaluate_and_the_page_of_report(
    folder: Path, environment: dict[str, str]
) -> None:
    out = folder / f'{NAME}_out'
    maps = ['--scores', folder / 'scores', '--labels', folder / 'labels']
    run(environment, 'evaluate', *maps, '--out', out)
    names = [line.split(',')[1] for line in (out / 'frames.csv').read_text('utf-8').splitlines()]
    assert sorted(names[1:]) == ['fl\xfcsse', 'stra\\xdfe']
    listed = json.loads((out / 'pictures.json').read_text('utf-8'))
    assert {entry['frame'] for entry in listed['pictures']} == set(names[1:])
    assert len(list((out / 'pictures').iterdir())) >= 4
    run(environment, 'report', out, '--out', folder / f'{NAME}.html')
    assert (folder / f'{NAME}.html').stat().st_size > 10_000
