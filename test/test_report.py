"""The report: what its page says, and that a real browser sorts it and shows its pictures."""

from __future__ import annotations

import argparse
import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
import doctest
import fcntl
from html.parser import HTMLParser
from importlib import import_module
import json
import os
from pathlib import Path
import select
import shutil
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from anomaly_seg_ros.cli import main as cli
from anomaly_seg_ros.frames.images import write_image
from training.commands import report
from training.results import (
    FrameRow,
    Picture,
    ResultRow,
    write_curves,
    write_frames,
    write_pictures,
    write_results,
)

BROWSER_DEADLINE_S = 60.0
NASTY = '<script>alert(1)</script>"&\'.png'


# --- result folders ------------------------------------------------------------------------------


def row(score: str = 'msp', **values: Any) -> ResultRow:
    """A row as evaluate writes it; keys beyond the contract go to `extra`."""
    given: dict[str, Any] = {
        'dataset': 'road', 'split': 'val', 'model': 'bisenetv2', 'checkpoint': 'runs/ckpt',
        'engine': 'openvino', 'precision': 'fp32', 'input_size': (360, 480), 'n_images': 20,
        'n_pixels': 3_456_000, 'ap': 0.5, 'auroc': 0.9, 'fpr95': 0.3,
        'command': 'anomaly_seg evaluate --dataset road', 'commit': 'abc123-dirty', **values,
    }  # fmt: skip
    extra = {key: given.pop(key) for key in list(given) if key not in ResultRow.__annotations__}
    return ResultRow(score=score, **given, extra={'protocol': 'exact', 'warnings': [], **extra})


def curve(score: str, ap: float = 0.5, calibrated: bool = False) -> dict[str, Any]:
    x = np.linspace(0, 1, 200)
    middle = (np.arange(15) + 0.5) / 15
    bins = {'confidence': middle, 'accuracy': middle**1.4, 'share': middle**3 / (middle**3).sum()}
    before = {**bins, 'accuracy': middle**2.2}
    before['confidence'] = np.where(middle < 0.1, np.nan, middle)
    return {
        'score': score,
        'pr': {'recall': x, 'precision': 1 - (1 - ap) * x ** (0.3 + 2 * ap)},
        'roc': {'fpr': x, 'tpr': x ** (0.5 - 0.4 * ap)},
        'reliability': bins if calibrated else None,
        'reliability_before': before if calibrated else None,
    }


def frame(folder: Path, number: int, score: str = 'msp', **values: Any) -> Picture:
    """A picked frame with four picture files."""
    paths = {}
    for index, key in enumerate(('image', 'truth', 'score_map', 'mask')):
        name = f'pictures/{score}_{number}_{key}.png'
        (folder / 'pictures').mkdir(parents=True, exist_ok=True)
        picture = np.full((30, 40, 3), 50 * index, np.uint8)
        picture[10:20, 10:30] = (200, 10 * number, 90)
        write_image(folder / name, picture)
        paths[key] = name
    given = {'frame': f'frame_{number}', 'kind': 'worst', 'ap': 0.1, 'miou': None, **paths}
    return Picture(score=score, **{**given, **values})


def full_folder(folder: Path, **values: Any) -> Path:
    """A folder with every file that evaluate writes, two scores."""
    timed = {'latency_ms': {'p50': 12.3, 'p95': 20.0}, 'fps': 81.3, 'peak_mb': 700.0}
    rows = [
        row('msp', ap=0.25, ece=0.02, ece_before=0.08, temperature=1.5, **timed, **values),
        row('energy', ap=0.75, fpr95=0.1, ece=0.02, ece_before=0.08, temperature=1.5, **timed,
            **values),
    ]  # fmt: skip
    write_results(folder, rows)
    write_curves(folder, [curve('msp', 0.25, True), curve('energy', 0.75, True)])
    pictures = [
        frame(folder, 1),
        frame(folder, 2, kind='best', ap=0.9),
        frame(folder, 3, 'energy'),
    ]
    write_pictures(folder, pictures)
    return folder


@pytest.fixture
def make_page(tmp_path: Path) -> Callable[..., Page]:
    """Gives a maker of the page of given result folders, parsed."""

    def make(*folders: Path) -> Page:
        out = tmp_path / 'report.html'
        assert report.main(argparse.Namespace(results=list(folders), out=out)) == 0
        return Page(out.read_text(encoding='utf-8'))

    return make


@pytest.fixture
def page_of(tmp_path: Path, make_page: Callable[..., Page]) -> Callable[..., Page]:
    """Gives a maker of the page of given rows."""

    def make(*rows: ResultRow) -> Page:
        write_results(tmp_path / 'results', rows)
        return make_page(tmp_path / 'results')

    return make


