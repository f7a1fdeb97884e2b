"""Public weights files become checkpoints that compute what a network with these weights computes.

Whether that is what the public code computes is the matter of `test_public_networks.py`.
"""

from collections import OrderedDict
import os
from pathlib import Path
import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.classes import CITYSCAPES
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.frames.images import read_image
from anomaly_seg_ros.models import build_model
from anomaly_seg_ros.models.forward import split_void

SHARED = Path(__file__).resolve().parents[2] / 'shared'
WEIGHTS = SHARED / 'weights'
FRAMES = SHARED / 'data' / 'camvid' / 'val'
needs_weights = pytest.mark.skipif(not WEIGHTS.is_dir(), reason=f'no public weights in {WEIGHTS}')
needs_frames = pytest.mark.skipif(not FRAMES.is_dir(), reason=f'no CamVid frames in {FRAMES}')


# Made files


def random_state(name, classes, options=None):
    """A state dict in the public layout, as if trained: no statistic at its initial value."""
    torch.manual_seed(4)
    state = OrderedDict(build_model(name, classes, options).state_dict())
    for key, value in state.items():
        if key.endswith('running_var'):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point() and value.ndim == 1:
            value.add_(0.2 * torch.randn_like(value))
    return state


def prefixed(state):
    return OrderedDict((f'module.{key}', value) for key, value in state.items())


def write(path, content, **options):
    torch.save(content, path, **options)
    return path


def import_file(path, model, out, *more):
    return main(['import_weights', str(path), '--model', model, '--out', str(out), *more])


