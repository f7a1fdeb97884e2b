"""The pages say what is true: commands parse, paths exist, error texts are those of the code."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
import re
import shlex

import pytest

from anomaly_seg_ros.cli import build_parser, VERBS
from anomaly_seg_ros.command_line import options
from anomaly_seg_ros.node.config import parameters
from anomaly_seg_ros.node.launch_files import LAUNCH_FILES
from anomaly_seg_ros.node.outputs import LATCHED, OUTPUTS
from anomaly_seg_ros.node.topics import CAMERA_INFO_OUT, SERVICES

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ('anomaly_seg_ros', 'training')
README = ROOT / 'README.md'
GUIDES = [ROOT / 'docs' / f'{name}.md' for name in ('evaluation', 'speed', 'training', 'vehicle')]
PAGES = [
    *sorted(ROOT.glob('*.md')),
    *sorted((ROOT / 'docs').glob('*.md')),
    *sorted(ROOT.glob('anomaly_seg_ros/checkpoints/*/MODEL_CARD.md')),
]
WORDS = 1000
"""The README's first screens are for somebody who has a robot to run."""
ANY = '\0'
"""In the place of a value that a text holds only when it is said."""

pages = pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def code(page: Path) -> Iterator[tuple[str, bool]]:
    """Gives each line of code that a page shows, and whether it stands in a block of its own."""
    for at, part in enumerate(re.split(r'^```.*$', page.read_text(encoding='utf-8'), flags=re.M)):
        if at % 2:
            yield from ((line.partition('  #')[0].strip(), True) for line in part.splitlines())
        else:
            yield from ((' '.join(c.split()), False) for c in re.findall(r'`([^`]+)`', part))


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Gives verb and arguments of each whole command of ours that a page shows."""
    for line, block in code(page):
        found = re.match(r'(?:\S*python -m anomaly_seg_ros|anomaly_seg) ([a-z]\w*)(.*)', line)
        if found and (block or found[2]):
            yield found[1], shlex.split(found[2])


@cache
def parser(verb: str) -> argparse.ArgumentParser:
    result = build_parser(verb)
    result.exit_on_error = result.allow_abbrev = False
    return result


@pages
def test_every_command_shown_parses(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb, arguments in commands(page):
        assert verb in VERBS
        try:
            parser(verb).parse_args(arguments)
        except (SystemExit, argparse.ArgumentError) as error:
            pytest.fail(f'anomaly_seg {verb} {arguments}: {capsys.readouterr().err or error}')


def test_commands_are_found() -> None:
    shown = {verb for page in PAGES for verb, _ in commands(page)}
    assert shown >= set(VERBS) - {'demo'}


@pages
def test_every_option_of_a_verb_shown_exists(page: Path) -> None:
    for line, _ in code(page):
        verb, _, rest = line.partition(' ')
        if verb in VERBS:
            options = set(re.findall(r'(?<!\S)--[\w-]+', rest))
            assert options <= set(parser(verb)._option_string_actions), line


@pages
def test_every_module_and_script_shown_exists(page: Path) -> None:
    for line, _ in code(page):
        if found := re.search(r'python -m (?!pytest|colcon|venv)(\w[\w.]*)(.*)', line):
            spec = find_spec(found[1])
            assert spec is not None, line
            origin = Path(str(spec.origin))
            if origin.name == '__init__.py':
                origin = origin.with_name('__main__.py')
            text = origin.read_text(encoding='utf-8')
            if 'command_line.options' in text:
                text += Path(options.__file__).read_text(encoding='utf-8')
            own = found[2].partition(' --ros-args')[0]  # what is behind it is for ROS
            given = re.findall(r'(?<!\S)\[?(--[\w-]+)', own)
            ours = found[1] == 'anomaly_seg_ros' or '--help' in given
            assert ours or all(f"'{option}'" in text for option in given), line
        if found := re.search(r'python (\w[\w/]*\.py)', line):
            assert (ROOT / found[1]).is_file(), line


@pages
def test_every_link_and_path_named_exists(page: Path) -> None:
    text = page.read_text(encoding='utf-8')
    links = [link for link in re.findall(r'\]\(([^)#]+)(?:#[^)]*)?\)', text) if '://' not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    paths = re.findall(
        r'(?<![\w/.-])((?:config|launch|docs|training|test|anomaly_seg_ros)/[\w./-]*)', text
    )
    paths = [str(Path(name).parent) if 'NAME' in name else name for name in paths]
    missing = [name for name in paths if not (ROOT / name.rstrip('.')).exists()]
    assert missing == []


@pages
def test_every_section_linked_exists(page: Path) -> None:
    for link, section in re.findall(r'\]\(([^)#]*)#([^)]+)\)', page.read_text(encoding='utf-8')):
        target = page.parent / link if link else page
        titles = re.findall(r'^#+ (.+)$', target.read_text(encoding='utf-8'), re.M)
        anchors = {re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-') for title in titles}
        assert section in anchors


@pages
def test_every_make_target_shown_exists(page: Path) -> None:
    targets = set(re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.M))
    shown = {m[1] for line, _ in code(page) if (m := re.match(r'make (\w[\w-]*)', line))}
    assert shown <= targets


@pages
def test_every_launch_argument_and_parameter_shown_exists(page: Path) -> None:
    for line, _ in code(page):
        if found := re.match(r'ros2 launch anomaly_seg_ros (\S+)(.*)', line):
            known = {argument.name for argument in LAUNCH_FILES[found[1]]}
            assert set(re.findall(r'(\w+):=', found[2])) <= known, line
        if found := re.match(r'ros2 param set \S+ (\w+)', line):
            assert found[1] in {row.name for row in parameters()}


@pytest.mark.parametrize('page', [README, ROOT / 'docs' / 'vehicle.md'], ids=lambda p: p.stem)
def test_the_outputs_of_the_node_are_all_named(page: Path) -> None:
    named = re.findall(r'`(~/[\w/]+)`', page.read_text(encoding='utf-8'))
    assert set(named) - set(SERVICES) == {*OUTPUTS, *LATCHED, CAMERA_INFO_OUT}


def test_what_runs_by_itself_reads_the_table() -> None:
    text = (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8').split('## Adding one')[1]
    rows = [row.split(' | ') for row in re.findall(r'^\| (an? .+) \|$', text, re.M)]
    tables = {
        row[2].split('`')[1]: re.findall(r'test/\w+\.py', row[3]) for row in rows if '`' in row[2]
    }
    assert {'SCORES', 'MODELS', 'ENGINES', 'OBJECTIVES', 'OUTPUTS', 'VERBS'} <= set(tables)
    for table in set(tables) - {'README.md'}:
        for name in tables[table]:
            assert table in (ROOT / name).read_text(encoding='utf-8'), f'{name}: no {table}'


@pages
def test_no_open_places(page: Path) -> None:
    assert '@@' not in page.read_text(encoding='utf-8')


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding='utf-8').split()) < WORDS


def tree() -> list[str]:
    """The folders of the tree in the README, by their indentation."""
    text = README.read_text(encoding='utf-8').split('## The tree')[1].split('```')[1]
    folders: list[str] = []
    above: list[str] = []
    for line in text.strip('\n').splitlines():
        found = re.match(r'( *)((?:\w+/ ?)+)  +\S', line)
        assert found, f'no folder with its one line: {line!r}'
        depth = len(found[1]) // 2
        names = found[2].split()
        folders += ['/'.join([*above[:depth], name.rstrip('/')]) for name in names]
        above[depth:] = [names[-1].rstrip('/')]
    return folders


def test_the_tree_names_every_folder_and_no_other() -> None:
    named = tree()
    assert [name for name in named if not (ROOT / name).is_dir()] == []
    assert len(named) == len(set(named))
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob('*.py')}
    missing = {str(folder.relative_to(ROOT)) for folder in folders} - set(named)
    assert missing == set()


@cache
def said() -> list[str]:
    """Every text in the code, with `ANY` where a value goes."""

    def text(node: ast.AST) -> str:
        if isinstance(node, ast.JoinedStr):
            return ''.join(text(part) for part in node.values)
        if isinstance(node, ast.Constant):
            return re.sub('%[sd]', ANY, str(node.value))
        return ANY

    files = [path for package in PACKAGES for path in (ROOT / package).rglob('*.py')]
    trees = [ast.parse(path.read_text(encoding='utf-8')) for path in files]
    kinds = (ast.JoinedStr, ast.Constant)
    return [text(node) for tree in trees for node in ast.walk(tree) if isinstance(node, kinds)]


def is_said(message: str) -> bool:
    """Whether the code says a text, in which `...` stands for any value."""
    parts = [part.strip() for part in message.split('...')]
    pattern = re.compile(f'.*{ANY}.*'.join(map(re.escape, parts)), re.S)
    return any(pattern.search(text) for text in said())


@pytest.mark.parametrize('page', GUIDES, ids=lambda page: page.stem)
def test_trouble_is_that_of_the_code(page: Path) -> None:
    table = page.read_text(encoding='utf-8').split('## Trouble')[1]
    rows = re.findall(r'^\| (.+?) \| (.+?) \| (.+?) \|$', table, re.M)[1:]
    assert rows[0] == ('---', '---', '---')
    messages = [seen[1:-1] for seen, *_ in rows if re.fullmatch(r'`[^`]+`', seen)]
    assert len(messages) >= 8
    assert [message for message in messages if not is_said(message)] == []


def test_a_text_that_nobody_says_is_found() -> None:
    assert is_said('unknown engine ...; choose one of: auto')
    assert not is_said('unknown engine ...; take another one')