class Page(HTMLParser):
    """What a page says.

    Attributes:
        tags: Each element's name and attributes.
        heads: Key of each column of the table of results.
        cells: Its rows: (text, attributes) of each cell.
        texts: Text of each element with an id, by that id.
    """

    VOID = ('br', 'img', 'meta', 'link')

    def __init__(self, source: str):
        super().__init__()
        self.source = source
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.heads: list[str] = []
        self.cells: list[list[tuple[str, dict[str, str | None]]]] = []
        self.texts: dict[str, str] = {}
        self.text = ''
        self.stack: list[tuple[str, dict[str, str | None], int]] = []
        self.feed(source)
        self.close()
        assert not self.stack

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if 'data-key' in attributes:
            self.heads.append(attributes['data-key'] or '')
        if 'data-row' in attributes:
            self.cells.append([])
        if tag not in self.VOID:
            self.stack.append((tag, attributes, len(self.text)))

    def handle_endtag(self, tag: str) -> None:
        name, attributes, start = self.stack.pop()
        assert name == tag, f'</{tag}> closes <{name}>'
        content = self.text[start:]
        if attributes.get('id'):
            self.texts[attributes['id'] or ''] = content
        if 'data-value' in attributes:
            self.cells[-1].append((content, attributes))

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1][0] not in ('script', 'style'):
            self.text += data

    def column(self, key: str) -> list[str]:
        return [cells[self.heads.index(key)][0] for cells in self.cells]

    def best(self, key: str) -> list[bool]:
        found = [cells[self.heads.index(key)][1] for cells in self.cells]
        return ['best' in (attributes.get('class') or '').split() for attributes in found]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


# --- the table -----------------------------------------------------------------------------------


def test_fractions_are_percent_with_two_digits_and_null_is_empty(page_of: Any) -> None:
    page = page_of(row('msp', ap=0.123456, nll=0.5), row('energy', ap=None))
    assert page.column('score') == ['msp', 'energy']
    assert page.column('ap') == ['12.35', '']
    assert page.column('fpr95') == ['30.00', '30.00']
    assert page.column('nll') == ['0.5000', '']
    values = [cells[page.heads.index('ap')][1]['data-value'] for cells in page.cells]
    assert values == ['0.123456', '']


def test_columns_without_a_value_are_hidden(page_of: Any) -> None:
    page = page_of(row('msp'), row('energy'))
    assert {'ap', 'auroc', 'fpr95'} <= set(page.heads)
    assert not {'miou', 'siou_gt', 'ece', 'latency_ms.p50', 'fps'} & set(page.heads)


def test_settings_that_all_rows_share_are_said_once(page_of: Any) -> None:
    page = page_of(row('msp', engine='torch'), row('msp', engine='openvino'))
    assert page.heads[:4] == ['score', 'dataset', 'split', 'engine']
    assert 'precision' not in page.heads
    assert 'Precision fp32' in page.texts['results']


def test_best_is_the_highest_ap_and_the_lowest_fpr95_of_each_dataset(page_of: Any) -> None:
    page = page_of(
        row('msp', ap=0.3, fpr95=0.2, miou=0.6),
        row('energy', ap=0.4, fpr95=0.3, miou=0.6),
        row('msp', dataset='camvid', ap=0.9, fpr95=0.1),
        row('energy', dataset='camvid', ap=0.8, fpr95=0.1),
        row('void', dataset='camvid', ap=None, fpr95=0.4),
        row('msp', split='test', ap=0.1),
    )
    assert page.best('ap') == [False, True, True, False, False, False]
    assert page.best('fpr95') == [True, False, True, True, False, False]
    assert page.best('miou') == [False] * 6  # all agree
    assert page.best('score') == [False] * 6


def test_protocols_are_not_compared(page_of: Any) -> None:
    page = page_of(
        row('msp', ap=0.3), row('energy', ap=0.2), row('msp', ap=0.5, protocol='course')
    )
    assert page.best('ap') == [True, False, False]


def test_folders_are_told_apart_by_their_root(page_of: Any) -> None:
    page = page_of(
        row('msp', dataset='folder', root='/data/yard', ap=0.3),
        row('void', dataset='folder', root='/data/yard', ap=0.2),
        row('msp', dataset='folder', root='/data/road', ap=0.9),
        row('msp', dataset='/maps/yard/labels_masks', ap=0.8),
    )
    assert page.column('dataset') == ['yard', 'yard', 'road', 'yard/labels_masks']
    assert page.best('ap') == [True, False, False, False]


def test_folders_of_the_same_name_keep_their_paths(page_of: Any) -> None:
    page = page_of(*(row(dataset='folder', root=f'/{disk}/yard') for disk in 'ab'))
    assert page.column('dataset') == ['/a/yard', '/b/yard']


def result_folder(folder: Path, frames: Sequence[str], *rows: ResultRow) -> Path:
    """A folder as evaluate leaves it, with its table of frames."""
    write_results(folder, rows)
    lines = [FrameRow(score=str(r.score), frame=f, n_pixels=9) for r in rows for f in frames]
    write_frames(folder, lines)
    return folder


def test_a_part_of_a_set_is_another_set(tmp_path: Path, make_page: Any) -> None:
    part = [f'frame_{number}' for number in range(40)]
    page = make_page(
        result_folder(tmp_path / 'a', [*part, 'x'], row('msp', ap=0.3), row('void', ap=0.2)),
        result_folder(tmp_path / 'b', part, row('msp', ap=0.9)),
        result_folder(tmp_path / 'c', part, row('void', ap=0.8)),
    )
    assert page.column('dataset') == ['road (41 frames)'] * 2 + ['road (40 frames)'] * 2
    assert page.best('ap') == [True, False, True, False]
    assert page.texts['glance'].count('best AP of 2') == 2


def test_as_many_other_frames_are_another_set(tmp_path: Path, make_page: Any) -> None:
    page = make_page(
        result_folder(tmp_path / 'a', ['1', '2'], row(root='/data/a')),
        result_folder(tmp_path / 'b', ['1', '3'], row(root='/data/b')),
        result_folder(tmp_path / 'c', ['1', '2'], row(root='/data/c', n_pixels=7)),
    )
    ends = [f'road (2 of /data/{name})' for name in 'abc']
    assert page.column('dataset') == ends


