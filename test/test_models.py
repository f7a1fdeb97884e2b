"""Facts that hold for each network of MODELS, at its tiny preset, and published counts."""

import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional

from anomaly_seg_ros.checkpoint.folder import Checkpoint, save_checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.models import build_model, enet, MODELS
from anomaly_seg_ros.models.parts.padding import forward_padded
from anomaly_seg_ros.registry import lookup

CLASSES = 5
SMALL_NETWORKS = ('bisenetv1', 'bisenetv2', 'enet', 'erfnet', 'fast_scnn')
WITH_OUTLIER_HEAD = sorted(
    name
    for name in MODELS
    if 'outlier_head' in inspect.signature(lookup('model', MODELS, name)).parameters
)
CASES = [*((name, {}) for name in sorted(MODELS)), ('enet', {'layout': 'b'})]
VARIANTS = [
    *CASES,
    *((name, {'head': 'isomax'}) for name in SMALL_NETWORKS),
    *((name, {'outlier_head': True}) for name in WITH_OUTLIER_HEAD),
]


def over(cases):
    ids = [' '.join([name, *(f'{k}={v}' for k, v in o.items())]) for name, o in cases]
    return pytest.mark.parametrize(('name', 'options'), cases, ids=ids)


each_network = over(CASES)
each_variant = over(VARIANTS)


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


@each_variant
def test_logits_have_the_size_of_the_image_and_all_that_is_provided_is_there(name, options):
    model = tiny(name, options).eval()
    assert model.provides >= {'logits'}
    output = model(torch.randn(2, 3, 64, 96))
    assert output.logits.shape == (2, CLASSES, 64, 96)
    for field in model.provides:
        assert getattr(output, field) is not None
    assert output.aux_logits == ()
    assert (output.ood_logits is not None) == bool(options.get('outlier_head'))
    if output.ood_logits is not None:
        assert output.ood_logits.shape == (2, 2, 64, 96)


@each_network
def test_odd_sides_are_padded_and_cut_off_again(name, options):
    model = spread(tiny(name, options)).eval()
    with torch.inference_mode():
        output = forward_padded(model, torch.randn(1, 3, 45, 61))
    assert output.logits.shape == (1, CLASSES, 45, 61)
    assert output.logits.isfinite().all()


@each_network
def test_padding_repeats_the_border(name, options):
    model = spread(tiny(name, options)).eval()
    images = torch.randn(1, 3, 60, 90)
    bottom, right = -60 % model.stride, -90 % model.stride
    padded = functional.pad(images, (0, right, 0, bottom), mode='replicate')
    with torch.inference_mode():
        expected, output = model(padded), forward_padded(model, images)
    assert torch.equal(output.logits, expected.logits[..., :60, :90])


@pytest.mark.parametrize('name', WITH_OUTLIER_HEAD)
def test_the_logits_of_the_outlier_head_are_cut_off_too(name):
    model = spread(tiny(name, {'outlier_head': True})).eval()
    images = torch.randn(1, 3, 32, 61)
    padded = functional.pad(images, (0, 3, 0, 0), mode='replicate')
    with torch.inference_mode():
        expected = model(padded).ood_logits[..., :61]
        assert torch.equal(forward_padded(model, images).ood_logits, expected)


@each_variant
def test_gradients_reach_every_parameter_in_training(name, options):
    has_aux = 'aux_heads' in inspect.signature(lookup('model', MODELS, name)).parameters
    model = spread(tiny(name, options, **({'aux_heads': True} if has_aux else {}))).train()
    output = model(torch.randn(4, 3, 64, 96))
    given = (output.logits, *output.aux_logits, output.ood_logits)
    sum(logits.square().mean() for logits in given if logits is not None).backward()
    assert bool(output.aux_logits) == has_aux
    for logits in output.aux_logits:
        assert logits.shape == output.logits.shape
    optional = tuple(getattr(model, 'train_only_prefixes', ()))
    for key, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert key.startswith(optional), key
            continue
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


@each_variant
def test_saved_and_loaded_again_the_weights_and_the_logits_are_exactly_the_same(
    name, options, tmp_path
):
    model = spread(tiny(name, options)).eval()
    folder = write_tiny(tmp_path, name, options, model.state_dict())
    checkpoint = Checkpoint.open(folder)
    loaded, meta = checkpoint.network(), checkpoint.meta
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
    loaded = Checkpoint.open(write_tiny(tmp_path, name, options, kept)).network()
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
        alone, scale = model(images[1:]).logits, float(both.abs().max())
        torch.testing.assert_close(alone, both[1:], rtol=1e-4, atol=1e-4 * max(scale, 1))


