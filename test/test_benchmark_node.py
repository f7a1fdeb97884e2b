"""The benchmark of the node: the target by hand, and a short real run over DDS."""

from __future__ import annotations

from pathlib import Path
import subprocess
import sys

import pytest

from anomaly_seg_ros.node import topics
from training.bench.load import alternate
from training.bench.node import row_of
from training.bench.node_session import output_topics
from training.bench.timing import Samples
from training.results import read_results, ResultRow

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(('node_ms', 'met'), [(24.9, True), (25.0, True), (25.1, False)])
def test_target_is_the_bare_engine_and_a_tenth_and_three_ms(node_ms: float, met: bool) -> None:
    node = Samples(rounds_ms=[[node_ms, node_ms, 99.0], [node_ms, node_ms]])
    bare = Samples(rounds_ms=[[20.0, 20.0, 20.0], [20.0, 20.0]])
    row = row_of(node, bare)
    assert row.extra['target_ms'] == pytest.approx(25.0)
    assert row.extra['target_met'] is met
    assert row.extra['ratio_to_bare'] == pytest.approx(node_ms / 20)
    assert row.n_images == 5


def test_outputs() -> None:
    assert output_topics('mask') == (topics.SEMANTIC_MASK,)
    assert topics.SEMANTIC_MASK in output_topics('all')
    assert len(set(output_topics('all'))) == len(output_topics('all')) > 5


@pytest.mark.parametrize(
    'arguments', [['--frames', '0'], ['--rate', '0'], ['--engine', 'magic'], ['--cameras', '0']]
)
def test_wrong_arguments(arguments: list[str]) -> None:
    command = [sys.executable, '-m', 'training.bench.node', *arguments]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 2
    assert 'Traceback' not in result.stderr


class FakeSession:
    """Serves 100 frames/s, but for one that waits, and half of that in the last block."""

    def __init__(self) -> None:
        self.latencies_ms = [[10.0] * 19 + [900.0], [10.0] * 20, [20.0] * 20]
        self.sent_hz: list[float] = []

    def closed_loop(self, frames: int) -> tuple[list[float], float]:
        latencies = self.latencies_ms.pop(0)
        return latencies[:frames], 1000 * len(latencies) / sum(latencies)

    def open_loop(self, seconds: float, rate_hz: float) -> float:
        self.sent_hz.append(rate_hz)
        return float(len(self.sent_hz))


def test_the_load_is_what_the_machine_serves_just_then() -> None:
    one, other = FakeSession(), FakeSession()
    assert alternate([one, other], 2, 0.1) == [[2, 3], [2, 3]]
    assert one.sent_hz == other.sent_hz == [150, 150, 75]


@pytest.mark.ros
@pytest.mark.slow
def test_a_short_run_over_dds(exported_checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip('rclpy', reason='needs rclpy')
    command = [sys.executable, '-m', 'training.bench.node', '--checkpoint']
    command += [str(exported_checkpoint), '--engine', 'openvino:fp32', '--image', '60x80']
    command += ['--frames', '6', '--rate', '50', '--outputs', 'all', '--out', str(tmp_path)]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert result.returncode == 0, result.stderr
    paced, closed = read_results(tmp_path)
    for row in (paced, closed):
        assert (row.engine, row.precision, row.n_images) == ('openvino', 'fp32', 6)
        assert row.latency_ms is not None
        # A mask cannot come back before the network is done with its frame.
        assert row.latency_ms['p50'] > row.extra['stages_ms']['inference'] * 0.5
        assert row.extra['bare_ms']['p50'] > 0
        assert 20 < row.extra['memory_mb']['uss'] <= row.extra['memory_mb']['rss']
        assert 0 < row.extra['start_s'] < 60
        assert row.extra['image_size'] == [60, 80]
    assert paced.extra['fps'] <= 60
    assert closed.extra['fps_at_30_hz'] > 0
    assert 'target' in result.stdout


@pytest.mark.ros
@pytest.mark.slow
def test_compressed_cameras_beside_a_raw_one(exported_checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip('rclpy', reason='needs rclpy')
    command = [sys.executable, '-m', 'training.bench.node', '--checkpoint']
    command += [str(exported_checkpoint), '--engine', 'openvino:fp32', '--image', '60x80']
    command += ['--cameras', '2', '--transport', 'compressed', '--blocks', '1', '--seconds', '0.5']
    result = subprocess.run(
        [*command, '--out', str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    one, other = read_results(tmp_path)
    assert [row.extra['what'] for row in (one, other)] == ['1 x raw', '2 x compressed']
    assert one.extra['ratio_to_one_raw'] == one.extra['age_ratio'] == 1
    assert other.extra['ratio_to_one_raw'] > 0
    assert len(other.extra['ages_ms']) == 2
    assert other.extra['age_ratio'] >= 1
    assert '| openvino fp32 | 60x80 | 2 x compressed |' in result.stdout


def run_allocator(checkpoint: Path, out: Path, only: str) -> list[ResultRow]:
    command = [sys.executable, '-m', 'training.bench.allocator', '--checkpoint', str(checkpoint)]
    command += ['--size', '60x90', '--image', '60x80', '--blocks', '2', '--only', only]
    result = subprocess.run(
        [*command, '--out', str(out)],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return read_results(out)


@pytest.mark.slow
def test_allocator_settings_are_compared(exported_checkpoint: Path, tmp_path: Path) -> None:
    rows = run_allocator(exported_checkpoint, tmp_path, 'frame')
    assert [row.extra['what'] for row in rows] == [
        f'frame, allocator {setting}' for setting in ('default', 'tuned', 'thresholds')
    ]
    assert rows[0].extra['ratio_to_first'] == 1.0
    assert all(row.extra['page_faults'] >= 0 for row in rows)


@pytest.mark.ros
@pytest.mark.slow
def test_allocator_settings_are_compared_in_the_node(
    exported_checkpoint: Path, tmp_path: Path
) -> None:
    pytest.importorskip('rclpy', reason='needs rclpy')
    rows = run_allocator(exported_checkpoint, tmp_path, 'node')
    assert len(rows) == 3
    assert all(row.extra['memory_mb']['uss'] > 20 for row in rows)


@pytest.mark.slow
def test_an_unknown_target_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, '-m', 'training.bench.allocator', '--only', 'gpu']
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 2
    assert result.stderr.startswith(
        "python -m training.bench.allocator: unknown target 'gpu'; choose one of: torch"
    )