def test_the_same_frames_under_two_protocols_keep_their_name(
    tmp_path: Path, make_page: Any
) -> None:
    page = make_page(
        result_folder(tmp_path / 'a', ['1', '2'], row('msp'), row('void')),
        result_folder(tmp_path / 'b', ['2'], row('msp', protocol='course', n_pixels=5)),
        result_folder(tmp_path / 'c', ['2'], row('msp', protocol='course', n_pixels=6)),
    )
    assert page.column('dataset') == ['road'] * 4
    assert page.texts['glance'].count('best AP of 2') == 2


def test_pictures_of_classes_are_called_so(tmp_path: Path, make_page: Any) -> None:
    full_folder(tmp_path / 'anomalies', base_rate=0.1, iou=[0.5])
    assert 'Mask' in make_page(tmp_path / 'anomalies').texts['frames']
    full_folder(tmp_path / 'classes', base_rate=None, iou=[0.5])
    shown = make_page(tmp_path / 'classes').texts['frames']
    assert 'True classes' in shown
    assert 'Mask' not in shown


def test_checkpoints_of_the_same_name_are_told_apart(page_of: Any) -> None:
    found = {'out/plain/fitted': 0.1, 'out/hybrid/fitted': 0.3, 'default': 0.2}
    rows = [row('msp', checkpoint=path, ap=ap) for path, ap in found.items()]
    page = page_of(*rows)
    assert page.column('checkpoint') == ['plain/fitted', 'hybrid/fitted', 'default']
    assert 'best AP of 3: msp of hybrid/fitted' in page.texts['glance']
    assert ' of default' not in page_of(rows[-1]).texts['glance']


def test_every_metric_shown_is_explained_with_its_direction(page_of: Any) -> None:
    text = page_of(row(miou=0.5, siou_gt=0.1, ece=0.1)).texts['metrics']
    for name in ('AP', 'AUROC', 'FPR95', 'sIoU', 'mIoU', 'ECE'):
        assert name in text
    assert 'Normal pixels falsely flagged when 95 % of the anomalous ones are found. ↓' in text
    assert text.count('higher is better') == 4
    assert text.count('lower is better') == 2


def test_bounds_of_ap_show_only_where_two_digits_tell_them(page_of: Any) -> None:
    page = page_of(
        row('msp', ap=0.5, ap_interval=[0.4999999, 0.5000001]),
        row('energy', ap=0.5, ap_interval=[0.4998, 0.5003]),
    )
    assert page.column('ap') == ['50.00', '50.0049.98 \N{EN DASH} 50.03']


# --- the rest of the page ------------------------------------------------------------------------


def test_warnings_stand_on_top(page_of: Any) -> None:
    warning = 'AP is within 10 % of the base rate'
    page = page_of(row('msp', warnings=[warning]), row('energy', warnings=[warning]), row('void'))
    assert f'msp on road, energy on road {warning}' in page.texts['warnings']
    assert page.text.index(warning) < page.text.index('Click a heading')
    assert page.column('score') == ['msp ⚠', 'energy ⚠', 'void']


def test_how_each_number_was_made(page_of: Any) -> None:
    text = page_of(row('msp', ap_rule='of all pixels'), row('void', engine='torch')).texts[
        'origins'
    ]
    for words in (
        'anomaly_seg evaluate --dataset road', 'abc123 with uncommitted changes', 'fp32', 'exact',
        '360 \N{MULTIPLICATION SIGN} 480', 'openvino', 'torch', 'val', 'of all pixels',
        '3,456,000',
    ):  # fmt: skip
        assert words in text


def test_each_row_links_to_how_it_was_made(page_of: Any) -> None:
    page = page_of(row('msp'), row('void'), row('msp', engine='torch', command='other'))
    targets = {a['id'] for _, a in page.tags if (a.get('id') or '').startswith('row-')}
    links = {a['href'] for a in page.all('a') if (a.get('href') or '').startswith('#row-')}
    assert targets == {'row-1', 'row-2', 'row-3'}
    assert links == {f'#{target}' for target in targets}


def test_curves_of_all_scores_share_a_chart(tmp_path: Path, make_page: Any) -> None:
    page = make_page(full_folder(tmp_path / 'a'), full_folder(tmp_path / 'b', split='test'))
    charts = [a for a in page.all('svg') if a.get('class') == 'chart']
    assert [a['aria-label'] for a in charts[:4]] == [
        'Precision over recall, road val', 'ROC, road val',
        'Precision over recall, road test', 'ROC, road test',
    ]  # fmt: skip
    lines = [a for a in page.all('path') if 'data-series' in a]
    assert [a['data-series'] for a in lines] == ['0', '1'] * 4  # the best on top
    assert 'energy75.0090.0010.00msp25.0090.0030.00' in page.texts['curves']


def test_a_curve_starts_and_ends_where_it_should(tmp_path: Path, make_page: Any) -> None:
    points = {'recall': [0, 0.5, 1], 'precision': [1, None, 0.0]}
    write_results(tmp_path / 'a', [row()])
    write_curves(tmp_path / 'a', [{'score': 'msp', 'pr': points, 'roc': None}])
    drawn = [a['d'] for a in make_page(tmp_path / 'a').all('path') if 'data-series' in a]
    assert drawn == ['M46,12 348,276']


