"""The checkpoint folder: whole and strict, or one clear error."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
import shutil
from typing import Any

import pytest

from anomaly_seg_ros.calibration import Calibration
from anomaly_seg_ros.checkpoint.folder import (
    CheckpointMeta,
    DEFAULT_FOLDER,
    META_FILE,
    read_meta,
    resolve_checkpoint,
    update_meta,
    WEIGHTS_FILE,
    weights_hash,
    write_meta,
)

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
        thresholds={'msp': 0.98},
        training={'recipe': {'lr': 0.003}, 'note': 'ä'},
        model_options={'channels': [1, 2]},
        score_options={'sml': {'dilated_smoothing': False}},
        fitted={'sml': 'camvid train'},
    )
    write_meta(tmp_path, meta)
    assert read_meta(tmp_path) == meta
    assert meta.channels == 12
    assert [path.name for path in tmp_path.iterdir()] == [META_FILE]


def test_update_changes_only_what_is_named(fake_checkpoint: Path) -> None:
    before = read_meta(fake_checkpoint)
    after = update_meta(fake_checkpoint, thresholds={'msp': 0.5})
    assert read_meta(fake_checkpoint) == after
    assert after.thresholds == {'msp': 0.5}
    assert after.calibrations == before.calibrations


@pytest.mark.parametrize(
    ('values', 'what'),
    [
        ({'format': 2}, 'checkpoint format 2 is not 1'),
        ({'format': ...}, 'checkpoint format None is not 1'),
        ({'colour': 1}, r"unknown keys \['colour'\]"),
        ({'model': ...}, "'model'"),
        ({'mean': ...}, "key 'mean' is missing"),
        ({'mean': [0.5, 0.5]}, 'must be three numbers'),
        ({'std': [0.5, 0.5, 0.0]}, 'std > 0'),
        ({'mean': 0.5}, 'meta.json does not fit'),
        ({'std': ['a', 'b', 'c']}, 'meta.json does not fit'),
        ({'class_names': ['road']}, '1 class_names but 11 class_colors'),
        ({'input_size': [0, 10]}, r'input_size \(0, 10\)'),
        ({'input_size': [10]}, r'input_size \(10,\)'),
        ({'void_index': 12}, 'void_index 12'),
        ({'calibrations': {'msp': [1.0, 0.0]}}, 'never fall'),
        ({'calibrations': [1.0]}, 'meta.json does not fit'),
    ],
)
def test_meta_that_does_not_fit(fake_checkpoint: Path, values: dict[str, Any], what: str) -> None:
    change_meta(fake_checkpoint, **values)
    with pytest.raises(ValueError, match=what) as error:
        read_meta(fake_checkpoint)
    assert str(fake_checkpoint / META_FILE) in str(error.value)


@pytest.mark.parametrize('text', ['', '{', '[]', '"x"', LFS_POINTER, '\x00'])
def test_meta_that_is_no_json_object(fake_checkpoint: Path, text: str) -> None:
    (fake_checkpoint / META_FILE).write_text(text, encoding='utf-8')
    with pytest.raises(ValueError, match='cannot use'):
        read_meta(fake_checkpoint)


def test_meta_that_is_no_text(fake_checkpoint: Path) -> None:
    (fake_checkpoint / META_FILE).write_bytes(b'\xff\xfe\xfa')
    with pytest.raises(ValueError, match='cannot use'):
        read_meta(fake_checkpoint)


def test_missing_folder_and_missing_files(tmp_path: Path, fake_checkpoint: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'no checkpoint folder .*nowhere'):
        resolve_checkpoint(tmp_path / 'nowhere')
    with pytest.raises(FileNotFoundError, match=r'it has no meta\.json.*import_weights'):
        read_meta(tmp_path)
    (fake_checkpoint / WEIGHTS_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r'has no weights\.safetensors'):
        weights_hash(fake_checkpoint)


def test_the_word_default_is_the_folder_in_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, 'is_dir', lambda self: True)
    assert resolve_checkpoint('default') == DEFAULT_FOLDER
    assert DEFAULT_FOLDER.parts[-3:] == ('anomaly_seg_ros', 'checkpoints', 'default')


def test_hash_follows_weights_and_graph_only(fake_checkpoint: Path) -> None:
    first = weights_hash(fake_checkpoint)
    update_meta(fake_checkpoint, thresholds={}, calibrations={}, training={'x': 1}, score='msp')
    assert weights_hash(fake_checkpoint) == first
    update_meta(fake_checkpoint, mean=(0.1, 0.2, 0.3))
    second = weights_hash(fake_checkpoint)
    assert second != first
    (fake_checkpoint / WEIGHTS_FILE).write_bytes(b'other weights')
    assert weights_hash(fake_checkpoint) not in (first, second)


def test_a_pointer_of_git_lfs_is_named(fake_checkpoint: Path) -> None:
    (fake_checkpoint / WEIGHTS_FILE).write_text(LFS_POINTER)
    with pytest.raises(ValueError, match="only a git-lfs pointer; run 'git lfs pull'"):
        weights_hash(fake_checkpoint)


def test_network_comes_back_as_it_was(folder: Path) -> None:
    import torch

    from anomaly_seg_ros.checkpoint.folder import load_checkpoint, save_checkpoint

    model, meta = load_checkpoint(folder)
    assert not model.training
    save_checkpoint(folder / 'again', meta, model.state_dict())
    again, meta_again = load_checkpoint(folder / 'again')
    assert meta_again == meta
    state = model.state_dict()
    assert list(again.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())
    assert weights_hash(folder / 'again') == weights_hash(folder)
    assert sorted(path.name for path in (folder / 'again').iterdir()) == [META_FILE, WEIGHTS_FILE]


def test_half_precision_weights_become_float32(folder: Path) -> None:
    import torch

    from anomaly_seg_ros.checkpoint.folder import read_weights, save_checkpoint

    weights = {key: value.half() for key, value in read_weights(folder).items()}
    save_checkpoint(folder, read_meta(folder), weights)
    assert {value.dtype for value in read_weights(folder).values()} == {torch.float32}


@pytest.mark.parametrize('size', [0, 4, 100, -1])
def test_truncated_weights(folder: Path, size: int) -> None:
    from anomaly_seg_ros.checkpoint.folder import load_checkpoint

    data = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(data[:size])
    with pytest.raises(ValueError, match='the file is truncated or no safetensors file'):
        load_checkpoint(folder)


def test_a_pickle_is_not_opened(folder: Path) -> None:
    import torch

    from anomaly_seg_ros.checkpoint.folder import load_checkpoint

    torch.save({'x': torch.zeros(1)}, folder / WEIGHTS_FILE)
    with pytest.raises(ValueError, match='no safetensors file'):
        load_checkpoint(folder)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite(folder: Path, value: float) -> None:
    from anomaly_seg_ros.checkpoint.folder import (
        load_checkpoint,
        read_weights,
        save_checkpoint,
    )

    weights = read_weights(folder)
    key = sorted(weights)[3]
    weights[key].view(-1)[0] = value
    save_checkpoint(folder, read_meta(folder), weights)
    with pytest.raises(ValueError, match=rf"weight '{key}' in .* is not finite"):
        load_checkpoint(folder)


def test_weights_of_another_network(folder: Path) -> None:
    from anomaly_seg_ros.checkpoint.folder import load_checkpoint

    change_meta(folder, model='enet', model_options={})
    with pytest.raises(ValueError, match=r'does not fit ENet: .*keys missing.*keys unexpected'):
        load_checkpoint(folder)


def test_weights_of_another_size(folder: Path) -> None:
    from anomaly_seg_ros.checkpoint.folder import load_checkpoint

    names = [f'class {i}' for i in range(5)]
    change_meta(folder, class_names=names, class_colors=[[0, 0, 0]] * 5)
    with pytest.raises(ValueError, match=r'shapes differ \(head.* instead of'):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ('values', 'what'),
    [
        (
            {'model': 'resnet'},
            r"unknown model 'resnet'; choose one of: .*bisenetv2, .*enet, erfnet",
        ),
        ({'model_options': {'wings': 2}}, "model 'bisenetv2' does not take options"),
    ],
)
def test_networks_that_do_not_exist(folder: Path, values: dict[str, Any], what: str) -> None:
    from anomaly_seg_ros.checkpoint.folder import load_checkpoint

    change_meta(folder, **values)
    with pytest.raises(ValueError, match=what):
        load_checkpoint(folder)


# Heads that start afresh


def two_heads(classes: int = 3, outlier: bool = True) -> Any:
    import torch

    network = torch.nn.Module()
    network.body = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    network.head = torch.nn.Conv2d(4, classes, 1)
    if outlier:
        network.logits_ood = torch.nn.Conv2d(4, 2, 1)
    return network


def test_a_head_that_the_weights_lack_starts_afresh() -> None:
    import torch

    from anomaly_seg_ros.checkpoint.folder import load_state

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

    from anomaly_seg_ros.checkpoint.folder import load_state

    old, network = two_heads(classes=5), two_heads(classes=3)
    weights = old.state_dict()
    weights['head.bias'] = weights['head.bias'][:3]
    before = network.head.bias.clone()
    assert load_state(network, weights, 'old', new=('head.',)) == ('head.',)
    assert torch.equal(network.head.bias, before)
    assert torch.equal(network.logits_ood.weight, weights['logits_ood.weight'])


def test_a_head_that_the_network_lacks_is_left_out() -> None:
    from anomaly_seg_ros.checkpoint.folder import load_state

    old, network = two_heads(), two_heads(outlier=False)
    with pytest.raises(ValueError, match='2 keys unexpected'):
        load_state(network, old.state_dict(), 'old', new=('head.',))
    assert load_state(network, old.state_dict(), 'old', new=('head.', 'logits_ood.')) == ()


def test_new_heads_that_fit_are_loaded() -> None:
    import torch

    from anomaly_seg_ros.checkpoint.folder import load_state

    old, network = two_heads(), two_heads()
    assert load_state(network, old.state_dict(), 'old', new=('head.', 'logits_ood.')) == ()
    assert torch.equal(network.head.weight, old.head.weight)


def test_all_but_new_heads_stays_strict() -> None:
    from anomaly_seg_ros.checkpoint.folder import load_state

    weights = two_heads(outlier=False).state_dict()
    weights['body.0.extra'] = weights.pop('body.0.bias')
    with pytest.raises(ValueError, match=r'keys missing \(body.0.bias\).*body.0.extra') as error:
        load_state(two_heads(), weights, 'old', new=('logits_ood.',))
    assert 'logits_ood' not in str(error.value)


# Statistics of scores


def sml(shift: float = 0.0) -> dict[str, Any]:
    import torch

    return {'mean': torch.arange(11.0) + shift, 'std': torch.ones(11)}


def test_statistics_are_kept_apart_from_the_network(folder: Path) -> None:
    import torch

    from anomaly_seg_ros.checkpoint.folder import (
        load_checkpoint,
        read_statistics,
        read_weights,
        save_checkpoint,
        save_statistics,
    )

    weights = {key: value.half() for key, value in read_weights(folder).items()}
    save_checkpoint(folder, read_meta(folder), weights)
    assert read_statistics(folder, 'sml') == {}
    hashes = [weights_hash(folder)]
    meta = save_statistics(
        folder, {'sml': sml(), 'other': {'mean': torch.ones(2)}}, 'camvid train'
    )
    assert meta == read_meta(folder)
    assert meta.fitted == {'sml': 'camvid train', 'other': 'camvid train'}
    assert torch.equal(read_statistics(folder, 'sml')['mean'], torch.arange(11.0))
    assert read_weights(folder).keys() == weights.keys()
    load_checkpoint(folder)
    hashes.append(weights_hash(folder))

    meta = save_statistics(folder, {'sml': sml(1.0)}, 'cityscapes train')
    assert meta.fitted == {'sml': 'cityscapes train', 'other': 'camvid train'}
    assert torch.equal(read_statistics(folder, 'sml')['mean'], torch.arange(11.0) + 1)
    assert torch.equal(read_statistics(folder, 'other')['mean'], torch.ones(2))
    hashes.append(weights_hash(folder))
    assert len(set(hashes)) == 3

    meta = save_statistics(folder, {'sml': None, 'other': None}, '')
    assert meta.fitted == {}
    assert read_statistics(folder, 'sml') == {}
    assert weights_hash(folder) == hashes[0]


def test_statistics_that_are_not_finite(folder: Path) -> None:
    from anomaly_seg_ros.checkpoint.folder import (
        load_checkpoint,
        read_statistics,
        save_statistics,
    )

    save_statistics(folder, {'sml': sml(float('nan'))}, 'camvid train')
    with pytest.raises(ValueError, match=r"weight 'score\.sml\.mean' in .* is not finite"):
        read_statistics(folder, 'sml')
    load_checkpoint(folder)


def test_the_hash_follows_the_options_of_scores(fake_checkpoint: Path) -> None:
    first = weights_hash(fake_checkpoint)
    update_meta(fake_checkpoint, score_options={'sml': {'dilated_smoothing': False}})
    assert weights_hash(fake_checkpoint) != first


def test_channels_count_void(make_fake_meta: Callable[..., CheckpointMeta]) -> None:
    assert make_fake_meta().channels == 11
    assert make_fake_meta(void_index=0).channels == 12
