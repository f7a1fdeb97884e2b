"""The requirement layers: pinned, one upon the other, and without torch for the node."""

from pathlib import Path
import re

import pytest

FOLDER = Path(__file__).resolve().parent.parent / 'config' / 'requirements'
LAYERS = ('node', 'train', 'test', 'gpu')
PIN = re.compile(r'[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*(; python_version (<|>=) .3\.\d+.)?')


def lines(layer: str) -> list[str]:
    text = (FOLDER / f'{layer}.txt').read_text(encoding='utf-8')
    return [line.strip() for line in text.splitlines() if line.strip() and line[0] != '#']


def names(layer: str) -> set[str]:
    """What a layer installs, those below it included."""
    found = set()
    for line in lines(layer):
        below = re.fullmatch(r'-r (\w+)\.txt', line)
        found |= names(below[1]) if below else {line.split('==')[0].lower()}
    return found


def test_all_layers_are_tested() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(LAYERS)


@pytest.mark.parametrize('layer', LAYERS)
def test_everything_is_pinned(layer: str) -> None:
    bad = [line for line in lines(layer) if not line.startswith('-r ') and not PIN.fullmatch(line)]
    assert bad == []


@pytest.mark.parametrize(('layer', 'below'), [('train', 'node'), ('test', 'train')])
def test_layers_stand_on_each_other(layer: str, below: str) -> None:
    assert names(layer) > names(below)


def test_node_runs_without_torch() -> None:
    heavy = {'torch', 'lightning', 'safetensors', 'tensorboard', 'torch-tensorrt', 'onnx'}
    assert names('node') & heavy == set()


def test_torch_is_spelled_exactly_so_everywhere() -> None:
    for layer in ('train', 'gpu'):
        assert [line for line in lines(layer) if line.split('==')[0] == 'torch'] == [
            'torch==2.13.0'
        ]
    makefile = (FOLDER.parent.parent / 'Makefile').read_text(encoding='utf-8')
    assert re.findall(r'\btorch==\S+', makefile) == ['torch==2.13.0']
    assert makefile.index('torch==2.13.0') < makefile.index('-r $(REQUIREMENTS)/test.txt')


def test_a_marked_package_is_there_for_every_python() -> None:
    marked: dict[str, set[str]] = {}
    for layer in LAYERS:
        for line in lines(layer):
            if ';' in line:
                pin, marker = line.split('; ')
                marked.setdefault(pin.split('==')[0], set()).add(marker)
    halves = {"python_version >= '3.11'", "python_version < '3.11'"}
    assert marked
    assert all(markers == halves for markers in marked.values()), marked