def test_reliability_stands_before_and_after_once_per_network(
    tmp_path: Path, make_page: Any
) -> None:
    text = make_page(full_folder(tmp_path / 'a')).texts['reliability']
    assert text.count('Before the temperature') == 1
    assert text.count('After the temperature') == 1
    assert 'msp, energy' in text
    assert 'ECE 8.00 %' in text
    assert 'ECE 2.00 % · temperature 1.500' in text


def test_classes_are_listed_with_their_iou(page_of: Any) -> None:
    names = {'iou': [0.25, None, 0.5], 'class_names': ['sky', 'bus', 'road']}
    text = page_of(row('msp', **names), row('energy', **names)).texts['classes']
    assert text.count('sky') == 1
    assert text.index('road50.00') < text.index('sky25.00') < text.index('bus')


def test_speed_shows_floor_frames_and_the_node(tmp_path: Path, make_page: Any) -> None:
    empty = {'dataset': None, 'split': None, 'ap': None, 'auroc': None, 'fpr95': None}
    engine = {
        'latency_ms': {'p50': 20.0, 'p95': 25.0}, 'ratio_to_first': 1.0, 'cpu_ms': 38.5,
        'ratio_frames': {'frame': 1.04, 'pictures': 1.13}, 'label_agreement': 0.9989,
        'floor': {'floor_ms': 10.0, 'efficiency': 0.5},
    }  # fmt: skip
    node = {
        'latency_ms': {'p50': 24.0, 'p95': 40.0}, 'what': 'node, 1080x1920 image',
        'bare_ms': {'p50': 20.5, 'p95': 22.0}, 'ratio_to_bare': 1.17, 'target_ms': 25.6,
    }  # fmt: skip
    write_results(tmp_path / 'a', [row(**engine, **empty), row(**node, **empty)])
    page = make_page(tmp_path / 'a')
    text = page.texts['speed']
    times = '\N{MULTIPLICATION SIGN}'
    assert f'1.00 {times}, frame 1.04 {times}, pictures 1.13 {times}' in text
    assert f'to bare 1.17 {times}' in text
    assert 'node, 1080x1920 image' in text
    assert all(value in text for value in ('38.5', '99.89', '20.5', '25.6', 'physical floor'))
    # The longest bar, 40 ms, is the whole width.
    marks = [a for name, a in page.tags if name == 'i' and a.get('class') == 'floor']
    assert [mark['style'] for mark in marks] == ['left:25.0%']


def test_speed_of_a_benchmark(tmp_path: Path, make_page: Any) -> None:
    fast = {'latency_ms': {'p50': 10.0, 'p95': 12.0}, 'fps': 100.0, 'ratio_to_first': 4.0}
    slow = {'latency_ms': {'p50': 40.0, 'p95': 44.0}, 'fps': 25.0, 'ratio_to_first': 1.0}
    stages = {'preprocess': 1.5, 'network': {'p50': 8.25, 'p95': 9.0}}
    empty = {'dataset': None, 'split': None, 'ap': None, 'auroc': None, 'fpr95': None}
    write_results(
        tmp_path / 'a',
        [row(engine='torch', **slow, **empty), row(stages_ms=stages, **fast, **empty)],
    )
    page = make_page(tmp_path / 'a')
    text = page.texts['speed']
    assert 'torch fp32' in text
    assert '40.044.025.01.00 \N{MULTIPLICATION SIGN}' in text
    assert '10.012.0100.04.00 \N{MULTIPLICATION SIGN}' in text
    assert 'preprocess 1.50 · network 8.25' in text
    assert page.best('latency_ms.p50') == [False, True]
    assert page.heads[:2] == ['score', 'engine']


def test_pictures_are_inside_the_page(tmp_path: Path, make_page: Any) -> None:
    page = make_page(full_folder(tmp_path / 'a'))
    images = [a for a in page.all('img') if a.get('alt')]
    assert len(images) == 3 * 4
    assert all((a['src'] or '').startswith('data:image/png;base64,') for a in images)
    assert [a['alt'] for a in images[:4]] == [
        'Image of frame_3', 'Truth of frame_3', 'Score of frame_3', 'Mask of frame_3',
    ]  # fmt: skip
    assert 'frame_2AP 90.00 %' in page.texts['frames']


def test_large_pictures_are_shrunk(tmp_path: Path, make_page: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (960, 1280, 3), np.uint8)
    folder = full_folder(tmp_path / 'a')
    write_image(folder / 'pictures' / 'msp_1_image.png', noise)
    assert (folder / 'pictures' / 'msp_1_image.png').stat().st_size > 3_000_000
    source = make_page(folder).source
    assert 'data:image/webp;base64,' in source
    assert len(source) < 400_000


def test_missing_and_broken_pictures_are_said(tmp_path: Path, make_page: Any) -> None:
    folder = full_folder(tmp_path / 'a')
    (folder / 'pictures' / 'msp_1_mask.png').unlink()
    (folder / 'pictures' / 'msp_1_truth.png').write_bytes(b'\x89PNG cut')
    (tmp_path / 'secret.png').write_bytes((folder / 'pictures' / 'msp_2_mask.png').read_bytes())
    pictures = [frame(folder, 9, image=None, truth='../secret.png')]
    pictures += [
        Picture(**e) for e in json.loads((folder / 'pictures.json').read_text())['pictures']
    ]
    write_pictures(folder, pictures)
    text = make_page(folder).texts['frames']
    assert 'missing: pictures/msp_1_mask.png' in text
    assert 'cannot be read: pictures/msp_1_truth.png' in text
    assert 'cannot be read: ../secret.png' in text
    assert 'not recorded' in text


