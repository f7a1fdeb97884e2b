"""The study: which commands it runs, that it skips what is done, and what its tables say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import json
from pathlib import Path
import sys
from typing import Any

import pytest

from training.recipes.flow_config import load_flow_config
from training.recipes.train_config import load_train_config
from training.results import FrameRow, ResultRow, write_frames, write_results
from training.study.__main__ import chosen, main
from training.study.rows import exposure_rows, GRIDS, loss_rows, transformer_rows
from training.study.steps import Data, run, steps, StudyStep
from training.study.table import budgets, Measured, write_tables

ALL = [row for grid in GRIDS.values() for row in grid()]
DATA = Data(Path('data'))


def test_the_grid_is_whole() -> None:
    assert len(list(loss_rows())) == 3 * (1 + 6)
    assert len({row.name for row in ALL}) == len(ALL)


@pytest.mark.parametrize('row', [row for row in ALL if row.recipe], ids=lambda row: row.name)
def test_every_row_has_a_recipe_that_loads(row: Any, root: Path) -> None:
    if row.command == 'train_flow':
        assert load_flow_config(root / row.recipe).dataset == 'camvid'
        return
    config = load_train_config(root / row.recipe)
    assert config.dataset == 'camvid'
    assert bool(config.outliers) is bool(row.outliers)
    assert config.void is row.name.endswith(('_void', '_uno'))


def test_rows_of_the_grid_differ_in_network_and_loss_alone(root: Path) -> None:
    own = {'model', 'model_options', 'loss', 'loss_options', 'void', 'mean', 'std'}
    rows = [row for row in loss_rows() if row.start]
    first, *rest = (load_train_config(root / str(row.recipe)).as_dict() for row in rows)
    for values in rest:
        differing = {key for key in values if values[key] != first[key]}
        assert differing <= own


def test_commands_of_a_row_in_order(tmp_path: Path) -> None:
    row = next(row for row in loss_rows() if row.name == 'enet_void')
    out = tmp_path / 'enet_void'
    commands = [step.command for step in steps(row, DATA, out, ['epochs=1'])]
    assert commands[0] == (
        'anomaly_seg train config/train/study/enet_void.yaml root=data/camvid epochs=1 '
        f'init={tmp_path}/enet_start/train/checkpoint --out {out}/train'
    )
    assert [command.split()[1] for command in commands] == [
        'train',
        'fit_score',
        *['evaluate'] * 4,
    ]
    assert f'--checkpoint {out}/train/checkpoint --score temperature,mahalanobis' in commands[1]
    assert '--score msp --engine torch --dataset camvid' in commands[2]
    assert commands[2].endswith(f'--split test --out {out}/camvid_test')
    assert f'--checkpoint {out}/fitted --score max_logit,msp,entropy,energy,' in commands[3]
    assert ',margin,mahalanobis,sml,void --engine torch' in commands[3]


def test_where_masks_show_the_classes_scores_of_logits_are_left(tmp_path: Path) -> None:
    row = next(row for row in transformer_rows() if row.name == 'mask2anomaly_camvid_uno')
    train, fit, test, *sets = steps(row, DATA, tmp_path / row.name, [])
    assert 'outliers.root=data/outlier_objects' in train.arguments
    assert f'init={tmp_path}/mask2anomaly_camvid/train/checkpoint' in train.arguments
    assert '--score dnp,cdnp,neco --dataset camvid' in fit.command
    assert '--score msp --engine torch' in test.command
    scores = 'max_logit,msp,entropy,energy,margin,mask2anomaly,rba,eam,uno,dnp,cdnp,neco'
    assert all(f'--score {scores} --engine' in step.command for step in sets)


def test_every_start_comes_before_what_starts_from_it() -> None:
    names = [row.name for row in ALL]
    for row in ALL:
        for needed in filter(None, (row.start, row.flow)):
            assert names.index(needed) < names.index(row.name)


def test_a_start_is_trained_and_not_measured(tmp_path: Path) -> None:
    row = next(row for row in loss_rows() if row.name == 'erfnet_start')
    assert [step.name for step in steps(row, DATA, tmp_path, [])] == ['train']


def test_rows_of_a_flow_draw_from_the_one_that_was_trained(tmp_path: Path) -> None:
    rows = {row.name: row for row in exposure_rows()}
    (flow,) = steps(rows['flow'], DATA, tmp_path / 'flow', ['crop=[8, 8]'])
    assert flow.arguments == (
        'train_flow', 'config/flow/camvid.yaml', 'root=data/camvid', '--out',
        f'{tmp_path}/flow/train',
    )  # fmt: skip
    train = steps(rows['nflow_js_photos'], DATA, tmp_path / 'nflow_js_photos', [])[0]
    assert f'objective_options.flow={tmp_path}/flow/train/flow.safetensors' in train.arguments
    assert 'outliers.root=data/negatives' in train.arguments
    assert f'init={tmp_path}/bisenetv2_camvid/train/checkpoint' in train.arguments
    starts = ('flow', 'bisenetv2_camvid')
    assert train.needs == tuple(tmp_path / name / 'train.done' for name in starts)


def test_chosen_rows_come_with_what_they_start_from() -> None:
    names = [row.name for row in chosen('nflow_js')]
    assert names == ['bisenetv2_camvid', 'flow', 'nflow_js']
    assert [row.name for row in chosen('enet_focal')] == ['enet_start', 'enet_focal']
    assert [row.name for row in chosen('dense_hybrid')] == ['bisenetv2_camvid', 'dense_hybrid']


def test_a_step_runs_once_and_again_when_it_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = StudyStep('version', ('--version',), tmp_path, tmp_path / 'made')
    run(step)
    assert capsys.readouterr().out == 'anomaly_seg --version\n'
    assert step.log.read_text(encoding='utf-8').strip()
    run(step)
    assert capsys.readouterr().out == ''
    run(replace(step, arguments=('--help',)))
    assert capsys.readouterr().out == 'anomaly_seg --help\n'


def test_a_step_runs_again_when_its_input_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need = tmp_path / 'start.done'
    need.write_text('a')
    step = StudyStep(
        'version', ('--version',), tmp_path, tmp_path / 'made', needs=(need,), recipe='x'
    )
    (tmp_path / 'made').mkdir()
    run(step)
    assert (tmp_path / 'made').exists()  # what was there before a first run may be resumed
    for changed in (replace(step, recipe='y'), step):
        capsys.readouterr()
        run(changed)
        assert capsys.readouterr().out
        assert not (tmp_path / 'made').exists()
        run(changed)
        assert not capsys.readouterr().out
    need.write_text('b')
    run(step)
    assert capsys.readouterr().out


def test_a_failed_step_names_its_command_and_log(tmp_path: Path) -> None:
    arguments = ('report', '/nowhere', '--out', 'x.html')
    step = StudyStep('report', arguments, tmp_path, tmp_path / 'made')
    with pytest.raises(ValueError, match=r'report /nowhere.* failed with status 2.*report\.log'):
        run(step)
    assert not step.mark.exists()


def test_an_unknown_row_names_the_rows() -> None:
    assert [row.name for row in chosen('enet_*')][:2] == ['enet_start', 'enet_ce']
    with pytest.raises(ValueError, match=r"no row fits 'x'; the rows are: enet_start, "):
        chosen('x')


def test_nothing_measured_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('training.study.__main__.run', lambda step: None)
    monkeypatch.setattr(sys, 'argv', ['study', '--out', str(tmp_path)])
    with pytest.raises(FileNotFoundError, match='no measured row'):
        main()


@pytest.fixture
def measured(tmp_path: Path) -> Callable[[str, str, list[ResultRow]], None]:
    def write(row: str, name: str, rows: list[ResultRow]) -> None:
        write_results(tmp_path / row / name, rows)
        frames = [
            FrameRow(score='msp', frame=frame, n_pixels=50, n_anomaly=count)
            for frame, count in (('a', 1), ('b', 3))
        ]
        write_frames(tmp_path / row / name, frames)

    return write


def test_tables_by_hand(tmp_path: Path, measured: Callable[..., None]) -> None:
    def row(score: str, **values: Any) -> ResultRow:
        return ResultRow(score=score, **values)

    for name, ap in (('enet_ce', 0.25), ('enet_focal', 0.5)):
        before = {'ece_before': 0.1, 'nll_before': 1.0}
        values = {'miou': 0.4321, 'ece': 0.05, 'nll': 0.75, 'temperature': 1.5}
        test = row('msp', **values, extra=before, commit='abc123')
        measured(name, 'camvid_test', [test])
        scores = [row('max_logit', ap=ap, fpr95=0.8), row('msp', ap=0.1, fpr95=0.9)]
        for folder in ('camvid_anomaly_val', 'road_anomaly_val'):
            measured(name, folder, scores)
    write_tables(tmp_path, tmp_path / 'study.md')
    text = (tmp_path / 'study.md').read_text(encoding='utf-8')
    assert '| ENet | CE | 43.2 | 10.0 | 5.0 | 1.000 | 0.750 | 1.500 |' in text
    assert 'Measured at commit abc123.' in text
    assert 'a random score has 4.0 / 95' in text
    head, _, first, second = text.split('camvid_anomaly_val, AP')[1].split('\n')[2:6]
    assert head.startswith('| network | training | max_logit | msp | entropy |')
    assert first.startswith('| ENet | CE | 25.0 / 80.0 | 10.0 / 90.0 | - |')
    assert second.startswith('| ENet | Focal | **50.0 / 80.0** | 10.0 / 90.0 |')


def test_budgets_name_the_rows_that_share_them(tmp_path: Path) -> None:
    rows = [Measured(row, tmp_path / row.name) for row in exposure_rows()]
    recipe = {'epochs': 7, 'batch_size': 8, 'crop': [2, 4], 'lr': 0.1, 'seed': 0}
    for name in ('nflow_js', 'nflow_js_photos', 'flow'):
        folder = tmp_path / name / 'train'
        folder.mkdir(parents=True)
        config = {'flow': 'light', 'epochs': 20, 'patch': 64} if name == 'flow' else recipe
        (folder / 'config.json').write_text(json.dumps(config), encoding='utf-8')
    assert budgets(rows) == [
        'Budget of flow: flow light, epochs 20, patch 64.',
        'Budget of nflow_js, nflow_js_photos: epochs 7, batch_size 8, crop [2, 4], lr 0.1, '
        'seed 0.',
    ]
