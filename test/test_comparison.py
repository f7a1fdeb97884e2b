"""The comparison of all methods, and the numbers that the pages print from its results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest

from anomaly_seg_ros import cli
from anomaly_seg_ros.checkpoint.folder import Checkpoint
from docs import numbers
from docs.numbers import MARKED, PAGES, PARTS, rewritten
from training.results import read_results, ResultRow, write_results
from training.study import compare
from training.study.compare import chosen, comparison_steps, main, merge_rows, node_rows
from training.study.methods import subjects
from training.study.rows import BASELINE, GRIDS
from training.study.steps import Data, StudyStep

SIZE = (72, 96)


def result(subject: str, kind: str, score: str = 'msp', **values: Any) -> ResultRow:
    extra = {'subject': subject, 'kind': kind, **values.pop('extra', {})}
    return ResultRow(score=score, engine='torch', precision='fp32', extra=extra, **values)


# What is measured


def test_every_method_has_a_name_of_its_own_and_every_trained_row_is_one() -> None:
    names = [subject.name for subject in subjects()]
    assert len(set(names)) == len(names)
    assert names[0] == BASELINE
    rows = [row for grid in GRIDS.values() for row in grid()]
    assert {row.name for row in rows if row.measured} <= set(names)
    with pytest.raises(ValueError, match=r"no method fits 'x'; the methods are: default, "):
        chosen('x')


def test_the_commands_of_public_weights_in_order(tmp_path: Path) -> None:
    (tmp_path / 'weights').mkdir()
    (tmp_path / 'weights' / 'enet_cityscapes_void_20.pth').touch()
    (subject,) = chosen('enet_cityscapes_void')
    data, out = Data(tmp_path / 'data'), tmp_path / 'out'
    steps = comparison_steps(subject, data, tmp_path / 'study', out)
    made = out / 'enet_cityscapes_void' / 'imported'
    assert steps[0].arguments[0] == 'import_weights'
    assert [step.name for step in steps[1:]] == [
        'scored_camvid_anomaly_val',
        'scored_road_anomaly_val',
        'scored_other_cameras_val',
    ]
    assert f'--checkpoint {made} --engine torch --score max_logit,void' in steps[1].command
    assert steps[1].needs == (steps[0].mark,)


def test_the_default_is_measured_as_it_ships_and_again_when_other_weights_ship(
    tmp_path: Path,
) -> None:
    (subject,) = chosen(BASELINE)
    steps = comparison_steps(subject, Data(Path('data')), tmp_path, tmp_path / 'out')
    shipped = [step for step in steps if step.name.startswith('shipped_')]
    assert len(shipped) == 4
    for step in shipped:
        assert '--checkpoint default --engine auto --dataset' in step.command
        assert step.recipe == Checkpoint.open('default').weights_sha256


def test_without_checkpoint_or_weights_a_method_is_left_out(tmp_path: Path) -> None:
    for name in ('enet_cityscapes', 'enet_ce'):
        (subject,) = chosen(name)
        assert comparison_steps(subject, Data(tmp_path / 'x'), tmp_path, tmp_path) == []


@pytest.fixture
def data(camvid_root: Path, save: Callable[..., list[Path]]) -> Path:
    """The sets of the comparison, two made frames each."""
    root = camvid_root.parent / 'data'
    shutil.copytree(camvid_root, root / 'camvid')
    random = np.random.default_rng(0)
    for name, anomaly in (
        ('camvid_anomaly_val', 1),
        ('road_anomaly_val', 2),
        ('other_cameras_val', 1),
    ):
        labels = np.zeros(SIZE, np.uint8)
        labels[30:50, 30:60] = anomaly
        save(root / name / 'images', [random.integers(0, 256, (*SIZE, 3), np.uint8)] * 2)
        save(root / name / 'labels_masks', [labels] * 2)
    return root


@pytest.mark.slow
def test_what_is_measured_fills_the_file_and_then_the_pages(
    data: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[StudyStep] = []

    def run_here(step: StudyStep) -> None:
        assert cli.main(list(step.arguments)) == 0
        ran.append(step)

    monkeypatch.setattr(compare, 'run', run_here)
    shutil.copytree(tiny_checkpoint, tmp_path / 'study' / 'enet_ce' / 'train' / 'checkpoint')
    arguments = ['--data', str(data), '--study', str(tmp_path / 'study'), '--times']
    arguments += ['--out', str(tmp_path / 'out'), '--results', str(tmp_path / 'docs')]
    assert main([*arguments, '--only', 'enet_ce']) == 0
    assert [step.arguments[0] for step in ran] == ['fit_score', *['evaluate'] * 4]
    rows = read_results(tmp_path / 'docs')
    assert [row.extra['kind'] for row in rows] == ['scored'] * 4 + ['timed']
    assert rows[-1].latency_ms['p50'] > 0
    assert rows[-1].extra['ratio_to_first'] == 1
    assert rows[-1].peak_mb > 10
    digest = Checkpoint.open(tiny_checkpoint).weights_sha256[:12]
    assert {row.extra['weights'] for row in rows} == {digest}
    by_set = {row.extra.get('set'): row for row in rows}
    assert (
        by_set['road_anomaly_val'].extra['bootstrap']['ap']
        == [pytest.approx(by_set['road_anomaly_val'].ap, abs=1e-3)] * 2
    )  # both frames are the same
    assert by_set['camvid_test'].miou is not None
    page = '<!-- numbers: overview -->\nold\n<!-- end of numbers -->\n'
    text = rewritten(page, rows)
    assert 'ENet, CE' in text
    assert f'{rows[-1].latency_ms["p50"]:.1f} | 1.00 |' in text
    assert 'old' not in text
    assert rewritten(text, rows) == text


def node_row(size: list[int], pace: str, p50: float, fps: float) -> ResultRow:
    machine = {'cpu': 'Some CPU', 'cores': 2}
    extra = {'image_size': size, 'pace': pace, 'fps': fps, 'machine': machine, 'what': pace}
    return result('', '', latency_ms={'p50': p50, 'p95': 99.0}, extra=extra)


def test_the_node_is_measured_by_its_own_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bench(call: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        assert call[1:3] == ['-m', 'training.bench.node']
        assert not check
        write_results(Path(call[-1]), [node_row([360, 480], 'closed loop', 12.3, 45.6)])
        return subprocess.CompletedProcess(call, 0)

    monkeypatch.setattr(compare.subprocess, 'run', bench)
    (row,) = node_rows(tmp_path)
    known = {key: row.extra[key] for key in ('subject', 'kind', 'set', 'fps')}
    assert known == {'subject': BASELINE, 'kind': 'node', 'set': 'closed loop', 'fps': 45.6}
    failed = subprocess.CompletedProcess([], 2)
    monkeypatch.setattr(compare.subprocess, 'run', lambda *_, **__: failed)
    with pytest.raises(RuntimeError, match='ended with 2'):
        node_rows(tmp_path)


def test_the_speed_is_latency_at_a_pace_and_rate_in_a_closed_loop() -> None:
    rows = [
        replace(row, extra=row.extra | {'kind': 'node'})
        for size in ([360, 480], [1080, 1920])
        for row in (node_row(size, 'at 10 Hz', 40.04, 1), node_row(size, 'closed loop', 1, 20.06))
    ]
    assert PARTS['speed'](rows) == (
        'On 2 cores of Some CPU, no GPU, image published to mask received: '
        '480x360 40.0 ms (p50), 20.1 frames/s; 1920x1080 40.0 ms (p50), 20.1 frames/s'
    )
    assert PARTS['speed']([]) == '-'


# The file


def test_rows_replace_those_of_their_method_kind_and_set_and_no_others(tmp_path: Path) -> None:
    def row(subject: str, kind: str, place: str, ap: float, weights: str = 'a') -> ResultRow:
        return result(subject, kind, ap=ap, extra={'set': place, 'weights': weights})

    def kept() -> list[tuple[Any, ...]]:
        rows = read_results(tmp_path)
        assert len((tmp_path / 'results.json').read_text().splitlines()) == 2 + len(rows)
        return [(*(row.extra.get(k) for k in ('subject', 'kind', 'set')), row.ap) for row in rows]

    merge_rows(tmp_path, [row('enet_ce', 'scored', 'x', 1 / 3), row('unknown', 'scored', 'x', 1)])
    merge_rows(tmp_path, [row('default', 'scored', 'x', 0.1), row('default', 'scored', 'y', 0.2)])
    merge_rows(tmp_path, [row('default', 'shipped', 'x', 0.3), row('default', 'scored', 'x', 0.4)])
    assert kept() == [
        ('default', 'shipped', 'x', 0.3),
        ('default', 'scored', 'y', 0.2),
        ('default', 'scored', 'x', 0.4),
        ('enet_ce', 'scored', 'x', 0.333333),
    ]
    merge_rows(tmp_path, [row('default', 'shipped', 'x', 0.5, weights='b')])
    assert kept() == [('default', 'shipped', 'x', 0.5), ('enet_ce', 'scored', 'x', 0.333333)]
    merge_rows(tmp_path, [])
    assert len(kept()) == 2


# The pages


@pytest.fixture
def committed(root: Path) -> list[ResultRow]:
    return read_results(root / 'docs')


@pytest.mark.parametrize('page', PAGES)
def test_a_page_says_what_the_results_say(
    page: str, root: Path, committed: list[ResultRow]
) -> None:
    text = (root / page).read_text(encoding='utf-8')
    assert MARKED.search(text)
    assert rewritten(text, committed) == text, 'run: python -m docs.numbers'


def test_the_results_are_of_the_checkpoint_that_ships(committed: list[ResultRow]) -> None:
    weights = Checkpoint.open('default').weights_sha256
    found = [row.extra.get('weights') for row in committed if row.extra['subject'] == BASELINE]
    assert {name for name in found if name} == {weights[:12]}, (
        'run: make comparison ARGS="--only default"'
    )


def test_every_part_is_on_a_page(root: Path) -> None:
    shown = {name for page in PAGES for _, name, _ in MARKED.findall((root / page).read_text())}
    assert shown == set(PARTS)


def test_an_unknown_part_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"unknown part 'card_'; choose one of: quality, card"):
        rewritten('<!-- numbers: card_ -->\n<!-- end of numbers -->', [])


def test_numbers_are_those_of_the_row_by_hand() -> None:
    shipped = result(
        BASELINE,
        'shipped',
        'max_logit',
        miou=0.7,
        ap=0.123,
        fpr95=0.5,
        iou=[0.9, None],
        commit='abc',
        extra={
            'set': 'camvid_test',
            'class_names': ['road', 'sky'],
            'operating': {'precision': None, 'recall': None, 'false_positive_share': 0.0123},
            'bootstrap': {'ap': [0.1, 0.15], 'false_positive_share': [0.011, 0.013]},
            'by_class': [{'class': 'road', 'n_normal': 1234, 'false_positive_share': 0.02}],
            'by_third': [
                {'third': 'top', 'precision': 0.5, 'recall': 1.0, 'false_positive_share': 0.03}
            ],
        },
    )
    other = replace(shipped, extra={**shipped.extra, 'set': 'road_anomaly_val'})
    rows = [shipped, other]
    assert '| RoadAnomaly | 12.3/50.0 | -/1.2 |' in PARTS['quality'](rows)
    empty = replace(shipped, ap=None)
    assert '| CamVid test | mIoU 70.0 | 1.2 |' in PARTS['quality']([empty])
    assert '12.3 (10.0 to 15.0)' in PARTS['card'](rows)
    assert '1.2 (1.1 to 1.3)' in PARTS['card'](rows)
    assert '| road | 90.0 | 1,234 | 2.00 |' in PARTS['classes'](rows)
    assert '| CamVid test | top | 50.00 | 100.00 | 3.00 |' in PARTS['thirds'](rows)
    assert '| `max_logit`, as it ships | 70.0 | - | 12.3 / 50.0 | - |' in PARTS['scores'](rows)
    assert 'abc' in PARTS['card'](rows)
    assert '(`enet_ce`)' in PARTS['left_out'](rows)
    assert '(`default`)' not in PARTS['left_out'](rows)


def test_main_rewrites_the_marked_parts_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_results(tmp_path / 'docs', [result(BASELINE, 'shipped', extra={'set': 'camvid_test'})])
    (tmp_path / 'docs' / 'a.md').write_text(
        'x\n<!-- numbers: quality -->\n<!-- end of numbers -->\ny\n'
    )
    monkeypatch.setattr(numbers, 'ROOT', tmp_path)
    monkeypatch.setattr(numbers, 'PAGES', ('docs/a.md',))
    numbers.main()
    text = (tmp_path / 'docs' / 'a.md').read_text()
    assert text.startswith('x\n<!-- numbers: quality -->\n| % |')
    assert text.endswith('\n<!-- end of numbers -->\ny\n')
