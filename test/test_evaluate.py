"""`anomaly_seg evaluate`: its numbers against independent ones, on frames made by hand."""

from __future__ import annotations

from collections.abc import Callable
import json
import os
from pathlib import Path
import socket
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from PIL import Image
import pytest
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)
import torch

from anomaly_seg_ros.calibration import Calibration
from anomaly_seg_ros.checkpoint.calibrated import CalibratedOn, CameraCalibration
from anomaly_seg_ros.checkpoint.folder import Checkpoint, WEIGHTS_FILE
from anomaly_seg_ros.classes import CAMVID, LabelSet, STREETHAZARDS
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.engines import open_engine
from anomaly_seg_ros.engines.scored_model import ScoredModel
from anomaly_seg_ros.frames.images import read_image, write_image
from training.commands import evaluate
from training.datasets import NO_CLASSES
from training.evaluation.checkpoint_frames import check_room
from training.evaluation.measure import FirstPass, MeasureSettings
from training.evaluation.network_pass import open_pass, PassOutput
from training.evaluation.origin import class_cautions, trained_on
from training.evaluation.pictures import choose
from training.evaluation.processes import Processes
from training.evaluation.resizing import labels_at, network_input
from training.evaluation.run import evaluate_frames
from training.results import FrameRow, read_curves, read_frames, read_pictures, read_results

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / 'shared'
SIZE = (24, 32)
"""Input size of the fake network."""


# A network whose answer can be worked out by hand


def fake_score(image: np.ndarray) -> np.ndarray:
    return image[..., 1].astype(np.float32) / np.float32(25.5) - 5


class FakePass:
    """The label is red modulo 11; `msp` is green / 25.5 - 5, `energy` the same upside down."""

    engine, precision, description = 'fake', 'fp32', 'fake network'

    def __init__(self, scores: tuple[str, ...], size: tuple[int, int] = SIZE):
        self.input_size = size
        self.times_ms: dict[str, list[float]] = {score: [] for score in scores}
        self.seen = 0

    def infer(self, image: np.ndarray) -> PassOutput:
        assert image.shape == (*self.input_size, 3)
        self.seen += 1
        for times in self.times_ms.values():
            times.append(float(self.seen))
        score = fake_score(image)
        maps = {name: -score if name == 'energy' else score for name in self.times_ms}
        return PassOutput(image[..., 0] % np.uint8(11), maps, None)

    def close(self) -> None:
        pass


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[FakePass]:
    """Puts the fake network in; gives the list of those that were opened."""
    passes: list[FakePass] = []

    def open_fake(checkpoint: Checkpoint, engine: str, scores: tuple[str, ...]) -> FakePass:
        passes.append(FakePass(scores, checkpoint.meta.input_size))
        return passes[-1]

    monkeypatch.setattr(evaluate, 'open_pass', open_fake)
    return passes


# Frames


