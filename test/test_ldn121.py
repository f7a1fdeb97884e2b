"""Ladder DenseNet-121: published counts and keys, frugal training."""

import pytest
import torch

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.classes import CITYSCAPES, STREETHAZARDS
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.models import build_model
from anomaly_seg_ros.models.ldn121 import LDN121

K = 5


@pytest.mark.parametrize(
    ('classes', 'options', 'parameters', 'entries'),
    [
        (19, {}, 11_067_414, 820),
        (19, {'outlier_head': True}, 11_067_928, 827),
        (12, {'outlier_head': True}, 11_067_025, 827),
    ],
)
def test_parameters_and_state_entries_are_as_published(classes, options, parameters, entries):
    with torch.device('meta'):
        model = build_model('ldn121', classes, options).eval()
        output = model(torch.empty(1, 3, 64, 96))
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(model.state_dict()) == entries
    assert output.logits.shape == (1, classes, 64, 96)
    assert output.features['last'].shape == (1, 128, 16, 24)
    assert (output.ood_logits is not None) == bool(options)
    assert model.provides == {'logits', 'features.last'} | ({'ood_logits'} if options else set())


def test_keys_and_shapes_are_as_published():
    with torch.device('meta'):
        state = LDN121(19, outlier_head=True).state_dict()
    ladder = 'upsample.upsample_layers.upsample'
    expected = {
        'backbone.features.conv0.weight': (64, 3, 7, 7),
        'backbone.features.norm0.running_var': (64,),
        'backbone.features.denseblock1.denselayer6.conv1.weight': (128, 224, 1, 1),
        'backbone.features.denseblock2.denselayer12.norm1.weight': (480,),
        'backbone.features.denseblock3.denselayer24.conv2.weight': (32, 128, 3, 3),
        'backbone.features.denseblock4.denselayer16.norm1.bias': (992,),
        'backbone.features.transition1.conv.weight': (128, 256, 1, 1),
        'backbone.features.transition3.norm.weight': (1024,),
        'spp.spp.spp.spp_bn.conv.weight': (512, 1024, 1, 1),
        'spp.spp.spp.spp3.conv.weight': (128, 512, 1, 1),
        'spp.spp.spp.spp_fuse.conv.weight': (512, 1024, 1, 1),
        f'{ladder}_0.bottleneck.conv.weight': (512, 1024, 1, 1),
        f'{ladder}_1.bottleneck.conv.weight': (256, 512, 1, 1),
        f'{ladder}_2.blend_conv.conv.weight': (128, 256, 3, 3),
        f'{ladder}_0.logits_aux.conv.weight': (1, 512, 1, 1),
        f'{ladder}_2.logits_aux.conv.bias': (1,),
        'logits.conv.weight': (19, 128, 1, 1),
        'logits.conv.bias': (19,),
        'logits_ood.conv.weight': (2, 128, 1, 1),
    }
    assert {key: tuple(state[key].shape) for key in expected} == expected


def trained(memory_efficient, apart=False, steps=2):
    """Gradients of the last step and the whole state, after steps of plain descent."""
    torch.manual_seed(4)
    options = {'outlier_head': True, 'memory_efficient': memory_efficient}
    model = build_model('ldn121', K, options, preset='tiny').train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for _ in range(steps):
        output = model(torch.randn(2, 3, 64, 96))
        optimizer.zero_grad()
        terms = [output.logits.square().mean(), output.ood_logits.square().mean()]
        if apart:
            terms[0].backward(retain_graph=True)
            del terms[0]
        sum(terms).backward()
        optimizer.step()
    return {k: p.grad for k, p in model.named_parameters()}, model.state_dict()


@pytest.mark.parametrize('apart', [False, True], ids=['in one', 'term by term'])
def test_computing_dense_layers_again_gives_the_same_gradients_and_statistics(apart):
    gradients, state = trained(False, apart)
    frugal_gradients, frugal_state = trained(True, apart)
    assert sum(gradient is not None for gradient in gradients.values()) > 50
    for key, gradient in gradients.items():
        if gradient is None:
            assert frugal_gradients[key] is None
        else:
            torch.testing.assert_close(frugal_gradients[key], gradient, rtol=1e-5, atol=1e-7)
    # The running statistics too: a norm that is computed twice must count its batch once.
    for key, value in state.items():
        torch.testing.assert_close(frugal_state[key], value, rtol=1e-5, atol=1e-7)
    assert frugal_state['backbone.features.denseblock1.denselayer1.norm1.num_batches_tracked'] == 2


def test_frugal_training_keeps_fewer_bytes_for_the_backward_pass():
    def kept(memory_efficient):
        torch.manual_seed(5)
        options = {'memory_efficient': memory_efficient, 'layers': (6, 6, 6, 6)}
        model = build_model('ldn121', K, options, preset='tiny').train()
        storages = {}

        def pack(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(torch.randn(2, 3, 64, 96)).logits.square().mean()
        assert loss.requires_grad
        return sum(storages.values())

    assert kept(True) < 0.6 * kept(False)


def test_frugal_layers_give_the_same_in_evaluation():
    images = torch.randn(1, 3, 64, 96)
    found = []
    for memory_efficient in (False, True):
        torch.manual_seed(6)
        options = {'memory_efficient': memory_efficient}
        model = build_model('ldn121', K, options, preset='tiny').eval()
        with torch.inference_mode():
            found.append(model(images).logits)
    assert torch.equal(*found)


def test_the_unused_auxiliary_layers_are_frozen_and_named():
    model = build_model('ldn121', K, preset='tiny')
    frozen = {key for key, p in model.named_parameters() if not p.requires_grad}
    assert frozen
    assert all('.logits_aux.' in key for key in frozen)
    assert frozen == {
        k for k, _ in model.named_parameters() if k.startswith(model.train_only_prefixes)
    }


def test_prefixes_name_the_last_layers():
    model = build_model('ldn121', K, {'outlier_head': True}, preset='tiny')
    last = {k for k, _ in model.named_parameters() if k.startswith(model.classifier_prefixes)}
    parts = ('norm.weight', 'norm.bias', 'conv.weight', 'conv.bias')
    assert last == {f'{head}.{part}' for head in ('logits', 'logits_ood') for part in parts}


@pytest.mark.parametrize('classes', [CITYSCAPES, STREETHAZARDS], ids=['19', '12'])
def test_a_public_file_becomes_a_checkpoint(classes, tmp_path, capsys):
    torch.manual_seed(8)
    model = build_model('ldn121', len(classes.names), {'outlier_head': True}).eval()
    weights = {f'module.{key}': value for key, value in model.state_dict().items()}
    torch.save(weights, tmp_path / 'ldn.pt')
    arguments = ['--model', 'ldn121', '--out', str(tmp_path / 'out')]
    assert main(['import_weights', str(tmp_path / 'ldn.pt'), *arguments]) == 0
    assert '827 of 827 tensors matched' in capsys.readouterr().out
    checkpoint = Checkpoint.open(tmp_path / 'out')
    loaded, meta = checkpoint.network(), checkpoint.meta
    assert meta.class_names == classes.names
    assert (meta.mean, meta.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert meta.model_options == {'outlier_head': True}
    images = torch.rand(1, 3, 32, 64)
    with torch.inference_mode():
        assert torch.equal(loaded(images).ood_logits, model(images).ood_logits)