def test_all_text_is_escaped(tmp_path: Path, make_page: Any) -> None:
    folder = tmp_path / 'a'
    names = ('dataset', 'split', 'model', 'checkpoint', 'engine', 'protocol', 'command', 'commit')
    values = dict.fromkeys((*names, 'precision', 'note'), NASTY)
    stages = {'stages_ms': {NASTY: 1.0}, 'latency_ms': {'p50': 1.0}, 'iou': [0.5]}
    write_results(folder, [row(NASTY, **values, **stages, class_names=[NASTY], warnings=[NASTY])])
    write_curves(folder, [curve(NASTY)])
    write_pictures(folder, [frame(folder, 1, frame=NASTY, kind=NASTY, mask=NASTY)])
    data = json.loads((folder / 'pictures.json').read_text())
    data['pictures'][0]['score'] = NASTY
    (folder / 'pictures.json').write_text(json.dumps(data))
    page = make_page(folder)
    assert len(page.all('script')) == 1
    assert '<script>alert' not in page.source
    for part in ('results', 'curves', 'classes', 'frames', 'speed', 'origins', 'warnings'):
        assert NASTY in page.texts[part]


def test_the_page_asks_for_nothing_outside(tmp_path: Path, make_page: Any) -> None:
    page = make_page(full_folder(tmp_path / 'a'))
    wanted = [a[key] for _, a in page.tags for key in ('src', 'href') if a.get(key)]
    assert all((address or '').startswith(('data:', '#')) for address in wanted)
    assert '@import' not in page.source
    assert 'url(' not in page.source


def test_header_says_what_when_and_which_commit(tmp_path: Path, make_page: Any) -> None:
    folder = full_folder(tmp_path / 'a')
    write_results(tmp_path / 'b', [row(split='test', model='enet', commit='def456')])
    for name in ('a', 'b'):
        os.utime(tmp_path / name / 'results.json', (1_700_000_000, 1_700_000_000))
    text = make_page(folder, tmp_path / 'b').text
    head = text[: text.index('Click a heading')]
    for words in (
        'bisenetv2, enet', 'road val, road test', 'msp, energy', '2023-11-14 22:13 UTC',
        'abc123 with uncommitted changes, def456', '2 folders, 3 rows',
    ):  # fmt: skip
        assert words in head


# --- training runs -------------------------------------------------------------------------------


def training_run(folder: Path, table: str | None = None, **config: Any) -> Path:
    """A folder as `train` leaves it: recipe, table, and pictures of a flow."""
    folder.mkdir(parents=True)
    recipe = {'model': 'bisenetv2', 'objective': 'nflow_js', 'epochs': 8, 'lr': 0.001, **config}
    (folder / 'config.json').write_text(json.dumps(recipe))
    rows = ['epoch,loss,val_miou,val_ap', '1,2.5,,', '2,2,0.25,0.5', '3,nan,,', '4,1.25,0.5,0.75']
    (folder / 'metrics.csv').write_text(table if table is not None else '\n'.join(rows) + '\n')
    (folder / '._flow_samples_after.png').write_bytes(b'no data')
    for name, grey in (('flow_samples_after.png', 200), ('flow_samples_before.png', 50)):
        write_image(folder / name, np.full((40, 60, 3), grey, np.uint8))
    return folder


def test_a_training_run_is_shown_with_its_validation_and_its_pictures(
    tmp_path: Path, make_page: Any
) -> None:
    page = make_page(full_folder(tmp_path / 'a'), training_run(tmp_path / 'run'))
    text = page.texts['training']
    for words in ('nflow_js', '2.500 to 1.250', 'mIoU50.00', 'AP75.00'):
        assert words in text
    names = [image['alt'] for image in page.all('img') if 'low samples' in (image['alt'] or '')]
    assert names == [f'Flow samples {when} of {tmp_path}/run' for when in ('before', 'after')]
    lines = [a['d'] or '' for a in page.all('path') if a.get('class') == 'line c0']
    # Of eight epochs the second at 25 %, the fourth at 50 %: 46 + 302 x, 276 - 264 y.
    assert 'M121.5,210 197,144' in lines[-2]
    assert page.column('ap') == ['25.00', '75.00']


def test_a_page_of_training_runs_alone(tmp_path: Path, make_page: Any) -> None:
    page = make_page(training_run(tmp_path / 'run', 'epoch,bits_per_dim\n1,5\n', flow='light'))
    assert {'results', 'origins'} & page.texts.keys() == set()
    assert 'row' not in page.text
    assert '1 training run' in page.text
    assert 'bits/dim5.000' in page.texts['training']
    assert [a for a in page.all('svg') if a.get('class') == 'chart'] == []


def test_a_folder_of_a_run_may_hold_results_too(tmp_path: Path, make_page: Any) -> None:
    folder = full_folder(training_run(tmp_path / 'run'))
    page = make_page(folder)
    assert page.column('ap') == ['25.00', '75.00']
    assert 'nflow_js' in page.texts['training']


