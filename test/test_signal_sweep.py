"""SIGINT and SIGTERM at every moment of the node's start: status 0 and not a word of trouble."""

from __future__ import annotations

import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip('rclpy')

pytestmark = [pytest.mark.ros, pytest.mark.slow]

LONG = bool(os.environ.get('ANOMALY_SEG_LONG'))
"""Set by `make soak`."""
STEP_S = 0.05
AT_ONCE = 2
"""Nodes that are started at the same time: one a core."""
EXIT_S = 20.0
DIED = (-signal.SIGINT, -signal.SIGTERM)
"""Where Python itself has not come to our code, it ends as any process does."""
OURS = 'anomaly_seg_ros'
"""In the words of a traceback that is ours; Python's own start has one at Ctrl-C."""
PYTHONS = 'Fatal Python error: init_'
"""What Python says where Ctrl-C meets its own start, `site` for instance; it ends with 1 then."""


def start(root: Path, log: Path, checkpoint: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, '-m', 'anomaly_seg_ros.ros.start', '--ros-args', '-r']
    command += [f'__ns:=/{log.stem}', '-p', f'checkpoint:={checkpoint}']
    with log.open('wb') as out:
        return subprocess.Popen(command, cwd=root, stdout=out, stderr=out, start_new_session=True)


def text_of(log: Path) -> str:
    return log.read_text(encoding='utf-8', errors='replace')


def seconds_to_active(root: Path, folder: Path, checkpoint: Path) -> float:
    log = folder / 'whole.log'
    began = time.monotonic()
    process = start(root, log, checkpoint)
    try:
        while ': reading ' not in text_of(log):
            assert process.poll() is None, text_of(log)
            time.sleep(0.02)
        return time.monotonic() - began
    finally:
        process.kill()
        process.wait()


def trouble(status: int, text: str) -> bool:
    if status in DIED or status == 130 or (status == 1 and PYTHONS in text):
        return OURS in text  # it ended before our code, so nothing of ours may stand there
    return status != 0 or any(word in text for word in ('Traceback', '[ERROR]', 'failed', 'Error'))


def sweep(
    delays: list[float], number: signal.Signals, root: Path, folder: Path, checkpoint: Path
) -> list[str]:
    """Gives what went wrong, with the delay."""
    wrong = []
    for at in range(0, len(delays), AT_ONCE):
        batch = []
        for delay in delays[at : at + AT_ONCE]:
            log = folder / f's{round(delay * 1000)}_{number.value}.log'
            batch.append((delay, log, time.monotonic(), start(root, log, checkpoint)))
        for delay, log, began, process in batch:
            time.sleep(max(0.0, began + delay - time.monotonic()))
            process.send_signal(number)
            try:
                status = process.wait(EXIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                status = process.wait()
            if trouble(status, text_of(log)):
                wrong.append(f'{number.name} after {delay:.2f} s: status {status}\n{text_of(log)}')
    return wrong


@pytest.mark.timeout(1200 if LONG else 240)
def test_a_signal_at_any_moment_of_the_start_is_an_end_without_a_word(
    root: Path, tmp_path: Path, exported_checkpoint: Path
) -> None:
    whole_s = seconds_to_active(root, tmp_path, exported_checkpoint) + 4 * STEP_S
    steps = [STEP_S * step for step in range(int(whole_s / STEP_S) + 1)]
    chosen = steps if LONG else steps[:: max(1, len(steps) // 4)]
    wrong = []
    for number in (signal.SIGINT, signal.SIGTERM):
        wrong += sweep(chosen, number, root, tmp_path, exported_checkpoint)
    assert wrong == [], '\n\n'.join(wrong)
