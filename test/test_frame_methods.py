"""Methods for whole frames end to end: fitted, measured, shown, and moved to another camera."""

import csv
import json
from pathlib import Path
import shutil

import numpy as np
import pytest

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.frames.images import write_image
from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.scores.parts.pooled_features import PooledFeatures
from anomaly_seg_ros.whole_frame.methods import fit_method
from training.evaluation.processes import Processes
from training.fitting.frame_method import (
    false_alarm_rate,
    fit_frames,
    PooledFrames,
    tail_threshold,
)
from training.frame_level.corrupted import Fault, parse_faults
from training.frame_level.corruptions import corrupt, CORRUPTIONS, SEVERITIES
from training.metrics.whole_frames import frame_metrics

SIZE = (64, 96)


def scene(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    coarse = random.uniform(60, 180, (4, 6, 3)).round()
    return np.kron(coarse, np.ones((16, 16, 1))).astype(np.uint8)


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('frames')
    for split, seeds in {
        'train': range(40),
        'val': range(50, 60),
        'normal': range(70, 78),
    }.items():
        (folder / split).mkdir()
        for seed in seeds:
            write_image(folder / split / f'{"ab"[seed % 2]}_{seed:03}.png', scene(seed))
    (folder / 'abnormal').mkdir()
    for seed in range(80, 88):
        write_image(folder / 'abnormal' / f'{seed}.png', corrupt(scene(seed), 'noise', 5))
    return folder


@pytest.fixture(scope='module')
def fitted(tiny_checkpoint: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('fitted') / 'checkpoint'
    command = ['fit_score', '--checkpoint', str(tiny_checkpoint), '--score', 'dfkde']
    command += ['--dataset', 'frames', '--root', str(root), '--out', str(out)]
    assert main([*command, '--false-alarms-per-hour', '360', '--frame-rate', '10']) == 0
    return out


def test_pooled_are_means_and_deviations_of_features_and_classes() -> None:
    import torch

    random = torch.Generator().manual_seed(0)
    small = torch.randn(2, 3, 10, 12, generator=random)
    large = torch.randn(2, 4, 200, 210, generator=random)
    pool = PooledFeatures(('features.a', 'logits'), ('features.a', 'class_maps'))
    found = pool(ModelOutput(large, features={'a': small}))
    parts = []
    for maps in (small, large[:, :, ::7, ::7]):  # every seventh row and column of 42,000 places
        parts += [maps.mean((2, 3)), maps.std((2, 3), correction=0)]
    torch.testing.assert_close(found, torch.cat(parts, 1))


def test_a_fit_to_other_maps_says_what_to_do() -> None:
    method = fit_method('dfkde', np.random.default_rng(0).normal(size=(40, 6)))
    with pytest.raises(ValueError, match=r'fitted to 6 values of each, this network gives 4; run'):
        method.raw(np.zeros((1, 4), np.float32))


def test_a_fit_says_what_it_was_made_of(fitted: Path, tiny_checkpoint: Path) -> None:
    fit = Checkpoint.open(fitted).meta.frame
    assert fit is not None
    assert (fit.method, fit.frames, fit.fitted_on) == ('dfkde', 40, 'frames train')
    assert fit.false_alarms == pytest.approx(10)
    assert fit.threshold_on == 'frames val'
    # No graph holds any of it, so engines stay as they are.
    before = Checkpoint.open(tiny_checkpoint)
    assert Checkpoint.open(fitted).score_key('max_logit') == before.score_key('max_logit')


def test_evaluate_measures_normal_and_abnormal_frames(
    fitted: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page = tmp_path / 'out', tmp_path / 'page.html'
    command = ['evaluate', '--checkpoint', str(fitted), '--score', 'dfkde', '--dataset', 'frames']
    command += ['--root', str(root), '--corrupt', 'black:5,frozen', '--out', str(out)]
    assert main(command) == 0
    rows = {row['abnormal']: row for row in json.loads((out / 'results.json').read_text())['rows']}
    assert list(rows) == ['abnormal', 'black 5', 'frozen 3', 'all']
    assert rows['abnormal']['frame_auroc'] == rows['black 5']['frame_auroc'] == 1
    # The exact threshold: the score of an abnormal frame that no normal one reaches.
    with (out / 'frame_scores.csv').open() as file:
        lines = list(csv.DictReader(file))
    lowest = min(float(line['score']) for line in lines if line['group'] == 'abnormal')
    assert rows['abnormal']['frame_f1'] == 1
    assert rows['abnormal']['frame_f1_threshold'] == pytest.approx(lowest, abs=1e-6)
    assert {line['score'] for line in lines if line['group'] == 'frozen 3'} == {'1.000000'}
    assert 'frozen 3' in capsys.readouterr().out
    assert main(['report', str(out), '--out', str(page)]) == 0
    assert page.read_text().count('normal above, abnormal below') >= 2
    assert '<h3>dfkde of ' in page.read_text(), 'two methods on one folder could not be told apart'
    # Another kind of result in the same folder leaves nothing of this one.
    command = ['evaluate', '--checkpoint', str(fitted), '--dataset', 'frames', '--root', str(root)]
    assert main([*command, '--out', str(out)]) == 2
    assert '8 of the 16 frames lie below abnormal/, and all their' in capsys.readouterr().err
    assert (out / 'frame_scores.csv').is_file()
    assert main([*command, '--split', 'normal', '--out', str(out)]) == 0
    assert not (out / 'frame_scores.csv').exists()
    assert not list(out.glob('grid_*.png'))
    assert (out / 'frames.csv').is_file()
    assert main([*command, '--split', 'normal', '--score', 'dfkde', '--out', str(out)]) == 0
    assert not (out / 'frames.csv').exists()
    assert not (out / 'pictures').exists()


def test_whole_frames_that_were_trained_on_are_named(
    fitted: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(fitted, tmp_path / 'own'))
    Checkpoint.open(folder).with_meta(trained_on=(f'frames {root.name} val',))
    command = ['evaluate', '--checkpoint', str(folder), '--score', 'dfkde', '--dataset', 'frames']
    command += ['--root', str(root), '--split', 'val', '--corrupt', 'black:5']
    assert main([*command, '--out', str(tmp_path / 'out')]) == 0
    text = f'the checkpoint was trained on these frames (frames {root.name} val)'
    assert f'warning: {text}' in capsys.readouterr().err
    rows = json.loads((tmp_path / 'out' / 'results.json').read_text())['rows']
    assert {tuple(row['warnings']) for row in rows} == {(text,)}


def test_abnormal_frames_calibrate_nothing(
    fitted: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ['fit_score', '--checkpoint', str(fitted), '--score', 'max_logit']
    command += ['--dataset', 'frames', '--root', str(root), '--out', str(tmp_path / 'out')]
    assert main([*command, '--split', 'abnormal']) == 2
    assert '8 of the 8 frames lie below abnormal/' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('more', 'processes', 'message'),
    [
        (['--protocol', 'smiyc'], 1, '--protocol does not go with --score dfkde, which judges'),
        (['--label-map', '7=1'], 1, '--label-map does not go with --score dfkde, which judges'),
        (['--track', 'obstacle'], 1, '--track does not go with --score dfkde, which judges'),
        ([], 2, 'whole frames in one process, not in 2; run it without torchrun'),
    ],
)
def test_what_evaluate_does_not_do_with_whole_frames_is_refused(
    more: list[str],
    processes: int,
    message: str,
    fitted: Path,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    several = Processes({})
    monkeypatch.setattr(several, 'size', processes)
    monkeypatch.setattr(Processes, '__exit__', lambda *args: None)
    monkeypatch.setattr('training.commands.evaluate.Processes', lambda: several)
    command = ['evaluate', '--checkpoint', str(fitted), '--score', 'dfkde', '--dataset', 'frames']
    command += ['--root', str(root), '--out', str(tmp_path / 'out')]
    assert main([*command, *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_predict_gives_the_same_score_as_evaluate(
    fitted: Path, root: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'out'
    command = ['predict', str(root / 'abnormal'), '--checkpoint', str(fitted), '--engine', 'torch']
    assert main([*command, '--save', 'nothing', '--summary', '--out', str(out)]) == 0
    with (out / 'summary.csv').open() as file:
        scores = [float(line['frame_score']) for line in csv.DictReader(file)]
    assert min(scores) > 0.5


def test_adapt_takes_another_camera_as_normal(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    camera, later, out = tmp_path / 'camera', tmp_path / 'later', tmp_path / 'adapted'
    for folder, seeds in ((camera, range(100, 112)), (later, range(120, 126))):
        folder.mkdir()
        for seed in seeds:
            write_image(folder / f'{seed}.png', scene(seed) // 2 + np.array([0, 0, 127], np.uint8))
    command = ['adapt', str(camera), '--checkpoint', str(fitted), '--engine', 'torch']
    assert main([*command, '--out', str(out)]) == 0
    said = capsys.readouterr().out
    share = 'whole frames out of domain: 12 of 12 before, 0 once the others are known'
    assert share in said, said
    shift = Checkpoint.open(out).meta.frame_shift()
    assert shift is not None
    assert shift.frames == 12
    scores = {}
    for name, checkpoint in (('before', fitted), ('after', out)):
        command = ['predict', str(later), '--checkpoint', str(checkpoint), '--engine', 'torch']
        to = str(tmp_path / name)
        assert main([*command, '--save', 'nothing', '--summary', '--out', to]) == 0
        with (tmp_path / name / 'summary.csv').open() as file:
            scores[name] = [float(line['frame_score']) for line in csv.DictReader(file)]
    assert min(scores['before']) >= 0.5 > max(scores['after'])


def test_another_methods_name_is_refused_with_the_way_out(
    fitted: Path, root: Path, tmp_path: Path
) -> None:
    common = ['--dataset', 'frames', '--root', str(root), '--out', str(tmp_path / 'out')]
    with pytest.raises(ValueError, match=r"no frame method 'lake', it has 'dfkde'"):
        _run('evaluate', fitted, 'lake', common)
    with pytest.raises(ValueError, match=r"'lake' needs a network that gives its image again"):
        _run('fit_score', fitted, 'lake', common)


def _run(verb: str, checkpoint: Path, score: str, more: list[str]) -> None:
    from anomaly_seg_ros.cli import build_parser

    args = build_parser(verb).parse([*more, '--checkpoint', str(checkpoint), '--score', score])
    args.main(args)


def test_the_tail_of_few_frames_by_hand() -> None:
    """A fifth lies above 799.2, on average 100.3 above; a hundredth of these ln 100 as far."""
    raw = np.random.default_rng(0).permutation(1000).astype(float)
    assert tail_threshold(raw, 0.002) == pytest.approx(799.2 + 100.3 * 4.60517)
    assert tail_threshold(np.full(9, 3.0), 0.002) == 3
    # Of an exponential tail it is the true value: -ln .001 = 6.9.
    drawn = np.random.default_rng(1).exponential(size=20_000)
    assert tail_threshold(drawn, 0.001) == pytest.approx(6.91, abs=0.15)


def test_a_sure_threshold_holds_for_scenes_that_nobody_has_shown() -> None:
    random = np.random.default_rng(0)
    scenes = [f'scene {index % 4}' for index in range(80)]
    places = {name: random.normal(0, 3, 6) for name in sorted(set(scenes))}
    values = np.stack([places[scene] + random.normal(0, 0.3, 6) for scene in scenes])
    training = PooledFrames(values[:60].astype(np.float32), scenes[:60])
    validation = PooledFrames(values[60:].astype(np.float32), scenes[60:])
    plain = fit_frames('dfkde', training, validation, 0.01, sure=False)
    sure = fit_frames('dfkde', training, validation, 0.01, sure=True)
    assert sure.threshold > 3 * plain.threshold
    with pytest.raises(ValueError, match="all frames are of one scene, 'a'"):
        fit_frames('dfkde', training._replace(scenes=['a'] * 60), validation, 0.01, sure=True)


@pytest.mark.parametrize(
    ('given', 'why'),
    [
        ((5, 5, 10), 'give either --false-alarms-per-1000 or'),
        ((None, 5, None), '--false-alarms-per-hour needs --frame-rate'),
        ((None, None, 5), '--frame-rate goes with'),
        ((1000, None, None), 'must lie between 0 and 1'),
    ],
)
def test_wrong_rates_of_false_alarms_are_refused(
    given: tuple[float | None, ...], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        false_alarm_rate(*given)


# --- corruptions and metrics ---------------------------------------------------------------------


@pytest.mark.parametrize('name', sorted(CORRUPTIONS))
def test_a_corruption_is_the_same_each_time_and_grows(name: str) -> None:
    image = scene(1)
    before = image.copy()
    found = [corrupt(image, name, severity, 'a') for severity in SEVERITIES]
    assert (image == before).all()
    for severity, result in zip(SEVERITIES, found, strict=True):
        assert (result.shape, result.dtype) == (image.shape, np.uint8)
        assert (result == corrupt(image, name, severity, 'a')).all()
    changes = [float(np.abs(result.astype(float) - image).mean()) for result in found]
    assert changes[0] < changes[2] < changes[4] or name in ('frozen', 'black')
    assert (changes[4] == 0) == (name == 'frozen')


def test_faults_are_read_and_what_is_none_is_refused() -> None:
    assert parse_faults('blur, noise:5') == (Fault('blur', 3), Fault('noise', 5))
    assert len(parse_faults('all:2')) == len(CORRUPTIONS)
    for text, why in (
        ('snow', "unknown corruption 'snow'"), ('fog:6', "severity '6'"), ('', 'no corruption')
    ):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            parse_faults(text)


def test_metrics_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip('sklearn.metrics')
    random = np.random.default_rng(0)
    normal = random.normal(0, 1, 200).round(1)
    abnormal = random.normal(1, 1, 80).round(1)
    truth, scores = np.repeat([0, 1], [200, 80]), np.concatenate([normal, abnormal])
    found = frame_metrics(normal, abnormal, 0.5)
    assert found.auroc == pytest.approx(metrics.roc_auc_score(truth, scores))
    assert found.ap == pytest.approx(metrics.average_precision_score(truth, scores))
    assert found.f1 == pytest.approx(metrics.f1_score(truth, scores >= 0.5))
    every = [metrics.f1_score(truth, scores >= level) for level in np.unique(scores)]
    assert found.best_f1 == pytest.approx(max(every))
    assert found.false_alarms_per_1000 == pytest.approx(1000 * (normal >= 0.5).mean())
