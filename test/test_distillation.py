"""What a network learns from a teacher that sees the image at several sizes."""

from __future__ import annotations

from collections.abc import Callable
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn, Tensor

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.engines.scored_model import ImageModel
from anomaly_seg_ros.model_output import ModelOutput
from training.feeding.loading import Batch
from training.losses import build_loss
from training.objectives import build_objective
from training.objectives.distillation import Distillation


def batch_of(images: Tensor) -> Batch:
    height, width = images.shape[2:]
    nothing = torch.zeros(len(images), height, width)
    return Batch(images, nothing.long() + 255, nothing.bool())


def images(size: tuple[int, int] = (64, 96)) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, *size), generator=random, dtype=torch.uint8)


def distillation(**options: Any) -> Distillation:
    built = build_objective('distillation', build_loss({'cross_entropy': 1.0}, {}), options)
    assert isinstance(built, Distillation)
    return built


@pytest.fixture
def lite(make_tiny_checkpoint: Callable[..., Path]) -> Path:
    return make_tiny_checkpoint('efficientnet_lite_seg')


class Fixed(nn.Module):
    """A network whose output is its parameters."""

    def __init__(self, logits: Tensor, head: Tensor | None):
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.head = None if head is None else nn.Parameter(head)

    def forward(self, images: Tensor) -> ModelOutput:
        return ModelOutput(self.logits, ood_logits=self.head)


def pixel(*channels: float) -> Tensor:
    return torch.tensor(channels).view(1, -1, 1, 1)