@pytest.mark.parametrize(
    ('name', 'classes', 'options', 'parameters', 'entries'),
    [
        ('erfnet', 19, {}, 2_066_642, 345),
        ('erfnet', 20, {}, 2_066_836, 345),
        ('enet', 19, {'layout': 'a'}, 351_660, 622),
        ('enet', 20, {'layout': 'a'}, 351_804, 622),
        ('enet', 19, {'layout': 'b'}, 358_344, 631),
        ('bisenetv1', 19, {'aux_heads': True}, 13_425_721, 222),
        ('bisenetv1', 19, {}, 13_275_539, 206),
        ('bisenetv2', 19, {'aux_heads': True}, 5_231_487, 383),
        ('bisenetv2', 19, {}, 3_358_627, 327),
        ('fast_scnn', 19, {}, 1_138_051, 268),
        # A prototype per class and the scale in place of weight and bias; norm and 1x1 on top.
        ('erfnet', 19, {'head': 'isomax'}, 2_066_642 - 16 * 19 * 4 - 19 + 16 * 19 + 1, 345),
        ('erfnet', 19, {'outlier_head': True}, 2_066_642 + 2 * 16 + 2 * 16 + 2, 352),
        ('bisenetv2', 19, {'outlier_head': True}, 3_358_627 + 2 * 128 + 2 * 128 + 2, 334),
    ],
)
def test_parameters_and_state_entries_are_as_published(
    name, classes, options, parameters, entries
):
    model = build_model(name, classes, options)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(model.state_dict()) == entries


CLASSIFIERS = {
    'bisenetv1': ('conv_out.conv_out', 256, 8),
    'bisenetv2': ('head.conv_out', 1024, 8),
    'enet': ('transposed_conv', 16, 2),
    'erfnet': ('decoder.output_conv', 16, 2),
    'fast_scnn': ('classifier.conv', 128, 8),
}
"""The last layer of a network at full size, the features that it reads, and their stride."""


@pytest.mark.parametrize('head', ['linear', 'isomax'])
@pytest.mark.parametrize('name', SMALL_NETWORKS)
def test_features_are_what_the_last_layer_reads(name, head):
    layer, channels, stride = CLASSIFIERS[name]
    model = build_model(name, 19, {'head': head}).eval()
    assert model.classifier_prefixes[0] == f'{layer}.'
    with torch.inference_mode():
        output = model(torch.randn(1, 3, 64, 96))
        assert output.features.shape == (1, channels, 64 // stride, 96 // stride)
        logits = model.get_submodule(layer)(output.features)
        corners = name == 'fast_scnn'
        enlarged = functional.interpolate(logits, (64, 96), mode='bilinear', align_corners=corners)
    torch.testing.assert_close(enlarged, output.logits)


@each_variant
def test_only_the_last_layers_change_with_the_number_of_classes_and_the_head(name, options):
    model = tiny(name, options)
    own = shapes_of(model)
    assert any(key.startswith(model.classifier_prefixes) for key in own)
    others = [build_model(name, CLASSES + 1, options, preset='tiny')]
    if name in SMALL_NETWORKS:
        head = 'linear' if options.get('head') == 'isomax' else 'isomax'
        others.append(tiny(name, {**options, 'head': head}))
    if name in WITH_OUTLIER_HEAD:
        others.append(tiny(name, {**options, 'outlier_head': not options.get('outlier_head')}))
    for other in others:
        changed = own.items() ^ shapes_of(other).items()
        assert changed
        for key, _ in changed:
            assert key.startswith(model.new_head_prefixes), key


def shapes_of(model):
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ('name', 'head', 'size'),
    [('bisenetv1', 'linear', (32, 64)), ('fast_scnn', 'isomax', (45, 61))],
)
def test_openvino_computes_what_torch_computes(name, head, size):
    import openvino

    model = spread(tiny(name, {'head': head})).eval()
    images = torch.randn(1, 3, *size)
    converted = openvino.convert_model(torch.export.export(model, (images,)))
    precise = {'INFERENCE_PRECISION_HINT': 'f32'}
    compiled = openvino.Core().compile_model(converted, 'CPU', precise)
    results = compiled(images.numpy())
    with torch.inference_mode():
        output = model(images)
    for index, expected in enumerate((output.logits, output.features)):
        found, scale = torch.from_numpy(results[index]), float(expected.abs().max())
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * scale)


def test_an_unknown_option_or_layout_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="unknown layout 'c' of ENet; choose one of: a, b"):
        build_model('enet', 19, {'layout': 'c'})
    for name in SMALL_NETWORKS:
        with pytest.raises(ValueError, match="unknown head 'ismax'; choose one of: isomax, lin"):
            build_model(name, 19, {'head': 'ismax'}, preset='tiny')
    with pytest.raises(ValueError, match="repair_phase is for head 'linear', not 'isomax'"):
        build_model('enet', 19, {'head': 'isomax', 'repair_phase': True})
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
    repaired = Checkpoint.open(folder).network()
    images = torch.randn(1, 3, 32, 64)
    with torch.inference_mode():
        before, after = model(images).logits, repaired(images).logits
    assert torch.equal(after, enet.repair_even_phase(before))
    assert not torch.equal(after, before)
