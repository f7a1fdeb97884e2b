import math
from pathlib import Path

import pytest
import torch
from torch import nn

from anomaly_seg_ros.models import build_model
from anomaly_seg_ros.models.network import Network
from training.loop.optimizer import (
    build_optimizer,
    freeze_all_but,
    set_learning_rate,
    set_training,
    trained_prefixes,
)
from training.loop.schedule import ema_update, learning_rate
from training.objectives.dense_hybrid import posterior_loss
from training.recipes.train_config import TrainConfig

HEAD = {'outlier_head': True, 'outlier_hidden': 8}


def config(**changes) -> TrainConfig:
    return TrainConfig(dataset='camvid', root=Path(), model='enet', **changes)


def rates(steps: list[int], **changes) -> list[float]:
    """Rates of a run of 10 epochs of 10 steps at a peak of 1."""
    recipe = config(lr=1.0, epochs=10, **changes)
    return [learning_rate(recipe, step, 10) for step in steps]


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        ({'schedule': 'poly', 'poly_power': 1.0}, [1.0, 0.75, 0.5, 0.25]),
        ({'schedule': 'poly', 'poly_power': 2.0}, [1.0, 0.5625, 0.25, 0.0625]),
        (
            {'schedule': 'cosine'},
            [1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2],
        ),
        ({'schedule': 'constant'}, [1.0, 1.0, 1.0, 1.0]),
        # Epochs 0, 2, 5 and 7.
        ({'schedule': 'step', 'step_epochs': 5}, [1.0, 1.0, 0.1, 0.1]),
        ({'schedule': 'step', 'step_epochs': 2}, [1.0, 0.1, 0.01, 0.001]),
    ],
)
def test_rates_at_the_quarters_of_a_run(changes, expected) -> None:
    assert rates([0, 25, 50, 75], **changes) == pytest.approx(expected)


@pytest.mark.parametrize('schedule', ['poly', 'cosine'])
def test_a_falling_rate_ends_at_zero(schedule: str) -> None:
    assert rates([100], schedule=schedule) == pytest.approx([0.0])


def test_the_warm_up_rises_by_equal_steps_to_the_schedule() -> None:
    expected = [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates([0, 1, 2, 3, 4], schedule='constant', warmup_steps=4) == pytest.approx(expected)


def test_the_average_starts_at_the_first_weights() -> None:
    update = ema_update(0.99)
    zero, one = torch.zeros(1), torch.ones(1)
    assert update(zero, one, 0).item() == pytest.approx(0.9)
    assert update(zero, one, 10**6).item() == pytest.approx(0.01)


class Small(Network):
    """A frozen-able network: convolution, norm, dropout, and a last layer."""

    classifier_prefixes = ('last.',)

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)
        self.last = nn.Conv2d(4, 2, 1)
        self.last_but_not_least = nn.Conv2d(4, 2, 1)


def test_norms_and_biases_decay_only_where_all_does() -> None:
    def groups(**changes) -> list[tuple[int, float]]:
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        found = build_optimizer(model, config(weight_decay=0.1, **changes)).param_groups
        return sorted((len(g['params']), g['weight_decay']) for g in found)

    assert groups() == [(1, 0.1), (3, 0.0)]
    assert groups(decay_all=True) == [(4, 0.1)]


def test_queries_and_positions_decay_only_where_all_does() -> None:
    # By build_optimizer of train_net.py:221-228, facebookresearch/Mask2Former at 722572d.
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.queries, self.linear = nn.Embedding(6, 4), nn.Linear(4, 4)
            self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
            self.level_embed = nn.Parameter(torch.zeros(3, 4))  # a plain one decays there, too

    def decaying(**changes) -> set[str]:
        model = nn.ModuleDict({'stage': Windows()})
        names = {id(p): name for name, p in model.named_parameters()}
        found = build_optimizer(model, config(weight_decay=0.1, **changes)).param_groups
        return {names[id(p)] for group in found if group['weight_decay'] for p in group['params']}

    assert decaying() == {'stage.linear.weight', 'stage.level_embed'}
    assert len(decaying(decay_all=True)) == 5


@pytest.mark.parametrize(
    ('name', 'kind'),
    [('sgd', torch.optim.SGD), ('adam', torch.optim.Adam), ('adamw', torch.optim.AdamW)],
)
def test_the_named_optimizer_is_built(name, kind) -> None:
    assert type(build_optimizer(Small(), config(optimizer=name))) is kind


def test_multipliers_scale_the_rate_of_what_they_name() -> None:
    model = Small()
    optimizer = build_optimizer(model, config(lr_multipliers={'last.': 10.0}))
    set_learning_rate(optimizer, 0.5)
    rate = {id(p): group['lr'] for group in optimizer.param_groups for p in group['params']}
    assert rate[id(model.last.weight)] == rate[id(model.last.bias)] == 5.0
    assert rate[id(model.conv.weight)] == rate[id(model.last_but_not_least.weight)] == 0.5
    assert len(rate) == len(list(model.parameters()))


def test_a_multiplier_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"begins with 'haed' of lr_multipliers; names are like"):
        build_optimizer(Small(), config(lr_multipliers={'haed': 10.0}))


def test_last_leaves_gradients_to_the_last_layer_and_the_rest_as_in_evaluation() -> None:
    model = Small()
    freeze_all_but(model, trained_prefixes(model, 'last'))
    set_training(model, 'last')
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == {'last.weight', 'last.bias'}
    assert [m.training for m in (model, model.norm, model.drop)] == [False] * 3
    assert model.last.training
    assert not model.last_but_not_least.training
    assert len(build_optimizer(model, config()).param_groups) == 2


def test_nothing_to_train_is_an_error() -> None:
    model = Small().requires_grad_(False)
    with pytest.raises(ValueError, match="model 'enet' has no weights to train"):
        build_optimizer(model, config())


def test_the_outlier_head_alone_is_trained_and_missed_where_there_is_none() -> None:
    with pytest.raises(ValueError, match=r'no weights logits_ood\.; set model_options'):
        trained_prefixes(Small(), 'outlier_head')
    model = build_model('efficientnet_lite_seg', 3, HEAD, preset='tiny')
    freeze_all_but(model, trained_prefixes(model, 'outlier_head'))
    set_training(model, 'outlier_head')
    named = [name for name, p in model.named_parameters() if p.requires_grad]
    assert named
    assert all(name.startswith('logits_ood.') for name in named)
    assert {name.partition('.')[0] for name, m in model.named_modules() if m.training} == {
        'logits_ood'
    }


def test_a_head_on_a_frozen_network_learns_and_the_classes_stay() -> None:
    torch.manual_seed(0)
    model = build_model('efficientnet_lite_seg', 3, HEAD, preset='tiny')
    freeze_all_but(model, trained_prefixes(model, 'outlier_head'))
    set_training(model, 'outlier_head')
    images = torch.rand(2, 3, 64, 64)
    outlier = torch.zeros(2, 64, 64, dtype=torch.bool)
    outlier[:, :, 32:] = True
    images[:, :, :, 32:] += 1
    before, optimizer = model(images), torch.optim.Adam(model.logits_ood.parameters(), 0.05)
    losses = []
    for _ in range(20):
        loss = posterior_loss(model(images).ood_logits, outlier)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert torch.equal(model(images).logits, before.logits)
