import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn, Tensor

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models import build_model
from anomaly_seg_ros.scores.nflow_js import NFlowJS as Score
from training.feeding.loading import Batch
from training.losses import build_loss, Loss
from training.objectives import build_objective, check_loss, check_network, check_outliers
from training.objectives.dense_hybrid import density_loss, posterior_loss
from training.objectives.nflow_js import divergence_to_uniform
from training.recipes.train_config import load_train_config


def cross_entropy() -> Loss:
    return build_loss({'cross_entropy': 1.0}, {})


class Fixed(nn.Module):
    """A network whose output is its parameters."""

    def __init__(self, logits: Tensor, ood: Tensor | None, aux: tuple[Tensor, ...] = ()):
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.ood = None if ood is None else nn.Parameter(ood)
        self.aux = aux

    def forward(self, images: Tensor) -> ModelOutput:
        return ModelOutput(self.logits, ood_logits=self.ood, aux_logits=self.aux)


def two_pixels(outlier: tuple[bool, bool] = (False, True)) -> Batch:
    """One inlier of class 0, one pasted pixel."""
    labels = torch.tensor([[[0, 255 if outlier[1] else 1]]])
    return Batch(
        torch.zeros(1, 3, 1, 2, dtype=torch.uint8), labels, torch.tensor([[list(outlier)]])
    )


def map_of(*pixels: list[float]) -> Tensor:
    """(1, C, 1, W) from the channels of each pixel."""
    return torch.tensor(pixels).T[None, :, None]


def test_dense_hybrid_by_hand() -> None:
    # Inlier logits (ln 3, 0): CE = -ln 3/4. Outlier logits (ln 2, ln 4): LSE = ln 6.
    # Head: inlier (ln 3, 0) has P(in) = 3/4; outlier (0, 0) has P(out) = 1/2.
    network = Fixed(
        map_of([math.log(3), 0], [math.log(2), math.log(4)]), map_of([math.log(3), 0], [0.0, 0])
    )
    terms = build_objective('dense_hybrid', cross_entropy(), {}).forward(network, two_pixels())
    assert terms['segmentation'].item() == pytest.approx(math.log(4 / 3), abs=1e-6)
    assert terms['density'].item() == pytest.approx(0.03 * math.log(6), abs=1e-6)
    posterior = (math.log(4 / 3) + math.log(2)) / 2
    assert terms['posterior'].item() == pytest.approx(0.3 * posterior, abs=1e-6)
    assert set(terms) == {'segmentation', 'density', 'posterior'}


def test_dense_hybrid_gradients_reach_the_right_pixels() -> None:
    network = Fixed(map_of([0.2, 0.1], [0.3, -0.5]), map_of([0.1, 0.2], [0.3, 0.4]))
    options = {'beta': 1.0}
    terms = build_objective('dense_hybrid', cross_entropy(), options).forward(
        network, two_pixels()
    )
    (grad,) = torch.autograd.grad(terms['density'], network.logits, retain_graph=True)
    assert (grad[..., 0] == 0).all()
    # Of LSE it is the softmax: descending lowers every logit of an outlier.
    np.testing.assert_allclose(grad[0, :, 0, 1], map_of([0.3, -0.5]).softmax(1)[0, :, 0, 0])
    (grad,) = torch.autograd.grad(terms['posterior'], network.ood)
    # Channel 1 is the outlier: descending lowers it on the inlier, raises it on the outlier.
    assert (grad[0, 1, 0, 0] > 0) & (grad[0, 1, 0, 1] < 0)
    assert (grad != 0).all()


def test_unlabelled_pixels_are_inliers_of_the_head_and_nothing_to_the_classes() -> None:
    network = Fixed(map_of([0.2, 0.1], [3.0, -3.0]), map_of([0.0, 0], [0.0, 5]))
    batch = two_pixels()._replace(outlier=torch.zeros(1, 1, 2, dtype=torch.bool))
    terms = build_objective('dense_hybrid', cross_entropy(), {}).forward(network, batch)
    alone = nn.functional.cross_entropy(map_of([0.2, 0.1])[..., 0], torch.tensor([[0]]))
    assert terms['segmentation'].item() == pytest.approx(alone.item())
    # The void pixel costs ln(1 + e^5) for being called an outlier.
    expected = 0.3 * (math.log(2) + math.log1p(math.exp(5))) / 2
    assert terms['posterior'].item() == pytest.approx(expected, rel=1e-5)


