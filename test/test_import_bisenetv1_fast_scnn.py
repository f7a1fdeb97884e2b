"""BiSeNetV1 and Fast-SCNN against their public key layouts and an independent computation.

The shapes and the reference networks below are written from the layouts alone; they share nothing
with the package.
"""

from collections import OrderedDict

import pytest
import torch
from torch.nn import functional as F

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.models import build_model


def norm_shapes(key, channels):
    return dict.fromkeys(
        (f'{key}.weight', f'{key}.bias', f'{key}.running_mean', f'{key}.running_var'), (channels,)
    ) | {f'{key}.num_batches_tracked': ()}


BISENETV1 = {
    'cp.resnet.conv1.weight': (64, 3, 7, 7),
    **norm_shapes('cp.resnet.bn1', 64),
    'cp.resnet.layer1.0.conv1.weight': (64, 64, 3, 3),
    **norm_shapes('cp.resnet.layer1.1.bn2', 64),
    'cp.resnet.layer2.0.conv1.weight': (128, 64, 3, 3),
    'cp.resnet.layer2.0.downsample.0.weight': (128, 64, 1, 1),
    **norm_shapes('cp.resnet.layer2.0.downsample.1', 128),
    'cp.resnet.layer4.1.conv2.weight': (512, 512, 3, 3),
    'cp.arm16.conv.conv.weight': (128, 256, 3, 3),
    **norm_shapes('cp.arm16.conv.bn', 128),
    'cp.arm16.conv_atten.weight': (128, 128, 1, 1),
    **norm_shapes('cp.arm16.bn_atten', 128),
    'cp.arm32.conv.conv.weight': (128, 512, 3, 3),
    'cp.conv_head32.conv.weight': (128, 128, 3, 3),
    'cp.conv_head16.conv.weight': (128, 128, 3, 3),
    'cp.conv_avg.conv.weight': (128, 512, 1, 1),
    'sp.conv1.conv.weight': (64, 3, 7, 7),
    'sp.conv2.conv.weight': (64, 64, 3, 3),
    'sp.conv3.conv.weight': (64, 64, 3, 3),
    'sp.conv_out.conv.weight': (128, 64, 1, 1),
    **norm_shapes('sp.conv_out.bn', 128),
    'ffm.convblk.conv.weight': (256, 256, 1, 1),
    'ffm.conv.weight': (256, 256, 1, 1),
    **norm_shapes('ffm.bn', 256),
    'conv_out.conv.conv.weight': (256, 256, 3, 3),
    'conv_out.conv_out.weight': (19, 256, 1, 1),
    'conv_out.conv_out.bias': (19,),
    'conv_out16.conv.conv.weight': (64, 128, 3, 3),
    'conv_out16.conv_out.weight': (19, 64, 1, 1),
    'conv_out32.conv_out.bias': (19,),
}
FAST_SCNN = {
    'learning_to_downsample.conv.conv.0.weight': (32, 3, 3, 3),
    **norm_shapes('learning_to_downsample.conv.conv.1', 32),
    'learning_to_downsample.dsconv1.conv.0.weight': (32, 1, 3, 3),
    **norm_shapes('learning_to_downsample.dsconv1.conv.1', 32),
    'learning_to_downsample.dsconv1.conv.3.weight': (48, 32, 1, 1),
    **norm_shapes('learning_to_downsample.dsconv2.conv.4', 64),
    'global_feature_extractor.bottleneck1.0.block.0.conv.0.weight': (384, 64, 1, 1),
    'global_feature_extractor.bottleneck1.0.block.1.conv.0.weight': (384, 1, 3, 3),
    'global_feature_extractor.bottleneck1.0.block.2.weight': (64, 384, 1, 1),
    **norm_shapes('global_feature_extractor.bottleneck2.1.block.3', 96),
    'global_feature_extractor.bottleneck2.0.block.2.weight': (96, 384, 1, 1),
    'global_feature_extractor.bottleneck3.2.block.0.conv.0.weight': (768, 128, 1, 1),
    'global_feature_extractor.ppm.conv1.conv.0.weight': (32, 128, 1, 1),
    **norm_shapes('global_feature_extractor.ppm.conv4.conv.1', 32),
    'global_feature_extractor.ppm.out.conv.0.weight': (128, 256, 1, 1),
    'feature_fusion.dwconv.conv.0.weight': (128, 1, 3, 3),
    'feature_fusion.conv_lower_res.0.weight': (128, 128, 1, 1),
    'feature_fusion.conv_lower_res.0.bias': (128,),
    'feature_fusion.conv_higher_res.0.weight': (128, 64, 1, 1),
    **norm_shapes('feature_fusion.conv_higher_res.1', 128),
    'classifier.dsconv1.conv.0.weight': (128, 1, 3, 3),
    'classifier.dsconv2.conv.3.weight': (128, 128, 1, 1),
    'classifier.conv.1.weight': (19, 128, 1, 1),
    'classifier.conv.1.bias': (19,),
}