def images_for(meta, height=64, width=128):
    torch.manual_seed(5)
    mean, std = torch.tensor(meta.mean), torch.tensor(meta.std)
    return (torch.rand(1, 3, height, width) - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def logits_of(folder):
    checkpoint = Checkpoint.open(folder)
    model, meta = checkpoint.network(), checkpoint.meta
    images = images_for(meta)
    with torch.inference_mode():
        return model(images).logits, images, meta


def logits_with(state, images, name, classes, options=None):
    """Logits of a network that got the weights without any import."""
    model = build_model(name, classes, options).eval()
    model.load_state_dict(state)
    with torch.inference_mode():
        return model(images).logits


# The real files


@needs_weights
def test_the_public_enet_with_19_classes_is_known_by_its_keys(tmp_path, capsys):
    assert import_file(WEIGHTS / 'enet_cityscapes_19.pth', 'enet', tmp_path / 'c') == 0
    line = capsys.readouterr().out
    assert line.startswith('enet, layout b (bottleneck10 keys): 631 of 631 tensors matched')
    assert 'void index none' in line
    assert line.count('\n') == 1
    _, _, meta = logits_of(tmp_path / 'c')
    assert meta.void_index is None
    assert meta.class_names == CITYSCAPES.names
    assert meta.class_colors == CITYSCAPES.colors
    assert meta.mean == (0.28690, 0.32513, 0.28389)
    assert meta.std == (0.17614, 0.18099, 0.17772)
    assert meta.input_size == (512, 1024)


@needs_weights
def test_the_public_enet_with_void_has_it_last(tmp_path, capsys):
    assert import_file(WEIGHTS / 'enet_cityscapes_void_20.pth', 'enet', tmp_path / 'c') == 0
    line = capsys.readouterr().out
    assert line.startswith('enet, layout a (davidtvs keys): 622 of 622 tensors matched')
    assert 'void index 19' in line
    logits, images, meta = logits_of(tmp_path / 'c')
    assert (meta.void_index, meta.channels) == (19, 20)
    assert (meta.mean, meta.std) == ((0, 0, 0), (1, 1, 1))
    assert meta.class_names == CITYSCAPES.names
    model = Checkpoint.open(tmp_path / 'c').network()
    split = split_void(model(images), meta.void_index)
    assert torch.equal(split.logits, logits[:, :19])
    assert torch.equal(split.void_logit, logits[:, 19:])


@needs_weights
def test_the_public_espnetv2_loses_the_channel_that_no_pixel_was_labelled_as(tmp_path, capsys):
    file = WEIGHTS / 'espnetv2_s_2.0_city_1024x512.pth'
    assert import_file(file, 'espnetv2', tmp_path / 'c') == 0
    line = capsys.readouterr().out
    assert line.startswith('espnetv2, layout EdgeNets: 526 of 526 tensors matched')
    assert 'void index none (channel 19 is untrained and was dropped)' in line
    _, _, meta = logits_of(tmp_path / 'c')
    assert (meta.channels, meta.input_size) == (19, (512, 1024))
    assert meta.mean == (0.485, 0.456, 0.406)
    assert meta.std == (0.229, 0.224, 0.225)


@needs_weights
@needs_frames
@pytest.mark.parametrize(
    ('name', 'model', 'more'),
    [
        ('enet_cityscapes_19.pth', 'enet', ()),
        ('enet_cityscapes_void_20.pth', 'enet', ('--repair-phase',)),
        ('espnetv2_s_2.0_city_1024x512.pth', 'espnetv2', ()),
    ],
)
def test_on_a_street_the_road_is_class_0_and_the_sky_class_10(name, model, more, tmp_path):
    assert import_file(WEIGHTS / name, model, tmp_path, *more) == 0
    checkpoint = Checkpoint.open(tmp_path)
    model, meta = checkpoint.network(), checkpoint.meta
    frame = sorted(FRAMES.iterdir())[0]
    truth = read_image(FRAMES.parent / 'valannot' / f'{frame.stem}.png')[..., 0]
    image = torch.from_numpy(read_image(frame)).permute(2, 0, 1)[None].float() / 255
    image = F.interpolate(image, meta.input_size, mode='bilinear', antialias=True)
    image = (image - torch.tensor(meta.mean).view(3, 1, 1)) / torch.tensor(meta.std).view(3, 1, 1)
    with torch.inference_mode():
        logits = split_void(model(image), meta.void_index).logits
        logits = F.interpolate(logits, truth.shape, mode='bilinear')
    labels = logits[0].argmax(0).numpy()
    assert (labels[truth == 3] == 0).mean() > 0.7
    assert (labels[truth == 0] == 10).mean() > 0.7


# Made files of each layout


@pytest.mark.parametrize('prefix', [True, False], ids=['module.', 'plain'])
@pytest.mark.parametrize('wrapper', [None, 'state_dict', 'model', 'model_state'])
def test_wrapped_or_not_with_module_or_not_the_same_weights_come_out(prefix, wrapper, tmp_path):
    state = random_state('enet', 19, {'layout': 'b'})
    content = prefixed(state) if prefix else state
    content = {wrapper: content} if wrapper else content
    assert import_file(write(tmp_path / 'w.pth', content), 'enet', tmp_path / 'c') == 0
    loaded = Checkpoint.open(tmp_path / 'c').network()
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, state[key]), key


@pytest.mark.parametrize('wrapper', [None, 'state_dict', 'model_state_dict', 'net'])
@pytest.mark.parametrize(
    'prefix', ['_orig_mod.', 'model.', 'net.', 'module._orig_mod.', 'model.net.', 'module.module.']
)
def test_what_tools_put_before_every_key_is_taken_off(prefix, wrapper, tmp_path):
    state = random_state('enet', 19, {'layout': 'b'})
    content = OrderedDict((prefix + key, value) for key, value in state.items())
    content[prefix + 'total_ops'] = content['total_params'] = torch.zeros(1)
    content = {wrapper: content, 'epoch': 3} if wrapper else content
    assert import_file(write(tmp_path / 'w.pth', content), 'enet', tmp_path / 'c') == 0
    loaded = Checkpoint.open(tmp_path / 'c').network()
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_a_prefix_that_some_keys_lack_is_a_part_of_the_name(tmp_path, capsys):
    state = random_state('erfnet', 19)
    content = {f'net.{key}' if number else key: v for number, (key, v) in enumerate(state.items())}
    assert import_file(write(tmp_path / 'w.pth', content), 'erfnet', tmp_path / 'c') == 2
    assert f'1 keys missing ({next(iter(state))})' in capsys.readouterr().err


