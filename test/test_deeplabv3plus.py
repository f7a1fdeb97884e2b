"""DeepLabV3+ with WideResNet-38: published counts and keys, and an independent forward pass."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from anomaly_seg_ros.models import build_model
from anomaly_seg_ros.models.deeplabv3plus import DeepLabV3Plus
from training.commands.import_weights import find_layout, make_meta

K = 5


def norm_relu(w, key, x):
    mean, var = w[f'{key}.running_mean'], w[f'{key}.running_var']
    return F.relu(F.batch_norm(x, mean, var, w[f'{key}.weight'], w[f'{key}.bias']))


def conv(w, key, x, stride=1, dilation=1):
    weight = w[f'{key}.weight']
    padding = dilation * (weight.shape[2] // 2)
    return F.conv2d(x, weight, w.get(f'{key}.bias'), stride, padding, dilation)


def enlarge(x, like):
    return F.interpolate(x, size=like.shape[2:], mode='bilinear', align_corners=True)


def reference_block(w, key, x, stride, dilation):
    active = norm_relu(w, f'{key}.bn1.0', x)
    shortcut = x
    if f'{key}.proj_conv.weight' in w:
        shortcut = conv(w, f'{key}.proj_conv', active, stride)
    bottleneck = f'{key}.convs.conv3.weight' in w
    y = conv(w, f'{key}.convs.conv1', active, stride, 1 if bottleneck else dilation)
    y = norm_relu(w, f'{key}.convs.bn2.0', y)
    y = conv(w, f'{key}.convs.conv2', y, 1, dilation)
    if bottleneck:
        y = conv(w, f'{key}.convs.conv3', norm_relu(w, f'{key}.convs.bn3.0', y))
    return shortcut + y


def reference(w, images):
    """What the public key layout computes, written from methods and keys alone."""
    x = conv(w, 'mod1.conv1', images)
    half = None
    for stage in range(2, 8):
        if stage in (2, 3):
            x = F.max_pool2d(x, 3, 2, 1)
        dilation = {5: 2, 6: 4, 7: 4}.get(stage, 1)
        names = sorted({k.split('.')[1] for k in w if k.startswith(f'mod{stage}.')})
        for name in names:
            stride = 2 if (stage, name) == (4, 'block1') else 1
            x = reference_block(w, f'mod{stage}.{name}', x, stride, dilation)
        half = x if stage == 2 else half
    pooled = F.adaptive_avg_pool2d(x, 1)
    parts = [enlarge(norm_relu(w, 'aspp.img_conv.1', conv(w, 'aspp.img_conv.0', pooled)), x)]
    for i, dilation in enumerate((1, 12, 24, 36)):
        key = f'aspp.features.{i}'
        parts.append(norm_relu(w, f'{key}.1', conv(w, f'{key}.0', x, 1, dilation)))
    coarse = enlarge(conv(w, 'bot_aspp', torch.cat(parts, 1)), half)
    joined = torch.cat([conv(w, 'bot_fine', half), coarse], 1)
    y = norm_relu(w, 'final.1', conv(w, 'final.0', joined))
    y = norm_relu(w, 'final.4', conv(w, 'final.3', y))
    logits = enlarge(conv(w, 'final.6', y), images)
    ood = enlarge(conv(w, 'logits_ood.conv', norm_relu(w, 'logits_ood.norm', joined)), images)
    return logits, joined, ood


def spread(model):
    for key, value in model.state_dict().items():
        if key.endswith('running_var'):
            value.uniform_(0.5, 1.5)
        elif key.endswith(('running_mean', 'bias')):
            value.normal_(std=0.3)
    return model


@pytest.mark.parametrize(
    ('options', 'parameters', 'entries'),
    [({}, 137_103_936, 268), ({'outlier_head': True}, 137_105_154, 275)],
)
def test_parameters_and_state_entries_are_as_published(options, parameters, entries):
    with torch.device('meta'):
        model = build_model('deeplabv3plus', 19, options).eval()
        output = model(torch.empty(1, 3, 64, 96))
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(model.state_dict()) == entries
    assert output.logits.shape == (1, 19, 64, 96)
    assert output.features['last'].shape == (1, 304, 32, 48)
    assert (output.ood_logits is not None) == bool(options)
    assert model.provides == {'logits', 'features.last'} | ({'ood_logits'} if options else set())


def test_keys_and_shapes_are_as_published():
    with torch.device('meta'):
        state = DeepLabV3Plus(19, outlier_head=True).state_dict()
    expected = {
        'mod1.conv1.weight': (64, 3, 3, 3),
        'mod2.block1.bn1.0.running_mean': (64,),
        'mod2.block1.proj_conv.weight': (128, 64, 1, 1),
        'mod3.block3.convs.conv2.weight': (256, 256, 3, 3),
        'mod4.block6.convs.bn2.0.weight': (512,),
        'mod5.block1.proj_conv.weight': (1024, 512, 1, 1),
        'mod5.block3.convs.conv1.weight': (512, 1024, 3, 3),
        'mod6.block1.convs.conv1.weight': (512, 1024, 1, 1),
        'mod7.block1.convs.conv2.weight': (2048, 1024, 3, 3),
        'mod7.block1.convs.bn3.0.bias': (2048,),
        'mod7.block1.convs.conv3.weight': (4096, 2048, 1, 1),
        'aspp.features.0.0.weight': (256, 4096, 1, 1),
        'aspp.features.3.0.weight': (256, 4096, 3, 3),
        'aspp.img_conv.0.weight': (256, 4096, 1, 1),
        'bot_fine.weight': (48, 128, 1, 1),
        'bot_aspp.weight': (256, 1280, 1, 1),
        'final.0.weight': (256, 304, 3, 3),
        'final.6.weight': (19, 256, 1, 1),
        'logits_ood.norm.weight': (304,),
        'logits_ood.conv.weight': (2, 304, 1, 1),
        'logits_ood.conv.bias': (2,),
    }
    assert {key: tuple(state[key].shape) for key in expected} == expected
    assert not [key for key in state if key.startswith('mod2.block2.proj_conv')]
    assert 'final.6.bias' not in state


@pytest.mark.parametrize('size', [(64, 96), (40, 56)])
def test_the_forward_pass_equals_one_written_from_the_keys_alone(size):
    torch.manual_seed(3)
    model = spread(build_model('deeplabv3plus', K, {'outlier_head': True}, preset='tiny')).eval()
    images = torch.randn(2, 3, *size)
    with torch.inference_mode():
        output = model(images)
        logits, joined, ood = reference(model.state_dict(), images)
    torch.testing.assert_close(output.logits, logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.features['last'], joined, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.ood_logits, ood, rtol=1e-4, atol=1e-4)


def test_dropout_takes_whole_channels_in_the_last_two_stages_alone():
    model = build_model('deeplabv3plus', K, preset='tiny')
    found = {n: m.p for n, m in model.named_modules() if isinstance(m, torch.nn.Dropout2d)}
    assert found == {'mod6.block1.convs.dropout': 0.3, 'mod7.block1.convs.dropout': 0.5}
    assert not [m for m in model.modules() if isinstance(m, torch.nn.Dropout)]
    for stage in (model.mod6, model.mod7):
        names = list(dict(stage.block1.convs.named_children()))
        assert names.index('dropout') == names.index('conv3') - 1


def test_the_outlier_head_gets_gradient_and_the_classifier_none_from_it():
    model = build_model('deeplabv3plus', K, {'outlier_head': True}, preset='tiny').train()
    model(torch.randn(2, 3, 32, 48)).ood_logits.square().mean().backward()
    assert model.logits_ood.conv.weight.grad.abs().sum() > 0
    assert model.bot_fine.weight.grad.abs().sum() > 0
    assert model.final[6].weight.grad is None


def test_prefixes_name_the_last_layers():
    model = build_model('deeplabv3plus', K, {'outlier_head': True}, preset='tiny')
    last = {k for k, _ in model.named_parameters() if k.startswith(model.classifier_prefixes)}
    assert last == {
        'final.6.weight', 'logits_ood.norm.weight', 'logits_ood.norm.bias',
        'logits_ood.conv.weight', 'logits_ood.conv.bias',
    }  # fmt: skip


def test_a_wrong_number_of_stages_is_an_error():
    with pytest.raises(ValueError, match='WideResNet has 6 stages'):
        build_model('deeplabv3plus', K, {'blocks': (1, 1)})


def test_a_public_file_is_known_by_its_keys_and_takes_imagenets_statistics(tmp_path):
    with torch.device('meta'):
        state = DeepLabV3Plus(19).state_dict()
    layout = find_layout(state, 'deeplabv3plus', Path('public.pth'))
    file = tmp_path / 'public.pth'
    file.write_bytes(b'')
    meta = make_meta(file, 'deeplabv3plus', layout, {}, None)
    assert meta.mean == (0.485, 0.456, 0.406)
    assert meta.std == (0.229, 0.224, 0.225)