@pytest.mark.parametrize(
    ('name', 'options', 'expected'),
    [('bisenetv1', {'aux_heads': True}, BISENETV1), ('fast_scnn', {}, FAST_SCNN)],
)
def test_keys_and_shapes_are_those_of_the_public_files(name, options, expected):
    state = build_model(name, 19, options).state_dict()
    assert {key: tuple(state[key].shape) for key in expected if key in state} == expected
    biases = {key for key, value in state.items() if key.endswith('.bias') and value.ndim == 1}
    of_norms = {key.replace('running_mean', 'bias') for key in state if 'running_mean' in key}
    ends = ('conv_out.bias', 'classifier.conv.1.bias', '_res.0.bias')
    assert all(key.endswith(ends) for key in biases - of_norms)


# Reference networks


def conv(w, key, x, stride=1, padding=None):
    weight = w[f'{key}.weight']
    padding = weight.shape[2] // 2 if padding is None else padding
    groups = x.shape[1] // weight.shape[1]
    return F.conv2d(x, weight, w.get(f'{key}.bias'), stride, padding, groups=groups)


def norm(w, key, x):
    mean, var = w[f'{key}.running_mean'], w[f'{key}.running_var']
    return F.batch_norm(x, mean, var, w[f'{key}.weight'], w[f'{key}.bias'])


def unit(w, key, x, stride=1, names=('conv', 'bn'), padding=None):
    x = conv(w, f'{key}.{names[0]}', x, stride, padding)
    return F.relu(norm(w, f'{key}.{names[1]}', x))


def mean(x):
    return F.avg_pool2d(x, x.shape[2:])


def reference_bisenetv1(w, images):
    x = F.max_pool2d(unit(w, 'cp.resnet', images, 2, ('conv1', 'bn1')), 3, 2, 1)
    maps = []
    for layer in (1, 2, 3, 4):
        for block in (0, 1):
            key = f'cp.resnet.layer{layer}.{block}'
            stride = 2 if layer > 1 and block == 0 else 1
            y = unit(w, key, x, stride, ('conv1', 'bn1'))
            y = norm(w, f'{key}.bn2', conv(w, f'{key}.conv2', y))
            if stride == 2:
                x = norm(w, f'{key}.downsample.1', conv(w, f'{key}.downsample.0', x, 2))
            x = F.relu(x + y)
        maps.append(x)

    def refined(key, x):
        x = unit(w, f'{key}.conv', x)
        gate = norm(w, f'{key}.bn_atten', conv(w, f'{key}.conv_atten', mean(x)))
        return x * gate.sigmoid()

    def double(x):
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    x = refined('cp.arm32', maps[3]) + unit(w, 'cp.conv_avg', mean(maps[3]))
    x = unit(w, 'cp.conv_head32', double(x)) + refined('cp.arm16', maps[2])
    context = unit(w, 'cp.conv_head16', double(x))
    spatial = images
    for index in (1, 2, 3):
        spatial = unit(w, f'sp.conv{index}', spatial, 2)
    spatial = unit(w, 'sp.conv_out', spatial)
    joined = unit(w, 'ffm.convblk', torch.cat([spatial, context], 1))
    joined = joined + joined * norm(w, 'ffm.bn', conv(w, 'ffm.conv', mean(joined))).sigmoid()
    logits = conv(w, 'conv_out.conv_out', unit(w, 'conv_out.conv', joined))
    return F.interpolate(logits, images.shape[2:], mode='bilinear')


