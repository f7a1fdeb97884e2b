"""`fit_score` as typed: statistics on training frames, calibration on validation frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import shutil
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from anomaly_seg_ros.checkpoint.calibrated import CalibratedOn, CameraCalibration
from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.classes import CAMVID
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.engines import open_engine
from anomaly_seg_ros.engines.scored_model import load_scored_model, ScoredModel
from anomaly_seg_ros.frames.images import write_image
from anomaly_seg_ros.node import topics
from anomaly_seg_ros.prediction import Prediction
from anomaly_seg_ros.provenance import code_version
from training.datasets import Sample
from training.evaluation.network_pass import open_pass
from training.evaluation.resizing import labels_at
from training.fitting import checkpoint as fitting
from training.fitting.calibration import fit_calibration

SIZE = (64, 96)


@pytest.fixture(scope='module')
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CamVid's layout with two frames in train and one in val; a fifth has no label (11)."""
    root = tmp_path_factory.mktemp('data') / 'camvid'
    random = np.random.default_rng(0)
    for split, count in (('train', 2), ('val', 1)):
        for i in range(count):
            image = random.integers(0, 256, (*SIZE, 3), np.uint8)
            labels = random.integers(0, len(CAMVID.names), SIZE, np.uint8)
            labels[random.random(SIZE) < 0.2] = len(CAMVID.names)
            for folder, picture in ((split, image), (f'{split}annot', labels)):
                (root / folder).mkdir(parents=True, exist_ok=True)
                write_image(root / folder / f'{split}{i}.png', picture)
    return root


def fit(checkpoint: Path, root: Path, out: Path, score: str, *more: str) -> int:
    return main(
        ['fit_score', '--checkpoint', str(checkpoint), '--score', score, '--dataset', 'camvid',
         '--root', str(root), '--out', str(out), *more]
    )  # fmt: skip


