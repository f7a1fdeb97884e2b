"""Facts that hold for each network of MODELS, at its tiny preset, and published counts.

A network that gets its line in MODELS is held to all that is marked `@check` here, whatever it
gives; so are two networks that are written by the tests.
"""

from collections.abc import Callable
import inspect
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from anomaly_seg_ros.checkpoint.folder import Checkpoint, save_checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.model_output import HOLDS, ModelOutput
from anomaly_seg_ros.models import build_model, enet, MODELS
from anomaly_seg_ros.models.forward import forward_padded, run_network
from anomaly_seg_ros.models.network import Network
from anomaly_seg_ros.registry import lookup

CLASSES = 5
HF_CONFIGS = Path(__file__).with_name('golden') / 'hf_configs.json'
"""Configurations of `transformers` that are as small as each kind can be, by `model_type`."""

MORE_CASES: dict[str, list[dict[str, Any]]] = {
    'autoencoder': [{'variational': True}],
    'efficientnet_lite_seg': [{'decoder': 'lraspp'}, {'decoder': 'bifpn'}],
    'enet': [{'layout': 'b'}],
    'hf': [{'config': config} for config in json.loads(HF_CONFIGS.read_text()).values()],
    'segmenter': [{'decoder': 'mask'}],
}
"""Options that make another network, beside those that networks share."""


def takes(name: str, option: str) -> bool:
    """Whether a network has an option."""
    return option in inspect.signature(lookup('model', MODELS, name)).parameters


def cases(name: str) -> list[dict[str, Any]]:
    return [{}, *MORE_CASES.get(name, [])]


def variants(name: str) -> list[dict[str, Any]]:
    """The options that a network is checked with."""
    shared = {'head': 'isomax', 'outlier_head': True}
    return [*cases(name), *({k: v} for k, v in shared.items() if takes(name, k))]


def said(value: Any) -> Any:
    return value['model_type'] if isinstance(value, dict) else value


def over(options_of: Callable[[str], list[dict[str, Any]]]) -> Any:
    found = [(name, options) for name in sorted(MODELS) for options in options_of(name)]
    ids = [' '.join([name, *(f'{k}={said(v)}' for k, v in o.items())]) for name, o in found]
    return pytest.mark.parametrize(('name', 'options'), found, ids=ids)


CHECKS: list[Callable[..., None]] = []


def check(options_of: Callable[[str], list[dict[str, Any]]]) -> Any:
    """Marks what holds for every network, whatever it gives."""

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        CHECKS.append(test)
        return over(options_of)(test)

    return mark


SMALL_NETWORKS = [name for name in sorted(MODELS) if takes(name, 'head')]
WITH_OUTLIER_HEAD = [name for name in sorted(MODELS) if takes(name, 'outlier_head')]


def tiny(name: str, options: dict[str, Any], classes: int = CLASSES, **more: Any) -> Any:
    torch.manual_seed(1)
    return build_model(name, classes, {**options, **more}, preset='tiny')


def whole(name: str, options: dict[str, Any]) -> Any:
    """With everything that is built on demand."""
    more = [option for option in ('aux_heads', 'outlier_head') if takes(name, option)]
    return tiny(name, options, **dict.fromkeys(more, True))


def spread(model: Any) -> Any:
    """Moves every weight and statistic away from what initialisation made equal or zero."""
    torch.manual_seed(2)
    for key, value in model.state_dict().items():
        if key.endswith('running_var'):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point():
            value.add_(0.1 * torch.randn_like(value))
    return model


def tensors(output: ModelOutput) -> dict[str, torch.Tensor]:
    """All that an output has, by the names of `Network.provides`; auxiliary logits by number."""
    found: dict[str, Any] = {}
    for field, value in output._asdict().items():
        if isinstance(value, dict):
            found |= {f'{field}.{key}': inner for key, inner in value.items()}
        elif isinstance(value, tuple) and field != 'extent':
            found |= {f'{field}.{number}': inner for number, inner in enumerate(value)}
        elif isinstance(value, torch.Tensor):
            found[field] = value
    return found