@pytest.mark.parametrize('prefix', ['model.', 'net._orig_mod.', 'student.backbone.'])
def test_what_a_training_script_keeps_beside_the_network_is_left_out(prefix, tmp_path):
    state = random_state('erfnet', 19)
    content = {prefix + key: value for key, value in state.items()}
    content |= {'criterion.weight': torch.ones(19), 'metric.matrix': torch.ones(19, 19)}
    file = write(tmp_path / 'w.ckpt', {'state_dict': content, 'epoch': 3})
    assert import_file(file, 'erfnet', tmp_path / 'c') == 0
    loaded = Checkpoint.open(tmp_path / 'c').network()
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_nothing_but_what_a_profiler_left_is_no_network(tmp_path, capsys):
    file = write(tmp_path / 'w.pth', {'total_ops': torch.zeros(1)})
    assert import_file(file, 'erfnet', tmp_path / 'c') == 2
    assert "holds no weights of 'erfnet'" in capsys.readouterr().err


def test_an_unknown_model_is_told_the_known_ones(tmp_path, capsys):
    assert import_file(tmp_path / 'w.pth', 'ennet', tmp_path / 'c') == 2
    assert "unknown model 'ennet'; choose one of: autoencoder, " in capsys.readouterr().err


@pytest.mark.parametrize('layout', ['a', 'b'])
@pytest.mark.parametrize('classes', [19, 20])
def test_enet_finds_its_layout_and_computes_the_files_logits(layout, classes, tmp_path):
    state = random_state('enet', classes, {'layout': layout})
    assert import_file(write(tmp_path / 'w.pth', prefixed(state)), 'enet', tmp_path / 'c') == 0
    logits, images, meta = logits_of(tmp_path / 'c')
    assert torch.equal(logits, logits_with(state, images, 'enet', classes, {'layout': layout}))
    assert meta.model_options == {'layout': layout}
    assert meta.void_index == (19 if classes == 20 else None)


def davidtvs_file(path):
    """As the davidtvs training script saves it: a numpy mIoU and the optimiser along."""
    state = random_state('enet', 20, {'layout': 'a'})
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    beside = {'epoch': 300, 'miou': np.float64(0.595), 'optimizer': optimizer.state_dict()}
    return write(path, {**beside, 'state_dict': state}), state


def test_the_davidtvs_file_has_void_first_and_its_classes_move_down_by_one(tmp_path, capsys):
    file, state = davidtvs_file(tmp_path / 'ENet')
    assert import_file(file, 'enet', tmp_path / 'c') == 0
    assert 'void index 0 (saved by the davidtvs script)' in capsys.readouterr().out
    checkpoint = Checkpoint.open(tmp_path / 'c')
    model, meta = checkpoint.network(), checkpoint.meta
    images = images_for(meta)
    with torch.inference_mode():
        output = split_void(model(images), meta.void_index)
    raw = logits_with(state, images, 'enet', 20)
    assert meta.void_index == 0
    assert torch.equal(output.logits, raw[:, 1:])
    assert torch.equal(output.void_logit, raw[:, :1])


def test_a_void_index_that_is_asked_for_wins(tmp_path, capsys):
    file, _ = davidtvs_file(tmp_path / 'ENet')
    assert import_file(file, 'enet', tmp_path / 'c', '--void-index', '19') == 0
    assert 'void index 19 (as asked)' in capsys.readouterr().out
    assert logits_of(tmp_path / 'c')[2].void_index == 19


