from pathlib import Path
import re

import pytest

from anomaly_seg_ros.cli import VERBS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / 'README.md', *sorted(ROOT.glob('anomaly_seg_ros/checkpoints/*/MODEL_CARD.md'))]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.parent.name)
def test_every_command_shown_is_a_verb(page: Path) -> None:
    shown = re.findall(
        r'^(?:\S*python -m anomaly_seg_ros|anomaly_seg) (\w+)', page.read_text(), re.M
    )
    assert shown
    assert set(shown) <= set(VERBS)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.parent.name)
def test_every_link_and_file_named_exists(page: Path) -> None:
    text = page.read_text()
    links = [link for link in re.findall(r'\]\(([^)#]+)\)', text) if '://' not in link]
    assert all((page.parent / link).exists() for link in links), links
    files = re.findall(
        r'(?<![\w/.])((?:config|launch|docs|training|anomaly_seg_ros)/[\w./-]+)', text
    )
    missing = [name for name in files if not (ROOT / name.rstrip('.')).exists()]
    assert not missing


def test_every_make_target_shown_exists() -> None:
    targets = set(re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.M))
    shown = set(re.findall(r'`?make (\w[\w-]*)', (ROOT / 'README.md').read_text()))
    assert shown - {'test'} <= targets | {'test'}
    assert 'demo' in targets


def test_every_folder_and_file_of_the_tree_exists() -> None:
    text = (ROOT / 'README.md').read_text()
    tree = text.split('## The tree')[1].split('```')[1]
    top = ''
    for line in tree.strip().splitlines():
        for name in re.findall(r'[\w/]+(?:\.py|/)(?=[\s;,]|$)', line[:24]):
            top = name if not line.startswith(' ') else top
            place = ROOT / name if not line.startswith(' ') else ROOT / top / name
            assert place.exists(), place


def test_readme_has_no_open_places() -> None:
    assert '@@' not in (ROOT / 'README.md').read_text()
