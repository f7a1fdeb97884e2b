"""Facts that hold for each network of MODELS, at its tiny preset, and published counts."""

import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional

from anomaly_seg_ros.checkpoint import CheckpointMeta, load_checkpoint, save_checkpoint
from anomaly_seg_ros.models import build_model, enet, MODELS
from anomaly_seg_ros.models.padding import forward_padded
from anomaly_seg_ros.registry import lookup

CLASSES = 5
CASES = [*((name, {}) for name in sorted(MODELS)), ('enet', {'layout': 'b'})]
each_network = pytest.mark.parametrize(
    ('name', 'options'), CASES, ids=[' '.join([n, *map(str, o.values())]) for n, o in CASES]
)


def tiny(name, options, **more):
    torch.manual_seed(1)
    return build_model(name, CLASSES, {**options, **more}, preset='tiny')


def spread(model):
    """Moves every weight and statistic away from what initialisation made equal or zero."""
    torch.manual_seed(2)
    for key, value in model.state_dict().items():
        if key.endswith('running_var'):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point():
            value.add_(0.1 * torch.randn_like(value))
    return model


@each_network
def test_logits_have_the_size_of_the_image_and_all_that_is_provided_is_there(name, options):
    model = tiny(name, options).eval()
    assert model.provides >= {'logits'}
    output = model(torch.randn(2, 3, 64, 96))
    assert output.logits.shape == (2, CLASSES, 64, 96)
    for field in model.provides:
        assert getattr(output, field) is not None
    assert output.aux_logits == ()


@each_network
def test_odd_sides_are_padded_and_cut_off_again(name, options):
    model = spread(tiny(name, options)).eval()
    with torch.inference_mode():
        logits = forward_padded(model, torch.randn(1, 3, 45, 61)).logits
    assert logits.shape == (1, CLASSES, 45, 61)
    assert logits.isfinite().all()


@each_network
def test_padding_repeats_the_border(name, options):
    model = spread(tiny(name, options)).eval()
    images = torch.randn(1, 3, 60, 90)
    bottom, right = -60 % model.stride, -90 % model.stride
    padded = functional.pad(images, (0, right, 0, bottom), mode='replicate')
    with torch.inference_mode():
        expected = model(padded).logits[..., :60, :90]
        assert torch.equal(forward_padded(model, images).logits, expected)


@each_network
def test_gradients_reach_every_parameter_in_training(name, options):
    has_aux = 'aux_heads' in inspect.signature(lookup('model', MODELS, name)).parameters
    model = spread(tiny(name, options, **({'aux_heads': True} if has_aux else {}))).train()
    output = model(torch.randn(4, 3, 64, 96))
    sum(logits.square().mean() for logits in (output.logits, *output.aux_logits)).backward()
    assert bool(output.aux_logits) == has_aux
    for logits in output.aux_logits:
        assert logits.shape == output.logits.shape
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        # A bias in front of a batch norm has no effect, so that its gradient is truly zero.
        if parameter.ndim > 1:
            assert parameter.grad.abs().sum() > 0, key


@each_network
def test_gradients_reach_every_parameter_that_an_optimiser_gets_without_auxiliary_heads(
    name, options
):
    model = tiny(name, options).train()
    output = model(torch.randn(4, 3, 64, 96))
    assert output.aux_logits == ()
    output.logits.square().mean().backward()
    optional = tuple(getattr(model, 'train_only_prefixes', ()))
    for key, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key
        assert parameter.requires_grad or key.startswith(optional), key


@each_network
def test_saved_and_loaded_again_the_weights_and_the_logits_are_exactly_the_same(
    name, options, tmp_path
):
    model = spread(tiny(name, options)).eval()
    folder = write_tiny(tmp_path, name, options, model.state_dict())
    loaded, meta = load_checkpoint(folder)
    assert meta.model == name
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(loaded(images).logits, model(images).logits)


@each_network
def test_a_checkpoint_without_the_heads_of_training_gives_the_same_logits(name, options, tmp_path):
    model = spread(tiny(name, options)).eval()
    optional = tuple(getattr(model, 'train_only_prefixes', ()))
    kept = {k: v for k, v in model.state_dict().items() if not k.startswith(optional or '\0')}
    loaded, _ = load_checkpoint(write_tiny(tmp_path, name, options, kept))
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(loaded(images).logits, model(images).logits)


def write_tiny(folder, name, options, weights):
    preset = lookup('model', MODELS, name).presets['tiny']
    meta = CheckpointMeta(
        model=name,
        model_options={**preset, **options},
        class_names=tuple('abcde'),
        class_colors=((0, 0, 0),) * CLASSES,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        input_size=(64, 96),
    )
    save_checkpoint(folder, meta, weights)
    return folder


