"""The table of parameters, and the file that is printed from it."""

from __future__ import annotations

import math
from pathlib import Path
import subprocess
import sys
from typing import Any

import pytest
import yaml

from anomaly_seg_ros.engines import ENGINES, precisions
from anomaly_seg_ros.node.config import (
    as_yaml,
    CONFIGURE,
    DYNAMIC,
    NodeConfig,
    parameters,
    READ_ONLY,
)

TABLE = {parameter.name: parameter for parameter in parameters()}


def test_the_defaults_fit() -> None:
    config = NodeConfig()
    assert vars(config) == {name: row.default for name, row in TABLE.items()}


def test_the_file_is_the_table(root: Path) -> None:
    text = (root / 'config' / 'node.yaml').read_text(encoding='utf-8')
    assert text == as_yaml(), 'run: python -m anomaly_seg_ros.node.config > config/node.yaml'


def test_the_command_prints_the_file(root: Path) -> None:
    result = subprocess.run(
        [sys.executable, '-m', 'anomaly_seg_ros.node.config'],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == as_yaml()


def test_the_file_holds_every_default_with_its_type() -> None:
    values = yaml.safe_load(as_yaml())['/**']['ros__parameters']
    defaults = {
        name: list(row.default) if isinstance(row.default, tuple) else row.default
        for name, row in TABLE.items()
    }
    assert values == defaults
    assert {k: type(v) for k, v in values.items()} == {k: type(v) for k, v in defaults.items()}
    assert NodeConfig.from_mapping(values) == NodeConfig()


def test_the_short_file_is_a_part_of_the_whole_and_changes_nothing(root: Path) -> None:
    text = (root / 'config' / 'node_basic.yaml').read_text(encoding='utf-8')
    values = yaml.safe_load(text)['/**']['ros__parameters']
    assert 3 <= len(values) <= 8
    assert NodeConfig.from_mapping(values) == NodeConfig()
    comments = [line.strip() for line in text.split('ros__parameters:')[1].splitlines()][1::2]
    assert all(comment.startswith('# ') for comment in comments)
    assert len(comments) == len(values)


@pytest.mark.parametrize('row', list(parameters()), ids=lambda row: row.name)
def test_every_row_is_whole(row: Any) -> None:
    assert row.help
    assert row.effect in (READ_ONLY, CONFIGURE, DYNAMIC)
    assert type(row.default) in (str, int, float, bool, tuple)
    if type(row.default) in (int, float):
        assert row.range is not None
    if row.choices:
        assert row.default in row.choices


def test_choices_are_those_of_the_code() -> None:
    assert set(TABLE['engine'].choices) == {'auto', *ENGINES}
    assert set(TABLE['precision'].choices) == set(precisions())


@pytest.mark.parametrize(
    ('name', 'value', 'what'),
    [
        ('threshold', 1, 'it must be of type float; write 1.0'),
        ('threshold', '0.5', 'it must be of type float'),
        ('threshold', 1.01, r'it must lie in -1.0..1.0'),
        ('threshold', math.nan, 'it must lie in'),
        ('min_region_area', 1.0, 'it must be of type int'),
        ('min_region_area', True, 'it must be of type int'),
        ('min_region_area', -1, 'it must lie in 0'),
        ('overlay_alpha', 1.5, 'it must lie in 0.0..1.0'),
        ('max_age_s', -0.1, 'it must lie in 0.0'),
        ('autostart', 1, 'it must be of type bool'),
        ('checkpoint', None, 'it must be of type str'),
        ('engine', 'tensorflow', 'choose one of: auto, tensorrt, openvino'),
        ('precision', 'fp8', 'choose one of: auto, fp16, fp32, bf16'),
        ('score_encoding', 'mono16', 'choose one of: mono8, 32FC1'),
        ('output_resolution', 'half', 'choose one of: input, network'),
        ('input_reliability', 'yes', 'choose one of: auto, best_effort, reliable'),
    ],
)
def test_a_value_that_does_not_fit(name: str, value: Any, what: str) -> None:
    with pytest.raises(ValueError, match=what) as error:
        NodeConfig.from_mapping({name: value})
    assert f'parameter {name} is {value!r}' in str(error.value)


@pytest.mark.parametrize('threshold', [-1.0, 0.0, 1.0])
def test_both_ends_of_a_range_fit(threshold: float) -> None:
    assert NodeConfig(threshold=threshold).threshold == threshold


def test_raw_scores_need_floats() -> None:
    with pytest.raises(ValueError, match='set score_encoding to 32FC1'):
        NodeConfig(score_scale='raw')
    assert NodeConfig(score_scale='raw', score_encoding='32FC1').score_scale == 'raw'


def test_unknown_names_are_errors_that_help() -> None:
    with pytest.raises(ValueError, match="unknown parameter 'treshold'; did you mean 'threshold'"):
        NodeConfig.from_mapping({'treshold': 0.5})
    with pytest.raises(ValueError, match=r"unknown parameter 'xyz'$"):
        NodeConfig.from_mapping({'xyz': 0.5})


def test_dynamic_values_hold_at_once_and_the_others_from_a_configure_on() -> None:
    configured = NodeConfig(score_encoding='32FC1', score_scale='raw', threshold=0.5)
    now = NodeConfig(engine='torch', threshold=0.7, output_resolution='network')
    assert now.in_force(configured) == NodeConfig(
        score_encoding='32FC1', score_scale='raw', threshold=0.7, output_resolution='network'
    )


@pytest.mark.parametrize('names', [(), ('front', ''), ('front', 'front'), ('a/b',), ('1a',)])
def test_names_that_are_none_of_cameras_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match='parameter cameras'):
        NodeConfig(cameras=names)


def test_cameras_may_come_as_a_list() -> None:
    assert NodeConfig.from_mapping({'cameras': ['front', 'left']}).cameras == ('front', 'left')
    with pytest.raises(ValueError, match='a list of names'):
        NodeConfig.from_mapping({'cameras': 'front'})