def test_a_folder_that_is_given_twice_counts_once(
    tmp_path: Path, make_page: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = full_folder(training_run(tmp_path / 'run'))
    (tmp_path / 'latest').symlink_to(folder)
    page = make_page(folder, tmp_path / 'run' / '..' / 'run', folder, tmp_path / 'latest')
    assert page.column('ap') == ['25.00', '75.00']
    assert '2 rows and 1 training runs of 1 folder,' in capsys.readouterr().out


def test_a_run_without_an_epoch_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = training_run(tmp_path / 'run')
    (folder / 'metrics.csv').unlink()
    assert cli(['report', str(folder), '--out', str(tmp_path / 'r.html')]) == 2
    assert 'a training run with at least one epoch' in capsys.readouterr().err


@pytest.mark.parametrize('table', ['', 'epoch,loss\n1,x\n', 'epoch,loss\n1,2,3\n', '\x00'])
def test_a_broken_training_run_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str
) -> None:
    folder = training_run(tmp_path / 'run', table)
    assert cli(['report', str(folder), '--out', str(tmp_path / 'r.html')]) == 2
    error = capsys.readouterr().err.strip()
    assert f'cannot read the training run {str(folder)!r}' in error
    assert 'closed' not in error
    assert '\n' not in error


def test_a_picture_that_cannot_be_read_is_said(tmp_path: Path, make_page: Any) -> None:
    folder = training_run(tmp_path / 'run')
    (folder / 'flow_samples_after.png').write_bytes(b'no picture')
    assert 'cannot be read: flow_samples_after.png' in make_page(folder).texts['training']


# --- robustness ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'content',
    [None, '', '{"format": 1, "rows": [', '{"format": 1, "rows": [{}]}',
     '{"format": 9, "rows": []}', '[]', '{"format": 1}', '{"format": 1, "rows": [3]}', '\x00\xff',
     '[' * 20_000],
)  # fmt: skip
def test_foreign_results_are_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    folder = tmp_path / 'run'
    folder.mkdir()
    if content is not None:
        (folder / 'results.json').write_text(content, encoding='latin-1')
    assert cli(['report', str(folder), '--out', str(tmp_path / 'r.html')]) == 2
    error = capsys.readouterr().err.strip()
    assert str(folder / 'results.json') in error
    assert '\n' not in error
    assert not (tmp_path / 'r.html').exists()


def test_out_must_be_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(tmp_path, [row()])
    assert cli(['report', str(tmp_path), '--out', str(tmp_path / 'results.json')]) == 2
    assert 'results.json' in capsys.readouterr().err
    assert json.loads((tmp_path / 'results.json').read_text())['rows']


@pytest.mark.parametrize('name', ['curves.json', 'pictures.json'])
def test_broken_side_files_are_said_and_the_page_goes_on(
    tmp_path: Path, make_page: Any, name: str
) -> None:
    folder = full_folder(tmp_path / 'a')
    (folder / name).write_text('{"format": 1, ')
    page = make_page(folder)
    assert name in page.texts['warnings']
    assert page.column('ap') == ['25.00', '75.00']


def test_a_broken_curve_leaves_the_others(tmp_path: Path, make_page: Any) -> None:
    folder = full_folder(tmp_path / 'a')
    broken = {'score': 'msp', 'pr': {'recall': [0, 1], 'precision': [1]}, 'roc': None}
    write_curves(folder, [broken, {'score': 'void', 'pr': 3}, curve('energy')])
    page = make_page(folder)
    assert page.texts['warnings'].count('curves.json') == 2
    assert len([a for a in page.all('path') if 'data-series' in a]) == 2


def test_the_shipped_threshold_has_columns_and_its_own_tables(page_of: Any) -> None:
    group = {'n_normal': 1234, 'n_anomaly': 0, 'false_positive_share': 0.0321}
    page = page_of(
        row(
            operating={'precision': 0.5, 'recall': 0.25, 'false_positive_share': 0.033},
            by_third=[{'third': 'top', **group, 'recall': None}],
            by_class=[{'class': 'road', **group}, 'x'],
            by_class_rule='true class',
            bootstrap={'rule': 'of resamples', 'ap': [0.41, 0.62], 'recall': [0.2, None]},
        )
    )
    table = page.column('operating.false_positive_share')
    assert table == ['3.30']
    assert page.column('ap') == ['50.00[41.0 \N{EN DASH} 62.0]']
    assert page.column('operating.recall') == ['25.00']
    for words in ('by third of the image', 'by true class', 'top', 'road', '1,234', '3.21'):
        assert words in page.text, words


