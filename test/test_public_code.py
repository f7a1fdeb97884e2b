"""What the authors' own code gave, stored: losses, scores and metrics on numbers made by formula.

Each test names the repository, the commit and the function that its values are by. No line of
theirs is here.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from torch import Tensor

from anomaly_seg_ros.model_output import Extent, ModelOutput
from anomaly_seg_ros.models.parts.isomax_head import IsoMaxHead
from anomaly_seg_ros.scores.cdnp import CDNP
from anomaly_seg_ros.scores.dense_hybrid import DenseHybrid as DenseHybridScore
from anomaly_seg_ros.scores.dnp import DNP
from anomaly_seg_ros.scores.mahalanobis import Mahalanobis
from anomaly_seg_ros.scores.neco import NECO
from anomaly_seg_ros.scores.parts.class_gaussians import ClassGaussians
from anomaly_seg_ros.scores.parts.feature_bank import EnergyBank
from anomaly_seg_ros.scores.parts.principal_components import PrincipalComponents
from anomaly_seg_ros.scores.sml import SML
from training.feeding.loading import Batch
from training.flows import augmentation
from training.flows.denseflow import DenseFlow
from training.losses import build_loss
from training.losses.cross_entropy import ohem_cross_entropy
from training.losses.isomax import isomax
from training.losses.logit_norm import logit_norm
from training.metrics.component import ComponentMetrics, TRACKS
from training.metrics.openset import OpenSetMetrics
from training.metrics.smiyc import SmiycCurve
from training.objectives.dense_hybrid import DenseHybrid

STORED = Path(__file__).with_name('golden') / 'public_code.json'
PUBLIC: dict[str, Any] = json.loads(STORED.read_text())

CLASSES = 4
STRIDE = 8
CELLS = (5, 6)
DEPTH = 6


def wave(*shape: int, step: float = 0.7, size: float = 1.0) -> Tensor:
    """Numbers that anybody can make again."""
    angles = step * torch.arange(math.prod(shape), dtype=torch.float64) + shape[0]
    return (size * torch.sin(angles)).float().view(shape)


def hills(height: int, width: int, start: float, step: float = 1.0) -> NDArray[np.float64]:
    """A smooth map in -2..2."""
    y, x = step * np.mgrid[:height, :width]
    return np.sin(0.21 * x + 0.13 * y + start) + np.sin(0.17 * x - 0.19 * y + 2 * start)


# Metrics


def scored_frames() -> list[tuple[Any, Any]]:
    """Scores in steps of 1/64, so that no rounding parts them, and anomalies of all sizes."""
    found = []
    for start in range(4):
        base = hills(180, 240, start, 0.45)
        anomaly = (base > (0.9, 1.5, 1.9, 0.6)[start]).astype(np.uint8)
        anomaly[hills(180, 240, start + 0.5, 0.6) > 1.5] = 255
        score = 3 * hills(180, 240, start + 0.15, 0.45) + hills(180, 240, start, 2.7)
        found.append(((np.round(score * 64) / 64).astype(np.float32), anomaly))
    return found


@pytest.mark.parametrize('track', ['anomaly', 'obstacle'])
def test_segment_me_if_you_can(track: str) -> None:
    # SegmentMeIfYouCan/road-anomaly-benchmark at 1c7804e: MetricPixelClassification.aggregate and
    # MetricSegment.aggregate.
    curve, expected = SmiycCurve(), PUBLIC['smiyc'][track]
    for score, anomaly in scored_frames():
        curve.update(score, anomaly)
    values = curve.compute()
    components = ComponentMetrics(values['best_f1_threshold'], TRACKS[track])
    for score, anomaly in scored_frames():
        components.update(score, anomaly)
    found = {**values, **components.compute()}
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-7)


def flagged_frames() -> list[tuple[Any, Any, Any, Any]]:
    """Predictions, scores, labels and anomalies of frames of four classes."""
    found = []
    for start in range(3):
        labels = np.digitize(hills(40, 50, start), [-1, 0, 1]).astype(np.uint8)
        other = np.digitize(hills(40, 50, start + 0.4, 1.3), [-1, 0, 1]).astype(np.uint8)
        predicted = np.where(hills(40, 50, start + 0.2, 2.3) > 0.7, other, labels)
        anomaly = (hills(40, 50, start + 0.9) > 1.3).astype(np.uint8)
        anomaly[hills(40, 50, start + 0.7) < -1.6] = 255
        score = (np.round(8 * hills(40, 50, start + 0.8)) / 8).astype(np.float32)
        found.append((predicted, score, np.where(anomaly == 1, 255, labels).astype(np.uint8),
                      anomaly))  # fmt: skip
    return found


def test_open_miou() -> None:
    # matejgrcic/DenseHybrid at 742ceab: OpenIoU and IoU of utils/iou.py.
    metrics = OpenSetMetrics(CLASSES, 1.125)
    for frame in flagged_frames():
        metrics.update(*frame)
    values, expected = metrics.compute(), PUBLIC['open_miou']
    assert {key: values[key] for key in expected} == pytest.approx(expected, abs=1e-7)


# DenseHybrid


def outlier_batch() -> tuple[ModelOutput, Batch]:
    output = ModelOutput(
        wave(2, CLASSES, 6, 8, size=4.0), ood_logits=wave(2, 2, 6, 8, step=1.1, size=3.0)
    )
    labels = (torch.arange(2 * 6 * 8) * 7 // 3 % CLASSES).view(2, 6, 8)
    outlier = wave(2, 6, 8, step=0.31) > 0.7
    labels[:, 2] = labels[outlier] = 255
    return output, Batch(torch.zeros(2, 3, 6, 8, dtype=torch.uint8), labels, outlier)


def test_dense_hybrid() -> None:
    # matejgrcic/DenseHybrid at 742ceab: the training step of
    # experiments/semseg_negatives_joint_th.py, and the score of evaluations/evaluations.py.
    output, batch = outlier_batch()
    logits = output.given('logits').requires_grad_()
    loss = build_loss({'cross_entropy': 1.0})
    terms = DenseHybrid(loss, beta=0.03).forward(lambda _: output, batch)
    expected = PUBLIC['dense_hybrid']
    found = {name: term.item() for name, term in terms.items()}
    found['density'] -= 0.03 * logits.mean().item()  # has no gradient there, is left out here
    assert found == pytest.approx(expected['terms'], rel=1e-5)
    (gradient,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), logits)
    theirs = torch.tensor(expected['gradient'])
    torch.testing.assert_close(1000 * gradient[0, :, 1], theirs, rtol=0, atol=1e-4)
    score = DenseHybridScore()(output)[0].detach()
    torch.testing.assert_close(score, torch.tensor(expected['score']), rtol=0, atol=2e-5)


# Standardised maximum logits


def coarse_logits() -> Tensor:
    maps = [hills(20, 24, 0.9 * row, 0.6 + 0.1 * row) for row in range(CLASSES)]
    return torch.tensor(np.stack(maps)[None] * 5, dtype=torch.float32)


MEAN, STD = wave(CLASSES) + 5, 0.6 + 0.4 * wave(CLASSES, step=1.9)


@pytest.mark.parametrize('name', ['both', 'suppression', 'smoothing'])
def test_standardised_max_logits(name: str) -> None:
    # shjung13/Standardized-max-logits at c52a513: BoundarySuppressionWithSmoothing of
    # network/deepv3.py, behind (max logit - mean) / std of the predicted class.
    options = {'suppression': (True, False), 'smoothing': (False, True)}.get(name, (True, True))
    score = SML(MEAN, STD, *options)(ModelOutput(coarse_logits()))[0]
    expected = torch.tensor(PUBLIC['sml'][name])
    torch.testing.assert_close(score[::3, ::3], expected, rtol=0, atol=1e-4)


# Losses


def labelled_logits(sure: float = 1.5) -> tuple[Tensor, Tensor]:
    labels = (torch.arange(2 * 9 * 11) * 5 // 3 % CLASSES).view(2, 9, 11)
    right = torch.nn.functional.one_hot(labels, CLASSES).permute(0, 3, 1, 2)
    labels[:, 3] = 255
    return wave(2, CLASSES, 9, 11, step=1.7, size=2.0) + sure * right, labels


def test_ohem() -> None:
    # CoinCheung/BiSeNet at f5b7723: OhemCELoss of lib/ohem_ce_loss.py, many hard pixels and few.
    found = [ohem_cross_entropy(*labelled_logits(sure)).item() for sure in (1.5, 6.0)]
    assert found == pytest.approx(PUBLIC['ohem'], rel=1e-5)


def test_logit_norm() -> None:
    # hongxin001/logitnorm_ood at 0a60eef: LogitNormLoss of common/loss_function.py, t = 0.04.
    assert logit_norm(*labelled_logits()).item() == pytest.approx(PUBLIC['logit_norm'], rel=1e-5)


def prototypes_and_features() -> tuple[Tensor, Tensor]:
    return wave(CLASSES, DEPTH, step=1.3), wave(2, DEPTH, 9, 11, step=0.9, size=3.0)


def test_isomax() -> None:
    # dlmacedo/entropic-out-of-distribution-detection at 9ad451c: both parts of
    # losses/isomaxplus.py.
    prototypes, features = prototypes_and_features()
    head = IsoMaxHead(DEPTH, CLASSES)
    with torch.no_grad():
        head.prototypes.copy_(prototypes)
        head.distance_scale.fill_(-1.7)
        logits = head(features)
    expected = torch.tensor(PUBLIC['isomax']['logits'])
    torch.testing.assert_close(logits[0, :, ::4, ::5], expected, rtol=0, atol=1e-5)
    loss = isomax(logits, labelled_logits()[1]).item()
    assert loss == pytest.approx(PUBLIC['isomax']['loss'], rel=1e-5)


# Scores with statistics


def feature_frame(start: float) -> tuple[ModelOutput, Any]:
    """A frame of 40 x 48 pixels; its first row of cells is unlabelled."""
    size = (CELLS[0] * STRIDE, CELLS[1] * STRIDE)
    features = np.stack([hills(*CELLS, start + 1.7 * i, 2.1 + 0.3 * i) for i in range(DEPTH)])
    logits = np.stack([4 * hills(*size, start + 0.8 * i, 0.7) for i in range(CLASSES)])
    labels = logits.argmax(0).astype(np.uint8)
    labels[:STRIDE] = 255
    output = ModelOutput(
        torch.tensor(logits[None], dtype=torch.float32),
        features={'last': 2 * torch.tensor(features[None], dtype=torch.float32) + 1},
        extent=Extent(size, size),
    )
    return output, labels


FITTED_ON = [0.37 * number for number in range(12)]


def test_nearest_neighbours() -> None:
    # silviogalesso/dense-ood-knns at 4916322: kNNEngineTorch of nearest_neighbors.py, its
    # upsample_scores and combine_scores; the bank is all labelled cells.
    fit = EnergyBank(CLASSES, grid=STRIDE)
    for start in FITTED_ON:
        fit.update(*feature_frame(start))
    made = fit.compute()
    output = feature_frame(9.1)[0]
    bank = {name: made[name].float() for name in ('bank', 'counts', 'centre')}
    options: dict[str, Any] = {'grid': STRIDE, 'search': 'exact', 'enlarge': 'nearest'}
    near = DNP(**bank, **options)(output)[0]
    both = CDNP(**bank, limits=made['limits'], energy_step=1, **options)(output)[0]
    for score, name in ((near, 'dnp'), (both, 'cdnp')):
        expected = torch.tensor(PUBLIC['neighbours'][name])
        torch.testing.assert_close(score[3::7, 3::7], expected, rtol=2e-3, atol=2e-3)


def test_mahalanobis() -> None:
    # pokaxpoka/deep_Mahalanobis_detector at 90c2105: sample_estimator of lib_generation.py, and
    # the distance of get_Mahalanobis_score, which takes half of its negative; on logits.
    fit = ClassGaussians(CLASSES)
    for start in FITTED_ON:
        fit.update(*feature_frame(start))
    score = Mahalanobis(**fit.compute())(feature_frame(9.1)[0])[0]
    expected = torch.tensor(PUBLIC['mahalanobis'])
    torch.testing.assert_close(score[3::7, 3::7], expected, rtol=2e-3, atol=2e-3)


def test_neural_collapse() -> None:
    # scikit-learn's StandardScaler and PCA, which the authors of NECO name: the length of the
    # first components of a cell over that of all.
    fit = PrincipalComponents(CLASSES, grid=STRIDE)
    for start in FITTED_ON:
        fit.update(*feature_frame(start))
    made = fit.compute()
    expected = PUBLIC['neco']
    assert len(made['components']) == expected['components']
    cells, _ = NECO(**made, grid=STRIDE, energy=False).cells(feature_frame(9.1)[0])
    mean, deviation = made['moments'][:2]
    found = -(cells[0] * deviation + mean)
    torch.testing.assert_close(found, torch.tensor(expected['ratio']), rtol=0, atol=1e-3)


# DenseFlow

SMALL_FLOW: dict[str, Any] = {
    'blocks': (2, 1, 1), 'steps': (1, 1, 1), 'added': 2, 'hidden': 8, 'depth': 7, 'growth': 64,
}  # fmt: skip


def waved_flow() -> DenseFlow:
    flow = DenseFlow(**SMALL_FLOW).double().eval()
    with torch.no_grad():
        for number, parameter in enumerate(flow.parameters()):
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            made = wave(*parameter.shape, step=0.7 + 0.01 * number, size=0.4 / fan_in**0.5)
            parameter.copy_(made)
            if parameter.ndim == 2:  # the convolution that is inverted
                parameter.add_(torch.eye(len(parameter)))
    return flow


def flow_images() -> Tensor:
    maps = np.stack([[hills(8, 16, i + 3 * n, 2.0) for i in range(3)] for n in range(2)])
    return torch.tensor(np.round(60 * maps + 128), dtype=torch.uint8)


def flow_noise(*shape: int) -> Tensor:
    return wave(*shape, step=1.1, size=1.3).double()


def test_denseflow(monkeypatch: pytest.MonkeyPatch) -> None:
    # matejgrcic/Open-set-M2F at 527b20b: DenseFlow.log_prob of denseflow/dense_flow.py. The last
    # convolution of a coupling has scale and shift in turns there, one behind the other here.
    images = flow_images()
    added = 0.5 + 0.45 * wave(*images.shape, step=0.77).double()
    monkeypatch.setattr(torch, 'rand_like', lambda like: added)
    monkeypatch.setattr(
        augmentation, 'draw_noise', lambda x, n: flow_noise(len(x), n, *x.shape[2:])
    )
    with torch.no_grad():
        found = waved_flow().log_prob(images)
    assert found.tolist() == pytest.approx(PUBLIC['denseflow'], rel=1e-6)