def test_no_outlier_costs_nothing_and_has_no_gradient() -> None:
    logits = torch.randn(2, 4, 3, 3, requires_grad=True)
    loss = density_loss(logits, torch.zeros(2, 3, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_outputs_are_summed_in_float32(dtype: torch.dtype) -> None:
    logits = torch.full((1, 2, 64, 64), 3e4).to(dtype)
    outlier = torch.ones(1, 64, 64, dtype=torch.bool)
    assert density_loss(logits, outlier).item() == pytest.approx(3e4, rel=1e-2)
    assert density_loss(logits, outlier).dtype == torch.float32
    ood = torch.tensor([3e4, -3e4]).to(dtype).view(1, 2, 1, 1).expand(1, 2, 64, 64)
    assert posterior_loss(ood, outlier).item() == pytest.approx(6e4, rel=1e-2)
    peaked = torch.tensor([6e4, -6e4, 0]).to(dtype)
    assert divergence_to_uniform(peaked).isfinite().all()


def test_an_outlier_below_the_floor_is_pulled_no_further() -> None:
    # ln p* of the two outlier pixels: ln 2 and ln 2 - 5, the latter below the floor of -3.
    logits = map_of([0.0, 0.0], [-5.0, -5.0]).requires_grad_()
    outlier = torch.ones(1, 1, 2, dtype=torch.bool)
    loss = density_loss(logits, outlier, floor=-3)
    assert loss.item() == pytest.approx((math.log(2) - 3) / 2)
    (grad,) = torch.autograd.grad(loss, logits)
    assert grad[0, :, 0].tolist() == [[0.25, 0], [0.25, 0]]
    objective = build_objective('dense_hybrid', cross_entropy(), {'floor': 1, 'posterior': False})
    terms = objective.forward(Fixed(logits.detach(), None), two_pixels())
    assert terms['density'].item() == pytest.approx(0.03)


def test_auxiliary_heads_get_the_segmentation_loss_alone() -> None:
    aux = map_of([0.0, 0], [9.0, 0])
    network = Fixed(map_of([0.0, 0], [0.0, 0]), map_of([0.0, 0], [0.0, 0]), (aux, aux))
    options = {'aux_weight': 0.5}
    terms = build_objective('dense_hybrid', cross_entropy(), options).forward(
        network, two_pixels()
    )
    assert terms['aux'].item() == pytest.approx(2 * 0.5 * math.log(2))


def test_ablations_leave_their_term_out() -> None:
    network = Fixed(map_of([0.0, 0], [0.0, 0]), None)
    objective = build_objective('dense_hybrid', cross_entropy(), {'posterior': False})
    assert set(objective.forward(network, two_pixels())) == {'segmentation', 'density'}
    network = Fixed(map_of([0.0, 0], [0.0, 0]), map_of([0.0, 0], [0.0, 0]))
    objective = build_objective('dense_hybrid', cross_entropy(), {'density': False})
    assert set(objective.forward(network, two_pixels())) == {'segmentation', 'posterior'}
    assert objective.build_optimizer() is None


def test_a_network_without_outlier_head_is_told_how_to_get_one() -> None:
    network = Fixed(map_of([0.0, 0], [0.0, 0]), None)
    with pytest.raises(ValueError, match='outlier_head=true'):
        build_objective('dense_hybrid', cross_entropy(), {}).forward(network, two_pixels())


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'beta': 0.0}, r'has beta 0\.0, .*; beta must be above 0'),
        ({'density': False, 'posterior': False}, 'one of the terms be on'),
        ({'floor': 'abc'}, "floor is 'abc'; it must be a finite number, or null"),
        ({'floor': math.nan}, 'floor is nan'),
        ({'floor': [1]}, r'floor is \[1\]'),
        ({'betta': 1}, r"unknown options \['betta'\] .* it takes: beta, density, poste"),
        ({'beta': 'much'}, "does not take objective_options {'beta': 'much'}"),
    ],
)
def test_wrong_dense_hybrid_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        build_objective('dense_hybrid', cross_entropy(), options)


def test_dense_hybrid_trains_a_real_network() -> None:
    torch.manual_seed(0)
    network = build_model('bisenetv2', 5, {'outlier_head': True}, preset='tiny')
    batch = Batch(
        torch.zeros(2, 3, 64, 64, dtype=torch.uint8),
        torch.full((2, 64, 64), 2),
        torch.zeros(2, 64, 64, dtype=torch.bool),
    )
    batch.outlier[:, 16:48, 16:48] = True
    batch.labels[batch.outlier] = 255
    batch.images.permute(0, 2, 3, 1)[batch.outlier] = 255
    objective = build_objective('dense_hybrid', cross_entropy(), {})
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    rows: list[dict[str, float]] = []
    for _ in range(8):
        terms = objective.forward(network, batch)
        rows.append({name: term.item() for name, term in terms.items()})
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    assert rows[0].keys() == {'segmentation', 'density', 'posterior'}
    assert all(rows[-1][name] < rows[0][name] for name in rows[0])


