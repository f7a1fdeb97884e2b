"""The digest of the code behind an exported graph: what changes it, and what does not."""

from __future__ import annotations

import ast
from pathlib import Path
import shutil
import subprocess
import sys
import textwrap

import pytest

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.engines import code
from anomaly_seg_ros.engines.code import code_text, graph_code
from anomaly_seg_ros.engines.folder import engine_folders, EngineMeta
from anomaly_seg_ros.models import MODELS
from anomaly_seg_ros.scores import SCORES

ROOT = Path(__file__).resolve().parent.parent

FORMULA = '''
class Score(nn.Module):
    """Gives a score."""

    needs = frozenset({'logits'})
    step: int

    def forward(self, output: ModelOutput, scale: float = 0.5) -> Tensor:
        """Computes it."""
        values: Tensor = -output.logits.amax(1)
        if values.ndim != 3:
            raise ValueError(f'{values.ndim} axes')
        return values * scale
'''


def text(source: str) -> str:
    return code_text(ast.parse(textwrap.dedent(source)))


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ('"""Gives a score."""', '"""Gives another."""'),
        ('    """Gives a score."""\n\n', '    # A comment.\n'),
        ('        """Computes it."""\n', ''),
        ('    step: int\n', ''),
        ('    step: int\n', '    step: int\n    """Of the grid."""\n'),
        ('output: ModelOutput, scale: float = 0.5) -> Tensor', 'output, scale=0.5)'),
        ('values: Tensor = ', 'values = '),
        ('values * scale', '(values\n            * scale)'),
        ("'logits'", '"logits"'),
        ('0.5', '5e-1'),
        ("f'{values.ndim} axes'", "'axes'"),
        ('values.ndim != 3', 'values.ndim < 3'),
        ('class Score', 'from torch import Tensor\n\n\nclass Score'),
    ],
)
def test_what_no_graph_shows_changes_nothing(old: str, new: str) -> None:
    assert old in FORMULA
    assert text(FORMULA.replace(old, new)) == text(FORMULA)


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ('0.5', '0.25'),
        ('-output', 'output'),
        ('amax(1)', 'amax(1, True)'),
        ('values * scale', 'values + scale'),
        ('values * scale', 'values'),
        ("'logits'", "'features'"),
        ('0.5', "'0.5'"),
        ('amax(1)', 'amax(True)'),
        ('amax', 'amin'),
        ('            raise', '            values = -values\n            raise'),
    ],
)
def test_another_formula_changes_it(old: str, new: str) -> None:
    assert old in FORMULA
    assert text(FORMULA.replace(old, new)) != text(FORMULA)


def test_each_network_and_score_has_its_own() -> None:
    codes = {(model, score): graph_code(model, score) for model in MODELS for score in SCORES}
    assert len(set(codes.values())) == len(codes)


@pytest.mark.parametrize(
    ('module', 'touched'),
    [
        ('anomaly_seg_ros.engines.scored_model', {'bisenetv2 msp', 'enet sml'}),
        ('anomaly_seg_ros.engines.graph', {'bisenetv2 msp', 'enet sml'}),
        ('anomaly_seg_ros.model_output', {'bisenetv2 msp', 'enet sml'}),
        ('anomaly_seg_ros.models.bisenetv2', {'bisenetv2 msp'}),
        ('anomaly_seg_ros.models.parts.conv_bn_relu', {'bisenetv2 msp'}),
        ('anomaly_seg_ros.models.enet', {'enet sml'}),
        ('anomaly_seg_ros.scores.parts.tempered', {'bisenetv2 msp'}),
        ('anomaly_seg_ros.scores.parts.convolution', {'enet sml'}),  # through smoothing
        ('anomaly_seg_ros.scores.parts.coarse', {'bisenetv2 msp', 'enet sml'}),
        ('anomaly_seg_ros.scores', set()),
        ('anomaly_seg_ros.models', set()),
        ('anomaly_seg_ros.checkpoint.folder', set()),
    ],
)
def test_what_a_module_is_part_of(
    module: str, touched: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = {'bisenetv2 msp', 'enet sml'}
    before = {case: graph_code(*case.split()) for case in cases}
    source = code.module_source
    monkeypatch.setattr(code, 'module_source', lambda m: source(m) + '\nx = 1\n' * (m == module))
    code._digest.cache_clear()
    after = {case: graph_code(*case.split()) for case in cases}
    code._digest.cache_clear()
    assert {case for case in cases if before[case] != after[case]} == touched


PRINT = """
import sys
from anomaly_seg_ros.engines.code import graph_code
print(graph_code('bisenetv2', 'max_logit'), 'torch' in sys.modules, 'numpy' in sys.modules)
"""


@pytest.mark.parametrize('version', ['3.10', '3.11', '3.12', '3.13', '3.14'])
def test_every_python_gives_the_same_without_torch(version: str) -> None:
    interpreters = sorted(Path.home().glob(f'.pyenv/versions/{version}.*/bin/python'))
    found = str(interpreters[-1]) if interpreters else shutil.which(f'python{version}')
    if found is None:
        pytest.skip(f'no python{version} here')
    done = subprocess.run(
        [found, '-c', PRINT], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [graph_code('bisenetv2', 'max_logit'), 'False', 'False']


def test_this_python_needs_no_torch_for_it() -> None:
    done = subprocess.run(
        [sys.executable, '-c', PRINT], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[1:] == ['False', 'False']


def test_the_shipped_engine_is_of_this_code() -> None:
    checkpoint = Checkpoint.open('default')
    ((folder, meta),) = engine_folders(checkpoint.folder)
    assert isinstance(meta, EngineMeta), meta
    assert meta.key == checkpoint.score_key(meta.score)
    assert meta.code == graph_code(checkpoint.meta.model, meta.score), (
        'code of the network, the score or the graph has changed; make the engine again by '
        f'anomaly_seg export --checkpoint default --out {folder.relative_to(ROOT)}; where only '
        'the spelling has changed, model.xml and model.bin come out as they were'
    )
