"""Ctrl-C and SIGTERM end any verb in order, with one line."""

from collections.abc import Callable, Iterator
from importlib import import_module
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
from typing import Any

import pytest

from anomaly_seg_ros.cli import main, VERBS
from anomaly_seg_ros.process import stop_signals
from anomaly_seg_ros.process.stop_signals import Stopped, StopSignals

ROOT = Path(__file__).resolve().parent.parent
ENDS = [(signal.SIGINT, 'Ctrl-C'), (signal.SIGTERM, 'SIGTERM')]


@pytest.fixture(autouse=True)
def usual_handlers() -> Iterator[None]:
    """Python's own, which what runs in the background of a shell lacks."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(('number', 'name'), ENDS)
@pytest.mark.parametrize('verb', VERBS)
def test_a_signal_is_one_line(
    verb: str, number: int, name: str, tmp_path: Path, least_arguments, monkeypatch,
    capsys,
) -> None:  # fmt: skip
    def interrupted(args: object) -> int:
        signal.raise_signal(number)
        return 0

    monkeypatch.setattr(import_module(f'{VERBS[verb].room}.{verb}'), 'main', interrupted)
    # These two only print.
    typed = {'doctor': [], 'replay_snapshot': ['x']}.get(verb)
    if typed is None:
        typed = [*least_arguments[verb], '--out', str(tmp_path / 'out.html')]
    assert main([verb, *typed]) == 1
    assert capsys.readouterr().err == f'anomaly_seg {verb}: stopped by {name}\n'


def test_what_a_library_makes_of_a_signal_is_not_believed(monkeypatch, tmp_path, capsys) -> None:
    def interrupted(args: object) -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError('libtorch.so cannot be loaded') from None
        return 0

    monkeypatch.setattr(import_module('anomaly_seg_ros.commands.predict'), 'main', interrupted)
    assert main(['predict', 'x.png', '--out', str(tmp_path / 'out')]) == 1
    assert capsys.readouterr().err == 'anomaly_seg predict: stopped by Ctrl-C\n'


def test_a_quick_second_signal_leaves_the_first_its_order() -> None:
    with StopSignals() as signals:
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)  # in the midst of tidying up
    assert signals.caught == signal.SIGTERM


def test_a_later_second_signal_is_heard(monkeypatch) -> None:
    monkeypatch.setattr(stop_signals, 'PATIENCE_S', 0.0)
    with StopSignals() as signals:
        for _ in range(2):
            with pytest.raises(Stopped):
                signal.raise_signal(signal.SIGTERM)
    assert signals.caught == signal.SIGTERM


def test_handlers_are_as_before_and_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with StopSignals():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGINT) != signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_ctrl_c_during_an_import(tmp_path: Path) -> None:
    """A stand-in for cv2 that is cut short in the middle of its import, as the real one may be."""
    (tmp_path / 'cv2.py').write_text(
        'import os, signal, time\n'
        'try:\n'
        '    os.kill(os.getpid(), signal.SIGINT)\n'
        '    time.sleep(60)\n'
        'except KeyboardInterrupt:\n'
        "    raise ImportError('cannot load') from None\n"
    )
    result = subprocess.run(
        [sys.executable, '-m', 'anomaly_seg_ros', 'make_bag', '.', '--out', tmp_path / 'out'],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (1, 'anomaly_seg make_bag: stopped by Ctrl-C\n')


def interrupt(monkeypatch: pytest.MonkeyPatch, number: int, where: str) -> None:
    """Lets a signal come where a function of the package is called."""

    def signalled(*args: Any, **kwargs: Any) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr(where, signalled)


WORK: dict[str, tuple[str, Callable[[Path, Path], list[str]]]] = {
    'evaluate': (
        'training.evaluation.checkpoint_frames.CheckpointFrames.first',
        lambda checkpoint, camvid: [
            '--checkpoint', str(checkpoint), '--dataset', 'camvid', '--root', str(camvid),
        ],
    ),
    'make_bag': (
        'anomaly_seg_ros.bags.writer.BagWriter.add_image',
        lambda checkpoint, camvid: [str(camvid / 'train')],
    ),
    'export': (
        'anomaly_seg_ros.engines.onnx_engine.export',
        lambda checkpoint, camvid: ['--checkpoint', str(checkpoint), '--engine', 'onnx'],
    ),
    'benchmark': (
        'training.commands.benchmark.benchmark_size',
        lambda checkpoint, camvid: ['--checkpoint', str(checkpoint), '--engine', 'torch'],
    ),
    'bag': (
        'training.evaluation.bag.bag_pass.BagPass.through',
        lambda checkpoint, camvid: ['bag', '--checkpoint', str(checkpoint), '--engine', 'torch'],
    ),
}  # fmt: skip
"""Verb to what it does while it holds a temporary folder, and its arguments."""


@pytest.mark.parametrize(('number', 'name'), ENDS)
@pytest.mark.parametrize('verb', WORK)
def test_temporary_folders_go(
    verb: str, number: int, name: str, tmp_path: Path, camvid_root: Path,
    tiny_checkpoint: Path, monkeypatch, capfd,
) -> None:  # fmt: skip
    where, arguments = WORK[verb]
    monkeypatch.chdir(tmp_path)
    assert main(['make_bag', str(camvid_root / 'val'), '--out', 'bag']) == 0
    (tmp_path / 'tmp').mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'tmp'))
    interrupt(monkeypatch, number, where)
    capfd.readouterr()
    typed = [verb, *arguments(tiny_checkpoint, camvid_root), '--out', 'out/deep']
    assert main(typed) == 1
    assert f'anomaly_seg {verb}: stopped by {name}\n' in capfd.readouterr().err
    left = [*(tmp_path / 'tmp').iterdir(), *tmp_path.glob('out/deep/.*'), *tmp_path.glob('out/.*')]
    assert left == []