@check(variants)
def test_what_it_provides_is_there_and_nothing_else(name: str, options: dict[str, Any]) -> None:
    model = tiny(name, options).eval()
    assert isinstance(model, Network)
    images = torch.randn(2, 3, 64, 96)
    found = tensors(model(images))
    assert found.keys() == model.provides
    assert ('ood_logits' in found) == bool(options.get('outlier_head'))
    assert found.keys() >= {'logits'} or found.keys() >= {'class_logits', 'mask_logits'}
    for key, value in found.items():
        assert value.shape[0] == 2
        if HOLDS[key.partition('.')[0]].pixels:
            assert value.shape[2:] == (64, 96), key
        if (axis := HOLDS[key.partition('.')[0]].classes) is not None:
            assert value.shape[axis] == CLASSES + (axis == 2), key
    maps = run_network(model, images, None).class_maps
    assert maps.shape == (2, CLASSES, 64, 96)


@check(cases)
def test_odd_sides_are_padded_by_the_border_and_cut_off_again(
    name: str, options: dict[str, Any]
) -> None:
    model = spread(whole(name, options)).eval()
    images = torch.randn(1, 3, 45, 61)
    bottom, right = -45 % model.stride, -61 % model.stride
    padded = functional.pad(images, (0, right, 0, bottom), mode='replicate')
    with torch.inference_mode():
        expected, output = tensors(model(padded)), forward_padded(model, images)
        maps = run_network(model, images, None).class_maps
    assert output.extent == ((45, 61), (45 + bottom, 61 + right))
    assert tensors(output).keys() == expected.keys()
    for key, value in tensors(output).items():
        cut = expected[key]
        if HOLDS[key.partition('.')[0]].pixels:
            cut = cut[..., :45, :61]
        assert torch.equal(value, cut), key
    assert maps.shape == (1, CLASSES, 45, 61)
    assert maps.isfinite().all()


@check(variants)
def test_gradients_reach_every_parameter_in_training(name: str, options: dict[str, Any]) -> None:
    has_aux = takes(name, 'aux_heads')
    model = spread(tiny(name, options, **({'aux_heads': True} if has_aux else {}))).train()
    output = model(torch.randn(4, 3, 64, 96))
    given = [value for key, value in tensors(output).items() if 'features' not in key]
    sum(value.square().mean() for value in given).backward()
    assert bool(output.aux_logits) == has_aux
    for logits in output.aux_logits:
        assert logits.shape == output.logits.shape
    for key, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert key.startswith(model.train_only_prefixes), key
            continue
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        # A bias in front of a batch norm has no effect, so that its gradient is truly zero.
        if parameter.ndim > 1:
            assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize('name', ['bisenetv1', 'bisenetv2', 'erfnet', 'fast_scnn'])
def test_auxiliary_heads_are_of_the_kind_that_the_loss_is_for(name: str) -> None:
    """The entropic scale of IsoMax+ is for distances, not for linear logits."""
    model = spread(tiny(name, {'head': 'isomax'}, aux_heads=True)).train()
    aux_logits = model(torch.randn(4, 3, 64, 96)).aux_logits
    assert aux_logits
    for logits in aux_logits:
        assert (logits <= 0).all()


@check(cases)
def test_gradients_reach_every_parameter_that_an_optimiser_gets_without_auxiliary_heads(
    name: str, options: dict[str, Any]
) -> None:
    model = tiny(name, options).train()
    output = model(torch.randn(4, 3, 64, 96))
    assert output.aux_logits == ()
    given = [value for key, value in tensors(output).items() if 'features' not in key]
    sum(value.square().mean() for value in given).backward()
    for key, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key
        assert parameter.requires_grad or key.startswith(model.train_only_prefixes), key


