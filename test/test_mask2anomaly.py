"""Mask2Anomaly: its attention and its losses, held against the public code and the library."""

from __future__ import annotations

from dataclasses import replace
import json
import math
from pathlib import Path
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn, Tensor
from torch.nn import functional

from anomaly_seg_ros.checkpoint.folder import Checkpoint, save_checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.checkpoint.weights import load_state
from anomaly_seg_ros.classes import CAMVID, CITYSCAPES
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.engines import open_engine
from anomaly_seg_ros.engines.export import export_engine
from anomaly_seg_ros.frames.images import write_image
from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models import build_model
from anomaly_seg_ros.models.mask2anomaly import Mask2Anomaly
from anomaly_seg_ros.models.parts.mask_transformer_keys import own_names

pytest.importorskip('transformers')

from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

from anomaly_seg_ros.models.parts.global_attention import (
    Blocked,
    blocked_by,
    GlobalMaskedAttention,
)
from anomaly_seg_ros.models.parts.mask_transformer import BACKBONES, STAGES
from training.datasets import build_dataset
from training.feeding.loading import Batch
from training.loop.network_start import start_network
from training.loop.optimizer import freeze_all_but, set_training, trained_prefixes
from training.objectives import build_objective
from training.objectives.mask2anomaly import contrastive_loss
from training.objectives.mask_classification import class_masks
from training.recipes.train_config import TrainConfig


def wave(*shape: int, step: float = 0.7, size: float = 1.0) -> Tensor:
    """Numbers that anybody can make again."""
    angles = step * torch.arange(math.prod(shape), dtype=torch.float64) + shape[0]
    return (size * torch.sin(angles)).float().view(shape)


def waved_attention() -> GlobalMaskedAttention:
    made = GlobalMaskedAttention(nn.MultiheadAttention(8, 2))
    with torch.no_grad():
        for key, value in made.state_dict().items():
            step = 0.53 if key.startswith('background.') else 0.37
            value.copy_(wave(*value.shape, step=step, size=0.5))
    return made


QUERIES, POSITIONS = wave(3, 2, 8, step=0.9), wave(3, 2, 8, step=0.17)
SEEN, PLACES = wave(6, 2, 8, step=0.23), wave(6, 2, 8, step=0.41)


def masks() -> Tensor:
    """Of two images; one query is nowhere in the first, one is everywhere in the second."""
    made = wave(2, 3, 4, 6, step=0.61, size=4.0)
    made[0, 0], made[1, 2] = -3.0, 2.0
    return made


# Attention


def test_the_attention_is_that_of_the_public_code() -> None:
    # By `GlobalCrossAttentionLayer` of shyam671/Mask2Anomaly-Unmasking-Anomalies-in-Road-Scene-
    # Segmentation at 5c84283, on the same numbers; its norm has the weight 1 + wave.
    attended = waved_attention()(
        QUERIES + POSITIONS, SEEN + PLACES, SEEN, blocked_by(masks(), (2, 3))
    )[0]
    scale, shift = 1 + wave(8, step=0.53, size=0.5), wave(8, step=0.53, size=0.5)
    out = functional.layer_norm(QUERIES + attended, (8,), scale, shift)
    expected = [1.50287, 1.97027, -2.48802, 0.74526, -0.49961, -0.70952, -0.46165, -0.24933]
    torch.testing.assert_close(out[0, 0], torch.tensor(expected), rtol=0, atol=2e-5)
    assert out.abs().sum().item() == pytest.approx(50.635075, abs=1e-4)


