"""The checkpoint folder: whole and strict, or one clear error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import hashlib
import json
from pathlib import Path
import shutil
from typing import Any

import pytest

from anomaly_seg_ros.calibration import Calibration
from anomaly_seg_ros.checkpoint import folder as folder_file
from anomaly_seg_ros.checkpoint.calibrated import CalibratedOn, CameraCalibration
from anomaly_seg_ros.checkpoint.folder import (
    Checkpoint,
    DEFAULT_FOLDER,
    save_checkpoint,
    WEIGHTS_FILE,
)
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta, META_FILE, write_meta
from anomaly_seg_ros.engines import open_engine
from anomaly_seg_ros.node.config import NodeConfig
from anomaly_seg_ros.node.label_info import label_info

pytestmark = pytest.mark.timeout(300)  # importing torch, on a loaded machine

LFS_POINTER = (
    'version https://git-lfs.github.com/spec/v1\n'
    'oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n'
)


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint, to be broken."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / 'checkpoint'))


def change_meta(folder: Path, **values: Any) -> None:
    path = folder / META_FILE
    meta = json.loads(path.read_text(encoding='utf-8')) | values
    path.write_text(json.dumps({k: v for k, v in meta.items() if v is not ...}), encoding='utf-8')


def test_meta_comes_back_as_it_was(tmp_path: Path, make_fake_meta: Callable[..., Any]) -> None:
    meta = make_fake_meta(
        void_index=11,
        calibrations={
            'msp': Calibration((0.0, 0.1, 0.5)),
            'max_logit': Calibration((-9.25, 1e-7)),
        },
        calibrated_on={
            'msp': CalibratedOn('camvid', 'val', 101, 'abc'),
            'max_logit': CalibratedOn('a', '', 9, '', 0.011, (0.008, 0.02), {'0016E5': 0.011}),
        },
        cameras={'front': {'msp': FRONT}},
        thresholds={'msp': 0.98},
        training={'recipe': {'lr': 0.003}, 'note': 'ä'},
        model_options={'channels': [1, 2]},
        score_options={'sml': {'dilated_smoothing': False}},
        fitted={'sml': 'camvid train'},
    )
    write_meta(tmp_path, meta)
    assert Checkpoint.open(tmp_path).meta == meta
    assert meta.channels == 12
    assert [path.name for path in tmp_path.iterdir()] == [META_FILE]


def test_a_camera_has_its_own_calibration_in_place_of_the_common_one(
    make_fake_meta: Callable[..., Any],
) -> None:
    common = Calibration((0.0, 0.1, 0.5))
    meta = make_fake_meta(
        calibrations={'msp': common, 'max_logit': common},
        thresholds={'msp': 0.98},
        cameras={'front': {'msp': FRONT}},
    )
    front = meta.of_camera('front')
    assert front.calibrations == {'msp': FRONT.calibration, 'max_logit': common}
    assert front.thresholds == {'msp': FRONT.threshold}
    assert front.calibrated_on == {'msp': FRONT.calibrated_on}
    assert meta.of_camera('left') == meta.of_camera('') == meta


def test_update_changes_only_what_is_named(fake_checkpoint: Path) -> None:
    before = Checkpoint.open(fake_checkpoint).meta
    after = Checkpoint.open(fake_checkpoint).with_meta(thresholds={'msp': 0.5})
    assert Checkpoint.open(fake_checkpoint) == after
    assert after.meta.thresholds == {'msp': 0.5}
    assert after.meta.calibrations == before.calibrations


FRONT = CameraCalibration(
    Calibration((0.2, 0.3)), 0.995, CalibratedOn('frames', '', 20, 'abc', 0.006, (0.004, 0.009))
)
ORIGIN = {'dataset': 'camvid', 'split': 'val', 'frames': 101, 'commit': 'abc'}
NAN, INFINITE = float('nan'), float('inf')
BAD_NUMBERS = (NAN, INFINITE, True, '0.5', None, [0.5], 10**400)
MISFITS: list[tuple[dict[str, Any], str]] = [
    ({'format': 2}, 'checkpoint format 2 is not 1'),
    ({'format': ...}, 'checkpoint format None is not 1'),
    ({'format': [1]}, r'checkpoint format \[1\] is not 1'),
    ({'colour': 1}, r"unknown keys \['colour'\]; this package may be older"),
    *(({key: ...}, f"key '{key}' is missing") for key in ('model', 'class_names', 'mean', 'std')),
    *(({'model': value}, 'model is .* a text that is not empty') for value in (1, '', None)),
    ({'mean': [0.5, 0.5]}, r'mean is \[0.5, 0.5\]; it must be a list of 3'),
    ({'mean': 0.5}, 'mean is 0.5; it must be a list of 3'),
    *(({'mean': [0.5, 0.5, v]}, r'mean\[2\] is .*must be a number') for v in BAD_NUMBERS),
    *(({'std': [0.5, v, 0.5]}, r'std\[1\] is .*number above 0') for v in (0.0, -1, *BAD_NUMBERS)),
    *(({'gamma': v}, 'gamma is .*number above 0') for v in (0, -1.0, *BAD_NUMBERS)),
    *(({'temperature': v}, 'temperature is .*number above 0') for v in (0, -1.0, *BAD_NUMBERS)),
    ({'class_names': ['road']}, '1 class_names but 11 class_colors'),
    ({'class_names': 'road'}, "class_names is 'road'; it must be a list"),
    ({'class_names': []}, '0 class_names; there must be 1 to 255'),
    ({'class_names': [str(i) for i in range(256)]}, '256 class_names; there must be 1 to 255'),
    ({'class_names': ['road'] * 11}, r'class_names is \(.* none stands there twice'),
    ({'class_names': ['road', 3]}, r'class_names\[1\] is 3; it must be a text'),
    ({'class_colors': [[0, 0, 0]]}, '11 class_names but 1 class_colors'),
    ({'class_colors': [[0, 0]]}, r'class_colors\[0\] is \[0, 0\]; it must be a list of 3'),
    *(
        ({'class_colors': [[0, 0, v]]}, r'class_colors\[0\]\[2\] is .* whole number of 0 to 255')
        for v in (256, -1, 0.5, True, '0')
    ),
    ({'input_size': [0, 10]}, r'input_size\[0\] is 0; it must be a whole number of 1 or more'),
    ({'input_size': [10.0, 10]}, r'input_size\[0\] is 10.0'),
    ({'input_size': [10]}, r'input_size is \[10\]; it must be a list of 2'),
    *(({'void_index': v}, 'void_index is') for v in (12, -1, True, 1.0, '1')),
    ({'model_options': []}, r'model_options is \[\]; it must be an object'),
    ({'score': 'msx'}, "score is 'msx'; it must be one of: .*energy"),
    ({'score': None}, 'score is None; it must be one of: .*energy'),
    *(
        ({key: {'msx': value}}, f"a key of {key} is 'msx'; it must be one of: .*energy")
        for key, value in (
            ('thresholds', 0.5),
            ('fitted', 'camvid train'),
            ('calibrations', [0.0, 1.0]),
            ('score_options', {}),
        )
    ),
    *(
        ({key: []}, f'{key} is .*it must be an object')
        for key in ('thresholds', 'fitted', 'calibrations', 'score_options', 'training')
    ),
    *(
        ({'thresholds': {'max_logit': v}}, 'thresholds.max_logit is .*a number from 0 to 1')
        for v in (7.0, -0.01, *BAD_NUMBERS)
    ),
    ({'fitted': {'sml': 1}}, 'fitted.sml is 1; it must be a text'),
    ({'score_options': {'sml': 1}}, 'score_options.sml is 1; it must be an object'),
    ({'calibrations': {'msp': [1.0, 0.0]}}, 'calibrations.msp: .*never fall'),
    ({'calibrations': {'msp': [1.0]}}, 'calibrations.msp: .*at least 2 levels'),
    ({'calibrations': {'msp': 1.0}}, 'calibrations.msp is 1.0; it must be a list'),
    *(
        ({'calibrations': {'msp': [0.0, v]}}, r'calibrations.msp\[1\] is .*must be a number')
        for v in BAD_NUMBERS
    ),
    *(
        ({'calibrated_on': {'msp': values}}, f'calibrated_on.msp{what}')
        for values, what in (
            ('camvid val', ' is .* an object with dataset, split, frames, commit'),
            ({'dataset': 'camvid'}, ' is .* an object with dataset, split, frames, commit'),
            ({**ORIGIN, 'frames': 0}, '.frames is 0; it must be a whole number of 1 or more'),
            ({**ORIGIN, 'split': 1}, '.split is 1; it must be a text'),
            ({**ORIGIN, 'share': 2}, '.share is 2; it must be a number from 0 to 1'),
            ({**ORIGIN, 'interval': [0.1]}, r'.interval is .*a list of 2'),
            ({**ORIGIN, 'scenes': {'a': -1}}, '.scenes.a is -1; it must be a number from 0 to 1'),
            ({**ORIGIN, 'shares': 0.1}, ' is .* an object with dataset, split'),
        )
    ),
    ({'calibrated_on': {'msx': ORIGIN}}, "a key of calibrated_on is 'msx'; it must be one of"),
    ({'cameras': {'': {}}}, 'a key of cameras is .*a text that is not empty'),
    ({'cameras': {'front': {'msx': {}}}}, 'a key of cameras.front is .*one of'),
    (
        {'cameras': {'front': {'msp': {'levels': [0.0, 1.0]}}}},
        'cameras.front.msp is .*an object with levels, threshold, calibrated_on',
    ),
    (
        {'cameras': {'front': {'msp': {**FRONT.to_json(), 'levels': [1.0, 0.0]}}}},
        'cameras.front.msp.levels: .*never fall',
    ),
    ({'trained_on': 'camvid train'}, "trained_on is 'camvid train'; it must be a list"),
    ({'trained_on': [1]}, r'trained_on\[0\] is 1; it must be a text'),
    ({'commit': 1}, 'commit is 1; it must be a text'),
    *(({'weights_sha256': v}, 'weights_sha256 is .*64 digits') for v in ('ab', 'G' * 64, None)),
]


@pytest.mark.parametrize(('values', 'what'), MISFITS)
def test_meta_that_does_not_fit(fake_checkpoint: Path, values: dict[str, Any], what: str) -> None:
    change_meta(fake_checkpoint, **values)
    with pytest.raises(ValueError, match=what) as error:
        Checkpoint.open(fake_checkpoint)
    assert str(error.value).startswith(f'cannot use {str(fake_checkpoint / META_FILE)!r}: ')
    assert 'correct it, or make the checkpoint again' in str(error.value)
    assert len(str(error.value)) < 600
    assert '\n' not in str(error.value)


def test_what_could_not_be_read_again_is_not_written(fake_checkpoint: Path) -> None:
    before = (fake_checkpoint / META_FILE).read_bytes()
    with pytest.raises(ValueError, match=r'thresholds.max_logit is 7'):
        Checkpoint.open(fake_checkpoint).with_meta(thresholds={'max_logit': 7})
    assert (fake_checkpoint / META_FILE).read_bytes() == before


@pytest.mark.parametrize('text', ['', '{', '[]', '"x"', LFS_POINTER, '\x00', '[' * 100_000])
def test_meta_that_is_no_json_object(fake_checkpoint: Path, text: str) -> None:
    (fake_checkpoint / META_FILE).write_text(text, encoding='utf-8')
    with pytest.raises(ValueError, match='cannot use'):
        Checkpoint.open(fake_checkpoint)


def test_meta_that_is_no_text(fake_checkpoint: Path) -> None:
    (fake_checkpoint / META_FILE).write_bytes(b'\xff\xfe\xfa')
    with pytest.raises(ValueError, match='cannot use'):
        Checkpoint.open(fake_checkpoint)


def test_missing_folder_and_missing_files(tmp_path: Path, fake_checkpoint: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'no checkpoint folder .*nowhere'):
        Checkpoint.open(tmp_path / 'nowhere')
    with pytest.raises(FileNotFoundError, match=r'it has no meta\.json.*import_weights'):
        Checkpoint.open(tmp_path)
    (fake_checkpoint / WEIGHTS_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r'has no weights\.safetensors'):
        _ = Checkpoint.open(fake_checkpoint).network_key


def test_the_word_default_is_the_folder_in_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, 'is_dir', lambda self: True)
    monkeypatch.setattr('anomaly_seg_ros.checkpoint.folder.read_meta', lambda path: path)
    assert Checkpoint.open('default').folder == DEFAULT_FOLDER
    assert DEFAULT_FOLDER.parts[-3:] == ('anomaly_seg_ros', 'checkpoints', 'default')


def test_hash_follows_weights_and_graph_only(fake_checkpoint: Path) -> None:
    first = Checkpoint.open(fake_checkpoint).network_key
    Checkpoint.open(fake_checkpoint).with_meta(
        thresholds={}, calibrations={}, training={'x': 1}, score='msp'
    )
    assert Checkpoint.open(fake_checkpoint).network_key == first
    Checkpoint.open(fake_checkpoint).with_meta(mean=(0.1, 0.2, 0.3))
    second = Checkpoint.open(fake_checkpoint).network_key
    assert second != first


def test_a_pointer_of_git_lfs_is_named(fake_checkpoint: Path) -> None:
    (fake_checkpoint / WEIGHTS_FILE).write_text(LFS_POINTER)
    with pytest.raises(ValueError, match="only a git-lfs pointer; run 'git lfs pull'"):
        _ = Checkpoint.open(fake_checkpoint).network_key


def test_network_comes_back_as_it_was(folder: Path) -> None:
    import torch

    checkpoint = Checkpoint.open(folder)
    model, meta = checkpoint.network(), checkpoint.meta
    assert not model.training
    save_checkpoint(folder / 'again', meta, model.state_dict())
    checkpoint = Checkpoint.open(folder / 'again')
    again, meta_again = checkpoint.network(), checkpoint.meta
    assert meta_again == meta
    state = model.state_dict()
    assert list(again.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())
    assert Checkpoint.open(folder / 'again').network_key == Checkpoint.open(folder).network_key
    assert sorted(path.name for path in (folder / 'again').iterdir()) == [META_FILE, WEIGHTS_FILE]


def test_half_precision_weights_become_float32(folder: Path) -> None:
    import torch

    weights = {
        key: value.half() for key, value in Checkpoint.open(folder).network_weights().items()
    }
    save_checkpoint(folder, Checkpoint.open(folder).meta, weights)
    assert {value.dtype for value in Checkpoint.open(folder).network_weights().values()} == {
        torch.float32
    }


@pytest.mark.parametrize('size', [0, 4, 100, -1])
def test_truncated_weights(folder: Path, size: int) -> None:

    data = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(data[:size])
    with pytest.raises(ValueError, match='the file is truncated or no safetensors file'):
        Checkpoint.open(folder).network()


def test_a_pickle_is_not_opened(folder: Path) -> None:
    import torch

    torch.save({'x': torch.zeros(1)}, folder / WEIGHTS_FILE)
    with pytest.raises(ValueError, match='no safetensors file'):
        Checkpoint.open(folder).network()


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite(folder: Path, value: float) -> None:

    weights = Checkpoint.open(folder).network_weights()
    key = sorted(weights)[3]
    weights[key].view(-1)[0] = value
    save_checkpoint(folder, Checkpoint.open(folder).meta, weights)
    with pytest.raises(ValueError, match=rf"weight '{key}' in .* is not finite"):
        Checkpoint.open(folder).network()


def test_weights_of_another_network(folder: Path) -> None:

    change_meta(folder, model='enet', model_options={})
    with pytest.raises(ValueError, match=r'does not fit ENet: .*keys missing.*keys unexpected'):
        Checkpoint.open(folder).network()


def test_weights_of_another_size(folder: Path) -> None:

    names = [f'class {i}' for i in range(5)]
    change_meta(folder, class_names=names, class_colors=[[0, 0, 0]] * 5)
    with pytest.raises(ValueError, match=r'shapes differ \(head.* instead of'):
        Checkpoint.open(folder).network()


@pytest.mark.parametrize(
    ('values', 'what'),
    [
        (
            {'model': 'resnet'},
            r"unknown model 'resnet'; choose one of: .*bisenetv2, .*enet, erfnet",
        ),
        ({'model_options': {'wings': 2}}, "'wings'. of model 'bisenetv2'; it takes: detail_cha"),
    ],
)
def test_networks_that_do_not_exist(folder: Path, values: dict[str, Any], what: str) -> None:

    change_meta(folder, **values)
    with pytest.raises(ValueError, match=what):
        Checkpoint.open(folder).network()


# Heads that start afresh


def two_heads(classes: int = 3, outlier: bool = True) -> Any:
    import torch

    from anomaly_seg_ros.models.network import Network

    network: Any = Network()
    network.body = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    network.head = torch.nn.Conv2d(4, classes, 1)
    if outlier:
        network.logits_ood = torch.nn.Conv2d(4, 2, 1)
    return network


def test_a_head_that_the_weights_lack_starts_afresh() -> None:
    import torch

    from anomaly_seg_ros.checkpoint.weights import load_state

    old, network = two_heads(outlier=False), two_heads()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=r'2 keys missing \(logits_ood.bias, logits_ood.weight\)'):
        load_state(network, old.state_dict(), 'old')
    assert load_state(network, old.state_dict(), 'old', new=('logits_ood.', 'nothing.')) == (
        'logits_ood.',
    )
    for key, value in network.state_dict().items():
        source = before if key.startswith('logits_ood.') else old.state_dict()
        assert torch.equal(value, source[key])


def test_a_head_of_another_shape_starts_afresh_as_a_whole() -> None:
    import torch

    from anomaly_seg_ros.checkpoint.weights import load_state

    old, network = two_heads(classes=5), two_heads(classes=3)
    weights = old.state_dict()
    weights['head.bias'] = weights['head.bias'][:3]
    before = network.head.bias.clone()
    assert load_state(network, weights, 'old', new=('head.',)) == ('head.',)
    assert torch.equal(network.head.bias, before)
    assert torch.equal(network.logits_ood.weight, weights['logits_ood.weight'])


def test_a_head_that_the_network_lacks_is_left_out() -> None:
    from anomaly_seg_ros.checkpoint.weights import load_state

    old, network = two_heads(), two_heads(outlier=False)
    with pytest.raises(ValueError, match='2 keys unexpected'):
        load_state(network, old.state_dict(), 'old', new=('head.',))
    assert load_state(network, old.state_dict(), 'old', new=('head.', 'logits_ood.')) == ()


def test_new_heads_that_fit_are_loaded() -> None:
    import torch

    from anomaly_seg_ros.checkpoint.weights import load_state

    old, network = two_heads(), two_heads()
    assert load_state(network, old.state_dict(), 'old', new=('head.', 'logits_ood.')) == ()
    assert torch.equal(network.head.weight, old.head.weight)


def test_all_but_new_heads_stays_strict() -> None:
    from anomaly_seg_ros.checkpoint.weights import load_state

    weights = two_heads(outlier=False).state_dict()
    weights['body.0.extra'] = weights.pop('body.0.bias')
    with pytest.raises(ValueError, match=r'keys missing \(body.0.bias\).*body.0.extra') as error:
        load_state(two_heads(), weights, 'old', new=('logits_ood.',))
    assert 'logits_ood' not in str(error.value)


# Statistics of scores


def sml(shift: float = 0.0) -> dict[str, Any]:
    import torch

    return {'mean': torch.arange(11.0) + shift, 'std': torch.ones(11)}


def keys(checkpoint: Checkpoint) -> dict[str, str]:
    """What engines of some scores are held against, by score."""
    return {score: checkpoint.score_key(score) for score in ('max_logit', 'sml', 'mahalanobis')}


def changed(before: Checkpoint, after: Checkpoint) -> set[str]:
    old, new = keys(before), keys(after)
    return {score for score in old if old[score] != new[score]}


def test_statistics_are_kept_apart_from_the_network(folder: Path) -> None:
    import torch

    weights = {k: value.half() for k, value in Checkpoint.open(folder).network_weights().items()}
    plain = save_checkpoint(folder, Checkpoint.open(folder).meta, weights)
    assert plain.statistics('sml') == {}
    assert changed(plain, plain) == set()
    both = plain.with_statistics(
        {'sml': sml(), 'mahalanobis': {'means': torch.ones(2)}}, 'camvid train'
    )
    assert both == Checkpoint.open(folder)
    assert both.meta.fitted == {'sml': 'camvid train', 'mahalanobis': 'camvid train'}
    assert torch.equal(both.statistics('sml')['mean'], torch.arange(11.0))
    assert both.network_weights().keys() == weights.keys()
    both.network()
    assert changed(plain, both) == {'sml', 'mahalanobis'}
    assert both.network_key == plain.network_key
    assert both.weights_sha256 != plain.weights_sha256

    again = both.with_statistics({'sml': sml(1.0)}, 'cityscapes train')
    assert again.meta.fitted == {'sml': 'cityscapes train', 'mahalanobis': 'camvid train'}
    assert torch.equal(again.statistics('sml')['mean'], torch.arange(11.0) + 1)
    assert torch.equal(again.statistics('mahalanobis')['means'], torch.ones(2))
    assert changed(both, again) == {'sml'}

    cleared = again.with_statistics({'sml': None, 'mahalanobis': None}, '')
    assert cleared.meta.fitted == {}
    assert cleared.statistics('sml') == {}
    assert changed(plain, cleared) == set()
    assert cleared.weights_sha256 == plain.weights_sha256


def test_statistics_that_are_not_finite(folder: Path) -> None:

    Checkpoint.open(folder).with_statistics({'sml': sml(float('nan'))}, 'camvid train')
    with pytest.raises(ValueError, match=r"weight 'score\.sml\.mean' in .* is not finite"):
        Checkpoint.open(folder).statistics('sml')
    Checkpoint.open(folder).network()


@pytest.mark.parametrize(
    ('change', 'scores'),
    [
        ({'score_options': {'sml': {'dilated_smoothing': False}}}, {'sml'}),
        ({'temperature': 2.0}, {'msp', 'energy'}),
        ({'mean': (0.1, 0.2, 0.3)}, {'msp', 'energy', 'max_logit', 'sml'}),
        ({'gamma': 0.5}, {'msp', 'energy', 'max_logit', 'sml'}),
        ({'void_index': 3}, {'msp', 'energy', 'max_logit', 'sml'}),
        ({'model': 'enet'}, {'msp', 'energy', 'max_logit', 'sml'}),
        ({'model_options': {'layout': 'b'}}, {'msp', 'energy', 'max_logit', 'sml'}),
        (
            {'class_names': ('a', 'b'), 'class_colors': ((0, 0, 0),) * 2},
            {'msp', 'energy', 'max_logit', 'sml'},
        ),
        ({'thresholds': {}, 'calibrations': {}, 'training': {'x': 1}, 'score': 'msp'}, set()),
    ],
)
def test_only_the_keys_of_what_changed_change(
    fake_checkpoint: Path, change: dict[str, Any], scores: set[str]
) -> None:
    before = Checkpoint.open(fake_checkpoint)
    after = before.with_meta(**change)
    names = ('msp', 'energy', 'max_logit', 'sml')
    assert {s for s in names if before.score_key(s) != after.score_key(s)} == scores
    assert len({after.score_key(s) for s in names}) == len(names)


def test_the_network_key_is_that_of_the_values_not_of_the_file(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    before = Checkpoint.open(folder)
    assert before.network_key
    tensors = load_file(folder / WEIGHTS_FILE)
    save_file(tensors, folder / WEIGHTS_FILE, metadata={'by': 'another program'})
    after = Checkpoint(folder, replace(before.meta, weights_sha256=''))
    assert after.weights_sha256 != before.weights_sha256
    assert after.network_key == before.network_key
    key = next(key for key in sorted(tensors) if tensors[key].is_floating_point())
    tensors[key].view(-1)[0] += 1
    save_file(tensors, folder / WEIGHTS_FILE)
    assert Checkpoint(folder, after.meta).network_key != before.network_key


# The sum of the weights file


def test_weights_that_meta_json_was_not_written_for(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS_FILE).read_bytes())
    data[-1000] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(data)
    checkpoint = Checkpoint.open(folder)
    for use in (lambda: checkpoint.network_key, checkpoint.network):
        with pytest.raises(ValueError, match=r'has sha256 .*was written for .*again') as error:
            use()
        assert str(folder / WEIGHTS_FILE) in str(error.value)
        assert '\n' not in str(error.value)


def test_a_checkpoint_of_before_has_no_sum_and_is_taken(folder: Path) -> None:
    change_meta(folder, weights_sha256=...)
    data = bytearray((folder / WEIGHTS_FILE).read_bytes())
    data[-1000] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(data)
    Checkpoint.open(folder).network()


def test_an_enet_that_was_trained_before_sums_were_kept_has_the_form_of_then(
    make_fake_meta: Callable[..., Any],
) -> None:
    def options(**values: Any) -> dict[str, Any]:
        made = json.loads(make_fake_meta(model='enet', **values).to_json())
        return CheckpointMeta.from_mapping(made).model_options

    old_form = {'layout': 'a', 'expansion_activation': True}
    assert options() == old_form
    assert options(training={'imported_from': 'ENet.pth'}) == {}
    assert options(weights_sha256='0' * 64) == {}
    assert options(model_options={'layout': 'b'}) == {'layout': 'b'}
    assert options(model_options={'expansion_activation': False}) == old_form | {
        'expansion_activation': False
    }


def test_the_shipped_checkpoint_carries_the_sum_of_its_weights() -> None:
    checkpoint = Checkpoint.open('default')
    assert checkpoint.meta.weights_sha256 == sha256((DEFAULT_FOLDER / WEIGHTS_FILE).read_bytes())
    assert checkpoint.weights_sha256 == checkpoint.meta.weights_sha256


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    'data',
    [
        b'',
        b'\x02\x00\x00\x00\x00\x00\x00\x00',
        b'\xff' * 100,
        (2).to_bytes(8, 'little') + b'[]',
        (2).to_bytes(8, 'little') + b'{}x',
        (8).to_bytes(8, 'little') + b'{"a": 1}',
        (8).to_bytes(8, 'little') + b'{"a":{}}',
        *(
            len(text).to_bytes(8, 'little') + text + b'1234'
            for text in (
                json.dumps({'a': {'dtype': 'F32', 'shape': [1], 'data_offsets': offsets}}).encode()
                for offsets in ([0, 8], [1, 4], [4, 0], [0, 3], ['0', '4'], 4, [0])
            )
        ),
    ],
)
def test_files_that_are_no_safetensors(fake_checkpoint: Path, data: bytes) -> None:
    (fake_checkpoint / WEIGHTS_FILE).write_bytes(data)
    with pytest.raises(ValueError, match='the file is truncated or no safetensors file'):
        _ = Checkpoint.open(fake_checkpoint).weights_sha256


def test_a_kill_between_the_two_files_leaves_a_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint.open(folder)
    weights = {key: value + 1 for key, value in checkpoint.network_weights().items()}
    rename = Path.replace

    def replace_at_most(count: int) -> Callable[..., Path]:
        left = iter(range(count))

        def replacing(path: Path, target: Path) -> Path:
            if next(left, None) is None:
                raise KeyboardInterrupt  # stands for the kill
            return rename(path, target)

        return replacing

    for count in range(3):
        monkeypatch.setattr(Path, 'replace', replace_at_most(count))
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(folder, checkpoint.meta, weights)
        monkeypatch.undo()
        Checkpoint.open(folder).network()
    save_checkpoint(folder, checkpoint.meta, weights)
    assert Checkpoint.open(folder).meta.weights_sha256


def test_channels_count_void(make_fake_meta: Callable[..., CheckpointMeta]) -> None:
    assert make_fake_meta().channels == 11
    assert make_fake_meta(void_index=0).channels == 12


@pytest.mark.parametrize('name', ['openvino', 'torch'])
def test_the_weights_are_hashed_once_from_configure_to_label_info(
    name: str, exported_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    real = folder_file.digest_weights
    monkeypatch.setattr(
        folder_file, 'digest_weights', lambda path: read.append(path) or real(path)
    )
    checkpoint = Checkpoint.open(exported_checkpoint)
    engine = open_engine(checkpoint, name)
    label_info(checkpoint, engine, 0.9, NodeConfig())
    assert read == [exported_checkpoint / WEIGHTS_FILE]
