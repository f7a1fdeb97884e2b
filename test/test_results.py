"""The result folder: what is written comes back, and what is foreign is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from training.results import (
    FrameRow,
    KEYS,
    Picture,
    read_curves,
    read_frames,
    read_pictures,
    read_results,
    ResultRow,
    typed_command,
    write_curves,
    write_frames,
    write_pictures,
    write_results,
)

CONTRACT = (
    'dataset split model checkpoint score engine precision input_size n_images n_pixels ap auroc '
    'fpr95 best_f1 best_f1_threshold siou_gt ppv f1_mean miou iou open_miou ece nll temperature '
    'latency_ms peak_mb command commit'
)
"""As `contract.md` lists them."""


def content(path: Path) -> dict:
    return json.loads(path.read_text(encoding='utf-8'))


def test_a_row_has_the_keys_of_the_contract(tmp_path: Path) -> None:
    write_results(tmp_path, [ResultRow(score='msp')])
    found = content(tmp_path / 'results.json')
    assert found['format'] == 1
    assert list(found['rows'][0]) == CONTRACT.split() == list(KEYS)
    assert found['rows'][0]['ap'] is None


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    row = ResultRow(
        dataset='camvid',
        score='energy',
        input_size=(360, 480),
        ap=0.25,
        iou=[0.5, None],
        latency_ms={'p50': 1.5, 'p95': 2.0},
        extra={'protocol': 'exact', 'warnings': ['ä'], 'ap_interval': [0.2, 0.3]},
    )
    write_results(tmp_path / 'deep' / 'out', [row, ResultRow()])
    assert read_results(tmp_path / 'deep' / 'out') == [row, ResultRow()]


def test_what_json_has_not_is_null_and_numpy_is_plain(tmp_path: Path) -> None:
    row = ResultRow(
        ap=float('nan'),
        best_f1_threshold=float('inf'),
        auroc=np.float32(0.5),  # type: ignore[arg-type]
        extra={'share': np.array([0.25, np.nan]), 'n': np.int64(3)},
    )
    write_results(tmp_path, [row])
    found = content(tmp_path / 'results.json')['rows'][0]
    assert (found['ap'], found['best_f1_threshold'], found['auroc']) == (None, None, 0.5)
    assert (found['share'], found['n']) == ([0.25, None], 3)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'Expecting value'),
        ('[]', 'no JSON object'),
        ('{"format": 2, "rows": []}', 'format 2 is not 1'),
        ('{"format": 1}', "key 'rows' is missing"),
        ('{"format": 1, "rows": [{"dataset": "x"}]}', "key 'split' is missing"),
        ('{"format": 1, "rows": [3]}', 'not iterable'),
    ],
)
def test_a_foreign_file_is_named_with_its_key(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / 'results.json').write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_results(tmp_path)
    assert str(tmp_path / 'results.json') in str(error.value)


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'no .*results\.json.*evaluate'):
        read_results(tmp_path)


def test_frames_come_back_and_undefined_is_empty(tmp_path: Path) -> None:
    rows = [
        FrameRow(score='msp', frame='a,b', n_pixels=12, n_anomaly=3, ap=1 / 3, score_p999=-2.5),
        FrameRow(score='msp', frame='c', n_pixels=0),
    ]
    write_frames(tmp_path, rows)
    lines = (tmp_path / 'frames.csv').read_text(encoding='utf-8').splitlines()
    header = 'score,frame,n_pixels,n_anomaly,ap,auroc,fpr95,miou,mask_share,score_p999'
    assert lines[0] == header
    assert lines[2] == 'msp,c,0,,,,,,,'
    assert read_frames(tmp_path) == rows


def test_a_foreign_table_is_named(tmp_path: Path) -> None:
    (tmp_path / 'frames.csv').write_text('score,frame\n')
    with pytest.raises(ValueError, match=r"frames\.csv.*column 'n_pixels' is missing"):
        read_frames(tmp_path)
    write_frames(tmp_path, [FrameRow(score='msp', frame='a', n_pixels=1)])
    text = (tmp_path / 'frames.csv').read_text().replace('a,1', 'a,many')
    (tmp_path / 'frames.csv').write_text(text)
    with pytest.raises(ValueError, match=r"frames\.csv', line 2: .*'many'"):
        read_frames(tmp_path)


def test_curves_and_pictures_come_back(tmp_path: Path) -> None:
    curve = {'score': 'msp', 'pr': {'recall': [0, 1], 'precision': [1, 0.5]}, 'reliability': None}
    write_curves(tmp_path, [curve])
    assert read_curves(tmp_path) == [curve]
    picture = Picture(
        score='msp',
        frame='a',
        kind='worst',
        ap=None,
        miou=0.5,
        image=None,
        truth='pictures/a_truth.png',
        score_map='pictures/a_msp_score.png',
        mask='pictures/a_msp_mask.png',
    )
    write_pictures(tmp_path, [picture])
    assert read_pictures(tmp_path) == [picture]
    (tmp_path / 'pictures.json').write_text('{"format": 1, "pictures": [{"frame": "a"}]}')
    with pytest.raises(ValueError, match=r'pictures\.json.*missing'):
        read_pictures(tmp_path)


def test_the_command_is_as_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ['/x/bin/anomaly_seg', 'evaluate', '--out', 'my results']
    monkeypatch.setattr('sys.argv', argv)
    assert typed_command() == "anomaly_seg evaluate --out 'my results'"
