"""Whatever the system says of a path becomes one line with a way out, in every verb."""

import errno
from importlib import import_module
import os
from pathlib import Path
import resource
import shutil
import subprocess
import sys
from typing import Any

import pytest

from anomaly_seg_ros.cli import main, VERBS
from anomaly_seg_ros.process.path_errors import explain, is_bad_path, try_out

ROOT = Path(__file__).resolve().parent.parent
LONG = 'x' * 300


WRITE = [verb for verb in VERBS if verb not in ('doctor', 'replay_snapshot')]
"""The verbs that have `--out`."""


def bad_outs(folder: Path) -> dict[str, tuple[Path, str]]:
    """Places where nothing can be written, each with the path that the error must name."""
    file = folder / 'file'
    file.write_text('')
    return {
        'below a file': (file / 'deep' / 'out.html', str(file)),
        'in a folder that takes no files': (Path('/proc/out.html/x.html'), '/proc/'),
        'of a long name': (folder / LONG / 'out.html', LONG),
        'of a long name in a new folder': (folder / 'new' / LONG / 'out.html', LONG),
    }


@pytest.mark.parametrize('case', bad_outs(Path('/dev/shm')))
@pytest.mark.parametrize('verb', WRITE)
def test_every_verb_tries_its_out_first(
    verb: str, case: str, least_arguments, tmp_path: Path, capsys
) -> None:
    out, named = bad_outs(tmp_path)[case]
    assert main([verb, *least_arguments[verb], '--out', str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f'anomaly_seg {verb}: ')
    assert named in error
    assert '; choose ' in error or '; check ' in error
    assert error.count('\n') == 1
    assert [path.name for path in tmp_path.iterdir()] == ['file']


@pytest.mark.parametrize('verb', [verb for verb in WRITE if not VERBS[verb].out_is_file])
def test_a_file_in_the_place_of_a_folder(
    verb: str, least_arguments, tmp_path: Path, capsys
) -> None:
    out = tmp_path / 'out'
    out.write_text('mine')
    assert main([verb, *least_arguments[verb], '--out', str(out)]) == 2
    line = f"anomaly_seg {verb}: '{out}': not a directory; choose a path below a folder\n"
    assert (capsys.readouterr().err, out.read_text()) == (line, 'mine')


@pytest.mark.parametrize('verb', WRITE)
@pytest.mark.parametrize(
    ('error', 'status', 'told'),
    [
        (OSError(errno.ENOSPC, 'x'), 1, "below --out '{out}': no space left on device; make room"),
        (OSError(errno.ENOSPC, 'x', 'big.npy'), 1, "'big.npy': no space left on device; make"),
        (OSError('6912 requested and 2016 written'), 1, "below --out '{out}': no space left on"),
        (OSError(errno.EIO, 'x', b'/d/\xff'), 1, "'/d/\\udcff': input/output error; check the"),
        (OSError(errno.EROFS, 'x', 'a', None, 'b'), 2, "'b': read-only file system; choose a"),
        (PermissionError(errno.EACCES, 'x', 'a'), 2, "'a': permission denied; change its rights"),
        (IsADirectoryError(errno.EISDIR, 'x', 'a'), 2, "'a': is a directory; give a file"),
        (shutil.Error([('a', 'b', 'full')]), 1, "cannot copy 'a' to 'b': full"),
        (ChildProcessError('the node has ended'), 1, 'the node has ended'),
        (FileNotFoundError('no file; check it'), 2, 'no file; check it'),
    ],
)
def test_an_error_of_the_system_is_one_line(
    verb: str, error: OSError, status: int, told: str, least_arguments, tmp_path, monkeypatch,
    capsys,
) -> None:  # fmt: skip
    def fails(args: object) -> int:
        raise error

    monkeypatch.setattr(import_module(f'{VERBS[verb].room}.{verb}'), 'main', fails)
    out = tmp_path / 'out.html'
    assert main([verb, *least_arguments[verb], '--out', str(out)]) == status
    line = capsys.readouterr().err
    assert line.startswith(f'anomaly_seg {verb}: {told.format(out=out)}')
    assert line.count('\n') == 1


@pytest.mark.parametrize(
    'error',
    [
        MemoryError('Unable to allocate 8.00 GiB'),
        RuntimeError('CUDA out of memory. Tried to allocate 20.00 GiB'),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_is_one_line(error: Exception, monkeypatch, tmp_path, capsys) -> None:
    def fails(args: object) -> int:
        raise error

    monkeypatch.setattr(import_module('anomaly_seg_ros.commands.predict'), 'main', fails)
    assert main(['predict', 'x.png', '--out', str(tmp_path / 'out')]) == 1
    assert capsys.readouterr().err.startswith('anomaly_seg predict: out of memory; end other')


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch, tmp_path: Path) -> None:
    def fails(args: object) -> int:
        raise AssertionError('a fact about our own code')

    monkeypatch.setattr(import_module('anomaly_seg_ros.commands.predict'), 'main', fails)
    with pytest.raises(AssertionError, match='a fact'):
        main(['predict', 'x.png', '--out', str(tmp_path / 'out')])


def test_every_error_has_a_way_out() -> None:
    unknown = OSError(errno.ENXIO, 'x', 'a')
    assert not is_bad_path(unknown)
    assert explain(unknown, None) == "'a': no such device or address; see what the system says"
    assert explain(OSError(errno.ENOSPC, 'x'), None).startswith('no path is known: no space')


def test_trying_leaves_nothing_and_takes_what_can_be_made(tmp_path: Path) -> None:
    try_out(tmp_path / 'a' / 'b')
    try_out(tmp_path / 'page.html', is_file=True)
    try_out(tmp_path)
    assert list(tmp_path.iterdir()) == []


def run(arguments: list[str | Path], **kwargs: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-m', 'anomaly_seg_ros', *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        **kwargs,
    )


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_disk_that_fills_up(storage: str, camvid_root: Path, tmp_path: Path) -> None:
    out = tmp_path / 'bag'
    typed = ['make_bag', camvid_root / 'train', '--storage', storage, '--out', out]
    # The largest file stands in for the disk.
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, -1))  # noqa: E731
    result = run(typed, stdout=subprocess.DEVNULL, preexec_fn=limit)
    assert result.returncode == 1
    assert result.stderr.startswith('anomaly_seg make_bag: ')
    assert str(out) in result.stderr
    assert result.stderr.count('\n') == 1
    assert not out.exists()


def test_output_that_goes_nowhere(camvid_root: Path, tmp_path: Path) -> None:
    typed: list[str | Path] = ['make_bag', camvid_root / 'val', '--out']
    usual = {k: v for k, v in os.environ.items() if k != 'PYTHONUNBUFFERED'}
    with open('/dev/full', 'w') as full:
        result = run([*typed, tmp_path / 'full'], stdout=full, env=usual)
    line = "anomaly_seg make_bag: 'standard output': no space left on device; make room or"
    assert (result.returncode, result.stderr[: len(line)]) == (1, line)
    reading, writing = os.pipe()
    os.close(reading)
    result = run([*typed, tmp_path / 'closed'], stdout=writing, env=usual)
    os.close(writing)
    assert (result.returncode, result.stderr) == (1, '')
