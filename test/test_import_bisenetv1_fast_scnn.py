"""BiSeNetV1 and Fast-SCNN against their public key layouts; any size for Fast-SCNN.

That they compute what the public code computes is the matter of `test_public_networks.py`.
"""

from collections import OrderedDict

import pytest
import torch

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


# Files


CASES = {
    'bisenetv1': (206, (0.3257, 0.3690, 0.3223), (0.2112, 0.2148, 0.2115)),
    'fast_scnn': (268, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
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
def test_an_imported_file_computes_what_its_weights_compute(name, wrapper, tmp_path, capsys):
    entries, mean, std = CASES[name]
    # The public files of BiSeNetV1 hold the two auxiliary heads too.
    state = trained_state(name, aux_heads=True)
    content = {f'module.{key}': value for key, value in state.items()}
    torch.save({wrapper: content} if wrapper else content, tmp_path / 'w.pth')
    command = ['import_weights', str(tmp_path / 'w.pth'), '--model', name]
    assert main([*command, '--out', str(tmp_path / 'c')]) == 0
    assert f'{entries} of {entries} tensors matched' in capsys.readouterr().out
    checkpoint = Checkpoint.open(tmp_path / 'c')
    model, meta = checkpoint.network(), checkpoint.meta
    assert (meta.mean, meta.std) == (mean, std)
    assert (meta.void_index, meta.channels, meta.input_size) == (None, 19, (1024, 2048))
    own = build_model(name, 19, {'aux_heads': True}).eval()
    own.load_state_dict(state)
    images = torch.randn(1, 3, 96, 128)
    with torch.inference_mode():
        assert torch.equal(model(images).logits, own(images).logits)


@pytest.mark.parametrize('size', [(45, 61), (33, 64), (360, 480), (7, 7)])
def test_fast_scnn_takes_any_size(size):
    state = trained_state('fast_scnn')
    model = build_model('fast_scnn', 19).eval()
    model.load_state_dict(state)
    images = torch.randn(1, 3, *size)
    with torch.inference_mode():
        logits = model(images).logits
    assert logits.shape == (1, 19, *size)
    assert logits.isfinite().all()


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