@pytest.fixture(scope='module')
def fitted(tiny_checkpoint: Path, frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint with both scores fitted; do not change the folder."""
    out = tmp_path_factory.mktemp('fitted') / 'out'
    assert fit(tiny_checkpoint, frames, out, 'mahalanobis,sml') == 0
    return out


def test_statistics_come_from_train_and_calibration_from_val(
    tiny_checkpoint: Path, frames: Path, fitted: Path
) -> None:
    from training.datasets import build_dataset

    meta = Checkpoint.open(fitted).meta
    assert meta.fitted == {'mahalanobis': 'camvid train', 'sml': 'camvid train'}
    model = Checkpoint.open(tiny_checkpoint).network()
    plain = ScoredModel(model, meta, 'max_logit').eval()
    largest, predicted, true, logits = [], [], [], []
    for sample in build_dataset('camvid', frames, 'train'):
        with torch.inference_mode():
            output = plain.output(torch.from_numpy(sample.image)[None]).logits[0].numpy()
        largest.append(output.max(axis=0).ravel())
        predicted.append(output.argmax(axis=0).ravel())
        true.append(sample.labels.ravel())
        logits.append(output.reshape(11, -1))
    largest, predicted, true = map(np.concatenate, (largest, predicted, true))
    statistics = Checkpoint.open(fitted).statistics('sml')
    most = int(np.bincount(predicted).argmax())
    own = largest[predicted == most].astype(np.float64)
    assert statistics['mean'][most].item() == pytest.approx(own.mean(), rel=1e-4)
    assert statistics['std'][most].item() == pytest.approx(own.std(), rel=1e-4)
    road = np.concatenate(logits, axis=1)[:, true == 3].mean(axis=1)
    assert Checkpoint.open(fitted).statistics('mahalanobis')['means'][3].numpy() == pytest.approx(
        road, rel=1e-3
    )

    # Half of the validation pixels lie below the calibration's median.
    (sample,) = build_dataset('camvid', frames, 'val')
    for name in ('mahalanobis', 'sml'):
        score = open_engine(Checkpoint.open(fitted), 'torch', name).infer(sample.image).score
        share = meta.calibrations[name].share(score.astype(np.float32))
        assert abs(float(np.median(share[sample.labels != 255])) - 0.5) < 0.02
        assert meta.thresholds[name] == pytest.approx(0.99)


def test_what_other_scores_have_is_kept(tiny_checkpoint: Path, fitted: Path, frames: Path) -> None:
    before, after = Checkpoint.open(tiny_checkpoint).meta, Checkpoint.open(fitted).meta
    assert set(after.calibrations) == {*before.calibrations, 'mahalanobis', 'sml'}
    for score, calibration in before.calibrations.items():
        assert after.calibrations[score] == calibration
    old, new = (
        Checkpoint.open(tiny_checkpoint).network_weights(),
        Checkpoint.open(fitted).network_weights(),
    )
    assert old.keys() == new.keys()
    assert all(torch.equal(value, new[key]) for key, value in old.items())
    assert Checkpoint.open(fitted).network_key == Checkpoint.open(tiny_checkpoint).network_key


def test_one_score_is_fitted_again_without_the_other(
    fitted: Path, frames: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'again'
    assert fit(fitted, frames, out, 'sml', '--train-split', 'val') == 0
    meta = Checkpoint.open(out).meta
    assert meta.fitted == {'mahalanobis': 'camvid train', 'sml': 'camvid val'}
    assert not torch.equal(
        Checkpoint.open(out).statistics('sml')['mean'],
        Checkpoint.open(fitted).statistics('sml')['mean'],
    )
    for key, value in Checkpoint.open(fitted).statistics('mahalanobis').items():
        assert torch.equal(Checkpoint.open(out).statistics('mahalanobis')[key], value)
    assert (
        meta.calibrations['mahalanobis']
        == Checkpoint.open(fitted).meta.calibrations['mahalanobis']
    )


def test_options_are_kept_and_used(fitted: Path, frames: Path, tmp_path: Path) -> None:
    out = tmp_path / 'plain'
    options = ['--option', 'sml.boundary_suppression=false', '--option',
               'sml.dilated_smoothing=false']  # fmt: skip
    assert fit(fitted, frames, out, 'sml', *options) == 0
    assert Checkpoint.open(out).meta.score_options == {
        'sml': {'boundary_suppression': False, 'dilated_smoothing': False}
    }
    images = torch.randint(0, 256, (1, *SIZE, 3), dtype=torch.uint8)
    with torch.inference_mode():
        scored = load_scored_model(Checkpoint.open(out), 'sml')
        labels, score, _ = scored(images).values()
        largest = scored.output(images).logits.amax(1)
        mean, std = (
            Checkpoint.open(out).statistics('sml')[key][labels.long()] for key in ('mean', 'std')
        )
        assert torch.allclose(score, (mean - largest) / std, atol=1e-5)
        assert not torch.allclose(
            load_scored_model(Checkpoint.open(fitted), 'sml')(images)['score'], score, atol=1e-2
        )


def test_a_camera_loses_what_was_calibrated_on_another_graph(
    fitted: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = Path(shutil.copytree(fitted, tmp_path / 'own')), tmp_path / 'out'
    meta = Checkpoint.open(folder).meta
    own = CameraCalibration(meta.calibrations['sml'], 0.9, meta.calibrated_on['sml'])
    Checkpoint.open(folder).with_meta(cameras={'front': {'sml': own, 'msp': own}})
    assert fit(folder, frames, out, 'sml') == 0  # the same graph
    assert set(Checkpoint.open(out).meta.cameras['front']) == {'sml', 'msp'}
    capsys.readouterr()
    assert fit(folder, frames, out, 'sml', '--option', 'sml.boundary_suppression=false') == 0
    assert set(Checkpoint.open(out).meta.cameras['front']) == {'msp'}
    said = capsys.readouterr().out
    assert "dropped the calibration of sml that camera 'front' had; run adapt --camera" in said


def test_an_option_leaves_the_others_of_its_score_as_they_are(
    fitted: Path, frames: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'out'
    assert fit(fitted, frames, out, 'sml', '--option', 'sml.boundary_suppression=false') == 0
    assert fit(out, frames, out, 'sml', '--option', 'sml.dilated_smoothing=false') == 0
    assert Checkpoint.open(out).meta.score_options == {
        'sml': {'boundary_suppression': False, 'dilated_smoothing': False}
    }


def test_the_engine_of_another_score_stays(
    exported_checkpoint: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'out'
    assert fit(exported_checkpoint, frames, out, 'sml') == 0
    assert 'removed engine' not in capsys.readouterr().out
    assert open_engine(Checkpoint.open(out), 'openvino').reason.endswith("ready in 'openvino'")
    assert fit(out, frames, out, 'max_logit', '--gamma', '0.5') == 0
    assert 'removed engine openvino of another graph' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('old', 'new'), [('"format": 5', '"format": 4'), ('"score": "max_logit"', '"score": "msx"')]
)
def test_engines_of_an_older_package_are_removed(
    old: str,
    new: str,
    exported_checkpoint: Path,
    frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = shutil.copytree(exported_checkpoint, tmp_path / 'checkpoint')
    engine = checkpoint / 'engines' / 'openvino' / 'engine.json'
    assert old in engine.read_text()
    engine.write_text(engine.read_text().replace(old, new))
    out = tmp_path / 'out'
    assert fit(checkpoint, frames, out, 'energy', '--option', 'energy.step=4') == 0
    assert 'removed engine openvino that cannot be used; export it' in capsys.readouterr().out
    assert not (out / 'engines' / 'openvino').exists()
    assert Checkpoint.open(out).meta.score_options == {'energy': {'step': 4}}


def test_evaluation_reads_all_scores_of_one_pass(fitted: Path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), np.uint8)
    names = ('msp', 'sml', 'mahalanobis')
    network = open_pass(Checkpoint.open(fitted), 'torch', names)
    maps = network.infer(image).scores
    network.close()
    for name in names:
        with torch.inference_mode():
            alone = load_scored_model(Checkpoint.open(fitted), name)(
                torch.from_numpy(image)[None]
            )['score'][0].numpy()
        assert maps[name] == pytest.approx(alone, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize('score', ['mahalanobis', 'sml'])
def test_an_unfitted_score_says_what_to_run(
    score: str,
    tiny_checkpoint: Path,
    frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ValueError, match=f"score '{score}' has no statistics; run fit_score on"):
        load_scored_model(Checkpoint.open(tiny_checkpoint), score)
    arguments = ['--checkpoint', str(tiny_checkpoint), '--score', f'msp,{score}']
    data = ['--dataset', 'camvid', '--root', str(frames), '--split', 'val']
    assert main(['evaluate', *arguments, *data, '--out', str(tmp_path / 'out')]) == 2
    assert 'run fit_score on the checkpoint first' in capsys.readouterr().err


def test_statistics_of_another_number_of_classes_are_refused(fitted: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fitted, tmp_path / 'other'))
    Checkpoint.open(folder).with_statistics(
        {'sml': {'mean': torch.ones(19), 'std': torch.ones(19)}}, 'x train'
    )
    with pytest.raises(ValueError, match="score 'sml' are for 19 classes, the checkpoint has 11"):
        load_scored_model(Checkpoint.open(folder), 'sml')


def test_a_new_gamma_drops_statistics_and_calibrations_and_says_so(
    fitted: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(fitted, tmp_path / 'hot'))
    Checkpoint.open(folder).with_meta(temperature=2.0)
    out = tmp_path / 'out'
    assert fit(folder, frames, out, 'sml,msp', '--gamma', '0.5') == 0
    said = capsys.readouterr().out
    lost = 'energy, entropy, mahalanobis, max_logit'
    assert f'dropped the calibrations of {lost}, made at gamma 1; fit them again' in said
    assert 'dropped the statistics of mahalanobis, made at gamma 1; fit them again' in said
    assert 'the temperature 2 was fitted at gamma 1; fit it again' in said
    meta = Checkpoint.open(out).meta
    assert set(meta.calibrations) == set(meta.thresholds) == {'msp', 'sml'}
    assert meta.fitted == {'sml': 'camvid train'}
    assert (meta.gamma, meta.temperature) == (0.5, 2.0)
    assert Checkpoint.open(out).statistics('mahalanobis') == {}
    assert not torch.equal(
        Checkpoint.open(out).statistics('sml')['mean'],
        Checkpoint.open(folder).statistics('sml')['mean'],
    )


def test_another_input_size_is_fitted_and_run_at(
    fitted: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = Path(shutil.copytree(fitted, tmp_path / 'own')), tmp_path / 'wide'
    meta = Checkpoint.open(folder).meta
    shown = 'x'.join(map(str, meta.input_size))
    assert fit(folder, frames, folder, 'msp', '--size', shown) == 0  # no change, nothing dropped
    assert 'dropped' not in capsys.readouterr().out
    assert fit(folder, frames, out, 'msp', '--size', '64x160') == 0
    said = capsys.readouterr().out
    lost = 'energy, entropy, mahalanobis, max_logit, sml'
    assert f'dropped the calibrations of {lost}, made at {shown}; fit them again' in said
    wide = Checkpoint.open(out)
    assert (wide.meta.input_size, set(wide.meta.calibrations)) == ((64, 160), {'msp'})
    assert wide.meta.calibrations['msp'] != meta.calibrations['msp']
    engine = open_engine(wide, 'torch', 'msp')
    assert engine.infer(np.zeros((64, 160, 3), np.uint8)).labels.shape == (64, 160)


@pytest.mark.parametrize(
    ('score', 'more', 'error'),
    [
        ('msp', ('--size', '64'), "size '64' is not of the form HxW"),
        ('msp', ('--size', '16x160'), "size 16x160 is below the stride 32 of 'bisenetv2'"),
        ('msp', ('--gamma', '0'), 'gamma is 0.0; it must be'),
        ('msp,void', (), "score 'void' needs logits, void_logit; model 'bisenetv2' gives"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_fitted(
    score: str,
    more: tuple[str, ...],
    error: str,
    fitted: Path,
    frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fit(fitted, frames, tmp_path / 'out', score, *more) == 2
    said = capsys.readouterr()
    assert said.out == ''
    assert error in said.err


@pytest.mark.parametrize(
    ('score', 'option', 'message'),
    [
        ('sml', 'sml', "option 'sml' is not of the form score.key=value"),
        ('sml', 'boundary_suppression=false', 'is not of the form score.key=value'),
        ('msp', 'sml.boundary_suppression=false', 'needs its score in --score'),
        ('sml', 'sml.boundary=false', "unknown option 'boundary' of score 'sml'"),
        ('sml', 'sml.boundary_suppression=2', 'must be like True'),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_written(
    score: str,
    option: str,
    message: str,
    tiny_checkpoint: Path,
    frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fit(tiny_checkpoint, frames, tmp_path / 'out', score, '--option', option) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_mahalanobis_needs_the_classes_of_the_checkpoint(
    fitted: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(fitted, tmp_path / 'other'))
    Checkpoint.open(folder).with_meta(class_names=('void', *CAMVID.names[1:]))
    assert fit(folder, frames, tmp_path / 'out', 'mahalanobis') == 2
    assert "score 'mahalanobis' needs frames labelled with the classes" in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
    # The standardised maximum logit asks for no labels.
    assert fit(folder, frames, tmp_path / 'out', 'sml') == 0


# Features of training frames


@pytest.fixture(scope='module')
def near(tiny_checkpoint: Path, frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint with a bank of two layers, and a ready engine; do not change it."""
    out = tmp_path_factory.mktemp('near') / 'out'
    options = (
        'layer=last+segment.S1S2', 'k=2', 'only=road,car', 'grid=4', 'search=exact',
        'energy_step=1',
    )  # fmt: skip
    typed = [part for option in options for part in ('--option', f'cdnp.{option}')]
    assert fit(tiny_checkpoint, frames, out, 'cdnp', *typed) == 0
    engine = ['--out', str(out / 'engines' / 'openvino-cdnp'), '--precision', 'fp32']
    assert main(['export', '--checkpoint', str(out), '--score', 'cdnp', *engine]) == 0
    return out


def test_the_exported_graph_holds_the_bank(near: Path, frames: Path) -> None:
    checkpoint = Checkpoint.open(near)
    bank = checkpoint.statistics('cdnp')['bank']
    assert bank.flatten(0, 1).shape[0] > 100
    image = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), np.uint8)
    with torch.inference_mode():
        scored = load_scored_model(checkpoint, 'cdnp')
        expected = scored(torch.from_numpy(image)[None])['score'][0].numpy()
        maps = scored.output(torch.from_numpy(image)[None]).features
    # One layer after the other, in the order of their names.
    wide = maps['last'].shape[1] + maps['segment.S1S2'].shape[1]
    assert bank.shape[2] == wide
    assert np.ptp(expected) > 0.05
    for name in ('openvino', 'onnx'):
        engine = open_engine(checkpoint, name, 'cdnp', precision='fp32')
        assert name != 'openvino' or engine.reason.endswith("ready in 'openvino-cdnp'")
        found = engine.infer(image).score.astype(np.float32)
        assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max(), name
        engine.close()
    network = open_pass(checkpoint, 'torch', ['max_logit', 'cdnp'])
    assert network.infer(image).scores['cdnp'] == pytest.approx(expected, rel=1e-4, abs=1e-4)
    network.close()


