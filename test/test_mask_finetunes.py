"""RbA's and UNO's fine-tunes: their terms by the equations, and what they want of a recipe."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn, Tensor

from anomaly_seg_ros.model_output import ModelOutput
from training.feeding.loading import Batch
from training.losses import build_loss
from training.objectives import build_objective, check_outliers, objective_class
from training.objectives.mask_classification import MaskClassification
from training.objectives.rba import hinge_loss
from training.objectives.uno import negative_labels


class Queries(nn.Module):
    """Three queries over as many classes, at the size of the image."""

    def __init__(self, classes: int):
        super().__init__()
        torch.manual_seed(0)
        self.classes = nn.Parameter(torch.randn(2, 3, classes + 1))
        self.masks = nn.Parameter(torch.randn(2, 3, 4, 6))

    def forward(self, images: Any) -> ModelOutput:
        return ModelOutput(class_logits=self.classes, mask_logits=self.masks)


def wave(*shape: int, step: float = 0.7, size: float = 1.0) -> Tensor:
    """Numbers that anybody can make again."""
    angles = step * torch.arange(math.prod(shape), dtype=torch.float64) + shape[0]
    return (size * torch.sin(angles)).float().view(shape)


def batch() -> Batch:
    labels = torch.arange(48).view(2, 4, 6) % 3
    labels[:, 0] = 255
    outlier = torch.zeros(2, 4, 6, dtype=torch.bool)
    outlier[0, :2, :3] = True
    labels[outlier] = 255
    return Batch(torch.zeros(2, 3, 4, 6, dtype=torch.uint8), labels, outlier)


def test_the_hinge_is_that_of_the_equation() -> None:
    made, network = batch(), Queries(3).requires_grad_(False)
    output = network(None)
    assert output.class_logits is not None
    assert output.mask_logits is not None
    p = output.class_logits.softmax(2)
    ours, theirs = [], []
    for n, y, x in torch.ones(2, 4, 6).nonzero().tolist():
        shares = [
            sum(float(p[n, q, c] * output.mask_logits[n, q, y, x].sigmoid()) for q in range(3))
            for c in range(3)
        ]
        score = -sum(math.tanh(share) for share in shares)
        if made.outlier[n, y, x]:
            theirs.append(max(0.0, 5 - score) ** 2)
        elif made.labels[n, y, x] != 255:
            ours.append(max(0.0, score + 1) ** 2)
    expected = (sum(ours) / len(ours) + sum(theirs) / len(theirs)) / 2
    known = (made.labels != 255) & ~made.outlier
    found = hinge_loss(output, known, made.outlier, inlier=-1.0)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    none = torch.zeros_like(known)
    assert hinge_loss(output, none, none).item() == 0


@pytest.mark.parametrize(
    ('inlier', 'pasted', 'last', 'aux'),
    [
        (0.0, True, 22.650362, 22.147039),
        (-3.0, True, 23.792280, 23.142977),
        (-3.0, False, 2.190255, 1.994501),
    ],
)
def test_the_hinges_are_those_of_the_public_code(
    inlier: float, pasted: bool, last: float, aux: float
) -> None:
    # By `SetCriterion.forward` of NazirNayal8/RbA at cf263d5: `outlier_loss`, `outlier_loss_0`.
    output = ModelOutput(
        class_logits=wave(2, 5, 5, size=3.0),
        mask_logits=wave(2, 5, 3, 5, step=1.3, size=2.0),
        aux_class_logits=(wave(2, 5, 5, step=0.9, size=3.0),),
        aux_mask_logits=(wave(2, 5, 3, 5, step=0.37, size=2.0),),
    )
    labels = torch.arange(2 * 6 * 10).view(2, 6, 10) % 4
    outlier = (wave(2, 6, 10, step=0.31) > 0.8) & torch.tensor(pasted)
    labels[:, 0] = labels[outlier] = 255
    made = Batch(torch.zeros(2, 3, 6, 10, dtype=torch.uint8), labels, outlier)
    options = {'points': 64, 'hinge_weight': 2.0, 'aux_weight': 0.5, 'inlier': inlier}
    terms = build_objective('rba', nn.Identity(), options).forward(lambda _: output, made)
    assert terms.keys() == {'class', 'mask', 'dice', 'aux', 'hinge', 'aux_hinge'}
    assert terms['hinge'].item() == pytest.approx(2 * last, rel=1e-6)
    assert terms['aux_hinge'].item() == pytest.approx(0.5 * 2 * aux, rel=1e-6)


@pytest.mark.parametrize(('name', 'classes'), [('rba', 3), ('uno', 4)])
def test_a_step_has_the_terms_of_mask_classification(name: str, classes: int) -> None:
    network, made = Queries(classes), batch()
    objective = build_objective(name, build_loss({'cross_entropy': 1.0}, {}), {'points': 64})
    terms = objective.forward(network, made)
    assert isinstance(objective, MaskClassification)
    assert terms.keys() == {'class', 'mask', 'dice'} | ({'hinge'} if name == 'rba' else set())
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert network.classes.grad is not None
    assert bool(network.classes.grad.isfinite().all())
    assert objective_class(name).score({}) == name


def test_pasted_pixels_alone_are_of_the_negative_class() -> None:
    made = batch()
    void = made.labels.masked_fill(made.labels == 255, 3)
    found = negative_labels(void, made.outlier, 3)
    assert torch.equal(found == 3, made.outlier)
    assert torch.equal(found, negative_labels(made.labels, made.outlier, 3))


def test_uno_wants_a_void_class_and_rba_none() -> None:
    with pytest.raises(ValueError, match="'uno' learns pasted outliers as the void class, but"):
        check_outliers('uno', True, False)
    check_outliers('uno', True, True)
    check_outliers('rba', True, False)
    with pytest.raises(ValueError, match="'rba' learns from pasted outliers, but outliers is em"):
        check_outliers('rba', False, False)
