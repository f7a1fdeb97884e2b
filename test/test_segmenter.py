"""Segmenter: outputs of the public code, files of both public layouts, any size."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.engines.openvino_engine import convert, OpenVinoEngine
from anomaly_seg_ros.engines.scored_model import ScoredModel
from anomaly_seg_ros.models import build_model
from anomaly_seg_ros.models.forward import run_network
from anomaly_seg_ros.models.segmenter import MMSEG_KEYS, own_names

GOLDEN = Path(__file__).parent / 'golden' / 'segmenter.json'
CLASSES = 5
OPTIONS = {'width': 128, 'depth': 3, 'image_size': 64}
DECODERS = ['linear', 'mask']


def filled(decoder: str, classes: int = CLASSES) -> Any:
    """A network with weights that the same generator always draws, in the order of their names."""
    model = build_model('segmenter', classes, {**OPTIONS, 'decoder': decoder}).eval()
    generator = torch.Generator().manual_seed(0)
    state = model.state_dict()
    for key in sorted(state):
        one = 'norm' in key and key.endswith('weight')
        state[key].copy_(0.1 * torch.randn(state[key].shape, generator=generator) + one)
    return model


def images() -> torch.Tensor:
    """Of another size than the position embeddings are for."""
    return torch.randn(2, 3, 48, 80, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('decoder', DECODERS)
def test_it_gives_what_the_public_code_gives(decoder: str) -> None:
    expected = json.loads(GOLDEN.read_text())[decoder]
    with torch.inference_mode():
        output = filled(decoder)(images())
    logits = output.logits[:, :, ::17, ::23].flatten(1).numpy()
    assert logits == pytest.approx(np.array(expected['logits']), abs=2e-5)
    keys = output.features['keys'].flatten(2).transpose(1, 2)[:, ::5, ::31]
    assert keys.flatten().tolist() == pytest.approx(expected['keys'], abs=2e-5)


def test_openvino_computes_any_number_of_images_as_torch_does(
    make_fake_meta: Callable[..., Any],
) -> None:
    size, model = (48, 80), filled('mask', 11)
    scored = ScoredModel(model, make_fake_meta(model='segmenter'), 'energy').eval()
    pictures = np.random.default_rng(0).integers(0, 256, (3, *size, 3)).astype(np.uint8)
    with torch.inference_mode():
        expected = {
            key: value.numpy() for key, value in scored(torch.from_numpy(pictures)).items()
        }
    engine = OpenVinoEngine(convert(scored, size), 'energy', 'fp32', 1)
    for count in (1, 3):
        for number, found in enumerate(engine.infer_batch(list(pictures[:count]))):
            score = expected['score'][number].astype(np.float32)
            np.testing.assert_allclose(found.score, score, atol=4e-3)
            assert np.ptp(score) > 0.05
            assert (found.labels == expected['labels'][number]).mean() > 0.99
    engine.close()


@pytest.mark.parametrize('decoder', DECODERS)
def test_queries_keys_and_values_are_the_last_blocks_projections(decoder: str) -> None:
    model = filled(decoder)
    block = model.encoder.blocks[-1]
    seen: list[torch.Tensor] = []
    block.norm1.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.inference_mode():
        output = model(images())
    weights = block.attn.qkv.weight.chunk(3), block.attn.qkv.bias.chunk(3)
    for name, weight, bias in zip(('queries', 'keys', 'values'), *weights, strict=True):
        # The first token stands for no patch.
        literal = (seen[0][:, 1:] @ weight.T + bias).transpose(1, 2).reshape(2, 128, 3, 5)
        assert torch.allclose(output.features[name], literal, atol=1e-5), name


def mmseg(state: dict[str, torch.Tensor], decoder: str) -> dict[str, torch.Tensor]:
    """The weights by the names that mmsegmentation has for them, written out."""
    names = {
        'encoder.norm.': 'backbone.ln1.',
        'encoder.patch_embed.proj.': 'backbone.patch_embed.projection.',
        'encoder.': 'backbone.',
        'decoder.head.': 'decode_head.conv_seg.',
        'decoder.proj_dec.': 'decode_head.dec_proj.',
        'decoder.proj_patch': 'decode_head.patch_proj.weight',
        'decoder.proj_classes': 'decode_head.classes_proj.weight',
        'decoder.': 'decode_head.',
    }
    inner = {
        'blocks.': 'layers.',
        'norm1.': 'ln1.',
        'norm2.': 'ln2.',
        'attn.qkv.': 'attn.attn.in_proj_',
        'attn.proj.': 'attn.attn.out_proj.',
        'mlp.fc1.': 'ffn.layers.0.0.',
        'mlp.fc2.': 'ffn.layers.1.',
    }
    found = {}
    for key, value in state.items():
        ours = next(start for start in names if key.startswith(start))
        name = names[ours] + key.removeprefix(ours)
        if '.blocks.' in key:
            for one, other in inner.items():
                name = name.replace(one, other)
        if key == 'decoder.head.weight':
            value = value[:, :, None, None]
        found[name] = value.T if key in ('decoder.proj_patch', 'decoder.proj_classes') else value
    if decoder == 'mask':
        # What its base class builds and the head does not use.
        found['decode_head.conv_seg.weight'] = torch.zeros(CLASSES, 128, 1, 1)
        found['decode_head.conv_seg.bias'] = torch.zeros(CLASSES)
    return found


@pytest.mark.parametrize('layout', ['authors', 'mmsegmentation'])
@pytest.mark.parametrize('decoder', DECODERS)
def test_files_of_both_layouts_are_imported(
    layout: str, decoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = filled(decoder, 19)
    state = model.state_dict()
    file = tmp_path / 'public.pth'
    if layout == 'authors':
        more = {'encoder.head.weight': torch.zeros(9, 128), 'encoder.head.bias': torch.zeros(9)}
        torch.save({'model': {**state, **more}, 'epoch': 3}, file)
    else:
        torch.save({'state_dict': mmseg(state, decoder)}, file)
    out = tmp_path / 'out'
    assert main(['import_weights', str(file), '--model', 'auto', '--out', str(out)]) == 0
    said = capsys.readouterr().out
    assert f'segmenter, layout {layout} {decoder}: {len(state)} of {len(state)} tensors' in said
    checkpoint = Checkpoint.open(out)
    options = checkpoint.meta.model_options
    assert {**options, **OPTIONS} == options
    assert options.get('position_resize', 'bilinear') == (
        'bilinear' if layout == 'authors' else 'bicubic'
    )
    square = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        found = checkpoint.network()(square).given('logits')
        expected = model(square).given('logits')
    # Norms of the two differ by their eps alone.
    assert torch.allclose(found, expected, atol=0 if layout == 'authors' else 1e-3)


HALF = (0.5, 0.5, 0.5)
IMAGENET = (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ('layout', 'decoder', 'distilled', 'given', 'expected'),
    [
        # segm/config.yml: 'vit' is a half each (segm/data/utils.py), 'deit' is ImageNet's.
        ('authors', 'linear', False, (), HALF),
        ('authors', 'mask', False, (), HALF),
        ('authors', 'mask', True, (), IMAGENET),
        # configs/_base_/models/segmenter_vit-b16_mask.py: 127.5 of 255.
        ('mmsegmentation', 'mask', False, (), HALF),
        # The network of cDNP, which begins with DeiT.
        ('mmsegmentation', 'linear', False, (), IMAGENET),
        ('mmsegmentation', 'linear', False, ('--normalisation', 'half'), HALF),
    ],
)
def test_images_are_normalised_as_the_weights_were_trained(
    layout: str,
    decoder: str,
    distilled: bool,
    given: tuple[str, ...],
    expected: tuple[float, ...],
    tmp_path: Path,
) -> None:
    options = {**OPTIONS, 'decoder': decoder, 'distilled': distilled}
    state = build_model('segmenter', 19, options).state_dict()
    file = tmp_path / 'public.pth'
    torch.save(state if layout == 'authors' else mmseg(state, decoder), file)
    out = tmp_path / 'out'
    command = ['import_weights', str(file), '--model', 'segmenter', '--out', str(out), *given]
    assert main(command) == 0
    assert Checkpoint.open(out).meta.mean == expected
    assert Checkpoint.open(out).meta.std == (HALF if expected == HALF else (0.229, 0.224, 0.225))


def test_no_name_of_the_other_layout_is_left() -> None:
    state = filled('mask').state_dict()
    for weights in (mmseg(state, 'mask'), state):
        found = own_names(weights)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], value) for key, value in state.items())
    assert len(MMSEG_KEYS) == len({pattern for pattern, _ in MMSEG_KEYS})


@pytest.mark.parametrize('resize', ['bilinear', 'bicubic'])
def test_position_embeddings_fit_any_size(resize: str) -> None:
    options = {**OPTIONS, 'position_resize': resize, 'distilled': True}
    model = build_model('segmenter', CLASSES, options).eval()
    encoder: Any = model.encoder
    assert encoder.positions((4, 4)) is encoder.pos_embed
    large = encoder.positions((8, 6))
    assert large.shape == (1, 2 + 48, 128)
    assert torch.equal(large[:, :2], encoder.pos_embed[:, :2])
    grid = encoder.pos_embed[:, 2:].transpose(1, 2).reshape(1, 128, 4, 4)
    literal = torch.nn.functional.interpolate(grid, (8, 6), mode=resize, align_corners=False)
    assert torch.equal(large[:, 2:], literal.flatten(2).transpose(1, 2))
    with torch.inference_mode():
        output = run_network(model, torch.randn(1, 3, 37, 90), None)
    assert output.given('logits').shape == (1, CLASSES, 37, 90)
    assert output.features['keys'].shape == (1, 128, 3, 6)


def test_options_that_do_not_fit_are_named() -> None:
    for options, what in (
        ({'decoder': 'conv'}, "unknown decoder 'conv'; choose one of: linear, mask"),
        ({'position_resize': 'area'}, "unknown position_resize 'area'; choose one of: bilinear"),
        ({'width': 100}, 'width 100 must be a multiple of 64'),
        ({'image_size': 100}, 'image_size 100 must be a multiple of 16'),
    ):
        with pytest.raises(ValueError, match=what):
            build_model('segmenter', CLASSES, options)