def test_both_branches_are_attentions_that_see_opposite_sides() -> None:
    attention, logits = waved_attention(), masks()
    small = functional.interpolate(logits, (2, 3), mode='bilinear', align_corners=False)
    expected = torch.zeros(3, 2, 8)
    for image in range(2):
        for query in range(3):
            mask = small[image, query].flatten()
            for weights, seen in ((attention, mask >= 0), (attention.background, mask <= 0)):
                seen = seen if seen.any() else torch.ones_like(seen)
                plain = nn.MultiheadAttention(8, 2)
                plain.load_state_dict(
                    {k: v for k, v in weights.state_dict().items() if 'background' not in k}
                )
                found, _ = plain(
                    (QUERIES + POSITIONS)[query : query + 1, image],
                    (SEEN + PLACES)[seen, image],
                    SEEN[seen, image],
                )
                expected[query, image] += found[0].detach()
    found = attention(QUERIES + POSITIONS, SEEN + PLACES, SEEN, blocked_by(logits, (2, 3)))[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('fill', [-50.0, 50.0, 0.0, math.inf, -math.inf])
def test_rows_that_would_be_blocked_everywhere_are_open(fill: float) -> None:
    blocked = blocked_by(torch.full((1, 3, 4, 6), fill), (2, 3))
    assert not blocked.foreground.all(-1).any()
    assert not blocked.background.all(-1).any()
    attention = waved_attention()
    queries = QUERIES[:, :1].clone().requires_grad_()
    found = attention(queries, SEEN[:, :1], SEEN[:, :1], blocked)[0]
    found.sum().backward()
    assert found.isfinite().all()
    assert queries.grad is not None
    assert queries.grad.isfinite().all()


def test_one_branch_that_is_blocked_leaves_the_other_as_it_is() -> None:
    blocked = blocked_by(torch.tensor([-3.0, 3.0]).view(1, 2, 1, 1).expand(1, 2, 2, 3), (2, 3))
    assert blocked == Blocked(blocked.foreground, blocked.background)
    nowhere, everywhere = range(2)
    assert not blocked.foreground[0, 0].any()
    assert not blocked.background[0, 0].any()
    assert (nowhere, everywhere) == (0, 1)


# Network


def tiny(**options: Any) -> Any:
    torch.manual_seed(0)
    return build_model('mask2anomaly', 5, options, preset='tiny')


def test_the_background_begins_as_a_copy_of_the_foreground() -> None:
    for layer in tiny().transformer.decoder.layers:
        attention = layer.cross_attn
        for key, value in attention.background.state_dict().items():
            assert torch.equal(value, attention.state_dict()[key])
            assert value.data_ptr() != attention.state_dict()[key].data_ptr()


def test_without_a_background_it_is_the_library_s_network() -> None:
    # A background that gives 0 leaves masked attention alone, which the library has itself.
    ours, library = tiny().eval(), tiny(global_attention=False).eval()
    weights = {k: v for k, v in ours.state_dict().items() if '.background.' not in k}
    library.load_state_dict(weights)
    with torch.no_grad():
        for layer in ours.transformer.decoder.layers:
            layer.cross_attn.background.out_proj.weight.zero_()
            layer.cross_attn.background.out_proj.bias.zero_()
        images = torch.randn(2, 3, 64, 96)
        found, expected = ours(images), library(images)
    torch.testing.assert_close(found.class_logits, expected.class_logits)
    torch.testing.assert_close(found.mask_logits, expected.mask_logits)


def test_training_gives_every_layer_and_evaluation_the_last() -> None:
    network, images = tiny(), torch.randn(1, 3, 64, 96)
    trained, used = network.train()(images), network.eval()(images)
    layers = len(network.transformer.decoder.layers)
    assert len(trained.aux_class_logits) == len(trained.aux_mask_logits) == layers
    assert {masks.shape for masks in trained.aux_mask_logits} == {trained.mask_logits.shape}
    assert used.aux_class_logits == used.aux_mask_logits == ()


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'backbone': 'resnet51'}, "unknown backbone 'resnet51'; choose one of: resnet50, swin_"),
        ({'width': 48}, 'width is 48 with 2 heads; it must be a multiple of 32 and of heads'),
        ({'heads': 5}, 'width is 32 with 5 heads'),
    ],
)
def test_what_cannot_be_built(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        tiny(**options)


def test_the_decoder_is_trained_alone() -> None:
    network = tiny()
    freeze_all_but(network, trained_prefixes(network, 'decoder'))
    set_training(network, 'decoder')
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad == (not name.startswith('encoder.')), name
    assert not network.encoder.training
    assert network.transformer.training
    assert network(torch.randn(1, 3, 64, 96)).aux_mask_logits
    with pytest.raises(ValueError, match="trainable is 'decoder', but the network has no encoder"):
        trained_prefixes(build_model('erfnet', 5), 'decoder')


# Losses


def library_network() -> Any:
    torch.manual_seed(0)
    return Mask2FormerForUniversalSegmentation(
        Mask2FormerConfig(
            backbone_config={
                'model_type': 'swin',
                'embed_dim': 8,
                'depths': [1, 1, 1, 1],
                'num_heads': [1, 1, 1, 1],
                'out_features': ['stage1', 'stage2', 'stage3', 'stage4'],
            },
            num_labels=5,
            num_queries=7,
            feature_size=32,
            mask_feature_size=32,
            hidden_dim=32,
            num_attention_heads=2,
            encoder_layers=1,
            decoder_layers=4,
            train_num_points=200,
        )
    ).eval()


def test_matching_and_losses_are_those_of_the_library_on_the_same_input() -> None:
    network, images = library_network(), torch.randn(2, 3, 64, 64)
    labels = torch.randint(0, 5, (2, 8, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    labels[:, :16] = 255
    masks, classes = class_masks(labels)
    torch.manual_seed(3)
    expected = network(
        images, mask_labels=masks, class_labels=classes, output_auxiliary_logits=True
    )
    output = ModelOutput(
        class_logits=expected.class_queries_logits,
        mask_logits=expected.masks_queries_logits,
        aux_class_logits=tuple(x['class_queries_logits'] for x in expected.auxiliary_logits),
        aux_mask_logits=tuple(x['masks_queries_logits'] for x in expected.auxiliary_logits),
    )
    objective: Any = build_objective('mask_classification', nn.Identity(), {'points': 200})
    torch.manual_seed(3)
    terms = objective.mask_terms(output, labels)
    assert set(terms) == {'class', 'mask', 'dice', 'aux'}
    torch.testing.assert_close(torch.stack(list(terms.values())).sum(), expected.loss.squeeze())


def test_losses_of_a_known_pairing_by_hand() -> None:
    # One query is sure of class 1 and of all pixels, the other of nothing. With their classes
    # exchanged the pairing goes by the masks, and both classes are wrong.
    big = 20.0
    mask_logits = torch.tensor([big, -big]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    right = torch.tensor([[[-big, big, -big], [-big, -big, big]]])
    labels = torch.ones(1, 4, 4, dtype=torch.long)
    objective: Any = build_objective('mask_classification', nn.Identity(), {'points': 16})
    terms = [
        objective.mask_terms(
            ModelOutput(class_logits=class_logits, mask_logits=mask_logits), labels
        )
        for class_logits in (right, right.flip(1))
    ]
    assert terms[0]['class'].item() == pytest.approx(0, abs=1e-5)
    assert terms[1]['class'].item() == pytest.approx(2 * 2 * big, rel=1e-5)
    assert max(term['mask'].item() for term in terms) < 5 * big


def test_frames_without_a_label_teach_that_queries_show_nothing() -> None:
    network = tiny().train()
    labels = torch.full((1, 64, 96), 255)
    batch = Batch(torch.zeros(1, 3, 64, 96, dtype=torch.uint8), labels, labels == 0)
    terms = build_objective('mask_classification', nn.Identity(), {})(network, batch)
    assert terms['class'].item() > 0
    assert terms['mask'].item() == terms['dice'].item() == 0
    torch.stack(list(terms.values())).sum().backward()


def test_a_network_without_queries_is_told_of() -> None:
    batch = Batch(
        torch.zeros(1, 3, 2, 2, dtype=torch.uint8),
        torch.zeros(1, 2, 2, dtype=torch.long),
        torch.zeros(1, 2, 2, dtype=torch.bool),
    )
    for name in ('mask_classification', 'mask2anomaly'):
        objective = build_objective(name, nn.Identity(), {})
        with pytest.raises(ValueError, match='trains queries, which this network lacks'):
            objective(lambda _: ModelOutput(torch.zeros(1, 2, 2, 2)), batch)


@pytest.mark.parametrize(
    ('name', 'options', 'text'),
    [
        ('mask_classification', {'points': 0}, 'points 0; none may be negative'),
        ('mask_classification', {'dice_weight': -1.0}, r'\(2.0, 5.0, -1.0\)'),
        ('mask_classification', {'no_object': 0.0}, 'no_object 0.0, points 12544; none may be'),
        ('mask2anomaly', {'margin': 1.5}, 'margin 1.5; the weight must be above 0'),
        ('mask2anomaly', {'contrast_weight': 0.0}, 'contrast_weight 0.0'),
    ],
)
def test_wrong_options(name: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        build_objective(name, nn.Identity(), options)


def one_query(share: float, mask: float) -> ModelOutput:
    """One query at two places that shows the first of two classes with that probability."""
    classes = torch.tensor([share, 1e-9, 1 - share]).log().view(1, 1, 3)
    masks = torch.tensor([mask, 0.5]).logit().view(1, 1, 1, 2)
    return ModelOutput(class_logits=classes.requires_grad_(), mask_logits=masks.requires_grad_())


def test_the_contrast_by_hand() -> None:
    # P = .8 * .75 = .6 at the known pixel, .8 * .5 = .4 at the pasted one: s = .4 and .6.
    inlier, outlier = torch.tensor([[[True, False]]]), torch.tensor([[[False, True]]])
    loss = contrastive_loss(one_query(0.8, 0.75), inlier, outlier, margin=0.75)
    assert loss.item() == pytest.approx((0.4**2 + 0.15**2) / 2, abs=1e-6)
    literal = contrastive_loss(one_query(0.8, 0.75), inlier, outlier, 0.75, literal=True)
    assert literal.item() == pytest.approx((0.6**2 + 1.15**2) / 2, abs=1e-6)
    neither = torch.zeros_like(inlier)
    assert contrastive_loss(one_query(0.8, 0.75), neither, neither).item() == 0
    assert contrastive_loss(one_query(0.8, 0.75), inlier, neither).item() == pytest.approx(0.08)


@pytest.mark.parametrize(('literal', 'sign'), [(False, -1), (True, 1)])
def test_the_contrast_makes_known_pixels_sure_and_its_literal_form_does_not(
    literal: bool, sign: int
) -> None:
    output = one_query(0.8, 0.75)
    inlier = torch.tensor([[[True, False]]])
    contrastive_loss(output, inlier, ~inlier, 0.75, literal).backward()
    assert output.mask_logits is not None
    assert output.mask_logits.grad is not None
    known, pasted = output.mask_logits.grad.flatten().tolist()
    assert known * sign > 0
    assert pasted > 0


@pytest.mark.parametrize(('margin', 'expected'), [(1.0, 1.974518), (0.75, 1.555628)])
def test_the_literal_contrast_is_that_of_the_public_code(margin: float, expected: float) -> None:
    # By `SetCriterion.loss_ood` of the same repository and commit.
    output = ModelOutput(
        class_logits=wave(2, 4, 4, size=3.0), mask_logits=wave(2, 4, 3, 5, step=1.3, size=2.0)
    )
    outlier = wave(2, 6, 10, step=0.31) > 0.8
    assert outlier.sum() == 23
    loss = contrastive_loss(output, ~outlier, outlier, margin, literal=True)
    assert loss.item() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(
    ('margin', 'last', 'aux'), [(1.0, 2.482889, 1.823055), (0.75, 2.002539, 1.421520)]
)
def test_to_the_literal_form_unlabelled_pixels_are_known(
    margin: float, last: float, aux: float
) -> None:
    # By the same, which learns of a pixel no more than that it has the label 254, or not.
    output = ModelOutput(
        class_logits=wave(2, 5, 5, size=3.0),
        mask_logits=wave(2, 5, 3, 5, step=1.3, size=2.0),
        aux_class_logits=(wave(2, 5, 5, step=0.9, size=3.0),),
        aux_mask_logits=(wave(2, 5, 3, 5, step=0.37, size=2.0),),
    )
    labels = torch.arange(2 * 6 * 10).view(2, 6, 10) % 4
    outlier = wave(2, 6, 10, step=0.31) > 0.8
    labels[:, :3] = labels[outlier] = 255
    batch = Batch(torch.zeros(2, 3, 6, 10, dtype=torch.uint8), labels, outlier)
    options = {'points': 64, 'literal': True, 'margin': margin}
    terms = build_objective('mask2anomaly', nn.Identity(), options)(lambda _: output, batch)
    assert terms['contrast'].item() == pytest.approx(last, abs=2e-6)
    assert terms['aux_contrast'].item() == pytest.approx(aux, abs=2e-6)
    own = build_objective('mask2anomaly', nn.Identity(), {'margin': margin, 'points': 64})
    expected = contrastive_loss(output, batch.inlier, outlier, margin)
    assert own(lambda _: output, batch)['contrast'].item() == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ('options', 'margin'),
    [({}, 0.75), ({'literal': True}, 1.0), ({'literal': True, 'margin': 0.75}, 0.75)],
)
def test_the_margin_is_that_of_the_form(options: dict[str, Any], margin: float) -> None:
    assert build_objective('mask2anomaly', nn.Identity(), options).margin == margin


def test_the_fine_tune_has_both_and_each_layer_s_contrast() -> None:
    network = tiny().train()
    labels = torch.zeros(2, 64, 96, dtype=torch.long)
    labels[:, :, 48:] = 1
    outlier = torch.zeros(2, 64, 96, dtype=torch.bool)
    outlier[:, 20:30, 20:30] = True
    labels[outlier] = 255
    batch = Batch(torch.zeros(2, 3, 64, 96, dtype=torch.uint8), labels, outlier)
    options = {'points': 64, 'contrast_weight': 2.0, 'aux_weight': 0.5}
    terms = build_objective('mask2anomaly', nn.Identity(), options)(network, batch)
    assert set(terms) == {'class', 'mask', 'dice', 'aux', 'contrast', 'aux_contrast'}
    output = network(batch.images.float() / 255)
    known = ~outlier
    layers = zip(output.aux_class_logits, output.aux_mask_logits, strict=True)
    aux = [contrastive_loss(ModelOutput(class_logits=c, mask_logits=m), known, outlier)
           for c, m in layers]  # fmt: skip
    assert terms['contrast'].item() == pytest.approx(
        2 * contrastive_loss(output, known, outlier).item()
    )
    assert terms['aux_contrast'].item() == pytest.approx(sum(aux).item())


# Other people's weights

KEYS = json.loads((Path(__file__).with_name('golden') / 'mask2anomaly_keys.json').read_text())
SMALL = {'layers': 1, 'pixel_layers': 1, 'width': 32, 'heads': 2, 'queries': 4, 'feedforward': 8}


def as_public(network: Any) -> dict[str, Tensor]:
    """Gives a network's weights by the names of the authors' files."""
    own, found = network.state_dict(), {}
    for key in KEYS['keys']:
        names = list(own_names({key: torch.zeros(3)}, ()))
        found[key] = torch.cat([own[name] for name in names]) if names else torch.zeros(3)
    return found


@pytest.mark.parametrize('protocol', [None, 2, 4, 5])
def test_the_authors_files_come_in(
    protocol: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """As torch files, and as the pickles of arrays that Detectron2 publishes."""
    layouts = tuple(
        replace(layout, options={**layout.options, **SMALL, 'pixel_feedforward': 8})
        for layout in Mask2Anomaly.public_layouts
    )
    monkeypatch.setattr(Mask2Anomaly, 'public_layouts', layouts)
    torch.manual_seed(5)
    network = build_model('mask2anomaly', 19, dict(layouts[0].options)).eval()
    file = tmp_path / ('model.pkl' if protocol else 'model.pth')
    if protocol:
        arrays = {key: value.numpy() for key, value in as_public(network).items()}
        file.write_bytes(pickle.dumps({'model': arrays, '__author__': 'x'}, protocol))
    else:
        torch.save({'model': as_public(network), 'iteration': 3}, file)
    command = ['import_weights', str(file), '--model', 'auto']
    assert main([*command, '--out', str(tmp_path / 'out')]) == 0
    assert 'mask2anomaly, layout detectron2' in capsys.readouterr().out
    checkpoint = Checkpoint.open(tmp_path / 'out')
    assert checkpoint.meta.class_names == CITYSCAPES.names
    assert checkpoint.meta.void_index is None
    loaded = checkpoint.network().state_dict()
    for key, value in network.state_dict().items():
        if not key.endswith('num_batches_tracked'):
            assert torch.equal(loaded[key], value), key


def test_a_plain_mask2former_of_detectron2_is_the_start_of_both_sides() -> None:
    network = tiny(layers=1)
    weights = {
        key.replace('multihead_attn_foreground', 'multihead_attn'): torch.rand(3)
        for key in KEYS['keys']
        if 'background' not in key
    }
    own = [key for key in network.state_dict() if not key.startswith('encoder.')]
    named = network.named_as_own(weights)
    assert set(own) <= named.keys()
    attention = 'transformer.decoder.layers.0.cross_attn.'
    for key in ('in_proj_weight', 'in_proj_bias', 'out_proj.weight', 'out_proj.bias'):
        assert torch.equal(named[f'{attention}background.{key}'], named[f'{attention}{key}'])


@pytest.mark.parametrize('prefix', ['net.', ''])
def test_a_mask2former_of_the_library_is_the_start_of_both_sides(prefix: str) -> None:
    with torch.device('meta'):
        network = build_model('mask2anomaly', 19, {'backbone': 'swin_tiny'})
        plain = build_model('hf', 19, {'config': {'model_type': 'mask2former', 'backbone_config': {
            **BACKBONES['swin_tiny'], 'out_features': STAGES}}})  # fmt: skip
    weights = {
        key.removeprefix('net.') if not prefix and 'class_predictor' not in key else key: value
        for key, value in plain.state_dict().items()
        # A checkpoint has no weights that give nothing; a folder of the library has them.
        if not (prefix and key.startswith(plain.train_only_prefixes))
    }
    own = network.state_dict()
    unread = {key for key in own if key.startswith(network.train_only_prefixes)}
    assert unread == {'encoder.swin.layernorm.weight', 'encoder.swin.layernorm.bias'}
    assert not any(network.get_parameter(key).requires_grad for key in unread)
    named = network.named_as_own(weights)
    assert named.keys() == own.keys() - (unread if prefix else set())
    assert all(named[key].shape == own[key].shape for key in named)
    assert load_state(network, named, 'these weights') == ()


def test_swin_names_of_detectron2() -> None:
    block, ours = 'backbone.layers.2.blocks.5.', 'encoder.layers.2.blocks.5.'
    names = {
        'backbone.patch_embed.proj.weight': 'embeddings.patch_embeddings.projection.weight',
        'backbone.patch_embed.norm.bias': 'embeddings.norm.bias',
        'backbone.layers.0.downsample.norm.bias': 'encoder.layers.0.downsample.norm.bias',
        f'{block}attn.proj.weight': f'{ours}attention.o_proj.weight',
        f'{block}norm1.weight': f'{ours}layernorm_before.weight',
        f'{block}norm2.bias': f'{ours}layernorm_after.bias',
        f'{block}mlp.fc2.bias': f'{ours}mlp.fc2.bias',
    }
    with torch.device('meta'):
        own = build_model('mask2anomaly', 5, {'backbone': 'swin_tiny', **SMALL}).state_dict()
    for public, name in names.items():
        assert list(own_names({public: torch.zeros(3)}, ())) == [f'encoder.swin.{name}']
        assert f'encoder.swin.{name}' in own
    qkv = own_names({'backbone.layers.0.blocks.1.attn.qkv.bias': torch.arange(3)}, ())
    place = 'encoder.swin.encoder.layers.0.blocks.1.attention.'
    assert {k: int(v) for k, v in qkv.items()} == {
        f'{place}q_proj.bias': 0, f'{place}k_proj.bias': 1, f'{place}v_proj.bias': 2
    }  # fmt: skip
    assert qkv.keys() <= own.keys()
    assert set(own_names({'backbone.norm2.weight': torch.zeros(3)}, ())) <= own.keys()
    assert not own_names(
        {'backbone.layers.0.blocks.0.attn.relative_position_index': torch.zeros(3)}, ()
    )


def started_from(
    old: Any, names: tuple[str, ...], folder: Path, camvid_root: Path, **recipe: Any
) -> Any:
    """The tiny network for CamVid, begun from one of these classes."""
    preset: Any = dict(Mask2Anomaly.presets['tiny'])
    half = (0.5, 0.5, 0.5)
    meta = CheckpointMeta(
        model='mask2anomaly',
        model_options=preset,
        class_names=names,
        class_colors=((0, 0, 0),) * len(names),
        mean=half,
        std=half,
        input_size=(64, 96),
    )
    save_checkpoint(folder, meta, old.state_dict())
    config = TrainConfig(
        dataset='camvid',
        root=camvid_root,
        model='mask2anomaly',
        model_options=preset,
        init=str(folder),
        mean=half,
        std=half,
        **recipe,
    )
    return start_network(config, build_dataset('camvid', camvid_root, 'train'))


def test_the_row_of_no_object_is_kept_for_other_classes(camvid_root: Path, tmp_path: Path) -> None:
    old = tiny()
    classes = ('road', 'sky', 'kite', 'tree', 'fence')
    new = started_from(old, classes, tmp_path / 'old', camvid_root)
    rows, was = new.class_predictor.weight, old.class_predictor.weight
    names = CAMVID.names
    assert torch.equal(rows[-1], was[-1])
    assert torch.equal(rows[names.index('road')], was[0])
    assert not any(torch.equal(rows[names.index('car')], row) for row in was)


@pytest.mark.parametrize(('objective', 'zero'), [('uno', True), ('mask_classification', False)])
def test_the_negative_class_starts_as_in_the_public_code(
    objective: str, zero: bool, camvid_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # finetune_UNO.py:340-346 of matejgrcic/Open-set-M2F at 527b20b puts a 0 before no object; in
    # the loss it has a weight of 1, as every class but that has here.
    old: Any = build_model('mask2anomaly', 11, dict(Mask2Anomaly.presets['tiny']))
    nn.init.normal_(old.class_predictor.bias)
    recipe: dict[str, Any] = {'objective': objective, 'void': True}
    new = started_from(old, CAMVID.names, tmp_path / 'old', camvid_root, **recipe)
    for name in ('weight', 'bias'):
        was = getattr(old.class_predictor, name)
        expected = torch.cat((was[:-1], torch.zeros_like(was[:1]), was[-1:]))
        found = getattr(new.class_predictor, name)
        kept = [row for row in range(13) if row != 11]
        assert torch.equal(found[kept], expected[kept])
        assert torch.equal(found, expected) == (zero or name == 'bias')  # biases begin as 0
    assert ('start fresh: the row of void' in caplog.text) != zero


# Whole


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_checkpoint_of_both_stages_is_exported_and_runs_in_the_node(
    camvid_root: Path, tmp_path: Path
) -> None:
    photos = tmp_path / 'photos'
    photos.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype(np.uint8)
    write_image(photos / 'noise.png', noise)
    recipe = tmp_path / 'recipe.yaml'
    recipe.write_text(
        f'dataset: camvid\nroot: {camvid_root}\nmodel: mask2anomaly\n'
        f'model_options: {json.dumps(dict(Mask2Anomaly.presets["tiny"]))}\n'
        'input_size: [64, 96]\ncrop: [64, 64]\nobjective: mask_classification\n'
        'objective_options: {points: 64}\noptimizer: adamw\nlr: 0.01\nclip_norm: 0.01\n'
        'batch_size: 2\nepochs: 1\nworkers: 0\n'
    )
    first, second = tmp_path / 'first', tmp_path / 'second'
    assert main(['train', str(recipe), '--out', str(first)]) == 0
    outliers = {'kind': 'folder', 'root': str(photos), 'short_side': 40, 'crop': 30}
    changes = [
        'objective=mask2anomaly',
        f'init={first / "checkpoint"}',
        'trainable=decoder',
        'keep=last',
        f'outliers={json.dumps(outliers)}',
    ]
    assert main(['train', str(recipe), *changes, '--out', str(second)]) == 0
    checkpoint = Checkpoint.open(second / 'checkpoint')
    assert checkpoint.meta.score == 'mask2anomaly'
    before = Checkpoint.open(first / 'checkpoint').network().state_dict()
    after = checkpoint.network().state_dict()
    same = {key for key in after if torch.equal(before[key], after[key])}
    assert {key for key in after if key.startswith('encoder.')} <= same
    assert any('.background.' in key for key in after.keys() - same)
    fitted = tmp_path / 'fitted'
    command = ['fit_score', '--checkpoint', str(second / 'checkpoint'), '--score', 'mask2anomaly']
    assert (
        main([*command, '--dataset', 'camvid', '--root', str(camvid_root), '--out', str(fitted)])
        == 0
    )
    checkpoint = Checkpoint.open(fitted)
    image = np.random.default_rng(1).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    expected = open_engine(checkpoint, 'torch').infer(image)
    for name in ('openvino', 'onnx'):
        export_engine(checkpoint, None, (64, 96), 'fp32', fitted / 'engines' / name, name)
        found = open_engine(checkpoint, name, engine_path=fitted / 'engines' / name).infer(image)
        np.testing.assert_allclose(found.score, expected.score, atol=2e-3)
        assert (found.labels == expected.labels).mean() > 0.99
    pytest.importorskip('rclpy')
    shown = tmp_path / 'demo'
    command = ['demo', '--checkpoint', str(fitted), '--frames', '3', '--source']
    command += [str(camvid_root / 'train'), '--out', str(shown)]
    # A process of its own: rclpy is initialised in this one once another test has had a node.
    done = subprocess.run([sys.executable, '-m', 'anomaly_seg_ros', *command], check=False)
    assert done.returncode == 0
    summary = json.loads((shown / 'summary.json').read_text())
    assert summary['frames_received'] == summary['frames_sent'] == 3
    assert summary['engine'] == 'openvino'