def make_frame(
    seed: int, size: tuple[int, int] = SIZE, anomaly: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image, greener where the labels say anomaly, and 0/1/255 labels."""
    random = np.random.default_rng(seed)
    labels = np.zeros(size, np.uint8)
    labels[: size[0] // 8] = 255
    if anomaly:
        top, left = (int(random.integers(side // 4, side // 2)) for side in size)
        labels[top : top + size[0] // 4, left : left + size[1] // 4] = 1
    image = random.integers(0, 256, (*size, 3))
    image[..., 1] = np.clip(random.normal(90, 35, size) + 60 * (labels == 1), 0, 255)
    return image.astype(np.uint8), labels


def write_folder(root: Path, frames: list[tuple[np.ndarray, np.ndarray]]) -> Path:
    for folder in ('images', 'labels_masks'):
        (root / folder).mkdir(parents=True)
    for i, (image, labels) in enumerate(frames):
        write_image(root / 'images' / f'f{i:02}.png', image)
        write_image(root / 'labels_masks' / f'f{i:02}.png', labels)
    return root


def write_maps(
    root: Path, pairs: list[tuple[Any, Any]], dtype: Any = np.float32, suffix: str = ''
) -> list[str]:
    """Writes score maps and labels; gives the arguments that evaluate them."""
    for folder in ('maps', 'labels'):
        (root / folder).mkdir(parents=True)
    for i, (score, labels) in enumerate(pairs):
        np.save(root / 'maps' / f'f{i:02}{suffix}.npy', np.asarray(score, dtype))
        write_image(root / 'labels' / f'f{i:02}.png', np.asarray(labels, np.uint8))
    return ['--scores', str(root / 'maps'), '--labels', str(root / 'labels')]


FRAMES = [make_frame(i) for i in range(6)] + [make_frame(6, anomaly=False)]


@pytest.fixture
def run(
    fake_checkpoint: Path, opened: list[FakePass], tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """Evaluates the fake network; gives the first row of the results as a mapping."""

    def evaluate_frames(root: Path, *more: str, dataset: str = 'folder') -> dict[str, Any]:
        out = tmp_path / 'out'
        argv = ['evaluate', '--checkpoint', str(fake_checkpoint), '--dataset', dataset]
        assert main([*argv, '--root', str(root), '--out', str(out), *more]) == 0
        return read_results(out)[0].to_json()

    return evaluate_frames


def run_maps(arguments: list[str], out: Path, *more: str) -> dict[str, Any]:
    assert main(['evaluate', *arguments, '--out', str(out), *more]) == 0
    return read_results(out)[0].to_json()


# Independent references


def pooled(maps: list[np.ndarray], labels: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    scores = np.concatenate([m[label != 255] for m, label in zip(maps, labels, strict=True)])
    truth = np.concatenate([label[label != 255] for label in labels])
    return scores, truth


def first_ge(truth: np.ndarray, scores: np.ndarray) -> float:
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    return float(fpr[np.argmax(tpr >= 0.95)])


def interpolated(truth: np.ndarray, scores: np.ndarray) -> float:
    """FPR at TPR 0.95 as the package ood-metrics computes it."""
    fpr, tpr, _ = roc_curve(truth, scores)
    if (tpr == 0.95).any():
        return float(fpr[tpr == 0.95].max())
    return float(np.interp(0.95, tpr, fpr))


def best_f1(truth: np.ndarray, scores: np.ndarray) -> float:
    precision, recall, _ = precision_recall_curve(truth, scores)
    return float(np.nanmax(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


# A checkpoint on a dataset


def test_pooled_numbers_equal_scikit_learn(run: Callable[..., Any], tmp_path: Path) -> None:
    row = run(write_folder(tmp_path / 'data', FRAMES), '--score', 'msp')
    scores, truth = pooled([fake_score(i) for i, _ in FRAMES], [label for _, label in FRAMES])
    assert row['ap'] == pytest.approx(average_precision_score(truth, scores), abs=1e-9)
    assert row['auroc'] == pytest.approx(roc_auc_score(truth, scores), abs=1e-9)
    assert row['fpr95'] == pytest.approx(first_ge(truth, scores), abs=1e-9)
    assert row['best_f1'] == pytest.approx(best_f1(truth, scores), abs=1e-9)
    assert row['base_rate'] == pytest.approx(truth.mean(), abs=1e-12)
    assert row['n_images'] == 7
    assert row['n_pixels'] == truth.size
    assert row['ap_interval'] == [row['ap'], row['ap']]
    marked = scores >= np.float32(row['best_f1_threshold'])
    precision, recall = (marked & (truth == 1)).sum() / np.array([marked.sum(), truth.sum()])
    assert row['best_f1'] == pytest.approx(2 * precision * recall / (precision + recall))


def test_the_mean_over_frames_is_of_those_with_both_kinds_of_pixels(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    row = run(write_folder(tmp_path / 'data', FRAMES), '--score', 'msp')
    parts = [pooled([fake_score(image)], [label]) for image, label in FRAMES]
    both = [(scores, truth) for scores, truth in parts if 0 < truth.mean() < 1]
    assert 0 < len(both) < len(FRAMES)
    for key, measure in (('ap', average_precision_score), ('fpr95', first_ge)):
        each = [measure(truth, scores) for scores, truth in both]
        assert row['per_image'][key] == pytest.approx(np.mean(each), abs=1e-9)


def test_a_row_says_how_it_was_made(
    run: Callable[..., Any], fake_checkpoint: Path, tmp_path: Path
) -> None:
    row = run(write_folder(tmp_path / 'data', FRAMES), '--score', 'msp')
    made = {
        'dataset': 'folder',
        'split': 'all',
        'model': 'bisenetv2',
        'checkpoint': str(fake_checkpoint),
        'score': 'msp',
        'engine': 'fake',
        'precision': 'fp32',
        'input_size': SIZE,
        'temperature': 1.0,
        'protocol': 'exact',
        'warnings': [],
    }
    assert {key: row[key] for key in made} == made
    assert row['latency_ms'] == {'p50': 4.0, 'p95': 6.7}  # of 1, 2, ..., 7
    assert row['peak_mb'] > 0
    assert row['command'].startswith('anomaly_seg')
    assert row['commit']
    for key in ('miou', 'iou', 'open_miou', 'ece', 'nll'):
        assert row[key] is None


def test_a_row_says_what_the_shipped_threshold_does_and_how_sure_it_is(
    run: Callable[..., Any], fake_checkpoint: Path, tmp_path: Path
) -> None:
    meta_file = fake_checkpoint / 'meta.json'
    values = json.loads(meta_file.read_text())
    values['calibrations'] = {'msp': [-5.0, 0.0, 5.0]}
    values['thresholds'] = {'msp': 31 / 32}
    meta_file.write_text(json.dumps(values))
    row = run(write_folder(tmp_path / 'data', FRAMES), '--score', 'msp')
    scores = np.concatenate([fake_score(image)[labels != 255] for image, labels in FRAMES])
    truth = np.concatenate([labels[labels != 255] for _, labels in FRAMES])
    marked = scores >= 2.5
    operating = {
        'precision': (marked & (truth == 1)).sum() / marked.sum(),
        'recall': marked[truth == 1].mean(),
        'false_positive_share': marked[truth == 0].mean(),
    }
    assert row['operating'] == pytest.approx(operating)
    assert 0 < operating['recall'] < 1
    assert [group['third'] for group in row['by_third']] == ['top', 'middle', 'bottom']
    assert sum(group['n_normal'] for group in row['by_third']) == (truth == 0).sum()
    assert row['by_class_rule'] == 'predicted class'
    assert sum(group['n_anomaly'] for group in row['by_class']) == (truth == 1).sum()
    sure = row['bootstrap']
    assert '1000 resamples' in sure.pop('rule')
    assert sure.keys() == {'ap', 'fpr95', 'f1_mean', *operating} - (
        {'f1_mean'} if row['f1_mean'] is None else set()
    )
    for key, (low, high) in sure.items():
        assert low <= (operating.get(key) or row[key]) <= high, key


def test_the_threshold_may_be_that_of_a_camera(
    run: Callable[..., Any], fake_checkpoint: Path, tmp_path: Path
) -> None:
    own = CameraCalibration(Calibration((-5.0, 0.0, 5.0)), 15 / 16, CalibratedOn('a', 'b', 1, 'c'))
    Checkpoint.open(fake_checkpoint).with_meta(
        calibrations={'msp': Calibration((-5.0, 0.0, 5.0))},
        thresholds={'msp': 31 / 32},
        cameras={'front': {'msp': own}},
    )
    data = write_folder(tmp_path / 'data', FRAMES)
    assert run(data, '--score', 'msp')['operating_threshold'] == pytest.approx(2.5)
    front = run(data, '--score', 'msp', '--camera', 'front')
    assert front['operating_threshold'] == pytest.approx(0, abs=1e-6)


def test_one_pass_gives_a_row_for_each_score(
    run: Callable[..., Any], opened: list[FakePass], tmp_path: Path
) -> None:
    run(write_folder(tmp_path / 'data', FRAMES), '--score', 'msp,energy')
    rows = read_results(tmp_path / 'out')
    assert [row.score for row in rows] == ['msp', 'energy']
    assert opened[0].seen == len(FRAMES)
    assert rows[0].auroc == pytest.approx(1 - rows[1].auroc, abs=1e-9)


def test_the_score_of_the_checkpoint_is_the_default(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    assert run(write_folder(tmp_path / 'data', FRAMES))['score'] == 'max_logit'


def test_the_map_goes_to_the_size_of_the_labels(run: Callable[..., Any], tmp_path: Path) -> None:
    """Bilinear with aligned pixel edges, as torch enlarges; the labels are not touched."""
    frames = [make_frame(i, (36, 48)) for i in range(3)]
    row = run(write_folder(tmp_path / 'data', frames), '--score', 'msp')
    maps = []
    for image, _ in frames:
        small = cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_LINEAR)
        score = torch.from_numpy(fake_score(small))[None, None]
        large = torch.nn.functional.interpolate(score, (36, 48), mode='bilinear')
        maps.append(large[0, 0].numpy())
    scores, truth = pooled(maps, [label for _, label in frames])
    assert row['n_pixels'] == truth.size == 3 * 32 * 48
    assert row['ap'] == pytest.approx(average_precision_score(truth, scores), abs=1e-4)


def test_course_resizes_as_pil_and_drops_frames_without_anomaly(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    frames = [make_frame(i, (50, 70), anomaly=i != 2) for i in range(5)]
    row = run(write_folder(tmp_path / 'data', frames), '--score', 'msp', '--protocol', 'course')
    maps, truths = [], []
    for image, labels in frames:
        small = Image.fromarray(labels).resize(SIZE[::-1], Image.Resampling.NEAREST)
        if 1 in np.asarray(small):
            picture = Image.fromarray(image).resize(SIZE[::-1], Image.Resampling.BILINEAR)
            maps.append(fake_score(np.asarray(picture)))
            truths.append(np.asarray(small))
    scores, truth = pooled(maps, truths)
    assert (row['n_images'], row['n_skipped']) == (4, 1)
    assert row['n_pixels'] == truth.size
    assert row['ap'] == pytest.approx(average_precision_score(truth, scores), abs=1e-9)
    assert row['fpr95'] == pytest.approx(interpolated(truth, scores), abs=1e-9)
    assert row['siou_gt'] is None
    assert 'interpolation' in row['fpr95_rule']


def test_what_pil_resized_belongs_to_the_caller() -> None:
    """PIL's own buffer is read-only, which torch warns of."""
    image = np.zeros((5, 7, 3), np.uint8)
    assert network_input(image, (4, 6), 'course').flags.writeable
    assert labels_at(image[..., 0], (4, 6), 'course').flags.writeable


def test_frames_without_anomaly_count_unless_the_protocol_drops_them(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    root = write_folder(tmp_path / 'data', FRAMES)
    exact = run(root, '--score', 'msp')
    course = run(root, '--score', 'msp', '--protocol', 'course')
    empty = int((FRAMES[6][1] == 0).sum())
    assert exact['n_pixels'] - course['n_pixels'] == empty
    assert exact['ap'] < course['ap']


# Saved maps


@pytest.mark.parametrize('protocol', ['exact', 'smiyc', 'course'])
def test_both_forms_agree(protocol: str, run: Callable[..., Any], tmp_path: Path) -> None:
    row = run(write_folder(tmp_path / 'data', FRAMES), '--score', 'msp', '--protocol', protocol)
    table = [vars(r) for r in read_frames(tmp_path / 'out')]
    saved = write_maps(tmp_path / 'saved', [(fake_score(i), label) for i, label in FRAMES])
    other = run_maps(saved, tmp_path / 'out2', '--protocol', protocol)
    keys = ('ap', 'auroc', 'fpr95', 'best_f1', 'best_f1_threshold', 'siou_gt', 'ppv', 'f1_mean')
    keys += ('n_images', 'n_pixels', 'base_rate', 'frame_auroc', 'mask_threshold')
    assert {key: other[key] for key in keys} == {key: row[key] for key in keys}
    again = [vars(r) | {'score': 'msp'} for r in read_frames(tmp_path / 'out2')]
    assert again == table
    for key in ('model', 'checkpoint', 'engine', 'latency_ms', 'input_size', 'miou'):
        assert other[key] is None


def test_what_predict_writes_is_understood(tmp_path: Path) -> None:
    pairs = [(fake_score(i), label) for i, label in FRAMES]
    plain = run_maps(write_maps(tmp_path / 'a', pairs), tmp_path / 'out_a')
    arguments = write_maps(tmp_path / 'b', pairs, suffix='_score')
    np.save(tmp_path / 'b' / 'maps' / 'f00_logits.npy', np.zeros((11, *SIZE), np.float32))
    assert run_maps(arguments, tmp_path / 'out_b')['ap'] == plain['ap']


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64, np.longdouble])
def test_any_float_type_is_taken(dtype: Any, tmp_path: Path) -> None:
    scores = [[0.5, 0.25, 0.125, 1.5]]
    row = run_maps(write_maps(tmp_path, [(scores, [[1, 0, 0, 0]])], dtype), tmp_path / 'out')
    assert row['ap'] == pytest.approx(0.5)