def test_the_terms_by_hand(lite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Teacher: p = (3/4, 1/4), L = ln 4, odds 2. Student: p = (1/2, 1/2), L = ln 2, odds -1.
    objective = distillation(teacher=str(lite), weight=0.1)
    wanted = ModelOutput(pixel(math.log(3), 0.0), ood_logits=pixel(1.0, 3.0))
    monkeypatch.setattr(Distillation, 'taught', lambda self, images: wanted)
    network = Fixed(pixel(0.0, 0.0), pixel(0.5, -0.5))
    terms = objective(network, batch_of(torch.zeros(1, 3, 1, 1)))
    assert terms['classes'].item() == pytest.approx(
        0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    )
    assert terms['likelihood'].item() == pytest.approx(0.1 * math.log(2) ** 2)
    assert terms['odds'].item() == pytest.approx(0.1 * 9)
    assert set(terms) == {'classes', 'likelihood', 'odds'}  # no label is read
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    # Down the slope: class 0 and the outlier rise, the inlier falls.
    assert network.logits.grad is not None
    assert network.head is not None
    assert network.head.grad is not None
    assert network.logits.grad[0, 0].item() < 0
    assert network.head.grad.flatten().tolist() == pytest.approx([0.6, -0.6])
    monkeypatch.setattr(
        Distillation, 'taught', lambda self, images: wanted._replace(ood_logits=None)
    )
    with pytest.raises(ValueError, match='of which the teacher without one says nothing'):
        objective(network, batch_of(torch.zeros(1, 3, 1, 1)))
    plain = Fixed(pixel(0.0, 0.0), None)
    assert set(objective(plain, batch_of(torch.zeros(1, 3, 1, 1)))) == {'classes', 'likelihood'}


def test_labels_are_learned_beside_where_there_are_any(
    lite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = distillation(teacher=str(lite), label_weight=0.5)
    monkeypatch.setattr(Distillation, 'taught', lambda self, images: wanted)
    wanted = ModelOutput(pixel(math.log(3), 0.0).expand(1, 2, 1, 2))
    network = Fixed(pixel(math.log(3), 0.0).expand(1, 2, 1, 2).clone(), None)
    batch = batch_of(torch.zeros(1, 3, 1, 2))
    batch.labels[0, 0, 0] = 1  # of probability 1/4, and the other pixel has no label
    terms = objective(network, batch)
    assert terms['labels'].item() == pytest.approx(0.5 * math.log(4))
    assert terms['classes'].item() == pytest.approx(0, abs=1e-6)
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    assert network.logits.grad is not None
    assert network.logits.grad[0, :, 0, 0].tolist() == pytest.approx([0.375, -0.375])
    assert network.logits.grad[0, :, 0, 1].abs().max() < 1e-6
    assert objective(network, batch_of(torch.zeros(1, 3, 1, 2)))['labels'].item() == 0


def test_who_says_what_the_teacher_says_has_nothing_to_learn(lite: Path) -> None:
    checkpoint = Checkpoint.open(lite)
    model = ImageModel(checkpoint.network(), checkpoint.meta).eval()
    terms = distillation(teacher=str(lite), sizes=[1])(model.of_unit, batch_of(images()))
    assert all(abs(value.item()) < 1e-6 for value in terms.values())
    several = distillation(teacher=str(lite))(model.of_unit, batch_of(images()))
    assert all(value.item() > 1e-4 for value in several.values())


def test_the_mean_of_all_sizes_is_taught(lite: Path) -> None:
    pictures = images((60, 90)).float() / 255  # what the network's stride does not divide
    alone = [distillation(teacher=str(lite), sizes=[factor]) for factor in (0.5, 1, 2)]
    said = [objective.taught(pictures).given('logits') for objective in alone]
    assert said[0].shape == (2, 11, 60, 90)
    assert not torch.allclose(said[0], said[2], atol=1e-3)
    together = distillation(teacher=str(lite)).taught(pictures).given('logits')
    torch.testing.assert_close(together, sum(said) / 3)
    checkpoint = Checkpoint.open(lite)
    model = ImageModel(checkpoint.network(), checkpoint.meta).eval()
    half = torch.nn.functional.interpolate(pictures, (30, 45), mode='bilinear', antialias=True)
    with torch.inference_mode():
        small = model.of_unit(half).given('logits')
    # Enlarged twice, a pixel is .75 of its own and .25 of the next one's both ways, so that the
    # mean of 2 x 2 of them is 1/8, 6/8, 1/8 of three in a row.
    row = torch.tensor([0.125, 0.75, 0.125])
    kernel = (row[:, None] * row).expand(11, 1, 3, 3)
    inner = torch.nn.functional.conv2d(small, kernel, groups=11)
    middle = torch.nn.functional.avg_pool2d(said[0], 2)[..., 1:-1, 1:-1]
    torch.testing.assert_close(middle, inner, atol=1e-4, rtol=1e-4)


def test_the_teacher_is_no_part_of_what_is_trained_or_saved(lite: Path) -> None:
    objective = distillation(teacher=str(lite))
    assert not list(objective.parameters())
    assert not objective.state_dict()
    assert objective.build_optimizer() is None
    objective.train()
    first = objective.taught(images().float() / 255).given('logits')
    torch.testing.assert_close(objective.taught(images().float() / 255).given('logits'), first)


def test_the_score_is_the_teachers(lite: Path) -> None:
    assert Distillation.score({'teacher': str(lite)}) == Checkpoint.open(lite).meta.score
    Checkpoint.open(lite).with_meta(score='dnp')
    assert Distillation.score({'teacher': str(lite)}) is None  # its bank is of other features


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'label_weight': -1}, 'label_weight is -1; distillation needs one from 0 on'),
        ({}, "needs a 'teacher'; type objective_options.teacher=DIR"),
        ({'sizes': [0.5, 0]}, r'sizes is \[0.5, 0\]'),
        ({'sizes': []}, r'sizes is \[\]'),
        ({'sizes': 2}, 'sizes is 2; it must be a list of numbers'),
        ({'weight': 0}, 'weight is 0'),
        ({'techer': 'x'}, 'techer'),
        ({'teacher': '/nowhere'}, '/nowhere'),
    ],
)
def test_wrong_options_are_said(lite: Path, options: dict[str, Any], message: str) -> None:
    if options and 'teacher' not in options:
        options = {'teacher': str(lite), **options}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        distillation(**options)
