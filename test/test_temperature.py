"""The temperature: its optimum by hand, what it changes, and what it leaves as it was."""

from __future__ import annotations

import json
import math
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.meta import META_FILE
from anomaly_seg_ros.classes import CAMVID
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.engines import open_engine
from anomaly_seg_ros.engines.code import graph_code
from anomaly_seg_ros.engines.folder import EngineMeta, write_engine_meta
from anomaly_seg_ros.engines.scored_model import load_scored_model
from anomaly_seg_ros.frames.images import write_image
from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.scores import build_score, is_tempered, score_class
from anomaly_seg_ros.scores import SCORES as EVERY
from training.fitting.temperature import fit_temperature, LabelledLogits, slope

ROOT = Path(__file__).resolve().parent.parent
ALL = frozenset({'logits', 'void_logit', 'ood_logits'})
SCORES = [name for name in EVERY if score_class(name).needs <= ALL]


def two_classes(gap: float, right: int, count: int) -> LabelledLogits:
    """`count` pixels that say class 0 with a logit gap; `right` of them are right."""
    logits = np.tile(np.float32([gap, 0]), (count, 1))
    return LabelledLogits(logits, np.uint8([0] * right + [1] * (count - right)))


def random_pixels(seed: int = 0, classes: int = 7, scale: float = 6) -> LabelledLogits:
    """Logits whose classes are drawn from their softmax at temperature 1, then multiplied."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (20_000, classes))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (p.cumsum(axis=1) < random.random((len(p), 1))).sum(axis=1)
    return LabelledLogits((scale * logits).astype(np.float32), labels.astype(np.uint8))


def nll(pixels: LabelledLogits, temperature: float) -> float:
    scaled = torch.from_numpy(pixels.logits).double() / temperature
    return float(torch.nn.functional.cross_entropy(scaled, torch.from_numpy(pixels.labels).long()))


@pytest.mark.parametrize(('gap', 'right'), [(4.0, 8), (4.0, 6), (0.5, 9), (30.0, 9)])
def test_two_classes_by_hand(gap: float, right: int) -> None:
    """Confidence must equal accuracy: sigmoid(gap / T) = right / 10, T = gap / ln odds."""
    fit = fit_temperature(two_classes(gap, right, 10))
    assert fit.temperature == pytest.approx(gap / math.log(right / (10 - right)), rel=1e-5)
    accuracy = right / 10
    assert fit.ece == pytest.approx(0, abs=1e-6)
    assert fit.ece_before == pytest.approx(abs(1 / (1 + math.exp(-gap)) - accuracy), abs=1e-6)
    entropy = -accuracy * math.log(accuracy) - (1 - accuracy) * math.log(1 - accuracy)
    assert fit.nll == pytest.approx(entropy, abs=1e-6)


@pytest.mark.parametrize('scale', [0.2, 1.0, 6.0])
def test_it_finds_the_temperature_that_made_the_labels(scale: float) -> None:
    fit = fit_temperature(random_pixels(scale=scale))
    assert fit.temperature == pytest.approx(scale, rel=0.03)
    assert fit.pixels == 20_000
    assert fit.ece < 0.02
    assert fit.nll <= fit.nll_before + 1e-9


def test_no_other_temperature_has_a_lower_nll() -> None:
    pixels = random_pixels(3)
    fit = fit_temperature(pixels)
    grid = fit.temperature * np.geomspace(0.5, 2, 41)
    values = [nll(pixels, temperature) for temperature in grid]
    assert np.argmin(values) == 20
    assert fit.nll == pytest.approx(values[20], abs=1e-6)
    assert fit.nll_before == pytest.approx(nll(pixels, 1), abs=1e-6)


def test_the_slope_is_the_derivative_of_the_nll() -> None:
    pixels = random_pixels(1, scale=1)
    for inverse in (0.3, 1.0, 1.7):
        first, second = slope(pixels, inverse)
        h = 1e-4
        values = [nll(pixels, 1 / (inverse + d)) for d in (-h, 0, h)]
        assert first == pytest.approx((values[2] - values[0]) / (2 * h), abs=1e-5)
        assert second == pytest.approx((values[2] - 2 * values[1] + values[0]) / h**2, rel=1e-2)


@pytest.mark.parametrize('right', [10, 5])
def test_frames_that_set_no_temperature_are_an_error(right: int) -> None:
    """All right: the colder the better. As many right as wrong: the hotter the better."""
    with pytest.raises(ValueError, match=r'no temperature between 0\.01 and 100\.0'):
        fit_temperature(two_classes(4.0, right, 10))


# What the temperature changes


BANK = {
    'bank': torch.zeros(1, 3, 3),
    'counts': torch.tensor([3.0]),
    'centre': torch.zeros(3),
}
STATISTICS = {
    'cdnp': {**BANK, 'limits': torch.tensor([0.0, 1.0, 1.0])},
    'dnp': BANK,
    'neco': {
        'centre': torch.zeros(3),
        'scale': torch.ones(3),
        'components': torch.eye(3)[:1],
        'moments': torch.tensor([0.0, 1.0, 0.0, 1.0]),
    },
    'mahalanobis': {'whitening': torch.eye(3), 'means': torch.zeros(1, 3)},
    'sml': {'mean': torch.zeros(3), 'std': torch.ones(3)},
}


def measure(name: str, temperature: float, *logits: float) -> float:
    output = ModelOutput(
        torch.tensor(logits).view(1, -1, 1, 1),
        void_logit=torch.zeros(1, 1, 1, 1),
        ood_logits=torch.zeros(1, 2, 1, 1),
        features={'last': torch.tensor(logits).view(1, -1, 1, 1)},
    )
    score = build_score(name, 'made', ALL, temperature, STATISTICS.get(name))
    return float(score(output))


LN2 = math.log(2)
AT_TWO = [
    # Logits 2 ln 2, 0, 0 at T = 2 are those of p = 1/2, 1/4, 1/4.
    ('msp', 0.5),
    ('entropy', 1.5 * LN2 / math.log(3)),
    ('energy', -2 * math.log(4)),
    ('max_logit', -2 * LN2),
    ('void', 1 / 7),
    # Not tempered: p = 4/6, 1/6, 1/6.
    ('margin', -1 / 2),
    ('mahalanobis', 4 * LN2**2),
    ('sml', -2 * LN2),
    # The logits are the features: 2 ln 2 from the bank, wholly in the one component.
    ('dnp', 2 * LN2),
    ('cdnp', 1 - math.log(6) + 2 * LN2),
    ('neco', -1 - math.log(6)),
    ('dense_hybrid', -LN2 - math.log(6)),
    ('dense_hybrid_odds', -2 * LN2),
    ('ood_posterior', 1 / 2),
    # Its own temperature is 2 whatever the checkpoint's is: p = 1/2, 1/4, 1/4 against 1/3 each.
    (
        'nflow_js',
        -(math.log(6 / 5) / 2 + math.log(6 / 7) / 2) / 2
        - (math.log(4 / 5) + 2 * math.log(8 / 7)) / 6,
    ),
]


@pytest.mark.parametrize(('name', 'expected'), AT_TWO)
def test_scores_at_temperature_two_by_hand(name: str, expected: float) -> None:
    assert measure(name, 2.0, 2 * LN2, 0.0, 0.0) == pytest.approx(expected, abs=1e-6)


def test_every_score_is_worked_at_temperature_two() -> None:
    assert {name for name, _ in AT_TWO} == set(SCORES)


def test_the_tempered_scores_are_those_that_change() -> None:
    changed = {
        name
        for name in SCORES
        if measure(name, 1.0, 3.0, 1.0, 0.5) != measure(name, 2.5, 3.0, 1.0, 0.5)
    }
    assert changed == {name for name in SCORES if score_class(name).tempered}
    assert changed == {name for name in SCORES if is_tempered(name)}


def test_a_robot_without_torch_knows_which_scores_are_tempered() -> None:
    code = (
        'import sys\n'
        'from anomaly_seg_ros.scores import is_tempered\n'
        "print(is_tempered('msp'), is_tempered('max_logit'), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ['True', 'False', 'False'], done.stderr
    with pytest.raises(ValueError, match="unknown score 'msx'; choose one of: cdnp"):
        is_tempered('msx')


def test_a_scored_model_applies_the_temperature_of_its_checkpoint(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / 'hot'))
    Checkpoint.open(folder).with_meta(temperature=3.0)
    images = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        cold, hot = (
            load_scored_model(Checkpoint.open(path), 'msp') for path in (tiny_checkpoint, folder)
        )
        logits = cold.output(images).logits
        expected = 1 - (logits / 3).softmax(1).amax(1)
        assert torch.allclose(hot(images)['score'], expected, atol=1e-6)
        assert not torch.allclose(cold(images)['score'], expected, atol=1e-3)
        assert torch.equal(hot(images)['labels'], cold(images)['labels'])


# The checkpoint


def test_meta_without_a_temperature_means_one(fake_checkpoint: Path) -> None:
    path = fake_checkpoint / META_FILE
    values = json.loads(path.read_text())
    del values['temperature']
    path.write_text(json.dumps(values))
    assert Checkpoint.open(fake_checkpoint).meta.temperature == 1.0


@pytest.mark.parametrize('temperature', [0, -1.0, math.nan, math.inf, 'hot'])
def test_an_impossible_temperature_is_refused(temperature: Any, fake_checkpoint: Path) -> None:
    path = fake_checkpoint / META_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {'temperature': temperature}))
    with pytest.raises(ValueError, match=r'temperature|does not fit'):
        Checkpoint.open(fake_checkpoint)


def test_the_key_of_an_engine_knows_the_temperature_where_it_matters(
    fake_checkpoint: Path,
) -> None:
    checkpoint = Checkpoint.open(fake_checkpoint)
    warm, hot = (checkpoint.with_meta(temperature=value) for value in (2.0, 2.5))
    assert len({each.score_key('msp') for each in (checkpoint, warm, hot)}) == 3
    assert len({each.score_key('max_logit') for each in (checkpoint, warm, hot)}) == 1


# fit_score


@pytest.fixture
def normal_frames(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """CamVid's val split of three frames; the truth is the tiny network's guess, 30 % redrawn."""
    root = tmp_path / 'camvid'
    random = np.random.default_rng(0)
    for folder in ('val', 'valannot'):
        (root / folder).mkdir(parents=True)
    scored = load_scored_model(Checkpoint.open(tiny_checkpoint), 'msp')
    for i in range(3):
        image = random.integers(0, 256, (64, 96, 3), np.uint8)
        with torch.inference_mode():
            labels = scored(torch.from_numpy(image)[None])['labels'][0].numpy()
        redrawn = random.random(labels.shape) < 0.3
        labels[redrawn] = random.integers(0, len(CAMVID.names) + 1, redrawn.sum())
        write_image(root / 'val' / f'{i}.png', image)
        write_image(root / 'valannot' / f'{i}.png', labels)
    return root


def fit(checkpoint: Path, root: Path, out: Path, score: str) -> int:
    return main(
        ['fit_score', '--checkpoint', str(checkpoint), '--score', score, '--dataset', 'camvid',
         '--root', str(root), '--out', str(out)]
    )  # fmt: skip


def test_fit_score_stores_the_temperature_and_drops_what_it_outdates(
    tiny_checkpoint: Path, normal_frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Checkpoint.open(tiny_checkpoint).meta
    out = tmp_path / 'fitted'
    assert fit(tiny_checkpoint, normal_frames, out, 'temperature') == 0
    shown = capsys.readouterr().out
    meta = Checkpoint.open(out).meta
    assert meta.temperature != 1
    assert f'temperature {meta.temperature:.4f}' in shown
    assert 'ECE' in shown
    assert 'NLL' in shown
    assert 'dropped the calibrations of energy, entropy, msp' in shown
    assert set(meta.calibrations) == set(meta.thresholds) == {'max_logit'}
    assert meta.calibrations['max_logit'] == before.calibrations['max_logit']
    stored = meta.training['temperature']
    assert stored['fitted_on'] == 'camvid val'
    assert stored['nll'] < stored['nll_before']
    assert Checkpoint.open(tiny_checkpoint).meta == before


def test_a_score_named_with_the_temperature_is_calibrated_at_it(
    tiny_checkpoint: Path, normal_frames: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'fitted'
    assert fit(tiny_checkpoint, normal_frames, out, 'temperature,msp') == 0
    meta = Checkpoint.open(out).meta
    assert set(meta.calibrations) == {'max_logit', 'msp'}
    # The same temperature outdates nothing.
    assert fit(out, normal_frames, tmp_path / 'again', 'temperature') == 0
    assert Checkpoint.open(tmp_path / 'again').meta.calibrations == meta.calibrations
    engine = open_engine(Checkpoint.open(out), 'torch', 'msp')
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    share = meta.calibrations['msp'].share(engine.infer(image).score)
    assert abs(float(np.median(share)) - 0.5) < 0.1


def test_engines_of_another_temperature_are_removed_from_the_copy(
    tiny_checkpoint: Path,
    normal_frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = Path(shutil.copytree(tiny_checkpoint, tmp_path / 'with_engine'))
    engine = checkpoint / 'engines' / 'old'
    engine.mkdir(parents=True)
    write_engine_meta(
        engine,
        EngineMeta(
            engine='openvino',
            score='msp',
            precision='auto',
            input_size=(64, 96),
            key=Checkpoint.open(checkpoint).score_key('msp'),
            code=graph_code('bisenetv2', 'msp'),
            files={},
            versions={},
            device='CPU',
            commit='',
        ),
    )
    out = tmp_path / 'fitted'
    assert fit(checkpoint, normal_frames, out, 'temperature') == 0
    assert 'removed engine old' in capsys.readouterr().out
    assert engine.is_dir()
    assert not (out / 'engines' / 'old').exists()


def test_an_engine_of_another_temperature_is_refused(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    checkpoint = Path(shutil.copytree(tiny_checkpoint, tmp_path / 'hot'))
    engine = tmp_path / 'engine'
    engine.mkdir()
    meta = EngineMeta(
        engine='openvino',
        score='msp',
        precision='auto',
        input_size=(64, 96),
        key=Checkpoint.open(checkpoint).score_key('msp'),
        code=graph_code('bisenetv2', 'msp'),
        files={},
        versions={},
        device='CPU',
        commit='',
    )
    write_engine_meta(engine, meta)
    Checkpoint.open(checkpoint).with_meta(temperature=2.0)
    with pytest.raises(ValueError, match='run export again'):
        open_engine(Checkpoint.open(checkpoint), 'auto', 'msp', engine_path=engine)


@pytest.mark.parametrize(
    ('score', 'message'),
    [('msx', "unknown score 'msx'; choose of:"), (',', "unknown score ''")],
)
def test_an_unknown_score_is_named(
    score: str,
    message: str,
    tiny_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fit(tiny_checkpoint, tmp_path, tmp_path / 'out', score) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_frames_of_other_classes_are_refused(
    tiny_checkpoint: Path,
    normal_frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = Path(shutil.copytree(tiny_checkpoint, tmp_path / 'other'))
    names = ('void', *CAMVID.names[1:])
    Checkpoint.open(checkpoint).with_meta(class_names=names)
    assert fit(checkpoint, normal_frames, tmp_path / 'out', 'temperature') == 2
    assert 'labelled with the classes of the checkpoint (void, building, pole, ...)' in (
        capsys.readouterr().err
    )
    assert not (tmp_path / 'out').exists()
