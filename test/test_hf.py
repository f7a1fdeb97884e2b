"""Segmenters of transformers: from a folder to a checkpoint, without network or folder later."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
import shutil
from typing import Any

from huggingface_hub.errors import LocalEntryNotFoundError
import numpy as np
import pytest
from safetensors.torch import load_file, save_file
import torch
from torch.nn import functional
import transformers

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.classes import CAMVID, CITYSCAPES
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.engines import open_engine
from anomaly_seg_ros.engines.export import export_engine
from anomaly_seg_ros.models import build_model
from anomaly_seg_ros.models.forward import run_network
from anomaly_seg_ros.models.parts.eomt import masked_share
from anomaly_seg_ros.models.parts.hf_kinds import kind_of, KINDS, UNIVERSAL
from training.hub.facts import read_facts
from training.hub.importing import read_weights
from training.hub.recipe import fill_in_network
from training.hub.source import find_folder

CONFIGS = json.loads((Path(__file__).with_name('golden') / 'hf_configs.json').read_text())
NAMES = ('road', 'car', 'tree')
PROCESSOR = {
    'image_mean': [0.5, 0.4, 0.3],
    'image_std': [0.2, 0.25, 0.3],
    'size': {'height': 64, 'width': 96},
}


def write_folder(folder: Path, kind: str, classes: tuple[str, ...] = NAMES) -> Any:
    """Saves a freshly made network as its authors would, and gives it."""
    values = {key: value for key, value in CONFIGS[kind].items() if key != 'model_type'}
    config = transformers.AutoConfig.for_model(
        kind, **values, id2label=dict(enumerate(classes)), num_labels=len(classes)
    )
    torch.manual_seed(0)
    net = getattr(transformers, kind_of({'model_type': kind}).auto_class).from_config(config)
    if hasattr(net, 'attn_mask_probs'):
        net.attn_mask_probs.zero_()  # as released: no masks in evaluation
    net.save_pretrained(folder)
    (folder / 'preprocessor_config.json').write_text(json.dumps(PROCESSOR))
    return net.eval()


def library_maps(net: Any, images: Any) -> Any:
    """What the library gives at its own size, brought to the image as the papers do."""
    with torch.no_grad():
        found = net(images)
    if hasattr(found, 'logits'):
        return functional.interpolate(found.logits, images.shape[2:], mode='bilinear')
    masks = functional.interpolate(found.masks_queries_logits, images.shape[2:], mode='bilinear')
    classes = found.class_queries_logits.softmax(2)[..., :-1]
    return torch.einsum('nqc,nqhw->nchw', classes, masks.sigmoid())


def test_every_kind_is_tested() -> None:
    assert CONFIGS.keys() == KINDS.keys()
    assert all(config['model_type'] == kind for kind, config in CONFIGS.items())


@pytest.mark.parametrize('kind', sorted(KINDS))
def test_a_folder_becomes_a_checkpoint_that_needs_it_no_more(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / 'folder', tmp_path / 'out'
    net = write_folder(folder, kind)
    assert main(['import_weights', '--model', f'hf:{folder}', '--out', str(out)]) == 0
    assert f'hf, {kind}: ' in capsys.readouterr().out
    shutil.rmtree(folder)
    checkpoint = Checkpoint.open(out)
    assert (checkpoint.meta.model, checkpoint.meta.class_names) == ('hf', NAMES)
    assert checkpoint.meta.mean == (0.5, 0.4, 0.3)
    assert checkpoint.meta.std == (0.2, 0.25, 0.3)
    assert checkpoint.meta.input_size == (64, 96)
    network = checkpoint.network()
    # The library's own takes squares of the size that it was made for, some kinds no other.
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found = run_network(network, images, None).class_maps
    torch.testing.assert_close(found, library_maps(net, images), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert run_network(network, torch.randn(1, 3, 45, 83), None).class_maps.shape[2:] == (
            45,
            83,
        )


def test_while_training_each_block_of_an_eomt_gives_what_the_library_trains(
    tmp_path: Path,
) -> None:
    net = write_folder(tmp_path, 'eomt')
    net.attn_mask_probs.fill_(1)
    network = build_model('hf', len(NAMES), {'config': CONFIGS['eomt']})
    network.load_state_dict(
        {f'net.{k}': v for k, v in net.state_dict().items() if 'criterion' not in k}
    )
    images = torch.randn(2, 3, 64, 64)
    net.train()
    found = network.train()(images)
    expected = net(images)
    torch.testing.assert_close(found.mask_logits, expected.masks_queries_logits)
    torch.testing.assert_close(found.class_logits, expected.class_queries_logits)
    assert len(found.aux_class_logits) == len(found.aux_mask_logits) == 2
    # In evaluation the masks stay where the buffer says so.
    net.eval()
    torch.testing.assert_close(
        network.eval()(images).mask_logits, net(images).masks_queries_logits
    )


@pytest.mark.parametrize('kind', ['eomt', 'eomt_dinov3'])
def test_an_eomt_has_given_up_its_masks_when_its_training_ends(kind: str) -> None:
    network: Any = build_model('hf', 3, {'config': {**CONFIGS[kind], 'num_blocks': 3}})
    probs = network.net.attn_mask_probs
    assert probs.tolist() == [1, 1, 1]  # a fresh one
    course = []
    for step in range(61):
        network.anneal(step / 60)
        course.append(probs.clone())
    falls = torch.stack(course).diff(dim=0)
    assert (falls <= 0).all()
    assert falls.ne(0).sum(1).max() == 1  # one block after the other
    assert course[10].tolist() == [1, 1, 1]  # the first sixth
    assert probs.tolist() == [0, 0, 0]
    assert course[50].tolist() == [0, 0, 0]  # the last
    assert not any(network.eval().masked_blocks)
    network.anneal(0.0)
    assert probs.tolist() == [0, 0, 0]  # released weights need none again


def rewrite_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Changes the weights file of a folder."""
    file = folder / 'model.safetensors'
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={'format': 'pt'})