@check(variants)
def test_saved_and_loaded_again_the_weights_and_the_output_are_exactly_the_same(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    model = spread(tiny(name, options)).eval()
    folder = write_tiny(tmp_path, name, options, model.state_dict())
    checkpoint = Checkpoint.open(folder)
    loaded, meta = checkpoint.network(), checkpoint.meta
    assert meta.model == name
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    same_output(loaded, model)


@check(cases)
def test_a_checkpoint_without_the_heads_of_training_gives_the_same_output(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    model = spread(tiny(name, options)).eval()
    optional = model.train_only_prefixes
    kept = {k: v for k, v in model.state_dict().items() if not k.startswith(optional)}
    loaded = Checkpoint.open(write_tiny(tmp_path, name, options, kept)).network()
    same_output(loaded, model)


def same_output(one: Any, other: Any) -> None:
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        found, expected = tensors(one(images)), tensors(other(images))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in found)


def write_tiny(folder: Path, name: str, options: dict[str, Any], weights: Any) -> Path:
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


@check(cases)
def test_evaluation_gives_the_same_twice_and_each_image_on_its_own(
    name: str, options: dict[str, Any]
) -> None:
    model = spread(tiny(name, options)).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        both = run_network(model, images, None).class_maps
        assert torch.equal(run_network(model, images, None).class_maps, both)
        alone = run_network(model, images[1:], None).class_maps
        scale = max(float(both.abs().max()), 1)
        torch.testing.assert_close(alone, both[1:], rtol=1e-4, atol=1e-4 * scale)


class Classes(nn.Module):
    """What an exported graph does with a network, on sides that need padding."""

    def __init__(self, network: Any):
        super().__init__()
        self.network = network

    def forward(self, images: Any) -> Any:
        return run_network(self.network, images, None).class_maps


@check(cases)
def test_the_exported_graph_computes_what_the_network_computes(
    name: str, options: dict[str, Any]
) -> None:
    module, images = Classes(spread(tiny(name, options))).eval(), torch.randn(2, 3, 45, 61)
    with torch.no_grad():
        exported = torch.export.export(module, (images,)).module()
        expected = module(images)
        scale = max(float(expected.abs().max()), 1)
        torch.testing.assert_close(exported(images), expected, rtol=1e-4, atol=1e-4 * scale)


@check(variants)
def test_only_the_last_layers_change_with_the_number_of_classes_and_the_head(
    name: str, options: dict[str, Any]
) -> None:
    network = lookup('model', MODELS, name)
    options = {**options, **({'aux_heads': True} if takes(name, 'aux_heads') else {})}
    own = shapes_of(tiny(name, options))
    others = [tiny(name, options, CLASSES + 1)]
    if takes(name, 'head'):
        head = 'linear' if options.get('head') == 'isomax' else 'isomax'
        others.append(tiny(name, options, head=head))
    if takes(name, 'outlier_head'):
        others.append(tiny(name, options, outlier_head=not options.get('outlier_head')))
    for other in others:
        changed = own.items() ^ shapes_of(other).items()
        assert changed
        for key, _ in changed:
            assert key.startswith(network.new_head_prefixes), key


@check(lambda name: [{}])
def test_its_prefixes_name_weights_that_it_has(name: str, options: dict[str, Any]) -> None:
    network = lookup('model', MODELS, name)
    keys = {key for options in cases(name) for key in whole(name, options).state_dict()}
    assert network.classifier_prefixes
    for prefix in (
        *network.classifier_prefixes,
        *network.new_head_prefixes,
        *network.train_only_prefixes,
    ):
        assert any(key.startswith(prefix) for key in keys), prefix
    assert set(network.classifier_prefixes) <= set(network.new_head_prefixes)
    assert not set(network.classifier_prefixes) & set(network.train_only_prefixes)


def shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


# Networks of one more file and one more line

DENSE = """
from torch import nn
from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.network import Network

class Made(Network):
    provides = frozenset({'logits', 'features.stem', 'features.last'})
    stride = 4
    presets = {'tiny': {'width': 4}}
    classifier_prefixes = ('last.',)
    new_head_prefixes = ('last.', 'aux.')
    train_only_prefixes = ('aux.',)

    def __init__(self, classes, width=8, aux_heads=False):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, stride=4)
        self.body = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.ConvTranspose2d(width, classes, 4, stride=4)
        if aux_heads:
            self.aux = nn.ConvTranspose2d(width, classes, 4, stride=4)

    def forward(self, images):
        stem = self.stem(images).tanh()
        body = self.body(stem).tanh()
        aux = (self.aux(stem),) if self.training and hasattr(self, 'aux') else ()
        features = {'stem': stem, 'last': body}
        return ModelOutput(self.last(body), features=features, aux_logits=aux)
"""

MASKS = """
import torch
from torch import nn
from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.network import Network

class Made(Network):
    provides = frozenset({'class_logits', 'mask_logits', 'features.last'})
    stride = 8
    presets = {'tiny': {'width': 4}}
    classifier_prefixes = ('classes.',)
    new_head_prefixes = ('classes.',)

    def __init__(self, classes, width=8):
        super().__init__()
        self.pixels = nn.Conv2d(3, width, 4, stride=4)
        self.queries = nn.Parameter(torch.randn(11, width))
        self.classes = nn.Linear(width, classes + 1)

    def forward(self, images):
        pixels = self.pixels(images).tanh()
        queries = self.queries + pixels.mean((2, 3))[:, None]
        masks = (queries @ pixels.flatten(2)).unflatten(2, pixels.shape[2:])
        features = {'last': pixels}
        return ModelOutput(
            class_logits=self.classes(queries), mask_logits=masks, features=features
        )
"""


@pytest.mark.parametrize('test', CHECKS, ids=lambda test: test.__name__.removeprefix('test_'))
@pytest.mark.parametrize('code', [DENSE, MASKS], ids=['dense', 'masks'])
def test_a_network_of_one_more_file_and_line(
    code: str, test: Callable[..., None], one_more: Callable[..., None], tmp_path: Path
) -> None:
    one_more(MODELS, 'made', code, 'Made')
    more = {'tmp_path': tmp_path} if 'tmp_path' in inspect.signature(test).parameters else {}
    test('made', {}, **more)


@pytest.mark.parametrize(
    ('right', 'wrong'),
    [
        ("'features.stem', ", ''),
        ("new_head_prefixes = ('last.', 'aux.')", "new_head_prefixes = ('last.',)"),
        ("classifier_prefixes = ('last.',)", "classifier_prefixes = ('lats.',)"),
        ('self.body(stem)', 'self.body(stem.detach())'),
        ('stride = 4\n    presets', 'stride = 3\n    presets'),
    ],
)
def test_a_network_that_says_what_is_not_so_is_found_out(
    right: str, wrong: str, one_more: Callable[..., None], tmp_path: Path
) -> None:
    assert right in DENSE
    one_more(MODELS, 'made', DENSE.replace(right, wrong), 'Made')
    assert not all(holds(test, 'made', tmp_path) for test in CHECKS)


def holds(test: Callable[..., None], name: str, tmp_path: Path) -> bool:
    more = {'tmp_path': tmp_path} if 'tmp_path' in inspect.signature(test).parameters else {}
    try:
        test(name, {}, **more)
    except (AssertionError, RuntimeError):
        return False
    return True


# What was published


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
        ('espnetv2', 20, {}, 789_242, 526),
        ('fast_scnn', 19, {}, 1_138_051, 268),
        ('segmenter', 19, {}, 87_432_211, 152),
        ('segmenter', 19, {'decoder': 'mask'}, 103_379_750, 183),
        ('efficientnet_lite_seg', 11, {}, 3_394_763, 356),
        ('efficientnet_lite_seg', 11, {'decoder': 'lraspp'}, 3_042_883, 297),
        ('efficientnet_lite_seg', 11, {'decoder': 'bifpn'}, 3_063_853, 434),
        ('efficientnet_lite_seg', 11, {'encoder': 'lite1'}, 4_159_435, 446),
        ('efficientnet_lite_seg', 11, {'encoder': 'lite2'}, 4_804_107, 446),
        # A prototype per class and the scale in place of weight and bias; norm and 1x1 on top.
        ('erfnet', 19, {'head': 'isomax'}, 2_066_642 - 16 * 19 * 3 - 2 * 19 + 2, 345),
        ('erfnet', 19, {'outlier_head': True}, 2_066_642 + 2 * 16 + 2 * 16 + 2, 352),
        ('efficientnet_lite_seg', 11, {'outlier_head': True}, 3_394_763 + 64 * 4 + 2, 363),
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
        features = output.features['last']
        assert features.shape == (1, channels, 64 // stride, 96 // stride)
        logits = model.get_submodule(layer)(features)
        corners = name == 'fast_scnn'
        enlarged = functional.interpolate(logits, (64, 96), mode='bilinear', align_corners=corners)
    torch.testing.assert_close(enlarged, output.logits)


@pytest.mark.parametrize(
    ('name', 'options', 'size'),
    [
        ('bisenetv1', {}, (32, 64)),
        ('espnetv2', {}, (80, 144)),
        ('fast_scnn', {'head': 'isomax'}, (45, 61)),
        ('efficientnet_lite_seg', {}, (96, 160)),
        ('efficientnet_lite_seg', {'decoder': 'lraspp'}, (64, 96)),
        ('efficientnet_lite_seg', {'decoder': 'bifpn'}, (64, 96)),
    ],
)
def test_openvino_computes_what_torch_computes(name, options, size):
    import openvino

    from anomaly_seg_ros.engines.openvino_engine import load_cpu

    model = spread(tiny(name, options)).eval()
    images = torch.randn(1, 3, *size)
    converted = openvino.convert_model(torch.export.export(model, (images,)))
    precise = {'INFERENCE_PRECISION_HINT': 'f32'}
    compiled = load_cpu().compile_model(converted, 'CPU', precise)
    results = compiled(images.numpy())
    with torch.inference_mode():
        output = model(images)
    for index, expected in enumerate((output.logits, output.features['last'])):
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
    with pytest.raises(ValueError, match=r"options \['depth'\] of model 'erfnet'; it takes: "):
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


def deviations(model, names):
    weights = dict(model.named_parameters())
    return [float(weights[f'{name}.weight'].detach().std()) for name in names]


def test_bisenetv1_starts_as_the_authors_code_makes_it():
    torch.manual_seed(0)
    model = build_model('bisenetv1', 19, {'aux_heads': True})
    names = ('sp.conv1.conv', 'ffm.conv', 'cp.arm32.conv.conv', 'conv_out.conv_out')
    # 1 / sqrt(fan in), the classifier too.
    expected = [1 / math.sqrt(fan) for fan in (3 * 49, 256, 512 * 9, 256)]
    assert deviations(model, names) == pytest.approx(expected, rel=0.05)
    assert not model.conv_out16.conv_out.bias.any()
    # The backbone, for want of ImageNet's weights: sqrt(2 / fan out).
    assert deviations(model, ['cp.resnet.layer2.0.conv1']) == pytest.approx(
        [math.sqrt(2 / (128 * 9))], rel=0.05
    )


@pytest.mark.parametrize(('flat', 'classifier'), [(True, 0.01), (False, math.sqrt(2 / 19))])
def test_bisenetv2_starts_flat_or_as_the_authors_code_makes_it(flat, classifier):
    torch.manual_seed(0)
    model = build_model('bisenetv2', 19, {'flat_start': flat})
    names = ('detail.S2.0.conv', 'segment.S3.0.dwconv1.0', 'head.conv_out.1')
    expected = [math.sqrt(2 / (64 * 9)), math.sqrt(2 / (96 * 9)), classifier]
    assert deviations(model, names) == pytest.approx(expected, rel=0.05)
    assert not model.head.conv_out[1].bias.any()
    assert not model.segment.S3[0].conv2[1].weight.any()


@pytest.mark.parametrize(
    ('name', 'torchs_own', 'kaimings'),
    [
        ('ldn121', ['logits_ood.conv', 'spp.spp.spp.spp_bn.conv'], ['backbone.features.conv0']),
        ('deeplabv3plus', ['logits_ood.conv'], ['final.0']),
    ],
)
def test_heads_of_densehybrids_networks_start_as_torch_makes_them(name, torchs_own, kaimings):
    torch.manual_seed(0)
    small = {'ldn121': {'layers': (1, 1, 1, 1)}, 'deeplabv3plus': {'blocks': (1, 1, 1, 1, 1, 1)}}
    options = {'outlier_head': True, **small[name]}
    if name == 'deeplabv3plus':
        options |= {'widths': lookup('model', MODELS, name).presets['tiny']['widths']}
    model = build_model(name, 19, options)
    weights = {key: value for key, value in model.named_parameters() if value.ndim == 4}
    fan = {key: weights[f'{key}.weight'][0].numel() for key in torchs_own + kaimings}
    # Uniform of variance 1 / (3 fan in), and normal of 2 / fan in.
    expected = [math.sqrt(1 / (3 * fan[key])) for key in torchs_own]
    expected += [math.sqrt(2 / fan[key]) for key in kaimings]
    assert deviations(model, torchs_own + kaimings) == pytest.approx(expected, rel=0.1)