def reference_fast_scnn(w, images):
    def separable(key, x, stride=1):
        return unit(w, key, unit(w, key, x, stride, ('conv.0', 'conv.1')), 1, ('conv.3', 'conv.4'))

    def sized(x, like):
        return F.interpolate(x, like.shape[2:], mode='bilinear', align_corners=True)

    names = ('conv.0', 'conv.1')
    x = unit(w, 'learning_to_downsample.conv', images, 2, names, padding=0)
    x = separable('learning_to_downsample.dsconv1', x, 2)
    higher = x = separable('learning_to_downsample.dsconv2', x, 2)
    for stage in (1, 2, 3):
        for block in (0, 1, 2):
            key = f'global_feature_extractor.bottleneck{stage}.{block}.block'
            stride = 2 if stage < 3 and block == 0 else 1
            y = unit(w, f'{key}.1', unit(w, f'{key}.0', x, 1, names), stride, names)
            y = norm(w, f'{key}.3', conv(w, f'{key}.2', y))
            x = y if block == 0 else x + y
    key = 'global_feature_extractor.ppm'
    pooled = [
        sized(unit(w, f'{key}.conv{i}', F.adaptive_avg_pool2d(x, side), 1, names), x)
        for i, side in enumerate((1, 2, 3, 6), 1)
    ]
    x = unit(w, f'{key}.out', torch.cat([x, *pooled], 1), 1, names)
    x = unit(w, 'feature_fusion.dwconv', sized(x, higher), 1, names)
    x = norm(w, 'feature_fusion.conv_lower_res.1', conv(w, 'feature_fusion.conv_lower_res.0', x))
    key = 'feature_fusion.conv_higher_res'
    x = F.relu(x + norm(w, f'{key}.1', conv(w, f'{key}.0', higher)))
    x = separable('classifier.dsconv2', separable('classifier.dsconv1', x))
    return sized(conv(w, 'classifier.conv.1', x), images)


# Files


CASES = {
    'bisenetv1': (
        reference_bisenetv1,
        206,
        (0.3257, 0.3690, 0.3223),
        (0.2112, 0.2148, 0.2115),
    ),
    'fast_scnn': (reference_fast_scnn, 268, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def trained_state(name, **options):
    """A state dict in the public layout, as if trained: no statistic at its initial value."""
    torch.manual_seed(4)
    state = OrderedDict(build_model(name, 19, options).state_dict())
    for key, value in state.items():
        if key.endswith('running_var'):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point() and value.ndim == 1:
            value.add_(0.2 * torch.randn_like(value))
    return state


@pytest.mark.parametrize('wrapper', [None, 'state_dict'])
@pytest.mark.parametrize('name', list(CASES))
def test_an_imported_file_computes_what_its_own_network_computes(name, wrapper, tmp_path, capsys):
    reference, entries, mean_, std = CASES[name]
    # The public files of BiSeNetV1 hold the two auxiliary heads too.
    state = trained_state(name, aux_heads=True)
    content = {f'module.{key}': value for key, value in state.items()}
    torch.save({wrapper: content} if wrapper else content, tmp_path / 'w.pth')
    command = ['import_weights', str(tmp_path / 'w.pth'), '--model', name]
    assert main([*command, '--out', str(tmp_path / 'c')]) == 0
    assert f'{entries} of {entries} tensors matched' in capsys.readouterr().out
    checkpoint = Checkpoint.open(tmp_path / 'c')
    model, meta = checkpoint.network(), checkpoint.meta
    assert (meta.mean, meta.std) == (mean_, std)
    assert (meta.void_index, meta.channels, meta.input_size) == (None, 19, (1024, 2048))
    images = torch.randn(1, 3, 96, 128)
    with torch.inference_mode():
        expected = reference(state, images)
        torch.testing.assert_close(model(images).logits, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('size', [(45, 61), (33, 64), (360, 480), (7, 7)])
def test_fast_scnn_takes_any_size(size):
    state = trained_state('fast_scnn')
    model = build_model('fast_scnn', 19).eval()
    model.load_state_dict(state)
    images = torch.randn(1, 3, *size)
    with torch.inference_mode():
        logits = model(images).logits
        assert logits.shape == (1, 19, *size)
        torch.testing.assert_close(
            logits, reference_fast_scnn(state, images), rtol=1e-3, atol=1e-4
        )


def test_where_the_sides_are_multiples_of_32_the_deep_branch_grows_by_exactly_four():
    model = build_model('fast_scnn', 5, preset='tiny').eval()
    with torch.inference_mode():
        higher = model.learning_to_downsample(torch.randn(1, 3, 64, 96))
        lower = model.global_feature_extractor(higher)
    assert higher.shape[2:] == (8, 12)
    assert lower.shape[2:] == (2, 3)


def test_a_file_with_an_outlier_head_is_read_with_it(tmp_path):
    state = build_model('erfnet', 19, {'outlier_head': True}).state_dict()
    torch.save(state, tmp_path / 'w.pth')
    command = ['import_weights', str(tmp_path / 'w.pth'), '--model', 'erfnet']
    assert main([*command, '--out', str(tmp_path / 'c')]) == 0
    checkpoint = Checkpoint.open(tmp_path / 'c')
    model, meta = checkpoint.network(), checkpoint.meta
    assert meta.model_options == {'outlier_head': True}
    assert 'ood_logits' in model.provides
    assert torch.equal(model.logits_ood.conv.weight, state['logits_ood.conv.weight'])
