"""The tools that are run by `python -m`: one parser, one ending."""

from __future__ import annotations

from pathlib import Path
import re
import subprocess
import sys

import pytest

from anomaly_seg_ros.command_line.tool import run_tool, ToolError

ROOT = Path(__file__).parents[1]
CHILDREN = {'training/bench/engine_process.py'}
"""Run by a benchmark alone, which reads their answers as JSON."""


def test_every_tool_ends_in_the_same_way() -> None:
    runs = {
        str(path.relative_to(ROOT))
        for path in (ROOT / 'training').rglob('*.py')
        if "__name__ == '__main__'" in path.read_text()
    }
    ends = {
        name for name in runs if re.search(r"'__main__':\n    run_tool\(main\)$", read(name), re.M)
    }
    assert runs - ends == CHILDREN
    assert len(ends) > 15


def read(name: str) -> str:
    return (ROOT / name).read_text()


def run_module(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, '-m', name, *arguments]
    return subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize('name', ['training.bench.floor', 'training.study'])
def test_help_says_how_it_is_called(name: str) -> None:
    done = run_module(name, '--help')
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.startswith(f'usage: python -m {name} ')


@pytest.mark.parametrize(
    ('name', 'arguments', 'said'),
    [
        ('training.bench.floor', ('none', '1x1'), "no checkpoint folder 'none'"),
        ('training.study.sizes', ('none',), "no checkpoint folder 'none'"),
        ('training.preparation.outlines', ('none', '--out', 'x.json'), "'none'"),
        ('training.study.compare', ('--only', 'nothing'), "no method fits 'nothing'"),
        ('training.bench.table', ('none',), "no 'none/results.json'"),
        ('training.bench.node', ('--chekpoint', 'x'), 'arguments: --chekpoint x; see'),
    ],
)
def test_an_error_is_one_line(name: str, arguments: tuple[str, ...], said: str) -> None:
    done = run_module(name, *arguments)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith(f'python -m {name}: ')]
    assert said in line
    assert 'Traceback' not in done.stderr
    assert not done.stdout


def test_what_a_process_could_not_do_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise ToolError('the node gave no mask')

    with pytest.raises(SystemExit, match='1'):
        run_tool(main)
    assert capsys.readouterr().err.endswith(': the node gave no mask\n')


def test_what_could_not_be_foreseen_raises() -> None:
    def main() -> int:
        raise RuntimeError('mat1 and mat2 shapes cannot be multiplied')

    with pytest.raises(RuntimeError, match='mat1 and mat2'):
        run_tool(main)
