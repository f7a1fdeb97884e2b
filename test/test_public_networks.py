"""Our networks against logits that the public code itself gave.

Each file of `golden/networks/` names the repository, the commit and the file whose network was
run, on a CPU in evaluation mode, and holds its logits at six places of an image. The image and,
but for the two public weights files, the weights come of the formulas below, so that they are the
same on every machine. `changed` says what of the public code was made smaller to be quick.
"""

import hashlib
import json
from pathlib import Path
import zlib

import numpy as np
import pytest
import torch

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.models import build_model, MODELS

GOLDEN = Path(__file__).parent / 'golden' / 'networks'
WEIGHTS = Path(__file__).resolve().parents[2] / 'shared' / 'weights'
FILES = {path.stem: json.loads(path.read_text()) for path in sorted(GOLDEN.glob('*.json'))}
MADE = [
    # 137 million weights take ten seconds to make.
    pytest.param(name, marks=[pytest.mark.slow] if name == 'deeplabv3plus' else [])
    for name, content in FILES.items()
    if 'weights' not in content
]
PUBLIC = [name for name, content in FILES.items() if 'weights' in content]


def noise(count, phase):
    """Numbers of 0..1 that look random."""
    x = np.sin(np.arange(1, count + 1, dtype=np.float64) * 12.9898 + phase) * 43758.5453
    return x - np.floor(x)


def made_state(state):
    """A state dict of the same keys and shapes, as if trained: nothing at its initial value."""
    made = {}
    for key, value in state.items():
        if not value.is_floating_point():
            made[key] = torch.zeros_like(value)
            continue
        x = noise(value.numel(), zlib.crc32(key.encode()) % 1000).reshape(tuple(value.shape))
        if value.ndim > 1:
            x = (x - 0.5) * (12 / value[0].numel()) ** 0.5
        elif key.endswith(('weight', 'running_var')):
            x = 0.5 + x
        else:
            x = x - 0.5
        made[key] = torch.from_numpy(x.astype(np.float32))
    return made


def made_image(height, width):
    """(1, 3, height, width) RGB in 0..1: slow and fast waves."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    slow = [np.sin(0.11 * y + 0.07 * (c + 1) * x + c) for c in range(3)]
    fast = [np.sin(0.9 * x - 0.6 * (c + 1) * y) for c in range(3)]
    rgb = 0.5 + 0.3 * np.stack(slow) + 0.2 * np.stack(fast)
    return torch.from_numpy(rgb[None].astype(np.float32))


def at_places(logits):
    """Gives (6, K): the corners, and two places that lie within."""
    height, width = logits.shape[2:]
    rows = [0, 0, height - 1, height - 1, height // 3, height // 2]
    columns = [0, width - 1, 0, width - 1, width // 2, width // 3]
    return logits[0, :, rows, columns].T


def assert_as_public(found, expected):
    expected = torch.tensor(expected)
    torch.testing.assert_close(
        at_places(found), expected, rtol=0, atol=1e-4 * expected.abs().max().item()
    )


def assert_gives(model, content):
    """Holds a network in evaluation mode against all outputs of a golden file."""
    inside = content.get('normalised_inside')
    for output in content['outputs']:
        images = made_image(*output['size'])
        if inside:
            mean, std = (torch.tensor(inside[key]).view(3, 1, 1) for key in ('mean', 'std'))
            images = (images - mean) / std
        with torch.inference_mode():
            found = model(images)
        assert_as_public(found.logits, output['logits'])
        if 'ood_logits' in output:
            assert_as_public(found.ood_logits, output['ood_logits'])
        assert len(found.aux_logits) == len(output.get('aux_logits', ()))
        for ours, theirs in zip(found.aux_logits, output.get('aux_logits', ()), strict=True):
            assert_as_public(ours, theirs)


def test_every_network_is_held_against_a_public_one():
    held = {content['model'] for content in FILES.values() if 'classes' in content}
    # Held elsewhere: each in the test of its name; the autoencoder is nobody's.
    elsewhere = {'autoencoder', 'efficientnet_lite', 'hf', 'mask2anomaly', 'segmenter'}
    assert held == set(MODELS) - elsewhere
    for content in FILES.values():
        assert content['made_from'].keys() - {'changed'} == {'repository', 'commit', 'file'}


@pytest.mark.parametrize('name', MADE)
def test_a_network_gives_the_logits_of_the_public_code(name):
    content = FILES[name]
    model = build_model(
        content['model'], content['classes'], content['options'], content.get('preset')
    )
    model.load_state_dict(made_state(model.state_dict()))
    model.eval()
    # Auxiliary heads run in training mode alone; the norms inside stay in evaluation mode.
    model.training = 'aux_heads' in content['options']
    assert_gives(model, content)


@pytest.mark.parametrize('name', PUBLIC)
def test_an_imported_public_file_gives_the_logits_of_the_public_code(name, tmp_path):
    content = FILES[name]
    file = WEIGHTS / content['weights']
    if not file.is_file():
        pytest.skip(f'no public weights {file}')
    assert hashlib.sha256(file.read_bytes()).hexdigest() == content['sha256']
    command = ['import_weights', str(file), '--model', content['model']]
    assert main([*command, '--out', str(tmp_path / 'c')]) == 0
    assert_gives(Checkpoint.open(tmp_path / 'c').network(), content)


def test_weights_from_before_march_2021_compute_what_they_were_trained_for_when_asked(tmp_path):
    content = FILES['enet_a_before_march_2021']
    state = made_state(build_model('enet', 20).state_dict())
    torch.save({f'module.{key}': value for key, value in state.items()}, tmp_path / 'w.pth')
    command = ['import_weights', str(tmp_path / 'w.pth'), '--model', 'enet']
    assert main([*command, '--expansion-activation', '--out', str(tmp_path / 'c')]) == 0
    checkpoint = Checkpoint.open(tmp_path / 'c')
    assert checkpoint.meta.model_options == {'layout': 'a', 'expansion_activation': True}
    assert_gives(checkpoint.network(), content)
    plain = build_model('enet', 20).eval()
    plain.load_state_dict(state)
    with pytest.raises(AssertionError):
        assert_gives(plain, content)


def test_the_old_form_is_one_of_layout_a_alone():
    with pytest.raises(ValueError, match="expansion_activation is for layout 'a'"):
        build_model('enet', 19, {'layout': 'b', 'expansion_activation': True})