def test_erfnet_loses_its_untrained_channel_and_keeps_the_other_logits(tmp_path, capsys):
    state = random_state('erfnet', 20)
    file = write(tmp_path / 'erfnet_pretrained.pth', prefixed(state))
    assert import_file(file, 'erfnet', tmp_path / 'c') == 0
    line = capsys.readouterr().out
    assert '345 of 345 tensors matched' in line
    assert 'void index none (channel 19 is untrained and was dropped)' in line
    logits, images, meta = logits_of(tmp_path / 'c')
    assert meta.void_index is None
    assert meta.channels == logits.shape[1] == 19
    assert (meta.mean, meta.std) == ((0, 0, 0), (1, 1, 1))
    expected = logits_with(state, images, 'erfnet', 20)[:, :19]
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_erfnet_with_a_trained_void_keeps_it_when_asked(tmp_path):
    state = random_state('erfnet', 20)
    file = write(tmp_path / 'w.pth', prefixed(state))
    assert import_file(file, 'erfnet', tmp_path / 'c', '--void-index', '19') == 0
    logits, images, meta = logits_of(tmp_path / 'c')
    assert meta.void_index == 19
    assert torch.equal(logits, logits_with(state, images, 'erfnet', 20))


def test_bisenetv2_loses_its_auxiliary_heads(tmp_path, capsys):
    torch.manual_seed(6)
    source = build_model('bisenetv2', 19, {'aux_heads': True}).eval()
    assert 'head.conv_out.1.weight' in source.state_dict()
    file = write(tmp_path / 'w.pth', source.state_dict())
    assert import_file(file, 'bisenetv2', tmp_path / 'c') == 0
    assert '327 of 327 tensors matched' in capsys.readouterr().out
    logits, images, meta = logits_of(tmp_path / 'c')
    assert meta.mean == (0.3257, 0.3690, 0.3223)
    assert meta.std == (0.2112, 0.2148, 0.2115)
    assert meta.input_size == (1024, 2048)
    with torch.inference_mode():
        assert torch.equal(source(images).logits, logits)


def test_repair_is_written_into_the_options(tmp_path):
    file = write(tmp_path / 'w.pth', random_state('enet', 20))
    assert import_file(file, 'enet', tmp_path / 'c', '--repair-phase') == 0
    checkpoint = Checkpoint.open(tmp_path / 'c')
    model, meta = checkpoint.network(), checkpoint.meta
    assert meta.model_options == {'layout': 'a', 'repair_phase': True}
    assert model.repair_phase


# Errors: one line on stderr, exit 2, nothing written


