"""The checkpoint folder: whole and strict, or one clear error."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
import shutil
from typing import Any

import pytest

from anomaly_seg_ros.calibration import Calibration
from anomaly_seg_ros.checkpoint import (
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

    from anomaly_seg_ros.checkpoint import load_checkpoint, save_checkpoint

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

    from anomaly_seg_ros.checkpoint import read_weights, save_checkpoint

    weights = {key: value.half() for key, value in read_weights(folder).items()}
    save_checkpoint(folder, read_meta(folder), weights)
    assert {value.dtype for value in read_weights(folder).values()} == {torch.float32}


@pytest.mark.parametrize('size', [0, 4, 100, -1])
def test_truncated_weights(folder: Path, size: int) -> None:
    from anomaly_seg_ros.checkpoint import load_checkpoint

    data = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(data[:size])
    with pytest.raises(ValueError, match='the file is truncated or no safetensors file'):
        load_checkpoint(folder)


def test_a_pickle_is_not_opened(folder: Path) -> None:
    import torch

    from anomaly_seg_ros.checkpoint import load_checkpoint

    torch.save({'x': torch.zeros(1)}, folder / WEIGHTS_FILE)
    with pytest.raises(ValueError, match='no safetensors file'):
        load_checkpoint(folder)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite(folder: Path, value: float) -> None:
    from anomaly_seg_ros.checkpoint import load_checkpoint, read_weights, save_checkpoint

    weights = read_weights(folder)
    key = sorted(weights)[3]
    weights[key].view(-1)[0] = value
    save_checkpoint(folder, read_meta(folder), weights)
    with pytest.raises(ValueError, match=rf"weight '{key}' in .* is not finite"):
        load_checkpoint(folder)


def test_weights_of_another_network(folder: Path) -> None:
    from anomaly_seg_ros.checkpoint import load_checkpoint

    change_meta(folder, model='enet', model_options={})
    with pytest.raises(ValueError, match=r'does not fit ENet: .*keys missing.*keys unexpected'):
        load_checkpoint(folder)


def test_weights_of_another_size(folder: Path) -> None:
    from anomaly_seg_ros.checkpoint import load_checkpoint

    names = [f'class {i}' for i in range(5)]
    change_meta(folder, class_names=names, class_colors=[[0, 0, 0]] * 5)
    with pytest.raises(ValueError, match=r'shapes differ \(head.* instead of'):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ('values', 'what'),
    [
        ({'model': 'resnet'}, "unknown model 'resnet'; choose one of: bisenetv2, enet, erfnet"),
        ({'model_options': {'wings': 2}}, "model 'bisenetv2' does not take options"),
    ],
)
def test_networks_that_do_not_exist(folder: Path, values: dict[str, Any], what: str) -> None:
    from anomaly_seg_ros.checkpoint import load_checkpoint

    change_meta(folder, **values)
    with pytest.raises(ValueError, match=what):
        load_checkpoint(folder)


def test_channels_count_void(make_fake_meta: Callable[..., CheckpointMeta]) -> None:
    assert make_fake_meta().channels == 11
    assert make_fake_meta(void_index=0).channels == 12