def test_what_older_versions_of_the_library_saved_besides_is_left(tmp_path: Path) -> None:
    """Released Swins hold the index of their positions, which older versions saved."""
    write_folder(tmp_path, 'mask2former')
    block = 'model.pixel_level_module.encoder.encoder.layers.0.blocks.0.attention.self'
    name = f'{block}.relative_position_index'
    rewrite_weights(
        tmp_path, lambda weights: weights.update({name: torch.zeros(4, 4, dtype=torch.int64)})
    )
    assert main(['import_weights', '--model', f'hf:{tmp_path}', '--out', str(tmp_path / 'o')]) == 0
    weights = read_weights(tmp_path, CONFIGS['mask2former'])
    assert not any('relative_position_index' in key for key in weights)


def test_more_names_than_classes_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / 'folder'
    write_folder(folder, 'segformer')
    change(folder, id2label={'0': 'road', '1': 'car'})
    capsys.readouterr()
    assert main(['import_weights', '--model', f'hf:{folder}', '--out', str(tmp_path / 'o')]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert 'decode_head.classifier.weight is (3, ' in error
    assert 'id2label names more or fewer classes than they have' in error


def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / 'folder'
    write_folder(folder, 'segformer')
    key = 'decode_head.classifier.weight'
    rewrite_weights(folder, lambda weights: weights[key].view(-1)[3].fill_(torch.nan))
    capsys.readouterr()
    assert main(['import_weights', '--model', f'hf:{folder}', '--out', str(tmp_path / 'o')]) == 2
    assert f"weight '{key}' is not finite" in capsys.readouterr().err
    assert not (tmp_path / 'o').exists()


def test_a_temperature_of_masks_is_refused(
    camvid_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / 'folder', 'eomt', CAMVID.names)
    made, out = tmp_path / 'made', tmp_path / 'out'
    command = ['import_weights', '--model', f'hf:{tmp_path / "folder"}', '--out', str(made)]
    assert main(command) == 0
    capsys.readouterr()
    command = ['fit_score', '--checkpoint', str(made), '--score', 'temperature,msp']
    command += ['--dataset', 'camvid', '--root', str(camvid_root), '--out', str(out)]
    assert main(command) == 2
    assert (
        "'temperature' divides logits, and model 'hf' gives none: masks show its classes; leave"
        in capsys.readouterr().err
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ('starts', 'ends', 'steps'),
    [
        # Cityscapes, large: 107 epochs of 186 steps.
        ((3317, 6634, 9951, 13268), (6634, 9951, 13268, 16585), 107 * 186),
        # COCO, base: 12 epochs of 118,287 images, 16 a step.
        ((14782, 36955, 59128), (29564, 51737, 73910), 12 * 7391),
        # ADE20K, giant: 31 epochs of 1,262 steps.
        ((6520, 11410, 16300, 21190, 26080), (13040, 17930, 22820, 27710, 32600), 31 * 1262),
    ],
)
def test_the_masks_of_an_eomt_go_as_in_the_authors_configurations(
    starts: tuple[int, ...], ends: tuple[int, ...], steps: int
) -> None:
    """Steps of configs/dinov2 of github.com/tue-mps/eomt, commit 7bd19dd."""
    for block, (start, end) in enumerate(zip(starts, ends, strict=True)):
        shares = [
            masked_share(block, len(starts), (start + part * (end - start)) / steps)
            for part in (0, 0.25, 0.5, 1)
        ]
        # (1 - progress) ** poly_power, which is 0.9 there.
        assert shares == pytest.approx([1, 0.75**0.9, 0.5**0.9, 0], abs=2e-3)


def test_what_a_run_keeps_of_an_eomt_has_no_masks(
    camvid_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of averaged weights, whose buffers are averages too, that were saved after the last step."""
    recipe, out = tmp_path / 'eomt.yaml', tmp_path / 'out'
    recipe.write_text(
        f'dataset: camvid\nroot: {camvid_root}\nmodel: hf\n'
        f'model_options: {{config: {json.dumps(CONFIGS["eomt"])}}}\n'
        'input_size: [64, 96]\ncrop: [64, 64]\nobjective: mask_classification\n'
        'objective_options: {points: 64}\noptimizer: adamw\nlr: 0.001\nclip_norm: 1.0\n'
        'batch_size: 1\nepochs: 2\nkeep: last\nema_decay: 0.9\nworkers: 0\n'
    )
    assert main(['train', str(recipe), '--out', str(out)]) == 0, capsys.readouterr().err
    network: Any = Checkpoint.open(out / 'checkpoint').network()
    assert network.net.attn_mask_probs.tolist() == [0, 0]
    assert network.masked_blocks == (False, False)


def test_a_mask2former_gives_the_layers_before_while_training() -> None:
    network: Any = build_model('hf', 3, {'config': CONFIGS['mask2former']}).train()
    images = torch.randn(2, 3, 64, 64)
    torch.manual_seed(0)  # of the layers that Swin leaves out at random
    found = network(images)
    torch.manual_seed(0)
    own = network.net(images, output_auxiliary_logits=True).auxiliary_logits
    assert len(own) == len(found.aux_mask_logits) == len(found.aux_class_logits) == 2
    for layer, masks, classes in zip(
        own, found.aux_mask_logits, found.aux_class_logits, strict=True
    ):
        torch.testing.assert_close(masks, layer['masks_queries_logits'])
        torch.testing.assert_close(classes, layer['class_queries_logits'])


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_mask2former_is_exported_to_onnx(tmp_path: Path) -> None:
    # The layout of Swin's attention depends on the kernel: a view in it held for one alone.
    checkpoint, folder = tmp_path / 'checkpoint', tmp_path / 'folder'
    write_folder(folder, 'mask2former')
    assert main(['import_weights', '--model', f'hf:{folder}', '--out', str(checkpoint)]) == 0
    opened = Checkpoint.open(checkpoint)
    export_engine(opened, 'rba', (64, 96), 'fp32', tmp_path / 'engine', 'onnx')
    engine = open_engine(opened, 'onnx', 'rba', engine_path=tmp_path / 'engine')
    images = list(np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3)).astype(np.uint8))
    expected = open_engine(opened, 'torch', 'rba', 'fp32').infer_batch(images)
    for found, wanted in zip(engine.infer_batch(images), expected, strict=True):
        np.testing.assert_allclose(found.score, wanted.score, atol=4e-3)
        assert np.ptp(wanted.score) > 0.05
        assert (found.labels == wanted.labels).mean() > 0.99


def test_a_score_that_queries_cannot_serve_is_said_before_frames_are_read(
    camvid_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, folder = str(tmp_path / 'checkpoint'), tmp_path / 'folder'
    write_folder(folder, 'eomt', CAMVID.names)
    assert main(['import_weights', '--model', f'hf:{folder}', '--out', checkpoint]) == 0
    command = ['fit_score', '--checkpoint', checkpoint, '--dataset', 'camvid']
    command += ['--root', str(camvid_root), '--out', str(tmp_path / 'out'), '--score']
    capsys.readouterr()
    assert main([*command, 'sml']) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "score 'sml' needs logits; model 'hf' gives class_logits, features.last" in error
    assert ' cdnp, dnp, ' in error
    assert main([*command, 'cdnp']) == 0, capsys.readouterr().err


# What a folder says


def facts_of(folder: Path, config: dict[str, Any], processor: dict[str, Any] | None = None) -> Any:
    folder.mkdir(exist_ok=True)
    labels = {'id2label': {str(i): name for i, name in enumerate(NAMES)}}
    (folder / 'config.json').write_text(json.dumps({**CONFIGS['segformer'], **labels, **config}))
    if processor is not None:
        (folder / 'preprocessor_config.json').write_text(json.dumps(processor))
    return read_facts(folder)


@pytest.mark.parametrize(
    ('processor', 'config', 'size'),
    [
        ({'size': {'height': 48, 'width': 80}}, {}, (48, 80)),
        ({'size': 512}, {}, (512, 512)),
        ({'size': {'shortest_edge': 512, 'longest_edge': 2048}}, {}, (512, 1024)),
        ({'size': {'shortest_edge': 512, 'longest_edge': 640}}, {}, (512, 640)),
        ({}, {'image_size': 640}, (640, 640)),
        ({}, {'image_size': [320, 480]}, (320, 480)),
        (None, {}, (512, 1024)),
        # One number is the shorter side for the processors of masks, and for DPT if it says so.
        (
            {'image_processor_type': 'Mask2FormerImageProcessor', 'size': 512, 'max_size': 2048},
            {},
            (512, 1024),
        ),
        ({'image_processor_type': 'EomtImageProcessorFast', 'size': 64}, {}, (64, 128)),
        (
            {
                'image_processor_type': 'DPTImageProcessor',
                'size': 480,
                'keep_aspect_ratio': True,
            },
            {},
            (480, 960),
        ),
        (
            {'size': {'height': 384, 'width': 672}, 'keep_aspect_ratio': True},
            {},
            (384, 672),
        ),
        (
            {
                'image_processor_type': 'BeitImageProcessor',
                'size': 256,
                'do_center_crop': True,
                'crop_size': {'height': 224, 'width': 224},
            },
            {},
            (224, 224),
        ),
    ],
)
def test_the_size_is_that_of_the_processor_or_the_configuration(
    processor: Any, config: Any, size: Any, tmp_path: Path
) -> None:
    assert facts_of(tmp_path, config, processor).input_size == size


@pytest.mark.parametrize(
    ('processor', 'mean', 'std'),
    [
        (None, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ({'do_normalize': False}, (0.0,) * 3, (1.0,) * 3),
        # Pixels in 0..255 and in 0..2 as they are.
        ({'do_normalize': False, 'do_rescale': False}, (0.0,) * 3, (1 / 255,) * 3),
        ({'do_normalize': False, 'rescale_factor': 1 / 127.5}, (0.0,) * 3, (0.5,) * 3),
        # What DPTImageProcessor() and BeitImageProcessor() have by themselves.
        ({'image_processor_type': 'DPTImageProcessor'}, (0.5,) * 3, (0.5,) * 3),
        ({'feature_extractor_type': 'BeitFeatureExtractor'}, (0.5,) * 3, (0.5,) * 3),
        ({'image_mean': 0.25, 'image_std': 0.5}, (0.25,) * 3, (0.5,) * 3),
        ({'image_mean': [0.5] * 3, 'image_std': [0.25] * 3}, (0.5,) * 3, (0.25,) * 3),
        # Of pixels in 0..255, and of pixels in 0..2.
        (
            {'image_mean': [51.0] * 3, 'image_std': [102.0] * 3, 'do_rescale': False},
            (0.2,) * 3,
            (0.4,) * 3,
        ),
        (
            {'image_mean': [1.0] * 3, 'image_std': [0.5] * 3, 'rescale_factor': 2 / 255},
            (0.5,) * 3,
            (0.25,) * 3,
        ),
    ],
)
def test_the_normalisation_is_for_an_image_in_0_to_1(
    processor: Any, mean: Any, std: Any, tmp_path: Path
) -> None:
    facts = facts_of(tmp_path, {}, processor)
    assert facts.mean == pytest.approx(mean)
    assert facts.std == pytest.approx(std)


def test_a_folder_without_a_processor_is_normalised_as_its_kind_is(tmp_path: Path) -> None:
    assert facts_of(tmp_path, {'model_type': 'dpt'}).mean == (0.5, 0.5, 0.5)


def test_a_network_of_one_size_is_refused_at_another(tmp_path: Path) -> None:
    config = {'model_type': 'dpt', 'is_hybrid': True, 'image_size': 64}
    size = {'size': {'height': 64, 'width': 64}}
    assert facts_of(tmp_path, config, size).input_size == (64, 64)
    with pytest.raises(ValueError, match='image_size 64 alone, and the processor gives 64x96'):
        facts_of(tmp_path, config, PROCESSOR)


def test_no_border_is_lost_to_patches_of_a_backbone(tmp_path: Path) -> None:
    """Patches of 14 do not fill a side of 64 or 96: the border is repeated until they do."""
    backbone = {'model_type': 'dinov2', 'hidden_size': 16, 'num_hidden_layers': 4,
                'num_attention_heads': 2, 'patch_size': 14, 'image_size': 56,
                'out_features': ['stage1', 'stage2', 'stage3', 'stage4'],
                'reshape_hidden_states': True}  # fmt: skip
    config = {'model_type': 'upernet', 'hidden_size': 16, 'pool_scales': [1, 2],
              'use_auxiliary_head': False, 'backbone_config': backbone}  # fmt: skip
    torch.manual_seed(0)
    network = build_model('hf', 3, {'config': config}).eval()
    assert network.stride == 14
    images = torch.randn(1, 3, 64, 96)
    changed = images.clone()
    changed[:, :, -2:, -2:] += 1
    with torch.no_grad():
        before = run_network(network, images, None).class_maps
        after = run_network(network, changed, None).class_maps
    assert before.shape[2:] == (64, 96)
    assert not torch.equal(before, after)


def test_known_names_have_their_colours_and_none_stands_there_twice(tmp_path: Path) -> None:
    labels = {str(i): name for i, name in enumerate(CITYSCAPES.names)}
    assert facts_of(tmp_path, {'id2label': labels}).classes == CITYSCAPES
    odd = facts_of(tmp_path, {'id2label': {'0': 'road', '1': 'lamp', '2': 'lamp'}}).classes
    assert odd.names == ('road', 'lamp', 'lamp 2')
    assert odd.colors[0] == (128, 64, 128)
    assert len(set(odd.colors)) == 3


def test_a_recipe_takes_the_configuration_and_what_it_does_not_say_itself(tmp_path: Path) -> None:
    facts_of(tmp_path, {}, PROCESSOR)
    filled = fill_in_network({'model': f'hf:{tmp_path}', 'input_size': [32, 32], 'lr': 0.1})
    assert filled['model'] == 'hf'
    assert filled['model_options'] == {'config': CONFIGS['segformer']}
    assert filled['mean'] == [0.5, 0.4, 0.3]
    assert (filled['input_size'], filled['lr']) == ([32, 32], 0.1)
    # A run that is resumed does not look for the folder again.
    gone = {'model': 'hf:/nowhere', 'input_size': [32, 32], 'lr': 0.1}
    assert fill_in_network(gone, stored=filled) == filled
    assert fill_in_network({'model': 'erfnet'}) == {'model': 'erfnet'}


# Bad input


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda f: shutil.rmtree(f), 'no folder .* and it is no repository either'),
        (lambda f: (f / 'config.json').unlink(), 'has no config.json; give a folder that'),
        (lambda f: (f / 'config.json').write_text('{'), "config.json' is no JSON"),
        (
            lambda f: change(f, model_type='bert'),
            "model_type 'bert' is no semantic or universal segmenter that is known here; those",
        ),
        (
            lambda f: change(f, architectures=['SegformerForImageClassification']),
            'is of SegformerForImageClassification, which gives no classes of pixels; take a '
            'network whose architectures end in ForSemanticSegmentation',
        ),
        (lambda f: change(f, id2label={}), 'id2label is missing; it names the classes'),
        (
            lambda f: (f / 'model.safetensors').unlink(),
            'has a configuration but no weights .*to train such a network from scratch',
        ),
        (
            lambda f: (f / 'model.safetensors').write_bytes(b'not a tensor'),
            'cannot read the weights in',
        ),
        (lambda f: change(f, decoder_hidden_size=8), 'cannot read the weights in|mismatched keys'),
        (lambda f: change(f, depths=[2, 1, 1, 1]), 'missing keys .*of another network than its'),
        (lambda f: change(f, depths='deep'), 'this configuration: '),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_clear_line(
    spoil: Callable[[Path], Any],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import re

    folder = tmp_path / 'folder'
    write_folder(folder, 'segformer')
    spoil(folder)
    capsys.readouterr()
    assert main(['import_weights', '--model', f'hf:{folder}', '--out', str(tmp_path / 'o')]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1, error
    assert re.search(message, error), error
    assert not (tmp_path / 'o').exists()


def change(folder: Path, **values: Any) -> None:
    path = folder / 'config.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ('fault', 'what'),
    [
        (
            LocalEntryNotFoundError('Got: ConnectError: [Errno -2]\nName or service not known'),
            "cannot fetch 'owner/name': huggingface.co does not answer; where",
        ),
        (
            PermissionError('[Errno 13] Permission\ndenied'),
            "cannot fetch 'owner/name' from huggingface.co: PermissionError: [Errno 13] Per",
        ),
    ],
)
def test_a_repository_without_a_network_is_one_clear_line(
    fault: Exception,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import huggingface_hub

    def refuse(*_: Any, **__: Any) -> str:
        raise fault

    monkeypatch.setattr(huggingface_hub, 'snapshot_download', refuse)
    command = ['import_weights', '--model', 'hf:owner/name', '--out', str(tmp_path / 'o')]
    assert main(command) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert what in error
    assert error.endswith('copy the files here and give hf:FOLDER')


def test_a_repository_is_fetched_without_pickled_weights_where_there_are_safe_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    asked: list[str] = []

    def download(repository: str, allow_patterns: list[str]) -> str:
        asked.extend(allow_patterns)
        for name in ('config.json', 'model.safetensors'):
            (tmp_path / name).touch()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, 'snapshot_download', download)
    assert find_folder('hf:owner/name', weights=True) == tmp_path
    assert '*.safetensors' in asked
    assert not any('.bin' in pattern for pattern in asked)


def test_what_does_not_go_with_a_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ['--out', str(tmp_path / 'o')]
    assert main(['import_weights', 'w.pth', '--model', f'hf:{tmp_path}', *out]) == 2
    assert 'names its own weights and classes; give it and --out alone' in capsys.readouterr().err
    assert main(['import_weights', '--model', 'erfnet', *out]) == 2
    assert "model 'erfnet' needs FILE, its weights" in capsys.readouterr().err
    assert main(['import_weights', '--model', 'hf:', *out]) == 2
    assert "no folder '', and it is no repository either" in capsys.readouterr().err
    with pytest.raises(ValueError, match="model 'hf' has no configuration; give model 'hf:FOL"):
        build_model('hf', 3)
    assert kind_of(CONFIGS['eomt']).task == UNIVERSAL