class Evil:
    """Makes a folder when a careless reader unpickles it."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def refuse(path, capsys, tmp_path, *more, model='enet'):
    assert import_file(path, model, tmp_path / 'c', *more) == 2
    assert not (tmp_path / 'c').exists()
    text = capsys.readouterr()
    assert text.out == ''
    assert text.err.startswith('anomaly_seg import_weights: ')
    assert text.err.count('\n') == 1
    return text.err


@pytest.mark.parametrize('form', ['zip', 'legacy', 'bare pickle'])
def test_a_file_with_code_is_refused_and_the_code_does_not_run(form, tmp_path, capsys):
    trap, file = tmp_path / 'ran', tmp_path / 'w.pth'
    content = {'state_dict': random_state('enet', 19), 'extra': Evil(trap)}
    if form == 'bare pickle':
        file.write_bytes(pickle.dumps({'extra': Evil(trap)}, protocol=2))
    else:
        write(file, content, _use_new_zipfile_serialization=form == 'zip')
    message = refuse(file, capsys, tmp_path)
    assert not trap.exists()
    assert f'{os.mkdir.__module__}.mkdir' in message
    assert 'could run code, so it is refused' in message


def test_a_whole_pickled_network_is_refused(tmp_path, capsys):
    file = write(tmp_path / 'w.pth', build_model('enet', 19, preset='tiny'))
    assert 'save model.state_dict() alone' in refuse(file, capsys, tmp_path)


def test_a_missing_file_is_named(tmp_path, capsys):
    assert 'no weights file' in refuse(tmp_path / 'none.pth', capsys, tmp_path)


def test_a_git_lfs_pointer_says_how_to_get_the_file(tmp_path, capsys):
    file = tmp_path / 'w.pth'
    file.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1698853\n')
    assert "is only a git-lfs pointer; run 'git lfs pull'" in refuse(file, capsys, tmp_path)


@pytest.mark.parametrize('protocol', [2, 4])
def test_a_pickle_of_arrays_with_code_is_refused_and_the_code_does_not_run(
    protocol, tmp_path, capsys
):
    trap, file = tmp_path / 'ran', tmp_path / 'w.pkl'
    arrays = {key: value.numpy() for key, value in random_state('enet', 19).items()}
    file.write_bytes(pickle.dumps({'model': arrays, 'extra': Evil(trap)}, protocol))
    refuse(file, capsys, tmp_path)
    assert not trap.exists()
    file.write_bytes(pickle.dumps({'model': arrays}, protocol)[:-200])
    refuse(file, capsys, tmp_path)


@pytest.mark.parametrize('share', [0.01, 0.3, 0.98])
def test_a_truncated_file_is_called_truncated(share, tmp_path, capsys):
    file = write(tmp_path / 'w.pth', random_state('enet', 19))
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    assert 'is truncated or damaged' in refuse(file, capsys, tmp_path)


@pytest.mark.parametrize('share', [0.01, 0.3, 0.98])
def test_a_truncated_file_of_the_old_format_is_refused(share, tmp_path, capsys):
    file = write(
        tmp_path / 'w.pth', random_state('enet', 19), _use_new_zipfile_serialization=False
    )
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    assert 'is no torch file, or truncated' in refuse(file, capsys, tmp_path)


@pytest.mark.parametrize(
    'content', [b'', b'hello world', b'\x89PNG\r\n\x1a\n' + bytes(99), b'\x80\x02', bytes(1000)]
)
def test_what_is_no_torch_file_is_called_so(content, tmp_path, capsys):
    file = tmp_path / 'w.pth'
    file.write_bytes(content)
    assert 'is no torch file' in refuse(file, capsys, tmp_path)


@pytest.mark.parametrize('content', [[1, 2], {'epoch': 3}, {}, torch.zeros(3), {3: torch.ones(1)}])
def test_a_torch_file_without_a_state_dict_is_refused(content, tmp_path, capsys):
    file = write(tmp_path / 'w.pth', content)
    assert 'holds no state dict' in refuse(file, capsys, tmp_path)


def test_the_wrong_model_is_told_the_right_one(tmp_path, capsys):
    file = write(tmp_path / 'w.pth', random_state('erfnet', 20))
    message = refuse(file, capsys, tmp_path)
    assert "holds weights of 'erfnet', not 'enet'; use --model erfnet" in message


def test_weights_of_no_known_network_are_refused(tmp_path, capsys):
    file = write(tmp_path / 'w.pth', {'fc.weight': torch.ones(3)})
    message = refuse(file, capsys, tmp_path)
    assert 'no key transposed_conv.weight or fullconv.weight' in message


@pytest.mark.filterwarnings('ignore:The PyTorch API of nested tensors')
@pytest.mark.parametrize(
    ('change', 'why'),
    [
        (lambda one: one.expand(1 << 40), "of shape (1099511627776,) in 'PATH' repeats what is"),
        (
            lambda one: one.to(torch.float8_e4m3fn),
            "in 'PATH' is torch.strided float8_e4m3fn on cpu",
        ),
        (lambda one: one.to(torch.complex64), "in 'PATH' is torch.strided complex64 on cpu; save"),
        (
            torch.Tensor.to_sparse,
            "in 'PATH' is torch.sparse_coo float32 on cpu; save it as",
        ),
        (lambda one: one.to('meta'), "in 'PATH' is torch.strided float32 on meta; save it as a"),
        (
            lambda one: torch.nested.nested_tensor([one]),
            "in 'PATH' is a nested tensor on cpu;",
        ),
    ],
    ids=['expanded', 'float8', 'complex', 'sparse', 'meta', 'nested'],
)
def test_weights_that_are_not_plain_are_refused_by_name(change, why, tmp_path, capsys):
    key = 'regular1_1.ext_conv1.0.weight'
    file = write(tmp_path / 'w.pth', random_state('enet', 19) | {key: change(torch.ones(1))})
    assert f'weight {key!r} {why}'.replace('PATH', str(file)) in refuse(file, capsys, tmp_path)


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_weights_that_are_not_finite_are_refused_by_name(bad, tmp_path, capsys):
    state = random_state('enet', 19)
    state['regular1_1.ext_conv1.0.weight'][0, 0] = bad
    message = refuse(write(tmp_path / 'w.pth', state), capsys, tmp_path)
    assert "weight 'regular1_1.ext_conv1.0.weight'" in message
    assert 'not finite' in message


def test_a_missing_a_surplus_and_a_misshapen_tensor_are_named(tmp_path, capsys):
    state = random_state('enet', 19)
    del state['regular1_1.ext_conv1.0.weight']
    state['surplus.weight'] = torch.ones(1)
    state['regular1_2.ext_conv1.0.weight'] = torch.ones(3, 3)
    message = refuse(write(tmp_path / 'w.pth', state), capsys, tmp_path)
    assert '1 keys missing (regular1_1.ext_conv1.0.weight)' in message
    assert '1 keys unexpected (surplus.weight)' in message
    assert 'regular1_2.ext_conv1.0.weight (3, 3) instead of (16, 64, 1, 1)' in message


def test_batch_counters_may_be_absent(tmp_path):
    state = random_state('enet', 19)
    old = {k: v for k, v in state.items() if not k.endswith('num_batches_tracked')}
    assert import_file(write(tmp_path / 'w.pth', old), 'enet', tmp_path / 'c') == 0


@pytest.mark.parametrize(
    ('classes', 'index', 'text'),
    [
        (19, '3', 'does not fit 19 output channels; leave it out'),
        (20, '20', 'does not fit 20 output channels; give 0..19'),
        (20, '-1', 'give 0..19'),
    ],
)
def test_a_void_index_that_does_not_fit_is_refused(classes, index, text, tmp_path, capsys):
    file = write(tmp_path / 'w.pth', random_state('enet', classes))
    assert text in refuse(file, capsys, tmp_path, f'--void-index={index}')


def test_another_number_of_classes_has_no_names_until_they_are_given(tmp_path, capsys):
    state = random_state('enet', 4)
    file = write(tmp_path / 'w.pth', state)
    assert import_file(file, 'enet', tmp_path / 'plain') == 0
    assert 'the 4 channels are no known classes; --classes FILE names' in capsys.readouterr().out
    found, images, meta = logits_of(tmp_path / 'plain')
    assert meta.class_names == ('class 0', 'class 1', 'class 2', 'class 3')
    assert torch.equal(found, logits_with(state, images, 'enet', 4))
    classes = tmp_path / 'classes.yaml'
    classes.write_text(
        'classes: [{name: a, id: 5}, {name: b, id: 6, dynamic: true}, {name: c, id: 0}]'
    )
    assert import_file(file, 'enet', tmp_path / 'd', '--classes', str(classes)) == 0
    meta = Checkpoint.open(tmp_path / 'd').meta
    assert (meta.class_names, meta.dynamic_classes) == (('a', 'b', 'c'), ('b',))
    assert meta.void_index == 3
    classes.write_text('classes: [{name: a, id: 5}, {name: b, id: 6}]')
    capsys.readouterr()
    message = refuse(file, capsys, tmp_path, '--classes', str(classes))
    assert (
        'the weights have 4 output channels; expected the 2 classes (a, ...), or 3 with' in message
    )