def test_what_float32_makes_one_of_many_scores_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(20, 6, (20, 30))
    labels = [[int(value > 30) for value in row] for row in logits]
    for name, scores in (('logits', logits), ('probabilities', 1 / (1 + np.exp(-logits)))):
        folder = tmp_path / name
        folder.mkdir()
        pairs = [(scores.tolist(), labels)] * 2
        run_maps(write_maps(folder, pairs, np.float64), folder / 'out')
    # Once, though both frames are so and each is read twice.
    (said,) = [record.getMessage() for record in caplog.records if 'float32' in record.message]
    assert 'probabilities' in said
    assert 'save logits or log-odds instead' in said


def test_scores_beyond_float32_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write_maps(tmp_path, [([[1e300, 2.0]], [[1, 0]])], np.float64)
    assert main(['evaluate', *arguments, '--out', str(tmp_path / 'out')]) == 2
    assert 'holds float64 scores beyond float32' in capsys.readouterr().err


def test_infinite_scores_warn_of_nothing(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    pair = ([[np.inf, np.inf, 1.0, -np.inf, -np.inf, -np.inf]], [[1, 1, 0, 0, 0, 0]])
    assert run_maps(write_maps(tmp_path, [pair]), tmp_path / 'out')['ap'] == 1.0
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


def test_a_label_that_is_no_id_has_a_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write_maps(tmp_path, [([[2.0, 1.0]], [[1, 0]])])
    (tmp_path / 'labels' / 'f00.png').unlink()
    np.save(tmp_path / 'labels' / 'f00.npy', np.array([[1, -1]], np.int16))
    assert main(['evaluate', *arguments, '--out', str(tmp_path / 'out')]) == 2
    error = capsys.readouterr().err
    assert 'holds label -1; ' in error
    assert error.strip().endswith('store it as an id of 0 to 65535')


def test_labels_may_be_numpy_files(tmp_path: Path) -> None:
    arguments = write_maps(tmp_path, [([[2.0, 1.0, 0.0]], [[1, 0, 255]])])
    (tmp_path / 'labels' / 'f00.png').unlink()
    for labels in (np.array([[1, 0, 255]]), np.array([[True, False, False]])):
        np.save(tmp_path / 'labels' / 'f00.npy', labels)
        assert run_maps(arguments, tmp_path / 'out')['ap'] == 1.0


HAND_WORKED = [
    # Thresholds .9 .8 .3: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1; inliers .8 and .1.
    ('exact', [[0.9, 0.8, 0.3, 0.1]], [[1, 0, 1, 0]],
     {'ap': 5 / 6, 'auroc': 3 / 4, 'fpr95': 1 / 2, 'best_f1': 4 / 5}),
    # The line from (FPR 1/2, TPR 1/2) to (1/2, 1) is upright.
    ('course', [[0.9, 0.8, 0.3, 0.1]], [[1, 0, 1, 0]], {'ap': 5 / 6, 'fpr95': 1 / 2}),
    # All tied: everything is an alarm, or by interpolation 95 % of it.
    ('exact', [[1, 1, 1, 1]], [[1, 0, 0, 0]], {'ap': 1 / 4, 'auroc': 1 / 2, 'fpr95': 1}),
    ('course', [[1, 1, 1, 1]], [[1, 0, 0, 0]], {'ap': 1 / 4, 'auroc': 1 / 2, 'fpr95': 0.95}),
    # 1 + 1/4096 is 1 in half precision, so that the benchmark sees a tie.
    ('exact', [[1 + 1 / 4096, 1, 0]], [[1, 0, 0]], {'ap': 1, 'fpr95': 0, 'best_f1': 1}),
    ('smiyc', [[1 + 1 / 4096, 1, 0]], [[1, 0, 0]], {'ap': 1 / 2, 'fpr95': 1 / 2}),
    # Ignored pixels never matter.
    ('exact', [[9, 0.9, -9, 0.1]], [[255, 1, 255, 0]], {'ap': 1, 'n_pixels': 2}),
]  # fmt: skip


@pytest.mark.parametrize(('protocol', 'scores', 'labels', 'expected'), HAND_WORKED)
def test_protocols_by_hand(
    protocol: str, scores: Any, labels: Any, expected: dict[str, float], tmp_path: Path
) -> None:
    arguments = write_maps(tmp_path, [(scores, labels)])
    row = run_maps(arguments, tmp_path / 'out', '--protocol', protocol)
    assert {key: row[key] for key in expected} == pytest.approx(expected, abs=1e-9)


def test_components_of_a_binary_map_by_hand(tmp_path: Path) -> None:
    """20x30 true pixels, 20x40 marked: sIoU and PPV 3/4, F1 = 1 at all 11 levels.

    The benchmark compares its threshold, 1, strictly, and so finds nothing in a binary map.
    """
    labels, score = np.zeros((60, 80), np.uint8), np.zeros((60, 80))
    labels[10:30, 10:40] = 1
    score[10:30, 10:50] = 1
    arguments = write_maps(tmp_path, [(score, labels)])
    exact = run_maps(arguments, tmp_path / 'exact')
    assert [exact[k] for k in ('siou_gt', 'ppv', 'f1_mean')] == [0.75, 0.75, 1.0]
    assert exact['component_sizes'] == {'predicted': 500, 'truth': 100}
    smiyc = run_maps(arguments, tmp_path / 'smiyc', '--protocol', 'smiyc')
    assert [smiyc[k] for k in ('siou_gt', 'ppv', 'f1_mean')] == [0.0, None, 0.0]


def test_the_track_says_which_components_count(tmp_path: Path) -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[5:13, 5:13] = 1  # 64 pixels
    arguments = write_maps(tmp_path, [(labels, labels)])
    assert run_maps(arguments, tmp_path / 'a')['siou_gt'] is None
    obstacle = run_maps(arguments, tmp_path / 'b', '--track', 'obstacle')
    assert (obstacle['siou_gt'], obstacle['f1_mean']) == (1.0, 1.0)


def test_a_set_without_anomalies_has_no_anomaly_numbers(tmp_path: Path) -> None:
    row = run_maps(write_maps(tmp_path, [([[1.0, 2.0]], [[0, 0]])]), tmp_path / 'out')
    for key in ('ap', 'auroc', 'fpr95', 'best_f1', 'siou_gt', 'frame_auroc'):
        assert row[key] is None
    assert row['n_pixels'] == 2
    assert read_curves(tmp_path / 'out')[0]['pr'] == {'recall': [], 'precision': []}


# Tables, curves and pictures


def test_the_frame_table_holds_each_frame_on_its_own(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    row = run(write_folder(tmp_path / 'data', FRAMES), '--score', 'msp')
    table = read_frames(tmp_path / 'out')
    assert [line.frame for line in table] == [f'f{i:02}' for i in range(7)]
    for line, (image, labels) in zip(table, FRAMES, strict=True):
        scores, truth = pooled([fake_score(image)], [labels])
        assert (line.n_pixels, line.n_anomaly) == (truth.size, truth.sum())
        assert line.mask_share == pytest.approx((scores > row['mask_threshold']).mean())
        rank = int(np.ceil(0.999 * (scores.size - 1)))
        assert line.score_p999 == pytest.approx(np.sort(scores)[rank])
        if truth.any():
            assert line.ap == pytest.approx(average_precision_score(truth, scores), abs=1e-9)
            assert line.fpr95 == pytest.approx(first_ge(truth, scores), abs=1e-9)
        else:
            assert (line.ap, line.auroc, line.fpr95) == (None, None, None)
    scores_of_frames = [line.score_p999 for line in table]
    anomalous = [line.n_anomaly > 0 for line in table]
    assert row['frame_auroc'] == pytest.approx(roc_auc_score(anomalous, scores_of_frames))


@pytest.mark.parametrize('protocol', ['exact', 'smiyc', 'course'])
def test_curves_are_short_and_enclose_the_numbers(protocol: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pairs = []
    for _ in range(3):
        labels = (random.random((60, 60)) < 0.2).astype(np.uint8)
        pairs.append((random.normal(size=(60, 60)) + labels, labels))
    arguments = write_maps(tmp_path, pairs)
    row = run_maps(arguments, tmp_path / 'out', '--protocol', protocol)
    curve = read_curves(tmp_path / 'out')[0]
    fpr, tpr = (np.array(curve['roc'][key]) for key in ('fpr', 'tpr'))
    recall, precision = (np.array(curve['pr'][key]) for key in ('recall', 'precision'))
    assert 50 < fpr.size <= 512
    assert recall.size == precision.size <= 512
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()
    assert np.trapezoid(tpr, fpr) == pytest.approx(row['auroc'], abs=2e-3)
    assert (np.diff(recall) * precision[1:]).sum() == pytest.approx(row['ap'], abs=0.02)
    assert curve['reliability'] is None


def test_pictures_show_the_worst_and_the_best_frames(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    frames = [make_frame(i, (540, 960)) for i in range(9)]
    root, out = write_folder(tmp_path / 'data', frames), tmp_path / 'out'
    run(root, '--score', 'msp,energy')
    for score in ('msp', 'energy'):
        pictures = [p for p in read_pictures(out) if p.score == score]
        ap = sorted((r.ap, r.frame) for r in read_frames(out) if r.score == score)
        assert [p.frame for p in pictures if p.kind == 'worst'] == [f for _, f in ap[:6]]
        assert [p.frame for p in pictures if p.kind == 'best'] == [f for _, f in ap[:-3:-1]]
        for picture in pictures:
            for path in (picture.image, picture.truth, picture.score_map, picture.mask):
                assert read_image(out / path).shape == (360, 640, 3)
    truth = read_image(out / pictures[0].truth)
    share = (truth == (255, 60, 0)).all(axis=2).mean()
    assert share == pytest.approx(1 / 16, rel=0.05)  # a quarter of each side
    assert [p.name for p in out.iterdir() if p.name.startswith('.')] == []


def test_maps_alone_have_pictures_without_an_image(tmp_path: Path) -> None:
    run_maps(write_maps(tmp_path, [([[1.0, 0.0]], [[1, 0]])]), tmp_path / 'out')
    (picture,) = read_pictures(tmp_path / 'out')
    assert picture.image is None
    assert (tmp_path / 'out' / picture.mask).is_file()


def test_an_evaluation_replaces_the_one_before(tmp_path: Path) -> None:
    pairs = [([[1.0, 0.0]], [[1, 0]])] * 3
    run_maps(write_maps(tmp_path / 'three', pairs), tmp_path / 'out')
    run_maps(write_maps(tmp_path / 'one', pairs[:1]), tmp_path / 'out')
    files = sorted(path.name for path in (tmp_path / 'out' / 'pictures').iterdir())
    assert files == ['f00_maps_mask.png', 'f00_maps_score.png', 'f00_truth.png']


def rows_of(**columns: list[float | None]) -> list[FrameRow]:
    (count,) = {len(values) for values in columns.values()}
    return [
        FrameRow(score='msp', frame=str(i), n_pixels=1, **{k: v[i] for k, v in columns.items()})
        for i in range(count)
    ]


def test_frames_are_chosen_by_ap_then_miou_then_by_what_is_marked() -> None:
    ap = rows_of(ap=[0.9, None, 0.1, 0.5], miou=[0.1, 0.1, 0.9, 0.9])
    assert choose(ap) == [('worst', 2), ('worst', 3), ('worst', 0)]
    assert choose(rows_of(miou=[0.9, 0.2, None])) == [('worst', 1), ('worst', 0)]
    assert choose(rows_of(mask_share=[0.1, 0.3])) == [('worst', 1), ('worst', 0)]
    many = choose(rows_of(ap=[i / 10 for i in range(10)]))
    assert many == [('worst', i) for i in range(6)] + [('best', 9), ('best', 8)]
    assert choose([]) == []


# Class labels


def write_camvid(root: Path, size: tuple[int, int] = SIZE) -> tuple[Path, list[np.ndarray]]:
    """Two frames of the test split; red % 11 is the label on the left, wrong on the right."""
    random = np.random.default_rng(0)
    for folder in ('test', 'testannot'):
        (root / folder).mkdir(parents=True)
    truths = []
    for i in range(2):
        image = random.integers(0, 256, (*size, 3), np.uint8)
        labels = image[..., 0] % np.uint8(11)
        labels[:, size[1] // 2 :] = (labels[:, size[1] // 2 :] + 1) % 11
        labels[0] = 11
        write_image(root / 'test' / f'{i}.png', image)
        write_image(root / 'testannot' / f'{i}.png', labels)
        truths.append(labels)
    return root, truths


@pytest.mark.parametrize('protocol', ['exact', 'smiyc', 'course'])
def test_a_set_with_classes_alone_has_class_numbers(
    protocol: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    root, truths = write_camvid(tmp_path / 'camvid')
    row = run(root, '--score', 'max_logit', '--protocol', protocol, dataset='camvid')
    truth = np.concatenate([t[t != 11] for t in truths])
    guess = np.concatenate(
        [
            (read_image(root / 'test' / f'{i}.png')[..., 0] % 11)[t != 11]
            for i, t in enumerate(truths)
        ]
    )
    iou = [((truth == c) & (guess == c)).sum() / ((truth == c) | (guess == c)).sum()
           for c in range(11)]  # fmt: skip
    assert row['iou'] == pytest.approx(iou)
    assert row['miou'] == pytest.approx(np.mean(iou))
    assert row['class_names'] == list(CAMVID.names)
    assert row['split'] == 'test'
    assert (row['n_images'], row['n_pixels']) == (2, truth.size)
    for key in ('ap', 'auroc', 'fpr95', 'best_f1', 'siou_gt', 'f1_mean', 'base_rate', 'open_miou'):
        assert row[key] is None
    assert row['warnings'] == []
    # What the checkpoint itself calls anomalous: calibrated 0.9 is raw 4.
    assert row['mask_threshold'] == pytest.approx(4, abs=1e-3)
    table = read_frames(tmp_path / 'out')
    assert table[0].n_anomaly is None
    assert table[0].miou is not None
    assert table[0].mask_share == pytest.approx(0.1, abs=0.05)


def test_other_classes_are_not_compared_and_that_is_said(
    run: Callable[..., Any], fake_checkpoint: Path, tmp_path: Path, capsys: Any
) -> None:
    root, _ = write_camvid(tmp_path / 'camvid')
    Checkpoint.open(fake_checkpoint).with_meta(class_names=('lane', *CAMVID.names[1:]))
    row = run(root, dataset='camvid')
    assert row['miou'] is row['iou'] is row['ece'] is None
    assert 'camvid has 11 classes (sky, building, pole, ...)' in row['warnings'][0]
    assert '(lane, building, pole, ...)' in capsys.readouterr().err


def test_of_three_classes_no_more_are_promised(make_fake_meta: Callable[..., Any]) -> None:
    three: Any = SimpleNamespace(classes=LabelSet(CAMVID.names[:3], CAMVID.colors[:3]))
    unlike: Any = SimpleNamespace(has_classes=True, classes=NO_CLASSES)
    (text,) = class_cautions(make_fake_meta(), three, unlike, 'classes')
    assert 'classes has 3 classes (sky, building, pole), the checkpoint ' in text


def test_frames_that_were_trained_on_are_named(
    run: Callable[..., Any], fake_checkpoint: Path, tmp_path: Path, capsys: Any
) -> None:
    root, _ = write_camvid(tmp_path / 'camvid')
    Checkpoint.open(fake_checkpoint).with_meta(trained_on=('camvid test',))
    text = 'the checkpoint was trained on these frames (camvid test)'
    assert run(root, dataset='camvid')['warnings'] == [text]
    assert f'warning: {text}' in capsys.readouterr().err


def test_frames_of_a_users_own_are_known_by_their_folder(
    make_fake_meta: Callable[..., Any], tmp_path: Path
) -> None:
    meta = make_fake_meta(trained_on=('classes yard train', 'frames dashcam all'))
    assert trained_on(meta, 'classes', tmp_path / 'yard', 'train')
    assert trained_on(meta, 'frames', Path('/other/dashcam'), 'all')
    assert not trained_on(meta, 'classes', tmp_path / 'street', 'train')
    assert not trained_on(meta, 'classes', tmp_path / 'yard', 'val')


def test_a_set_that_is_not_whole_is_named_in_the_row(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    root = tmp_path / 'data' / 'frames'
    (root / 'x.labels').mkdir(parents=True)
    image, labels = FRAMES[0]
    write_image(root / 'x.jpg', image)
    write_image(root / 'x.labels' / 'labels_semantic.png', np.uint8(2) * (labels == 1))
    row = run(tmp_path / 'data', dataset='road_anomaly')
    assert 'holds 1 frames, the published split has 60' in row['warnings'][0]


def write_streethazards(
    root: Path, counts: dict[str, int], size: tuple[int, int] = SIZE
) -> dict[str, list[tuple[np.ndarray, ...]]]:
    """Frames of both test towns; gives their (score, guess, truth, anomaly labels)."""
    random = np.random.default_rng(1)
    known = np.array([v for v in range(1, 14) if v != 4], np.uint8)
    frames: dict[str, list[tuple[np.ndarray, ...]]] = {town: [] for town in counts}
    for town, found in frames.items():
        for kind in ('images', 'annotations'):
            (root / 'test' / kind / 'test' / town).mkdir(parents=True)
        for i in range(counts[town]):
            image, anomaly = make_frame(int(town[1]) * 10 + i, size)
            raw = known[image[..., 0] % 11]
            flip = random.random(raw.shape) < 0.2
            raw[flip] = known[random.integers(0, 12, flip.sum())]
            raw[anomaly == 1] = 14
            raw[anomaly == 255] = 4
            write_image(root / f'test/images/test/{town}/{i}.png', image)
            write_image(root / f'test/annotations/test/{town}/{i}.png', raw)
            truth = np.searchsorted(known, raw)
            truth[raw == 14], truth[raw == 4] = 12, 13
            found.append((fake_score(image), image[..., 0] % 11, truth, anomaly))
    return frames


def test_open_miou_and_per_image_means_of_streethazards(
    run: Callable[..., Any], fake_checkpoint: Path, tmp_path: Path
) -> None:
    """Threshold at TPR > 0.95 on the other town at half size; mean of both towns."""
    names = STREETHAZARDS.names
    Checkpoint.open(fake_checkpoint).with_meta(
        class_names=names, class_colors=STREETHAZARDS.colors
    )
    frames = write_streethazards(tmp_path / 'sh', {'t5': 2, 't6': 1})
    row = run(tmp_path / 'sh', '--score', 'msp', dataset='streethazards')

    def threshold(town: str) -> float:
        half = [s.reshape(12, 2, 16, 2).mean((1, 3)) for s, *_ in frames[town]]
        scores, truth = pooled(half, [a[::2, ::2] for *_, a in frames[town]])
        _, tpr, levels = roc_curve(truth, scores, drop_intermediate=False)
        return float(levels[np.argmax(tpr > 0.95)])

    def open_miou(town: str, level: float) -> float:
        matrix = np.zeros((14, 14), int)
        for score, guess, truth, _ in frames[town]:
            np.add.at(matrix, (truth, np.where(score >= np.float32(level), 12, guess)), 1)
        matrix = matrix[:13, :13]
        hit = np.diag(matrix)
        with np.errstate(invalid='ignore'):
            iou = hit / (matrix.sum(0) + matrix.sum(1) - hit)
        return float(np.nanmean(iou[:12]))

    five, six = open_miou('t5', threshold('t6')), open_miou('t6', threshold('t5'))
    assert row['open_miou'] == pytest.approx((2 * five + six) / 3, abs=1e-9)
    assert row['miou'] > row['open_miou']
    each = [average_precision_score(*pooled([s], [a])[::-1])
            for town in frames.values() for s, _, _, a in town]  # fmt: skip
    assert row['per_image']['ap'] == pytest.approx(np.mean(each), abs=1e-9)
    assert row['per_image']['ap'] != pytest.approx(row['ap'], abs=1e-6)
    single = run(tmp_path / 'sh', '--score', 'msp', '--split', 'test_t5', dataset='streethazards')
    assert single['open_miou'] is None


# A score that knows nothing


def test_a_score_at_the_base_rate_warns(tmp_path: Path, capsys: Any) -> None:
    random = np.random.default_rng(0)
    labels = (random.random((80, 80)) < 0.3).astype(np.uint8)
    noise = random.normal(size=(80, 80))
    blind = run_maps(write_maps(tmp_path / 'blind', [(noise, labels)]), tmp_path / 'a')
    assert len(blind['warnings']) == 1
    assert 'within 10 % of the base rate' in blind['warnings'][0]
    assert f'warning: {blind["warnings"][0]}' in capsys.readouterr().err
    seeing = write_maps(tmp_path / 'seeing', [(noise + 0.5 * labels, labels)])
    assert run_maps(seeing, tmp_path / 'b')['warnings'] == []
    assert capsys.readouterr().err == ''


# Real networks of the tiny preset


@pytest.fixture(scope='module')
def tiny_frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = [make_frame(i, (80, 120)) for i in range(2)]
    return write_folder(tmp_path_factory.mktemp('tiny_frames') / 'data', frames)


SCORES = ('energy', 'entropy', 'max_logit', 'msp', 'void')


def test_one_torch_pass_equals_an_engine_for_each_score(
    make_tiny_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from anomaly_seg_ros.checkpoint.folder import Checkpoint

    checkpoint = make_tiny_checkpoint(void_index=11)
    Checkpoint.open(checkpoint).with_meta(temperature=2.0)
    calls: list[int] = []
    output = ScoredModel.output

    def counted(self: ScoredModel, images: Any) -> Any:
        calls.append(1)
        return output(self, images)

    monkeypatch.setattr(ScoredModel, 'output', counted)
    network = open_pass(Checkpoint.open(checkpoint), 'torch', SCORES)
    image = np.random.default_rng(0).integers(0, 256, (*network.input_size, 3), np.uint8)
    calls.clear()
    found = network.infer(image)
    assert len(calls) == 1
    assert found.logits.shape == (11, *network.input_size)
    assert {len(times) for times in network.times_ms.values()} == {1}
    for score in SCORES:
        prediction = open_engine(Checkpoint.open(checkpoint), 'torch', score).infer(image)
        assert np.array_equal(found.labels, prediction.labels)
        assert np.allclose(found.scores[score], prediction.score, atol=1e-6)


def test_ece_and_nll_come_from_the_logits(tiny_checkpoint: Path, tmp_path: Path) -> None:
    root, truths = write_camvid(tmp_path / 'camvid', (64, 96))
    hot = tmp_path / 'hot'
    hot.mkdir()
    checkpoint = Checkpoint.open(tiny_checkpoint)
    model, meta = checkpoint.network(), checkpoint.meta
    for name in (WEIGHTS_FILE, 'meta.json'):
        (hot / name).write_bytes((tiny_checkpoint / name).read_bytes())
    Checkpoint.open(hot).with_meta(temperature=2.0)
    argv = ['evaluate', '--checkpoint', str(hot), '--score', 'msp', '--dataset', 'camvid']
    assert main([*argv, '--root', str(root), '--out', str(tmp_path / 'out')]) == 0
    row = read_results(tmp_path / 'out')[0].to_json()
    logits, labels = [], []
    for i, truth in enumerate(truths):
        image = torch.from_numpy(read_image(root / 'test' / f'{i}.png'))[None]
        with torch.inference_mode():
            raw = ScoredModel(model, meta, 'msp').output(image).logits[0].double()
        logits.append(raw[:, truth != 11].T)
        labels.append(torch.from_numpy(truth[truth != 11]).long())
    logits, labels = torch.cat(logits), torch.cat(labels)
    for temperature, suffix in ((2.0, ''), (1.0, '_before')):
        nll = torch.nn.functional.cross_entropy(logits / temperature, labels).item()
        p, guess = (logits / temperature).softmax(1).max(1)
        bins = np.clip(np.ceil(p.numpy() * 15) - 1, 0, 14)
        right = (guess == labels).numpy()
        ece = sum(abs((right[bins == b] - p.numpy()[bins == b]).sum()) for b in range(15))
        assert row[f'nll{suffix}'] == pytest.approx(nll, abs=1e-5)
        assert row[f'ece{suffix}'] == pytest.approx(ece / len(labels), abs=1e-5)
    assert row['temperature'] == 2.0
    curve = read_curves(tmp_path / 'out')[0]
    for key in ('reliability', 'reliability_before'):
        diagram = curve[key]
        assert {len(values) for values in diagram.values()} == {15}
        assert sum(diagram['share']) == pytest.approx(1)


@pytest.mark.slow
def test_openvino_gives_the_numbers_of_torch(
    tiny_checkpoint: Path, tiny_frames: Path, tmp_path: Path
) -> None:
    rows = {}
    for engine in ('torch', 'openvino'):
        argv = ['evaluate', '--checkpoint', str(tiny_checkpoint), '--score', 'msp,energy']
        argv += ['--dataset', 'folder', '--root', str(tiny_frames), '--engine', engine]
        assert main([*argv, '--out', str(tmp_path / engine)]) == 0
        rows[engine] = read_results(tmp_path / engine)
    for ours, reference in zip(rows['openvino'], rows['torch'], strict=True):
        assert ours.engine == 'openvino'
        assert ours.score == reference.score
        assert ours.ap == pytest.approx(reference.ap, abs=0.01)
        assert ours.ece is None


# Several processes


def test_frames_measured_in_two_halves_and_merged_equal_the_whole() -> None:
    from training.evaluation.frame import Frame

    def measured(indices: range) -> FirstPass:
        first = FirstPass(MeasureSettings(), ('msp',), 0, True)
        for i in indices:
            image, labels = FRAMES[i]
            stored = frozenset({0, i})
            frame = Frame(f'f{i}', labels, {'msp': fake_score(image)}, stored=stored)
            first.update(i, frame)
        return first

    whole, merged = measured(range(7)), measured(range(0, 7, 2))
    merged.merge(measured(range(1, 7, 2)))
    assert merged.pixel['msp'].compute() == whole.pixel['msp'].compute()
    assert merged.rows == whole.rows
    assert merged.limits() == whole.limits()
    assert merged.ranges == whole.ranges
    assert merged.stored == frozenset(range(7))


class OneFrame:
    """A set of one frame."""

    scores, classes, has_images = ('msp',), NO_CLASSES, False

    def __init__(self, frame: Any, has_anomalies: bool):
        self.frame, self.has_anomalies = frame, has_anomalies

    def __len__(self) -> int:
        return 1

    def first(self, index: int) -> Any:
        return self.frame

    again = first


@pytest.mark.parametrize('protocol', ['exact', 'course'])
@pytest.mark.parametrize('has_anomalies', [True, False])
def test_a_pixel_at_a_threshold_is_marked(protocol: str, has_anomalies: bool) -> None:
    from training.evaluation.frame import Frame

    # Best F1 at .5, where both anomalies are found; without any the checkpoint says .5.
    scores = np.float32([[0.75, 0.5, 0.25, 0]])
    frame = Frame('a', np.uint8([[has_anomalies, has_anomalies, 0, 0]]), {'msp': scores})
    settings = MeasureSettings(protocol, thresholds={'msp': 0.5})
    found = evaluate_frames(OneFrame(frame, has_anomalies), settings, Processes({}))
    limit = found.limits['msp']
    assert limit is not None
    assert (scores > limit.value).tolist() == [[True, True, False, False]]
    assert found.second.rows[0, 'msp']['mask_share'] == 0.5
    # Of anomalies, found ones, normal pixels and marked ones.
    expected = [2, 2, 2, 0] if has_anomalies else [0, 0, 4, 2]
    assert found.second.points['msp'].per_frame().tolist() == [expected]


def free_port() -> str:
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return str(sock.getsockname()[1])


def evaluated_by(processes: int, arguments: list[str], out: Path) -> None:
    """Evaluates as torchrun would: `processes` of them that know of each other."""
    torchrun = {
        'WORLD_SIZE': str(processes),
        'MASTER_ADDR': '127.0.0.1',
        'MASTER_PORT': free_port(),
        'OMP_NUM_THREADS': '1',
    }
    command = [sys.executable, '-m', 'anomaly_seg_ros', 'evaluate', *arguments, '--out', str(out)]
    started = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | torchrun | {'RANK': str(rank), 'LOCAL_RANK': str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    outputs = [process.communicate(timeout=500) for process in started]
    assert [process.returncode for process in started] == [0] * processes, outputs
    assert 'wrote' in outputs[0][0]
    assert [said for said, _ in outputs[1:]] == [''] * (processes - 1)


OF_THE_RUN = ('latency_ms', 'peak_mb', 'command', 'commit')
"""Keys of a row that say how it was measured and not what."""


def assert_same_results(one: Path, two: Path) -> list[dict[str, Any]]:
    """Compares two result folders byte for byte; gives the rows without `OF_THE_RUN`."""
    found = []
    for out in (one, two):
        rows = json.loads((out / 'results.json').read_text())['rows']
        found.append([{k: v for k, v in row.items() if k not in OF_THE_RUN} for row in rows])
    assert found[0] == found[1]
    names = [sorted(str(p.relative_to(out)) for p in out.rglob('*')) for out in (one, two)]
    assert names[0] == names[1]
    for name in names[0]:
        if (one / name).is_file() and name != 'results.json':
            assert (one / name).read_bytes() == (two / name).read_bytes(), name
    return found[0]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_of_torchrun_give_the_maps_results_of_one(tmp_path: Path) -> None:
    saved = write_maps(tmp_path / 'saved', [(fake_score(i), label) for i, label in FRAMES])
    one, two = tmp_path / 'one', tmp_path / 'two'
    run_maps(saved, one)
    evaluated_by(2, saved, two)
    assert_same_results(one, two)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_of_torchrun_give_the_checkpoint_results_of_one(
    make_tiny_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """Pictures of frames that the other process measured, and every sum over frames."""
    checkpoint = make_tiny_checkpoint(void_index=11)
    names, colors = STREETHAZARDS.names, STREETHAZARDS.colors
    Checkpoint.open(checkpoint).with_meta(
        class_names=names, class_colors=colors, void_index=None, temperature=2.0
    )
    write_streethazards(tmp_path / 'sh', {'t5': 4, 't6': 5}, (64, 96))
    arguments = ['--checkpoint', str(checkpoint), '--score', 'msp,energy', '--track', 'obstacle']
    arguments += ['--dataset', 'streethazards', '--root', str(tmp_path / 'sh')]
    one, two = tmp_path / 'one', tmp_path / 'two'
    evaluated_by(1, arguments, one)
    evaluated_by(2, arguments, two)
    for row in assert_same_results(one, two):
        for key in ('ap', 'f1_mean', 'siou_gt', 'miou', 'open_miou', 'ece', 'nll', 'ece_before'):
            assert row[key] is not None
    assert len(read_pictures(two)) == 16


# Bad input


def bad_size(saved: Path) -> None:
    np.save(saved / 'maps' / 'f00.npy', np.zeros((2, 2), np.float32))


def bad_type(saved: Path) -> None:
    np.save(saved / 'maps' / 'f00.npy', np.zeros((1, 2), np.int32))


def bad_bytes(saved: Path) -> None:
    (saved / 'maps' / 'f00.npy').write_bytes(b'no array')


def huge_claim(saved: Path) -> None:
    """A head that claims 4 TB of float32 in front of two numbers."""
    path = saved / 'maps' / 'f00.npy'
    with path.open('wb') as file:
        head = {'descr': '<f4', 'fortran_order': False, 'shape': (10**6, 10**6)}
        np.lib.format.write_array_header_1_0(file, head)
        file.write(bytes(8))


def cut_archive(saved: Path) -> None:
    (saved / 'maps' / 'f00.npy').write_bytes(b'PK\3\4 and no more')


def bad_label(saved: Path) -> None:
    write_image(saved / 'labels' / 'f00.png', np.uint8([[0, 7]]))


def nan_score(saved: Path) -> None:
    np.save(saved / 'maps' / 'f00.npy', np.float32([[np.nan, 0]]))


def lone_map(saved: Path) -> None:
    np.save(saved / 'maps' / 'g.npy', np.zeros((1, 2), np.float32))


def lone_label(saved: Path) -> None:
    write_image(saved / 'labels' / 'g.png', np.uint8([[0, 1]]))


def two_labels(saved: Path) -> None:
    np.save(saved / 'labels' / 'f00.npy', np.uint8([[0, 1]]))


def no_maps(saved: Path) -> None:
    (saved / 'maps' / 'f00.npy').unlink()


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (bad_size, "f00.npy' is (2, 2), labels"),
        (bad_type, 'holds int32 of shape (1, 2); a score map is'),
        (bad_bytes, "f00.npy' as a NumPy file"),
        (huge_claim, "f00.npy' as a NumPy file"),
        (cut_archive, "f00.npy' as a NumPy file"),
        (bad_label, "f00.png' holds label 7; a label file has 0, 1, 255; say what it means"),
        (nan_score, "frame 'f00' has 1 NaN scores on labelled pixels"),
        (lone_map, "the first is 'g' of"),
        (lone_label, "the first is 'g' of"),
        (two_labels, 'are of the same stem'),
        (no_maps, 'no .npy files in'),
    ],
)
def test_bad_maps_are_one_line_and_status_2(
    spoil: Callable[[Path], None], message: str, tmp_path: Path, capsys: Any
) -> None:
    saved = write_maps(tmp_path / 'saved', [([[1.0, 0.0]], [[1, 0]])])
    spoil(tmp_path / 'saved')
    assert main(['evaluate', *saved, '--out', str(tmp_path / 'out')]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert '\n' not in error
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        (['--protocol', 'fast'], "unknown protocol 'fast'; choose one of: course, exact, smiyc"),
        (['--dataset', 'kitti'], "unknown dataset 'kitti'; choose one of: bdd_anomaly, camvid"),
        (['--score', 'msx'], "unknown score 'msx'; choose one of:"),
        (['--score', 'void'], "score 'void' needs"),
        (['--score', 'msp,msp'], "scores 'msp,msp' must be one or more names, each once"),
        (['--engine', 'abacus'], "unknown engine 'abacus'; choose one of:"),
        (['--split', 'val'], "unknown split 'val' of folder"),
        (['--checkpoint', 'none'], "no checkpoint folder 'none'"),
        (['--scores', 'maps'], '--checkpoint does not go with --scores'),
        (['--labels', 'maps'], '--checkpoint does not go with --scores'),
    ],
)
def test_wrong_arguments_are_one_line_and_status_2(
    more: list[str],
    message: str,
    tiny_checkpoint: Path,
    tiny_frames: Path,
    tmp_path: Path,
    capsys: Any,
) -> None:
    argv = ['evaluate', '--checkpoint', str(tiny_checkpoint), '--dataset', 'folder']
    argv += ['--root', str(tiny_frames), '--out', str(tmp_path / 'out'), *more]
    assert main(argv) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert '\n' not in error
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        ([], '--checkpoint is missing; give either'),
        (['--checkpoint', 'default', '--dataset', 'folder'], '--root is missing'),
        (['--labels', 'x'], '--scores is missing'),
    ],
)
def test_a_missing_argument_is_named(
    argv: list[str], message: str, tmp_path: Path, capsys: Any
) -> None:
    assert main(['evaluate', *argv, '--out', str(tmp_path / 'out')]) == 2
    assert message in capsys.readouterr().err


def test_an_image_and_labels_of_other_sizes_are_refused(
    fake_checkpoint: Path, opened: list[FakePass], tmp_path: Path, capsys: Any
) -> None:
    root = write_folder(tmp_path / 'data', FRAMES[:1])
    write_image(root / 'labels_masks' / 'f00.png', np.zeros((5, 5), np.uint8))
    argv = ['evaluate', '--checkpoint', str(fake_checkpoint), '--dataset', 'folder']
    assert main([*argv, '--root', str(root), '--out', str(tmp_path / 'out')]) == 2
    assert "f00.png' are (5, 5)" in capsys.readouterr().err


def test_maps_that_do_not_fit_on_the_disk_are_refused_at_once(tmp_path: Path) -> None:
    check_room(tmp_path, 10, (100, 100), 2)
    with pytest.raises(ValueError, match=r'9437\.2 GB are needed below --out'):
        check_room(tmp_path, 1_000_000, (1024, 1024), 2)


# Real data


@pytest.mark.acceptance
@pytest.mark.timeout(3600)
def test_public_void_network_on_road_anomaly_under_the_course_protocol(
    tmp_path: Path, capsys: Any
) -> None:
    """AP and FPR95 of the public ENet equal a plain computation by PIL and scikit-learn.

    The published numbers, AP 12.44 and FPR95 91.84, are of all 60 frames of RoadAnomaly. Only 20
    of them are here, so those numbers cannot come out; that ours equal a plain computation on
    ten of these frames is the part of the claim that can be checked.
    """
    weights = SHARED / 'weights' / 'enet_cityscapes_void_20.pth'
    given = SHARED / 'data' / 'road_anomaly_val' / 'frames'
    if not weights.is_file() or not given.is_dir():
        pytest.skip(f'no public weights and frames in {SHARED}')
    root = tmp_path / 'road_anomaly'
    (root / 'frames').mkdir(parents=True)
    for labels in sorted(given.glob('*.labels'))[:10]:
        for path in given.glob(f'{labels.stem}.*'):
            (root / 'frames' / path.name).symlink_to(path)
    checkpoint, out = tmp_path / 'enet', tmp_path / 'out'
    argv = ['import_weights', str(weights), '--model', 'enet', '--out', str(checkpoint)]
    assert main(argv) == 0
    argv = ['evaluate', '--checkpoint', str(checkpoint), '--score', 'void', '--dataset']
    argv += ['road_anomaly', '--root', str(root), '--protocol', 'course', '--out', str(out)]
    assert main(argv) == 0
    row = read_results(out)[0]

    opened = Checkpoint.open(checkpoint)
    model, meta = opened.network(), opened.meta
    maps, truths = [], []
    for path in sorted((root / 'frames').glob('*.jpg')) + sorted((root / 'frames').glob('*.webp')):
        label = Image.open(path.parent / f'{path.stem}.labels' / 'labels_semantic.png')
        truth = np.asarray(label.resize((1024, 512), Image.Resampling.NEAREST))
        truth = np.where(truth == 2, 1, truth) if truth.ndim == 2 else truth[..., 0] // 2
        if 1 not in truth:
            continue
        image = Image.open(path).convert('RGB').resize((1024, 512), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
        assert meta.mean == (0, 0, 0)
        assert meta.std == (1, 1, 1)
        with torch.inference_mode():
            p = model(pixels).logits.softmax(1)[0, meta.void_index].numpy()
        maps.append(p)
        truths.append(truth.astype(np.uint8))
    scores, truth = pooled(maps, truths)
    ap, fpr95 = average_precision_score(truth, scores), interpolated(truth, scores)
    with capsys.disabled():
        sys.stdout.write(
            f'\n{len(maps)} frames: AP {row.ap:.5f} (plain {ap:.5f}), '
            f'FPR95 {row.fpr95:.5f} (plain {fpr95:.5f})\n'
        )
    assert row.n_images == len(maps) == 10
    assert row.n_pixels == truth.size
    assert row.ap == pytest.approx(ap, abs=1e-3)
    assert row.fpr95 == pytest.approx(fpr95, abs=1e-3)
