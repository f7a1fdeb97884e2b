"""Every option and its default, against the list that is stored: none appears unnoticed.

If a change is meant, renew the list, so that it shows in the commit:

    PYTHONPATH=. python test/test_options.py
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import dataclasses
import difflib
from pathlib import Path
import sys
from typing import Any

import pytest

from anomaly_seg_ros.cli import build_parser, VERBS
from anomaly_seg_ros.node.config import NodeConfig
from training.feeding.pasting import Paster
from training.recipes.flow_config import FlowConfig
from training.recipes.train_config import TrainConfig

STORED = Path(__file__).resolve().parent / 'golden' / 'options.txt'
CONFIGS = (NodeConfig, TrainConfig, Paster, FlowConfig)


def fields_of(config: type) -> Iterator[str]:
    """Gives a line for each field of a configuration."""
    for field in dataclasses.fields(config):
        default: Any = 'required'
        if field.default is not dataclasses.MISSING:
            default = repr(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            default = repr(field.default_factory())
        yield f'{config.__name__}.{field.name} = {default}'


def arguments_of(verb: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Gives a line for each argument of a verb."""
    for action in parser._actions:
        if action.dest == 'help':
            continue
        name = ' '.join(action.option_strings) or action.metavar or action.dest
        if not action.option_strings and action.nargs == '*':
            default = 'any number'
        elif action.required:
            default = 'required'
        else:
            plain = isinstance(action.default, Path)
            default = repr(str(action.default) if plain else action.default)
        yield f'{verb} {name} = {default}'


def options() -> list[str]:
    lines = [line for config in CONFIGS for line in fields_of(config)]
    for verb in VERBS:
        lines += arguments_of(verb, build_parser(verb))
    return lines


def test_the_options_are_those_that_are_stored() -> None:
    stored = STORED.read_text(encoding='utf-8').splitlines()
    found = options()
    changes = [line for line in difflib.ndiff(stored, found) if line[:1] in '+-']
    if changes:
        pytest.fail('\n'.join(['renew the list if that is meant:', *changes]), pytrace=False)


def test_a_new_option_would_be_seen() -> None:
    @dataclasses.dataclass
    class Config:
        old: int
        new: float = 0.5
        many: tuple[int, ...] = dataclasses.field(default_factory=tuple)

    lines = ['Config.old = required', 'Config.new = 0.5', 'Config.many = ()']
    assert list(fields_of(Config)) == lines
    parser = argparse.ArgumentParser()
    parser.add_argument('images', metavar='IMAGE', nargs='*')
    parser.add_argument('-o', '--out', required=True)
    parser.add_argument('--kind', choices=('b', 'a'), default='a')
    assert list(arguments_of('verb', parser)) == [
        'verb IMAGE = any number',
        'verb -o --out = required',
        "verb --kind = 'a'",
    ]


if __name__ == '__main__':
    STORED.write_text('\n'.join(options()) + '\n', encoding='utf-8')
    sys.stdout.write(f'{len(options())} options in {STORED}\n')
