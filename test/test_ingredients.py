"""What else could be fitted to a camera: each gives maps that follow from the frames it saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.engines.scored_model import load_scored_model, ScoredModel
from training.study import ingredients
from training.study.ingredients import INGREDIENTS, plain

SIZE = (64, 96)


@pytest.fixture(scope='module')
def model(tiny_checkpoint: Path) -> ScoredModel:
    return load_scored_model(Checkpoint.open(tiny_checkpoint), 'max_logit')


@pytest.fixture(scope='module')
def frames() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (4, *SIZE, 3), np.uint8)
    images[:, 40:] = 77  # the own bonnet
    return list(images)


@pytest.mark.parametrize('name', [name for name in INGREDIENTS if not name.startswith('none')])
def test_each_changes_the_score_and_leaves_the_model(
    name: str, model: ScoredModel, frames: list[np.ndarray]
) -> None:
    before = plain(model, frames)(frames[0])
    fitted = INGREDIENTS[name](model, frames)(frames[0])
    assert fitted.score.shape == fitted.labels.shape == SIZE
    assert np.isfinite(fitted.score).all()
    assert not np.array_equal(fitted.score, before.score)
    again = plain(model, frames)(frames[0])
    assert np.array_equal(again.score, before.score)
    assert np.array_equal(again.labels, before.labels)


def test_a_prior_takes_off_what_its_place_has(
    model: ScoredModel, frames: list[np.ndarray]
) -> None:
    alone = frames[:1]
    score = plain(model, alone)(frames[0]).score
    fitted = ingredients.row_prior(model, alone)(frames[0]).score
    taken = score - fitted
    assert np.allclose(taken, taken[:, :1], atol=1e-5)
    assert taken.mean() == pytest.approx(score.mean() / 4, rel=0.05)


def test_what_never_changes_is_ignored(model: ScoredModel, frames: list[np.ndarray]) -> None:
    score = ingredients.unchanged(model, frames)(frames[0]).score
    assert (score[42:] == -1e4).all()
    assert (score[:38] > -1e4).all()
