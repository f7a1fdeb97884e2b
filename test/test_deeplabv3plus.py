"""DeepLabV3+ with WideResNet-38: published counts and keys, dropout and heads."""

from pathlib import Path

import pytest
import torch

from anomaly_seg_ros.models import build_model
from anomaly_seg_ros.models.deeplabv3plus import DeepLabV3Plus
from training.commands.import_weights import make_meta
from training.public_weights.layouts import find_layout

K = 5


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
