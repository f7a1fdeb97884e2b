from pathlib import Path

import pytest

from training.config import load_train_config, TrainConfig

CONFIGS = sorted((Path(__file__).parent.parent / 'config' / 'train').glob('*.yaml'))
MINIMAL = {'dataset': 'camvid', 'root': '/data', 'model': 'bisenetv2'}


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads(path: Path) -> None:
    assert load_train_config(path).epochs > 0


def test_changes_are_read_as_yaml(tmp_path: Path) -> None:
    path = tmp_path / 'a.yaml'
    path.write_text('{dataset: camvid, root: /data, model: enet, lr: 0.1}')
    config = load_train_config(path, ['lr=5e-4', 'crop=[64, 96]', 'root=/other'])
    assert config.lr == 5e-4
    assert config.crop == (64, 96)
    assert config.root == Path('/other')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'epoch': 3}, "unknown training key 'epoch'; did you mean 'epochs'?"),
        ({'epochs': 1.5}, 'epochs is 1.5; it must be of type int'),
        ({'epochs': 'many'}, "epochs is 'many'; it must be of type int"),
        ({'lr': True}, 'lr is True; it must be of type float'),
        ({'lr': 0}, 'lr is 0.0; it must be above 0'),
        ({'crop': 64}, 'crop is 64; it must be a list of 2 numbers'),
        ({'loss_options': [1]}, r'loss_options is \[1\]; it must be a mapping'),
        ({'optimizer': 'adam'}, "unknown optimizer 'adam'; choose one of: sgd, adamw"),
        ({'scale': [2, 1]}, r'scale is \(2.0, 1.0\)'),
        ({'ema_decay': 1.0}, 'ema_decay is 1.0'),
    ],
)
def test_a_wrong_value_is_named_with_the_way_out(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig.from_mapping({**MINIMAL, **changes})


def test_missing_keys_are_named() -> None:
    with pytest.raises(ValueError, match=r"\['root', 'model'\] are missing"):
        TrainConfig.from_mapping({'dataset': 'camvid'})


def test_broken_files_are_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='no training configuration'):
        load_train_config(tmp_path / 'none.yaml')
    broken = tmp_path / 'broken.yaml'
    broken.write_text('a: [1')
    with pytest.raises(ValueError, match='is not valid YAML'):
        load_train_config(broken)
    listing = tmp_path / 'list.yaml'
    listing.write_text('- 1')
    with pytest.raises(ValueError, match='holds no mapping'):
        load_train_config(listing)


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    path = tmp_path / 'evil.yaml'
    path.write_text('dataset: !!python/object/apply:os.system ["true"]')
    with pytest.raises(ValueError, match='is not valid YAML'):
        load_train_config(path)