@pytest.mark.parametrize('value', [10**400, 1e308, '\ud800', [10**400]], ids='abcd')
@pytest.mark.parametrize('key', ['ap', 'by_class', 'by_third', 'model', 'threshold_given'])
def test_a_value_of_another_type_is_a_page(key: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / 'results.json'
    write_results(tmp_path, [row()])
    content = json.loads(path.read_text(encoding='utf-8'))
    content['rows'][0] |= {'by_third': [{'third': 'top'}], key: value}
    path.write_text(json.dumps(content), encoding='utf-8')
    assert cli(['report', str(tmp_path), '--out', str(tmp_path / 'page.html')]) == 0
    assert '</html>' in (tmp_path / 'page.html').read_text(encoding='utf-8')


def test_the_precision_of_an_engine_has_no_interval(page_of: Any) -> None:
    bounds = {'rule': 'of resamples', 'precision': [0.4, 0.6]}
    page = page_of(
        *(
            row(score, precision=precision, operating={'precision': 0.5}, bootstrap=bounds)
            for score, precision in (('msp', 'fp32'), ('energy', 'bf16'))
        )
    )
    assert sorted(page.column('precision')) == ['bf16', 'fp32']
    assert page.column('operating.precision') == ['50.00[40.0 \N{EN DASH} 60.0]'] * 2


def test_no_rows_at_all_is_a_page(page_of: Any) -> None:
    assert page_of().cells == []


def test_a_row_of_nulls_is_a_page(page_of: Any) -> None:
    page = page_of(ResultRow(), ResultRow(extra={'warnings': None, 'ap_interval': 'x'}))
    assert [cells[0][0] for cells in page.cells] == ['(no score)', '(no score)']


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_hundreds_of_rows_stay_small_and_quick(tmp_path: Path, make_page: Any) -> None:
    folders = []
    for name in 'abc':
        folder = tmp_path / name
        scores = [f'score_{index}' for index in range(200)]
        write_results(folder, [row(s, dataset=name, ap=i / 200) for i, s in enumerate(scores)])
        write_curves(folder, [curve(score, i / 200) for i, score in enumerate(scores)])
        one = frame(folder, 1)
        picked = [replace(one, score=s, kind=kind) for s in scores for kind in ('worst', 'best')]
        write_pictures(folder, picked)
        folders.append(folder)
    start = time.process_time()
    page = make_page(*folders)
    assert time.process_time() - start < 10
    assert len(page.cells) == 600
    assert len(page.source) < 3_000_000
    assert page.texts['curves'].count('The 10 best by AP of 200') == 3


@pytest.mark.parametrize(
    'name', ['charts', 'columns', 'markup', 'origins', 'plots', 'runs', 'speed', 'table']
)
def test_examples_in_the_code(name: str) -> None:
    assert doctest.testmod(import_module(f'training.reporting.{name}')).failed == 0


# --- a real browser ------------------------------------------------------------------------------

LAUNCH = (
    'import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); '
    'os.execvp(sys.argv[3], sys.argv[3:])'
)


class Browser:
    """Headless Chromium, driven over its DevTools pipe: one JSON message, one zero byte.

    Attributes:
        errors: What the page complained about since it was opened.
        requests: Every address that it asked for.
    """

    def __init__(self, program: str, profile: Path):
        # High numbers, so that neither stands where the browser expects its two ends.
        theirs_in, self._out = (fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in os.pipe())
        self._in, theirs_out = (fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in os.pipe())
        self._log = (profile.parent / 'chromium.log').open('wb')
        command = [
            program, '--headless', '--remote-debugging-pipe', f'--user-data-dir={profile}',
            '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
            '--disable-background-networking', '--disable-component-update', '--disable-sync',
            '--disable-extensions', '--disable-quic', '--hide-scrollbars', 'about:blank',
        ]  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, '-c', LAUNCH, str(theirs_in), str(theirs_out), *command],
            pass_fds=(theirs_in, theirs_out), stdout=self._log, stderr=self._log,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer = b''
        self._count = 0
        self._events: list[dict[str, Any]] = []
        self._session: str | None = None
        self.errors: list[str] = []
        self.requests: list[str] = []
        target = self._call('Target.createTarget', url='about:blank')['targetId']
        attached = self._call('Target.attachToTarget', targetId=target, flatten=True)
        self._session = attached['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self._call(f'{domain}.enable')

    def _receive(self) -> dict[str, Any]:
        while b'\0' not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], BROWSER_DEADLINE_S)
            part = os.read(self._in, 1 << 20) if ready else b''
            if not part:
                log = Path(self._log.name).read_text(errors='replace')[-2000:]
                pytest.fail(f'no word from Chromium (exit {self._process.poll()}): {log}')
            self._buffer += part
        message, self._buffer = self._buffer.split(b'\0', 1)
        found: dict[str, Any] = json.loads(message)
        self._note(found.get('method', ''), found.get('params', {}))
        return found

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == 'Runtime.exceptionThrown':
            self.errors.append(str(params['exceptionDetails']))
        elif method == 'Runtime.consoleAPICalled' and params['type'] in ('error', 'warning'):
            self.errors.append(str(params['args']))
        elif method == 'Log.entryAdded' and params['entry']['level'] in ('error', 'warning'):
            self.errors.append(str(params['entry']))
        elif method == 'Network.requestWillBeSent':
            self.requests.append(params['request']['url'])

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        message: dict[str, Any] = {'id': self._count, 'method': method, 'params': params}
        if self._session:
            message['sessionId'] = self._session
        os.write(self._out, json.dumps(message).encode() + b'\0')
        while True:
            answer = self._receive()
            if answer.get('id') == self._count:
                assert 'error' not in answer, answer
                result: dict[str, Any] = answer['result']
                return result
            self._events.append(answer)

    def open(
        self, path: Path, width: int = 1280, height: int = 900, scheme: str = 'light'
    ) -> None:
        """Loads a page of this machine and waits until it and its pictures are there."""
        self.errors, self.requests, self._events = [], [], []
        self._call(
            'Emulation.setDeviceMetricsOverride',
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        media = [{'name': 'prefers-color-scheme', 'value': scheme}]
        self._call('Emulation.setEmulatedMedia', features=media)
        self._call('Page.navigate', url=path.resolve().as_uri())
        while not any(event.get('method') == 'Page.loadEventFired' for event in self._events):
            self._events.append(self._receive())

    def run(self, script: str) -> Any:
        """Gives the value of a JavaScript expression."""
        answer = self._call(
            'Runtime.evaluate', expression=script, returnByValue=True, awaitPromise=True
        )
        assert 'exceptionDetails' not in answer, answer
        return answer['result'].get('value')

    def click(self, selector: str) -> None:
        """Clicks on the middle of an element with the mouse."""
        x, y = self.run(
            f'(() => {{const e = document.querySelector({json.dumps(selector)});'
            "e.scrollIntoView({block: 'center', inline: 'center'});"
            'const b = e.getBoundingClientRect();'
            'return [b.x + b.width / 2, b.y + b.height / 2]})()'
        )
        for kind in ('mousePressed', 'mouseReleased'):
            self._call(
                'Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', clickCount=1
            )

    def press(self, key: str, code: int) -> None:
        """Presses a key."""
        for kind in ('keyDown', 'keyUp'):
            text = {'text': '\r'} if key == 'Enter' and kind == 'keyDown' else {}
            self._call(
                'Input.dispatchKeyEvent', type=kind, key=key, windowsVirtualKeyCode=code, **text
            )

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Writes what is seen, or the whole page, as a PNG file."""
        data = self._call('Page.captureScreenshot', captureBeyondViewport=whole)['data']
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        self._session = None
        os.write(self._out, b'{"id": 0, "method": "Browser.close"}' + b'\0')
        try:
            self._process.wait(BROWSER_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)
        self._log.close()


@pytest.fixture(scope='module')
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    programs = ('chromium', 'chromium-browser', 'google-chrome')
    program = next((found for name in programs if (found := shutil.which(name))), None)
    if program is None:
        pytest.fail('no Chromium; on Debian: apt-get install chromium')
    result = Browser(program, tmp_path_factory.mktemp('chromium') / 'profile')
    yield result
    result.close()


@pytest.fixture
def shown(browser: Browser, tmp_path: Path) -> Browser:
    """The page of two folders in the browser."""
    full_folder(tmp_path / 'a')
    nulls = {'dataset': 'camvid', 'ap': None, 'auroc': None, 'fpr95': None}
    rows = [row('msp', ap=0.0625), row('void', **nulls), row('energy', ap=0.5)]
    write_results(tmp_path / 'b', [*rows, row('Entropy', ap=0.1)])
    out = tmp_path / 'report.html'
    assert cli(['report', str(tmp_path / 'a'), str(tmp_path / 'b'), '--out', str(out)]) == 0
    browser.open(out)
    return browser


CELLS = "[...document.querySelectorAll('#results-table tbody tr')].map(r => r.cells[{}].innerText)"


def column_of(browser: Browser, key: str) -> list[str]:
    keys = browser.run("[...document.querySelectorAll('th[data-key]')].map(h => h.dataset.key)")
    values: list[str] = browser.run(CELLS.format(keys.index(key)))
    return values


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_browser_loads_it_without_a_complaint_or_a_request(shown: Browser) -> None:
    assert shown.run('document.readyState') == 'complete'
    assert shown.errors == []
    outside = [url for url in shown.requests if not url.startswith('data:')]
    assert len(outside) == 1
    assert outside[0].endswith('/report.html')


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_browser_says_when_a_page_has_an_error(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / 'bad.html'
    page.write_text('<img src="http://127.0.0.1:9/x.png"><script>nothing()</script>')
    browser.open(page)
    assert any('nothing is not defined' in error for error in browser.errors)
    assert any(url.endswith('x.png') for url in browser.requests)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_browser_sorts_numbers_by_click_with_empty_last(shown: Browser) -> None:
    assert column_of(shown, 'ap') == ['25.00', '75.00', '6.25', '', '50.00', '10.00']
    shown.click('th[data-key="ap"] button')
    assert column_of(shown, 'ap') == ['75.00', '50.00', '25.00', '10.00', '6.25', '']
    assert shown.run('document.querySelector(\'th[data-key="ap"]\').ariaSort') == 'descending'
    shown.click('th[data-key="ap"] button')
    assert column_of(shown, 'ap') == ['6.25', '10.00', '25.00', '50.00', '75.00', '']
    shown.click('th[data-key="fpr95"] button')
    assert column_of(shown, 'fpr95') == ['10.00', '30.00', '30.00', '30.00', '30.00', '']
    assert shown.run('document.querySelectorAll("[aria-sort=none]").length') > 3
    assert shown.errors == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_browser_sorts_text_by_keyboard(shown: Browser) -> None:
    shown.run('document.querySelector(\'th[data-key="score"] button\').focus()')
    shown.press('Enter', 13)
    assert column_of(shown, 'score') == ['energy', 'energy', 'Entropy', 'msp', 'msp', 'void']


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_browser_decodes_every_picture(shown: Browser) -> None:
    script = (
        "Promise.all([...document.querySelectorAll('.frames img')].map("
        'i => i.decode().then(() => [i.naturalWidth, i.naturalHeight])))'
    )
    assert shown.run(script) == [[40, 30]] * 12


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_browser_shows_a_picture_large_by_click(shown: Browser) -> None:
    assert shown.run('document.getElementById("zoom").open') is False
    shown.click('.frames .zoom')
    assert shown.run('document.getElementById("zoom").open') is True
    assert shown.run('document.querySelector("#zoom img").naturalWidth') == 40
    shown.press('Escape', 27)
    assert shown.run('document.getElementById("zoom").open') is False


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [360, 1280])
def test_browser_has_room_for_the_page(
    shown: Browser, tmp_path: Path, width: int, scheme: str
) -> None:
    shown.open(tmp_path / 'report.html', width, scheme=scheme)
    assert shown.run('document.documentElement.scrollWidth') == width
    red = int(
        shown.run('getComputedStyle(document.body).backgroundColor').split('(')[1][:3].strip(',')
    )
    assert (red > 200) == (scheme == 'light')
    curve_color = shown.run('getComputedStyle(document.querySelector("path.line")).stroke')
    assert curve_color not in ('none', '')
