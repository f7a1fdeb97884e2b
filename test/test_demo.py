from collections.abc import Iterator
import json
from pathlib import Path
import shutil
import subprocess
import sys
import time
from typing import NoReturn

import cv2
import numpy as np
import pytest

from anomaly_seg_ros.bags.writer import BagWriter, Stamp
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.commands import demo
from anomaly_seg_ros.demo.frame_source import open_frames
from anomaly_seg_ros.demo.play import NodeStartError
from anomaly_seg_ros.frames.images import read_image, write_image
from anomaly_seg_ros.node.message_types import IMAGE

pytest.importorskip('rclpy', reason='needs rclpy')
pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(200)]
ROOT = Path(__file__).resolve().parent.parent


def run_demo(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, '-m', 'anomaly_seg_ros', 'demo', '--out', str(out), *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )


def test_every_frame_of_the_synthetic_road_comes_back(tmp_path: Path) -> None:
    result = run_demo(tmp_path / 'demo', '--frames', '6')
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.strip().splitlines()) == 1
    assert 'demo.mp4' in result.stdout
    summary = json.loads((tmp_path / 'demo' / 'summary.json').read_text())
    assert summary['frames_sent'] == summary['frames_received'] == 6
    assert 0 < summary['latency_ms']['p50'] <= summary['latency_ms']['p95']
    assert 0 < summary['network_ms'] < summary['latency_ms']['p95']
    assert summary['engine'] == 'openvino'
    overlays = sorted((tmp_path / 'demo').glob('overlay_*.png'))
    assert [path.name for path in overlays] == [f'overlay_{i:03d}.png' for i in range(6)]
    film = cv2.VideoCapture(str(tmp_path / 'demo' / 'demo.mp4'))
    # Its header only estimates their number.
    assert [film.read()[0] for _ in range(7)] == [True] * 6 + [False]
    frame = next(open_frames('synthetic', 1))
    overlay = read_image(overlays[0])
    # The overlay shows its frame: the same outlines under other colours.
    grey = [cv2.cvtColor(x, cv2.COLOR_RGB2GRAY).astype(float).ravel() for x in (frame, overlay)]
    assert np.corrcoef(*grey)[0, 1] > 0.5


def test_an_image_folder_is_a_source(tmp_path: Path) -> None:
    (tmp_path / 'frames').mkdir()
    for index, size in enumerate([(90, 120), (60, 200)]):
        image = np.full((*size, 3), 90, np.uint8)
        write_image(tmp_path / 'frames' / f'{index}.png', image)
    result = run_demo(tmp_path / 'demo', '--source', str(tmp_path / 'frames'))
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / 'demo' / 'summary.json').read_text())['frames_received'] == 2


def test_a_checkpoint_that_the_node_refuses_ends_the_demo(tmp_path: Path) -> None:
    (tmp_path / 'empty').mkdir()
    result = run_demo(tmp_path / 'demo', '--checkpoint', str(tmp_path / 'empty'))
    assert result.returncode != 0
    assert 'has no meta.json' in result.stderr


@pytest.mark.parametrize(
    ('option', 'value', 'words'),
    [
        ('--rate', 'nan', 'rate is nan; it must be above 0'),
        ('--rate', 'inf', 'rate is inf; it must be above 0 and at most 1000'),
        ('--rate', '1e9', 'rate is 1000000000.0; it must be above 0 and at most 1000'),
        ('--engine', 'foo', "unknown engine 'foo'"),
    ],
)
def test_a_wrong_option_is_one_line(
    option: str, value: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['demo', option, value, '--out', str(tmp_path / 'demo')]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_bag_of_two_cameras_is_shown_by_its_topic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with BagWriter(tmp_path / 'bag', 'mcap') as bag:
        for grey, topic in ((40, '/left'), (90, '/right')):
            bag.add_topic(topic, IMAGE)
            bag.add_image(topic, Stamp(1, 1, ''), np.full((6, 8, 3), grey, np.uint8), 'rgb8')
    out = tmp_path / 'demo'
    out.mkdir()
    (out / 'summary.json').write_text('of before')
    command = ['demo', '--source', str(tmp_path / 'bag'), '--out', str(out)]
    assert main(command) == 2
    assert '/left, /right; choose one with --topic' in capsys.readouterr().err
    assert (out / 'summary.json').exists()  # nothing was begun

    def play(frames: Iterator[np.ndarray], *arguments: object) -> NoReturn:
        assert [frame.max() for frame in frames] == [90]
        raise NodeStartError('seen')

    monkeypatch.setattr(demo, 'play', play)
    assert main([*command, '--topic', '/right']) == 1
    assert 'seen' in capsys.readouterr().err
    assert not (out / 'summary.json').exists()
    assert main(['demo', '--topic', '/right', '--out', str(out)]) == 2
    assert '--topic is for bags' in capsys.readouterr().err
    (tmp_path / 'none').mkdir()
    assert main(['demo', '--source', str(tmp_path / 'none'), '--out', str(out)]) == 2
    assert 'no images in' in capsys.readouterr().err


def test_a_node_that_ends_ends_the_demo_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def play(*arguments: object) -> NoReturn:
        raise NodeStartError('the node ended with status 1; see its log above')

    monkeypatch.setattr(demo, 'play', play)
    assert main(['demo', '--out', str(tmp_path / 'demo')]) == 1
    assert capsys.readouterr().err == (
        'anomaly_seg demo: the node ended with status 1; see its log above\n'
    )


def test_the_demo_needs_no_torch() -> None:
    code = (
        'import sys\n'
        'class Refuse:\n'
        '    def find_spec(self, name, path=None, target=None):\n'
        '        if name.split(".")[0] in ("torch", "safetensors", "lightning"):\n'
        '            raise ModuleNotFoundError(name)\n'
        'sys.meta_path.insert(0, Refuse())\n'
        'import anomaly_seg_ros.commands.demo, anomaly_seg_ros.ros.frame_client\n'
        'import anomaly_seg_ros.ros.node, anomaly_seg_ros.ros.start\n'
        'import anomaly_seg_ros.demo.synthetic, anomaly_seg_ros.engines.openvino_engine\n'
    )
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True, timeout=60)


def test_a_node_that_cannot_configure_ends_the_demo_at_once(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    broken = shutil.copytree(tiny_checkpoint, tmp_path / 'broken')
    (broken / 'weights.safetensors').write_bytes(b'cut')
    began = time.monotonic()
    result = run_demo(tmp_path / 'demo', '--checkpoint', str(broken))
    assert result.returncode == 1
    assert 'the node ended with status 1; see its log above' in result.stderr
    assert 'weights.safetensors' in result.stderr
    assert time.monotonic() - began < 60
