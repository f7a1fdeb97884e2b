"""The mean of checkpoints' weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from anomaly_seg_ros.checkpoint.folder import Checkpoint, save_checkpoint
from training.preparation.average import main


@pytest.fixture
def two(tiny_checkpoint: Path, tmp_path: Path) -> list[Path]:
    """A checkpoint, and one whose weights are all larger by two and stored in half precision."""
    first = Checkpoint.open(tiny_checkpoint)
    moved = {
        key: (value + 2).half() if value.is_floating_point() else value + 2
        for key, value in first.network_weights().items()
    }
    meta = replace(
        first.meta, temperature=2.0, trained_on=('camvid train', 'more'), training={'recipe': {}}
    )
    return [tiny_checkpoint, save_checkpoint(tmp_path / 'second', meta, moved).folder]


def test_the_mean_lies_half_way_and_keeps_nothing_that_was_fitted(
    two: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (Checkpoint.open(folder) for folder in two)
    assert main([*map(str, two), '--out', str(tmp_path / 'mean')]) == 0
    made = Checkpoint.open(tmp_path / 'mean')
    assert 'the mean of 2 checkpoints' in capsys.readouterr().out
    ends = first.network_weights(), second.network_weights()
    for key, value in made.network_weights().items():
        one, other = (end[key].double() for end in ends)
        expected = (one + other) / 2 if value.is_floating_point() else other
        assert torch.allclose(value.double(), expected, rtol=1e-3, atol=2e-3), key
    assert not made.meta.calibrations
    assert not made.meta.thresholds
    assert made.meta.frame is None
    assert not made.meta.fitted_network
    assert made.meta.temperature == 1.0
    assert made.meta.training['averaged'] == [first.weights_sha256, second.weights_sha256]
    assert made.meta.training['recipe'] == {}
    assert 'more' in made.meta.trained_on
    size = (two[1] / 'weights.safetensors').stat().st_size
    assert (made.folder / 'weights.safetensors').stat().st_size == pytest.approx(size, rel=0.05)
    made.network()


def test_what_cannot_be_averaged_is_said(two: list[Path], tmp_path: Path) -> None:
    out = str(tmp_path / 'mean')
    with pytest.raises(ValueError, match='give two or more'):
        main([str(two[0]), '--out', out])
    other = Checkpoint.open(two[1]).with_meta(gamma=0.5)
    with pytest.raises(ValueError, match=r"have other \['gamma'\]"):
        main([*map(str, two), '--out', out])
    other.with_meta(gamma=1.0)
    with pytest.raises(ValueError, match='choose another --out'):
        main([*map(str, two), '--out', str(tmp_path)])
    with pytest.raises(FileNotFoundError, match='none'):
        main([str(two[0]), str(tmp_path / 'none'), '--out', out])
    assert not Path(out).exists()
