"""The brightness exponent of a checkpoint: inside the graph, in the hash, kept by fit_score."""

from dataclasses import replace
from pathlib import Path
import shutil

import numpy as np
import pytest

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.engines import open_engine


@pytest.fixture
def brightened(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / 'brightened')
    Checkpoint.open(folder).with_meta(gamma=0.5)
    return folder


def test_an_exponent_of_a_half_takes_the_square_root(
    tiny_checkpoint: Path, brightened: Path
) -> None:
    # Values whose square root of value / 255 is again a whole number of 255ths.
    roots = (
        np.random.default_rng(0).integers(0, 16, (*Checkpoint.open(brightened).meta.input_size, 3))
        * 17
    )
    squares = np.rint(255 * (roots / 255) ** 2).astype(np.uint8)
    exact = np.rint(255 * np.sqrt(squares / 255)).astype(np.uint8)
    plain = open_engine(Checkpoint.open(tiny_checkpoint), 'torch').infer(exact)
    bright = open_engine(Checkpoint.open(brightened), 'torch').infer(squares)
    assert np.abs(plain.score - bright.score).max() < 0.05 * np.ptp(plain.score)
    assert (plain.labels == bright.labels).mean() > 0.97


def test_an_engine_of_another_gamma_is_another_engine(
    tiny_checkpoint: Path, brightened: Path
) -> None:
    assert Checkpoint.open(tiny_checkpoint).network_key != Checkpoint.open(brightened).network_key


@pytest.mark.parametrize('gamma', [0.0, -1.0, float('nan')])
def test_a_gamma_that_is_no_exponent_is_refused(tiny_checkpoint: Path, gamma: float) -> None:
    with pytest.raises(ValueError, match=r'gamma is .* a number above 0'):
        replace(Checkpoint.open(tiny_checkpoint).meta, gamma=gamma)


def test_fit_score_keeps_the_gamma_and_drops_what_it_outdates(
    tiny_checkpoint: Path, camvid_root: Path, tmp_path: Path
) -> None:
    arguments = ['--checkpoint', str(tiny_checkpoint), '--dataset', 'camvid']
    arguments += ['--root', str(camvid_root), '--gamma', '0.5', '--score', 'msp']
    assert main(['fit_score', *arguments, '--out', str(tmp_path / 'out')]) == 0
    meta = Checkpoint.open(tmp_path / 'out').meta
    assert meta.gamma == 0.5
    assert set(meta.calibrations) == set(meta.thresholds) == {'msp'}