@each_network
def test_evaluation_gives_the_same_twice_and_each_image_on_its_own(name, options):
    model = spread(tiny(name, options)).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        both = model(images).logits
        assert torch.equal(model(images).logits, both)
        torch.testing.assert_close(model(images[1:]).logits, both[1:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('name', 'classes', 'options', 'parameters', 'entries'),
    [
        ('erfnet', 19, {}, 2_066_642, 345),
        ('erfnet', 20, {}, 2_066_836, 345),
        ('enet', 19, {'layout': 'a'}, 351_660, 622),
        ('enet', 20, {'layout': 'a'}, 351_804, 622),
        ('enet', 19, {'layout': 'b'}, 358_344, 631),
        ('bisenetv2', 19, {'aux_heads': True}, 5_231_487, 383),
        ('bisenetv2', 19, {}, 3_358_627, 327),
    ],
)
def test_parameters_and_state_entries_are_as_published(
    name, classes, options, parameters, entries
):
    model = build_model(name, classes, options)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(model.state_dict()) == entries


def test_erfnet_features_are_the_16_channels_that_its_classifier_reads():
    model = build_model('erfnet', 19).eval()
    with torch.inference_mode():
        output = model(torch.randn(1, 3, 32, 64))
        assert output.features.shape == (1, 16, 16, 32)
        assert torch.equal(model.decoder.output_conv(output.features), output.logits)


def test_an_unknown_option_or_layout_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="unknown layout 'c' of ENet; choose one of: a, b"):
        build_model('enet', 19, {'layout': 'c'})
    with pytest.raises(ValueError, match="'erfnet' does not take options"):
        build_model('erfnet', 19, {'depth': 3})
    with pytest.raises(ValueError, match="unknown preset 'huge' of model 'enet'"):
        build_model('enet', 19, preset='huge')


@pytest.mark.parametrize(
    ('layout', 'key', 'first', 'second'),
    [
        ('a', 'asymmetric2_3.ext_conv2', (5, 1), (1, 5)),
        ('b', 'bottleneck23.conv2', (1, 5), (5, 1)),
    ],
)
def test_enets_split_convolutions_stand_in_the_published_order(layout, key, first, second):
    state = build_model('enet', 19, {'layout': layout}).state_dict()
    assert state[f'{key}.0.weight'].shape[2:] == first
    assert state[f'{key}.3.weight'].shape[2:] == second
    assert (f'{key}.0.bias' in state) == (layout == 'b')


# ENet's pooling by place


@pytest.mark.parametrize('values', [2, 3, 1000], ids=['many ties', 'ties', 'few ties'])
def test_pooling_and_unpooling_are_bit_identical_to_torch_ties_included(values):
    torch.manual_seed(3)
    x = torch.randint(-values // 2, values // 2 + 1, (2, 5, 32, 48)).float() / 7
    pooled, where = enet.max_pool_where(x)
    expected, indices = nn.MaxPool2d(2, return_indices=True)(x)
    assert torch.equal(pooled, expected)
    carried = torch.randn_like(pooled)
    unpooled = enet.max_unpool(carried, where)
    assert torch.equal(unpooled, nn.MaxUnpool2d(2)(carried, indices))


def test_each_of_the_sixteen_ways_to_tie_takes_the_first_maximum_of_the_row_order():
    for bits in range(1, 16):
        cell = torch.tensor([float(bits >> i & 1) for i in range(4)])
        _, where = enet.max_pool_where(cell.view(1, 1, 2, 2))
        taken = [bool(here) for here in where]
        assert taken.index(True) == int(cell.argmax())
        assert sum(taken) == 1


@pytest.mark.parametrize('layout', ['a', 'b'])
def test_enet_gives_the_logits_that_it_gives_with_torchs_own_pooling(layout, monkeypatch):
    model = spread(build_model('enet', 19, {'layout': layout})).eval()
    images = torch.rand(1, 3, 64, 128)
    with torch.inference_mode():
        logits = model(images).logits
        monkeypatch.setattr(enet, 'max_pool_where', nn.MaxPool2d(2, return_indices=True))
        monkeypatch.setattr(enet, 'max_unpool', nn.MaxUnpool2d(2))
        assert torch.equal(model(images).logits, logits)


@pytest.mark.parametrize('layout', ['a', 'b'])
def test_an_exported_enet_holds_no_unpooling_and_no_scatter(layout):
    model = build_model('enet', CLASSES, {'layout': layout}, preset='tiny').eval()
    graph = torch.export.export(model, (torch.randn(1, 3, 32, 64),)).graph
    called = {str(node.target) for node in graph.nodes if node.op == 'call_function'}
    assert not [target for target in called if 'unpool' in target or 'scatter' in target]


# Repair of the phase that kept the old class order


def test_repair_puts_the_mean_of_the_other_three_at_even_rows_and_columns():
    cells = torch.tensor([[9.0, 1, 9, 4], [2, 3, 5, 6]]).view(1, 1, 2, 4)
    assert enet.repair_even_phase(cells)[0, 0].tolist() == [[2, 1, 5, 4], [2, 3, 5, 6]]


def test_repair_undoes_a_half_migrated_class_order():
    labels = torch.randint(0, 19, (1, 8, 8)).repeat_interleave(2, 1).repeat_interleave(2, 2)
    logits = functional.one_hot(labels, 20).permute(0, 3, 1, 2).float()
    half = logits.clone()
    half[..., 0::2, 0::2] = logits.roll(1, dims=1)[..., 0::2, 0::2]
    assert (half.argmax(1) == labels).float().mean() == 0.75
    assert torch.equal(enet.repair_even_phase(half).argmax(1), labels)


def test_repair_is_an_option_that_needs_no_other_weights(tmp_path):
    model = spread(tiny('enet', {})).eval()
    folder = write_tiny(tmp_path, 'enet', {'repair_phase': True}, model.state_dict())
    repaired, _ = load_checkpoint(folder)
    images = torch.randn(1, 3, 32, 64)
    with torch.inference_mode():
        before, after = model(images).logits, repaired(images).logits
    assert torch.equal(after, enet.repair_even_phase(before))
    assert not torch.equal(after, before)
