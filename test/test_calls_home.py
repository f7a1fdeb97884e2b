"""No command opens a socket, begins a process or writes to the home folder on its own account."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest

from anomaly_seg_ros.frames.images import write_image

pytestmark = pytest.mark.slow

COMMANDS = """
import sys
from anomaly_seg_ros.cli import main
for line in sys.argv[1:]:
    print('$', line, flush=True)
    assert main(line.split()) == 0, line
"""


@pytest.mark.timeout(300)
def test_commands_stay_at_home(
    tiny_checkpoint: Path,
    camvid_root: Path,
    outwards: Callable[[], list[str]],
    root: Path,
    tmp_path: Path,
) -> None:
    frames = tmp_path / 'frames'
    frames.mkdir()
    write_image(frames / 'a.png', np.full((64, 96, 3), 90, np.uint8))
    at = f'--checkpoint {tiny_checkpoint} --engine openvino'
    camvid = f'--dataset camvid --root {camvid_root}'
    lines = [
        f'predict {frames} {at} --out {tmp_path}/predicted',
        f'evaluate {at} {camvid} --out {tmp_path}/results',
        f'export {at} --precision int8 --calibration {frames} --out {tmp_path}/int8',
        f'export --checkpoint {tiny_checkpoint} --engine onnx --out {tmp_path}/onnx',
        f'report {tmp_path}/results --out {tmp_path}/report.html',
    ]
    done = subprocess.run(
        [sys.executable, '-c', COMMANDS, *lines],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert outwards() == []


def test_the_watch_sees_what_it_is_for(outwards: Callable[[], list[str]]) -> None:
    code = (
        'import os, pathlib, socket, subprocess; '
        "socket.socket(type=socket.SOCK_DGRAM).connect(('127.0.0.1', 9)); "
        "subprocess.run(['true']); os.fork() or os._exit(0); "
        "pathlib.Path.home().joinpath('id').write_text('1')"
    )
    subprocess.run([sys.executable, '-c', code], check=True)
    found = [line.split()[0] for line in outwards()]
    assert [Path(line).name for line in found] == [
        'socket.connect', 'subprocess.Popen', 'os.fork', 'id',
    ]  # fmt: skip
