"""What the study of sizes measures is the network itself, and it says what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.command_line.tool import run_tool
from anomaly_seg_ros.engines.scored_model import load_scored_model
from training.study import sizes
from training.study.ingredients import labelled, plain


def test_one_size_is_the_network_as_it_runs() -> None:
    image = np.random.default_rng(0).integers(0, 256, (448, 576, 3), dtype=np.uint8)
    scored = load_scored_model(Checkpoint.open('default'), 'dense_hybrid_odds').eval()
    expected, found = plain(scored, [])(image), sizes.taught('default', [1.0])(image)
    assert (found.labels == expected.labels).mean() > 0.9999
    np.testing.assert_allclose(found.score, expected.score, atol=1e-3)
    several = sizes.taught('default', [0.5, 1.0])(image)
    assert np.abs(several.score - expected.score).mean() > 0.1


def test_parts_of_a_set_go_by_the_names_of_their_frames(tmp_path: Path, save) -> None:
    pictures = [np.full((8, 8, 3), tone, np.uint8) for tone in (10, 20, 30)]
    paths = save(tmp_path / 'images', pictures)
    save(tmp_path / 'labels_masks', [np.zeros((8, 8), np.uint8)] * 3)
    (image, anomaly), *others = labelled('folder', tmp_path, (4, 4), paths[1].stem)
    assert not others
    assert (image == 20).all()
    assert anomaly.shape == (4, 4)
    assert len(labelled('folder', tmp_path, (4, 4))) == 3


def test_missing_data_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr('sys.argv', ['sizes', 'default', '--data', str(tmp_path)])
    with pytest.raises(SystemExit, match='2'):
        run_tool(sizes.main)
    assert len(capsys.readouterr().err.splitlines()) == 1