def test_the_node_scores_with_the_bank_in_its_engine(
    near: Path, rig: Any, image_message: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(2).integers(0, 256, (*SIZE, 3), np.uint8)
    with torch.inference_mode():
        scored: Any = load_scored_model(Checkpoint.open(near), 'cdnp')
        output = scored.output(torch.from_numpy(image)[None])
        cells, stride = scored.score.cells(output)
    kept = Checkpoint.open(near).statistics('cdnp')
    counts, (low, high, furthest) = kept['counts'].int(), kept['limits']
    bank = torch.cat([rows[:n] for rows, n in zip(kept['bank'].float(), counts, strict=True)])
    near_two = torch.cdist(cells[0].flatten(1).T, bank).sort(1).values[:, :2]
    distance = (near_two.mean(1) / furthest).view(1, 1, *cells.shape[2:])
    large = functional.interpolate(distance, scale_factor=stride, mode='bilinear')[0, 0]
    energy = (1 - output.logits.logsumexp(1)[0] - low) / (high - low)
    assert large.max() - large.min() > 0.05
    expected = (energy + large).numpy()

    def refuse(checkpoint: Checkpoint, score: str) -> None:
        raise AssertionError(f'the statistics of {score} were read')

    monkeypatch.setattr(Checkpoint, 'statistics', refuse)
    rig.checkpoint, rig.open_engine = near, open_engine
    how = {'engine': 'openvino', 'precision': 'fp32', 'score': 'cdnp'}
    rig.activate(**how, score_encoding='32FC1', score_scale='raw')
    rig.connect(topics.ANOMALY_SCORE)
    (answer,) = rig.answer(image_message(image), topics.ANOMALY_SCORE)
    found = np.frombuffer(answer.data, np.float32).reshape(SIZE)
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize(
    ('changed', 'what'),
    [
        ({'mean': (0.1, 0.2, 0.3)}, "statistics of score 'cdnp' were fitted to network "),
        ({'layer': 'last'}, ' features, last of this network has '),
        ({'k': 100_000}, 'k 100000 must lie between 1 and the '),
    ],
)
def test_a_bank_that_does_not_fit_is_one_line(
    changed: dict[str, Any],
    what: str,
    near: Path,
    frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(shutil.copytree(near, tmp_path / 'other'))
    checkpoint = Checkpoint.open(folder)
    assert checkpoint.meta.fitted_network == {'cdnp': checkpoint.network_key}
    options = {'score_options': {'cdnp': {**checkpoint.meta.score_options['cdnp'], **changed}}}
    checkpoint.with_meta(**(changed if 'mean' in changed else options))
    command = ['predict', str(frames / 'val'), '--checkpoint', str(folder), '--score', 'cdnp']
    assert main([*command, '--engine', 'torch', '--out', str(tmp_path / 'out')]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1, error
    assert what in error
    assert 'run fit_score' in error


def test_no_pixel_of_a_wanted_class_is_one_line(
    tiny_checkpoint: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = Path(shutil.copytree(frames, tmp_path / 'roads')), tmp_path / 'out'
    for path in (root / 'trainannot').iterdir():
        write_image(path, np.full(SIZE, CAMVID.names.index('road'), np.uint8))
    assert fit(tiny_checkpoint, root, out, 'dnp', '--option', 'dnp.only=car,sky') == 2
    said = 'fit_score: no pixel of the classes car,sky in these frames, so the bank would be empty'
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not out.exists()


@pytest.mark.parametrize(
    ('option', 'what'),
    [
        (
            'layer=segment.S1S3',
            "no features 'segment.S1S3'; this network gives last, and",
        ),
        ('k=100000', 'too few for 100000 nearest'),
        ('only=lorry', "no class 'lorry' in this checkpoint; choose of: sky"),
        ('bank=7', "unknown option 'bank' of score 'dnp'"),
        ('preset=slow', "unknown preset of score 'dnp' 'slow'; choose one of: fast"),
    ],
)
def test_what_no_bank_can_be_made_of_is_one_line(
    option: str,
    what: str,
    tiny_checkpoint: Path,
    frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / 'out'
    assert fit(tiny_checkpoint, frames, out, 'dnp', '--option', f'dnp.{option}') == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert what in error
    assert not out.exists()


# What a calibration is made of


def test_the_checkpoint_says_what_a_calibration_was_fitted_on(
    fitted: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_fitted = Checkpoint.open(fitted).meta.calibrated_on
    assert set(of_fitted) == {'mahalanobis', 'sml'}
    share = of_fitted['sml'].share
    assert share == pytest.approx(0.01, abs=0.002)
    # One frame says nothing of others.
    assert of_fitted['sml'] == CalibratedOn(
        'camvid', 'val', 1, code_version(), share, (0, 1), {'val': share}
    )
    out = tmp_path / 'out'
    assert fit(fitted, frames, out, 'sml', '--split', 'train') == 0
    said = capsys.readouterr()
    assert 'warning: 2 frames of camvid train are few for a calib' in said.err
    assert 'sml: 2 frames, threshold 0.99; of frames that were left out' in said.out
    meta = Checkpoint.open(out).meta
    on = meta.calibrated_on['sml']
    assert (on.dataset, on.split, on.frames) == ('camvid', 'train', 2)
    assert on.share is not None
    assert on.interval is not None
    assert 0 <= on.interval[0] < on.share < on.interval[1] <= 1
    assert on.scenes == {'train': on.share}
    assert meta.thresholds['sml'] == 0.99
    sure = tmp_path / 'sure'
    assert fit(fitted, frames, sure, 'sml', '--split', 'train', '--sure') == 0
    expected = 1 - 0.01**2 / on.interval[1]
    assert Checkpoint.open(sure).meta.thresholds['sml'] == pytest.approx(expected, abs=2e-6)
    assert fit(out, frames, out, 'msp', '--gamma', '0.5') == 0
    assert set(Checkpoint.open(out).meta.calibrated_on) == {'msp'}


class Frames:
    """Frames of one grey value each, with labels."""

    classes = CAMVID

    def __init__(self, *frames: tuple[int, np.ndarray]):
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        grey, labels = self.frames[index]
        return Sample(str(index), np.full((*labels.shape, 3), grey, np.uint8), labels)


class Brightness:
    """An engine whose score rises from left to right and with the grey of the frame."""

    score_name, input_size = 'msp', (4, 8)

    def infer(self, image: np.ndarray) -> Prediction:
        columns = np.arange(image.shape[1], dtype=np.float32)
        score = image[..., 0].astype(np.float32) + columns
        return Prediction(np.zeros(score.shape, np.uint8), score)


def test_pixels_without_a_class_are_no_part_of_a_calibration() -> None:
    labels = np.zeros((4, 8), np.uint8)
    labels[:, 5:] = 255
    dark, void = (0, labels), (200, np.full((4, 8), 255, np.uint8))
    levels = fit_calibration(Brightness(), Frames(dark, void), 0.01)[0].calibration.levels
    assert (levels[0], levels[-1]) == (0, 4)
    with pytest.raises(ValueError, match='at least one pixel'):
        fit_calibration(Brightness(), Frames(void), 0.01)


@pytest.mark.parametrize(('side', 'classified', 'last'), [(16, 3, 0), (20, 6, 1), (8, 5, 4)])
def test_labels_come_to_the_size_of_a_score_as_evaluate_brings_them(
    side: int, classified: int, last: int
) -> None:
    """A column of the score has the label that lies under its middle."""
    labels = np.full((side // 2, side), 255, np.uint8)
    labels[:, :classified] = 0
    classified_columns = np.flatnonzero(labels_at(labels, (4, 8), 'exact')[0] == 0)
    assert classified_columns.tolist() == list(range(last + 1))
    fit, _ = fit_calibration(Brightness(), Frames((0, labels)), 0.01)
    assert fit.calibration.levels[-1] == last


def test_a_sure_threshold_is_higher_by_what_is_not_sure() -> None:
    labels = np.zeros((40, 80), np.uint8)
    frames = Frames(*((grey, labels) for grey in range(0, 100, 5)))
    usual, rate = fit_calibration(Brightness(), frames, 0.05)
    assert rate == 0.05
    sure, lower = fit_calibration(Brightness(), frames, 0.05, sure=True)
    assert usual.promise.high > 0.05
    assert lower == pytest.approx(0.05**2 / usual.promise.high)
    assert sure.promise.share < usual.promise.share
    assert sure.calibration == usual.calibration


class Noise(Brightness):
    """Scores between 0 and 1 that a frame's grey value is the seed of."""

    input_size = (40, 80)

    def infer(self, image: np.ndarray) -> Prediction:
        score = np.random.default_rng(image[0, 0, 0]).random(image.shape[:2], np.float32)
        return Prediction(np.zeros(score.shape, np.uint8), score)


def test_a_kept_promise_is_not_sure_while_its_interval_reaches_above() -> None:
    frames = Frames(*((grey, np.zeros((40, 80), np.uint8)) for grey in range(80, 100)))
    usual, _ = fit_calibration(Noise(), frames, 0.05)
    assert usual.promise.share <= 0.05 < usual.promise.high
    _, lower = fit_calibration(Noise(), frames, 0.05, sure=True)
    assert lower == pytest.approx(0.05**2 / usual.promise.high)


# What is there stays whole until the new state is


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


STEPS = ('fit_temperature', 'fit_statistics', 'remove_stale_engines', 'with_calibration')


@pytest.mark.parametrize('step', [*STEPS, 'second calibration'])
@pytest.mark.parametrize('error', [KeyboardInterrupt, ValueError])
def test_a_fit_that_ends_early_leaves_all_as_it_was(
    step: str,
    error: type[BaseException],
    fitted: Path,
    frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, turn = ('with_calibration', 2) if step == 'second calibration' else (step, 1)
    real = getattr(fitting, name)
    turns = iter(range(1, 10))

    def fail(*arguments: Any) -> Any:
        if next(turns) == turn:
            raise error('in the middle')
        return real(*arguments)

    monkeypatch.setattr(fitting, name, fail)
    old = Path(shutil.copytree(fitted, tmp_path / 'old'))
    before = snapshot(old)
    for out in (old, tmp_path / 'new'):
        turns = iter(range(1, 10))
        try:
            assert fit(fitted, frames, out, 'temperature,sml,msp', '--gamma', '0.5') != 0
        except KeyboardInterrupt:
            assert error is KeyboardInterrupt
    assert snapshot(old) == before
    assert [path.name for path in tmp_path.iterdir()] == ['old']


def test_a_fit_into_its_own_checkpoint_is_left_whole_too(
    fitted: Path, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(shutil.copytree(fitted, tmp_path / 'own'))
    before = snapshot(own)
    (own / 'notes.txt').write_text('mine')
    monkeypatch.setattr(fitting, 'fit_calibration', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(own, frames, own, 'sml', '--train-split', 'val')
    monkeypatch.undo()
    assert snapshot(own) == {**before, 'notes.txt': b'mine'}
    assert fit(own, frames, own, 'sml', '--train-split', 'val') == 0
    assert Checkpoint.open(own).meta.fitted['sml'] == 'camvid val'
    assert (own / 'notes.txt').read_text() == 'mine'
    assert [path.name for path in tmp_path.iterdir()] == ['own']


KILLED = """
import os, signal, sys
from training.fitting import checkpoint
checkpoint.fit_calibration = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
from anomaly_seg_ros.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_killed_fit_leaves_the_old_checkpoint(
    fitted: Path, frames: Path, tmp_path: Path, root: Path
) -> None:
    out = Path(shutil.copytree(fitted, tmp_path / 'out'))
    before = snapshot(out)
    arguments = ['fit_score', '--checkpoint', str(fitted), '--score', 'sml', '--dataset', 'camvid']
    arguments += ['--root', str(frames), '--train-split', 'val', '--out', str(out)]
    done = subprocess.run([sys.executable, '-c', KILLED, *arguments], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    assert snapshot(out) == before


def test_what_is_no_checkpoint_is_not_replaced(
    fitted: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'thesis.tex').write_text('mine')
    assert fit(fitted, frames, out, 'msp') == 2
    said = capsys.readouterr()
    assert 'exists and has no meta.json; choose another --out' in said.err
    assert not said.out, 'refused before anything was fitted'
    assert snapshot(out) == {'thesis.tex': b'mine'}


def test_a_checkpoint_is_usable_by_the_score_that_was_fitted(
    tiny_checkpoint: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = shutil.copytree(tiny_checkpoint, tmp_path / 'bare')
    own = Checkpoint.open(bare).with_meta(calibrations={}, thresholds={}).meta.score
    assert fit(bare, frames, tmp_path / 'c', 'msp,margin') == 0
    assert Checkpoint.open(tmp_path / 'c').meta.score == own, 'none of the two is meant'
    assert fit(bare, frames, tmp_path / 'a', 'msp') == 0
    assert Checkpoint.open(tmp_path / 'a').meta.score == 'msp' != own
    assert (
        f"'msp' is the checkpoint's own score now, because {own!r} has no"
        in capsys.readouterr().out
    )
    # One that has a calibration stays.
    assert fit(tmp_path / 'a', frames, tmp_path / 'b', 'margin') == 0
    assert Checkpoint.open(tmp_path / 'b').meta.score == 'msp'
    assert 'own score now' not in capsys.readouterr().out


def test_the_checkpoints_own_score_is_another_from_now_on(
    fitted: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(fitted, frames, tmp_path / 'a', 'msp', '--own', 'margin') == 2
    assert '--own margin is not calibrated; name it in --score too' in capsys.readouterr().err
    assert fit(fitted, frames, tmp_path / 'a', 'msp', '--own', 'msp') == 0
    made = Checkpoint.open(tmp_path / 'a')
    assert made.meta.score == 'msp'
    assert made.weights_sha256 == Checkpoint.open(fitted).weights_sha256
