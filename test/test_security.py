"""Nothing that comes from outside is run, and no name in a message becomes a path."""

from __future__ import annotations

import ast
import codecs
import os
from pathlib import Path
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from training.hub.detectron2 import read_arrays
from training.recipes.recipe import read_recipe

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(
    path for package in ('anomaly_seg_ros', 'training') for path in (ROOT / package).rglob('*.py')
)
RUNS_CODE = {'eval', 'exec', 'compile', '__import__'}
UNSAFE_MODULES = {'pickle', 'shelve', 'marshal', 'dill', 'cloudpickle', 'jsonpickle'}


def calls(path: Path) -> list[ast.Call]:
    tree = ast.parse(path.read_text(encoding='utf-8'))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_nothing_evaluates_text() -> None:
    guilty = [
        f'{path.relative_to(ROOT)}:{call.lineno}'
        for path in FILES
        for call in calls(path)
        if isinstance(call.func, ast.Name) and call.func.id in RUNS_CODE
    ]
    assert guilty == []


ARRAYS_ONLY = ROOT / 'training' / 'hub' / 'detectron2.py'
"""Unpickles by a class of its own, which makes arrays and nothing else: see the test behind."""


def test_nothing_unpickles() -> None:
    guilty = [
        f'{path.relative_to(ROOT)}:{call.lineno}'
        for path in FILES
        for call in calls(path)
        if path != ARRAYS_ONLY and ast.unparse(call.func).split('.')[0] in UNSAFE_MODULES
    ]
    assert guilty == []


@pytest.mark.parametrize(
    'made',
    [
        (eval, ('1',)),
        (os.mkdir, ('made',)),
        (codecs.encode, ('a', 'rot13')),
        (np.load, ('made.npy',)),
        (getattr, ('x', 'upper')),
        (np.ndarray.__new__, (type, (1,))),
        (torch.load, ('made',)),
    ],
    ids=lambda made: made[0].__qualname__,
)
def test_what_reads_arrays_makes_nothing_else(made: Any, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return made

    for protocol in (2, 4):
        file = tmp_path / 'weights.pkl'
        file.write_bytes(pickle.dumps({'model': {'a': np.zeros(3), 'b': Evil()}}, protocol))
        with pytest.raises(pickle.UnpicklingError):
            read_arrays(file)


def test_torch_and_numpy_load_plain_values_alone() -> None:
    guilty = []
    for path in FILES:
        for call in calls(path):
            text = ast.unparse(call.func)
            options = {word.arg: ast.unparse(word.value) for word in call.keywords}
            if text == 'torch.load' and options.get('weights_only') != 'True':
                guilty.append(f'{path.relative_to(ROOT)}:{call.lineno} {text}')
            if text == 'np.load' and options.get('allow_pickle', 'False') != 'False':
                guilty.append(f'{path.relative_to(ROOT)}:{call.lineno} {text}')
            if text in ('yaml.load', 'yaml.unsafe_load', 'yaml.full_load'):
                loader = options.get('Loader') or (
                    ast.unparse(call.args[1]) if len(call.args) > 1 else ''
                )
                if 'Safe' not in loader and 'Loader' not in safe_loaders(path, loader):
                    guilty.append(f'{path.relative_to(ROOT)}:{call.lineno} {text}')
            if any(word == 'shell' for word in options):
                guilty.append(f'{path.relative_to(ROOT)}:{call.lineno} shell')
    assert guilty == []


def safe_loaders(path: Path, loader: str) -> str:
    """The bases of a loader class of the file itself, if they are safe."""
    text = path.read_text(encoding='utf-8')
    found = re.search(rf'class {re.escape(loader)}\((.*)\)', text) if loader else None
    return found[1] if found and 'Safe' in found[1] else ''


def test_a_parameter_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    file = tmp_path / 'evil.yaml'
    file.write_text(f'!!python/object/apply:os.system ["touch {tmp_path}/ran"]', encoding='utf-8')
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load(file.read_text(encoding='utf-8'))
    with pytest.raises(ValueError, match='evil'):
        read_recipe(file)
    assert not (tmp_path / 'ran').exists()


def test_only_known_rooms_open_files_for_a_message() -> None:
    """`header.frame_id`, `encoding` and `format` reach no call that opens a path."""
    opens = {'open', 'Path', 'write_image', 'read_image', 'mkdir', 'write_text', 'write_bytes'}
    guilty = []
    for path in FILES:
        for call in calls(path):
            name = ast.unparse(call.func).rpartition('.')[2]
            if name in opens and re.search(
                r'frame_id|\.encoding\b|message\.format', ast.unparse(call)
            ):
                guilty.append(f'{path.relative_to(ROOT)}:{call.lineno}')
    assert guilty == []