def test_divergence_by_hand() -> None:
    # p = (1, 0), U = (1/2, 1/2), m = (3/4, 1/4):
    # KL(U || m) = ln(2/3) / 2 + ln(2) / 2, KL(p || m) = ln(4/3).
    expected = ((math.log(2 / 3) + math.log(2)) / 2 + math.log(4 / 3)) / 2
    value = divergence_to_uniform(torch.tensor([200.0, 0.0])).item()
    assert value == pytest.approx(expected, abs=1e-6)
    flat, peaked = torch.zeros(19), torch.eye(19)[0] * 1e4
    assert divergence_to_uniform(flat).item() == pytest.approx(0, abs=1e-6)
    assert 0.5 < divergence_to_uniform(peaked).item() < math.log(2)


def test_divergence_is_the_negated_score_at_temperature_one() -> None:
    logits = torch.randn(2, 7, 5, 4, generator=torch.Generator().manual_seed(0)) * 6
    score = Score(temperature=1.0)(ModelOutput(logits))
    torch.testing.assert_close(divergence_to_uniform(logits.movedim(1, -1)), -score)


def test_divergence_gradient() -> None:
    # d JSD / d p_c = ln(p_c / m_c) / 2, then through the softmax.
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    (grad,) = torch.autograd.grad(divergence_to_uniform(logits).sum(), logits)
    p = logits.detach().softmax(-1)
    slope = (p / (p / 2 + 0.1)).log() / 2
    torch.testing.assert_close(grad, p * (slope - (p * slope).sum(-1, keepdim=True)))


@pytest.mark.parametrize(
    ('name', 'pasted', 'void', 'message'),
    [
        ('dense_hybrid', False, False, "'dense_hybrid' learns from pasted outliers, but outl"),
        ('dense_hybrid', True, True, "void is true, .* but objective 'dense_hybrid' keeps them"),
        ('nflow_js', False, True, "objective 'nflow_js' keeps them out"),
        ('dense', True, False, "unknown objective 'dense'; choose one of: dense_hybrid, distil"),
    ],
)
def test_an_objective_is_held_against_the_recipe(
    name: str, pasted: bool, void: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_outliers(name, pasted, void)


@pytest.mark.parametrize(
    ('name', 'pasted', 'void'),
    [('segmentation', False, True), ('dense_hybrid', True, False), ('nflow_js', False, False)],
)
def test_what_fits_an_objective_is_let_through(name: str, pasted: bool, void: bool) -> None:
    check_outliers(name, pasted, void)


@pytest.mark.parametrize(
    'name', ['mask_classification', 'mask2anomaly', 'rba', 'uno', 'reconstruction']
)
def test_a_loss_that_would_not_be_learned_is_refused(name: str, root: Path) -> None:
    config = load_train_config(
        root / 'config/train/mask2anomaly_camvid.yaml',
        ['loss=focal', 'loss_options={focal: {gamma: 1}}', 'class_weights=enet'],
    )
    assert config.loss_keys == ['loss', 'loss_options', 'class_weights']
    with pytest.raises(ValueError, match='own; remove loss, loss_options, class_weights, or set'):
        check_loss(name, config.loss_keys)
    plain = load_train_config(
        root / 'config/train/mask2anomaly_camvid.yaml', ['loss=cross_entropy']
    )
    check_loss(name, plain.loss_keys)
    check_loss('dense_hybrid', config.loss_keys)


def test_a_network_is_checked_before_it_learns() -> None:
    check_network('segmentation', 'enet', {'logits', 'features.last'})
    masks = {'class_logits', 'mask_logits', 'features.last'}
    check_network('uno', 'mask2anomaly', masks)
    with pytest.raises(
        ValueError,
        match=r"objective 'segmentation' is made of logits; model 'hf' gives class_logits, "
        r'features\.last, mask_logits; choose one of: mask2anomaly, mask_classification, rba, uno',
    ):
        check_network('segmentation', 'hf', masks)
    with pytest.raises(
        ValueError, match=r'choose one of: dense_hybrid, distillation, nflow_js, segm'
    ):
        check_network('mask_classification', 'enet', {'logits'})


def test_the_divergence_of_an_autoencoder_is_that_of_one_image() -> None:
    """`-0.5 sum(1 + ln v - m^2 - v)`, with v = 1: half of 1 and of 4, their mean, twice."""
    output = ModelOutput(
        image=torch.zeros(2, 3, 1, 2),
        reconstruction=torch.full((2, 3, 1, 2), 0.5),
        features={
            'last': torch.tensor([[1.0, 0.0], [0.0, 2.0]]).view(2, 2, 1, 1),
            'log_variance': torch.zeros(2, 2),
        },
    )
    pixels = torch.zeros(2, 3, 1, 2, dtype=torch.uint8)
    labels = torch.zeros(2, 1, 2, dtype=torch.long)
    terms = build_objective(
        'reconstruction', build_loss({'cross_entropy': 1.0}, {}), {'kl_weight': 2.0}
    )(lambda _: output, Batch(pixels, labels, labels.bool()))
    assert terms['reconstruction'].item() == pytest.approx(6 * 0.25)
    assert terms['kl'].item() == pytest.approx(2 * (0.5 + 2) / 2)
