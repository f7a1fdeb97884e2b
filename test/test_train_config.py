from datetime import date
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.models import build_model
from training.loop.optimizer import build_optimizer
from training.losses import build_loss
from training.public_weights.layouts import public_layouts
from training.recipes.recipe import read_recipe
from training.recipes.train_config import load_train_config, TrainConfig

FOLDER = Path(__file__).parent.parent / 'config' / 'train'
CONFIGS = sorted(
    path
    for path in FOLDER.rglob('*.yaml')
    if path.stem != 'own_classes'  # test_own_training.py
)
STUDY_LOSSES = (
    'ce', 'focal', 'jaccard', 'logit_norm', 'isomax', 'void',
    'ce_jaccard', 'focal_jaccard', 'logit_norm_focal', 'isomax_focal',
)  # fmt: skip
MINIMAL = {'dataset': 'camvid', 'root': '/data', 'model': 'bisenetv2'}


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads(path: Path) -> None:
    config = load_train_config(path)
    classes = {'camvid': 11, 'cityscapes': 19, 'streethazards': 12, 'frames': 1}[config.dataset]
    with torch.device('meta'):
        model = build_model(config.model, classes, config.model_options)
    build_optimizer(model, config)
    weights = config.class_weights
    assert isinstance(weights, str) or len(weights) == classes + config.void
    assert callable(build_loss(config.loss_terms, config.loss_options))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_a_recipe_that_starts_from_weights_normalises_as_they_were_trained(path: Path) -> None:
    config = load_train_config(path)
    known = [layout.mean_std for layout in public_layouts(config.model)]
    with torch.device('meta'):
        starts = build_model(config.model, 5, config.model_options).encoder_starts
    known += [start.mean_std for start in starts.values()]
    if config.init or config.model == 'ldn121':
        assert (config.mean, config.std) in known
    if config.init_encoder:
        assert (config.mean, config.std) == starts[config.init_encoder].mean_std


FILLED = [p for p in CONFIGS if load_train_config(p).objective == 'nflow_js']


@pytest.mark.parametrize('path', FILLED, ids=lambda path: path.stem)
def test_a_flow_never_learns_padding(path: Path) -> None:
    config = load_train_config(path)
    height, width = {'camvid': (360, 480), 'cityscapes': (1024, 2048)}[config.dataset]
    scale = config.scale[0]
    assert round(height * scale) >= config.crop[0]
    assert round(width * scale) >= config.crop[1]


@pytest.mark.parametrize(
    ('name', 'facts'),
    [
        ('bisenetv1_cityscapes', {'scale_draw': 'uniform', 'decay_all': False}),
        ('bisenetv2_cityscapes', {'scale_draw': 'uniform', 'decay_all': False}),
        ('deeplabv3plus_dense_hybrid_cityscapes', {'scale_draw': 'uniform', 'weight_decay': 0.0}),
        ('enet_cityscapes', {'weight_decay': 2e-4, 'decay_all': True}),
        ('erfnet_cityscapes', {'weight_decay': 1e-4, 'decay_all': True}),
        ('fast_scnn_cityscapes', {'scale_draw': 'uniform'}),
        ('ldn121_dense_hybrid_streethazards', {'scale_draw': 'uniform', 'weight_decay': 0.0}),
        ('ldn121_streethazards', {'scale_draw': 'uniform', 'weight_decay': 0.0}),
    ],
)
def test_a_papers_recipe_is_that_of_its_code(name: str, facts: dict[str, Any]) -> None:
    values = load_train_config(FOLDER / f'{name}.yaml').as_dict()
    assert {key: values[key] for key in facts} == facts


@pytest.mark.parametrize('loss', STUDY_LOSSES)
@pytest.mark.parametrize('network', ['enet', 'erfnet', 'bisenetv2'])
def test_a_row_of_the_study_is_its_budget_with_a_network_and_a_loss(network, loss) -> None:
    row = load_train_config(FOLDER / 'study' / f'{network}_{loss}.yaml')
    budget = load_train_config(FOLDER / 'study' / 'base.yaml').as_dict()
    own = ('model', 'model_options', 'loss', 'loss_options', 'void')
    assert {k: v for k, v in row.as_dict().items() if k not in own} == {
        k: v for k, v in budget.items() if k not in own
    }
    assert row.model == network
    named = {'cross_entropy': 'ce'}
    terms = [named.get(term, term) for term in row.loss_terms]
    inner = [options['inner'] for options in row.loss_options.values()]
    assert '_'.join(terms + inner) == ('ce' if loss == 'void' else loss)
    assert row.void is (loss == 'void')
    assert (row.model_options.get('head') == 'isomax') is loss.startswith('isomax')
    assert row.model_options.get('aux_heads', False) is (network == 'bisenetv2')


def test_the_recipe_of_the_default_checkpoint_is_the_one_it_was_made_by(root: Path) -> None:
    made_by = Checkpoint.open('default').meta.training['recipe']
    config = load_train_config(FOLDER / 'default.yaml').as_dict()
    same = made_by.keys() - {'workers', 'seed'}  # it is a mean of two seeds
    assert {key: config[key] for key in same} == {key: made_by[key] for key in same}
    defaults = TrainConfig.from_mapping(MINIMAL).as_dict()
    for key in config.keys() - made_by.keys() - {'root'}:
        assert config[key] == defaults[key], key


def test_an_empty_change_empties_a_text() -> None:
    path = FOLDER / 'efficientnet_lite_camvid.yaml'
    config = load_train_config(path, ['init=out/photos/checkpoint', 'init_encoder='])
    assert (config.init, config.init_encoder) == ('out/photos/checkpoint', '')


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
        ({'epochs': math.inf}, 'epochs is inf; it must be of type int'),
        ({'epochs': date(2020, 1, 1)}, r'epochs is .*2020, 1, 1.*; it must be of type int'),
        ({'epochs': {'a'}}, r"epochs is \{'a'\}; it must be of type int"),
        ({'epochs': 'many'}, "epochs is 'many'; it must be of type int"),
        ({'lr': True}, 'lr is True; it must be of type float'),
        ({'lr': 0}, 'lr is 0.0; it must be above 0'),
        ({'crop': 64}, 'crop is 64; it must be a list of 2 numbers'),
        ({'loss_options': [1]}, r'loss_options is \[1\]; it must be a mapping'),
        ({'optimizer': 'lion'}, "unknown optimizer 'lion'; choose one of: sgd, adam, adamw"),
        ({'scale_draw': 'log'}, "unknown scale_draw 'log'; choose one of: log_uniform, uniform"),
        ({'scale': [2, 1]}, r'scale is \(2.0, 1.0\)'),
        ({'ema_decay': 1.0}, 'ema_decay is 1.0'),
        ({'void': 1}, 'void is 1; it must be true or false'),
        ({'void': 'yes'}, "void is 'yes'; it must be true or false"),
        ({'flip': 1.5}, 'flip is 1.5; it must lie in 0..1'),
        ({'class_balanced_crops': -1}, r'class_balanced_crops is -1.0; it must lie in 0..1'),
        ({'workers': -1}, 'workers is -1; it must not be below 0'),
        ({'val_every': 0}, 'val_every is 0; it must be above 0'),
        ({'std': [1, 0, 1]}, r'std is \(1.0, 0.0, 1.0\); it must be above 0'),
        ({'crop': [0, 64]}, r'crop is \(0, 64\); it must be above 0'),
        ({'crop': [1.5, 64]}, 'crop is 1.5; it must be of type int'),
        ({'schedule': 'linear'}, "unknown schedule 'linear'; choose one of: poly, cosine, step"),
        (
            {'trainable': 'first'},
            "unknown trainable 'first'; choose one of: all, decoder, last, outlier_head",
        ),
        ({'class_weights': 'inet'}, "unknown class_weights 'inet'; choose one of: none, enet"),
        ({'class_weights': ['a']}, "class_weights is 'a'; it must be of type float"),
        ({'class_weights': {'a': 1}}, r'class_weights is \{.*; it must be a list of numbers'),
        ({'loss': ['focal']}, r"loss is \['focal'\]; it must be a mapping"),
        ({'loss': {'focal': 'one'}}, "loss.focal is 'one'; it must be of type float"),
        ({'loss': {}}, 'no loss is given; choose of: cross_entropy'),
        ({'loss': {'focal': 0}}, "weight 0.0 of loss 'focal' must be above 0"),
        ({'loss': 'dice'}, "unknown loss 'dice'; choose one of: cross_entropy, focal"),
        ({'loss': 'isomax'}, "loss 'isomax' scales the distances .*; set model_options.head=isom"),
        ({'loss_options': {'ohem': 2}}, 'loss_options.ohem is 2; it must be a mapping'),
        (
            {'loss': 'focal', 'loss_options': {'ohem': {}}},
            r"loss_options of \['ohem'\] without that loss; it is: focal",
        ),
        ({'lr_multipliers': {'head': 'x'}}, "lr_multipliers.head is 'x'; it must be of type"),
        ({'score': 'max_logits'}, "unknown score 'max_logits'; choose one of: cdnp, de"),
        ({'outliers': 'folder'}, "outliers is 'folder'; it must be a mapping"),
    ],
)
def test_a_wrong_value_is_named_with_the_way_out(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig.from_mapping({**MINIMAL, **changes})


def test_a_loss_is_a_name_or_a_sum() -> None:
    assert TrainConfig.from_mapping({**MINIMAL, 'loss': 'focal'}).loss_terms == {'focal': 1.0}
    both = {'focal': 1, 'jaccard': 0.5}
    assert TrainConfig.from_mapping({**MINIMAL, 'loss': both}).loss_terms == both


def test_class_weights_may_be_numbers() -> None:
    config = TrainConfig.from_mapping({**MINIMAL, 'class_weights': [1, 2.5]})
    assert config.class_weights == (1.0, 2.5)
    assert config.as_dict()['class_weights'] == [1.0, 2.5]


def test_what_a_configuration_prints_makes_the_same_one() -> None:
    changes = {'loss': {'focal': 1.0}, 'class_weights': [1.0, 2.0], 'void': True}
    config = TrainConfig.from_mapping({**MINIMAL, **changes})
    assert TrainConfig.from_mapping(config.as_dict()) == config


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / f'{name}.yaml').write_text(text)


def test_keys_replace_those_of_the_base_as_a_whole(tmp_path: Path) -> None:
    write(
        tmp_path,
        low='{a: 1, b: {x: 1, y: 2}, c: 3}',
        middle='{base: low.yaml, b: {x: 5}}',
        top='{base: middle.yaml, c: 4}',
    )
    assert read_recipe(tmp_path / 'top.yaml') == {'a': 1, 'b': {'x': 5}, 'c': 4}


def test_bases_in_a_circle_and_missing_ones_are_said(tmp_path: Path) -> None:
    write(tmp_path, one='base: two.yaml', two='base: one.yaml', three='base: none.yaml')
    with pytest.raises(ValueError, match='is a base of itself'):
        read_recipe(tmp_path / 'one.yaml')
    with pytest.raises(FileNotFoundError, match=r"none.yaml', the base of '.*three.yaml'"):
        read_recipe(tmp_path / 'three.yaml')


def test_changes_reach_into_mappings(tmp_path: Path) -> None:
    write(tmp_path, a='{loss: focal, loss_options: {focal: {gamma: 2, other: 3}}}')
    changes = ['loss_options.focal.gamma=1', 'outliers.count=[0, 2]']
    assert read_recipe(tmp_path / 'a.yaml', changes) == {
        'loss': 'focal',
        'loss_options': {'focal': {'gamma': 1, 'other': 3}},
        'outliers': {'count': [0, 2]},
    }


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ('loss', "'loss' is not of the form key=value"),
        ('loss.focal=1', "cannot set 'loss.focal': 'loss' is 'ohem', not a mapping"),
        ('lr=[1', r"the value of 'lr=\[1' is not valid YAML"),
    ],
)
def test_a_change_that_does_not_fit_is_one_line(tmp_path, change, message) -> None:
    write(tmp_path, a='loss: ohem')
    with pytest.raises(ValueError, match=message) as caught:
        read_recipe(tmp_path / 'a.yaml', [change])
    assert '\n' not in str(caught.value)


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
    broken.write_text('[' * 20_000)
    with pytest.raises(ValueError, match='is not valid YAML: maximum recursion depth'):
        load_train_config(broken)
    listing = tmp_path / 'list.yaml'
    listing.write_text('- 1')
    with pytest.raises(ValueError, match='holds no mapping'):
        load_train_config(listing)


MULTIPLIED = ', '.join(['*a{0}'] * 10)


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('!!bool x', 'a value cannot be read'),
        ('!!int ""', 'a value cannot be read'),
        ('!!timestamp foo', 'a value cannot be read'),
        ('2001-13-45', 'a value cannot be read .month must be in 1..12'),
        ('9' * 400, 'a value cannot be read .int too large'),
        ('0x' + 'f' * 9000, 'a value cannot be read .int too large'),
        ('&a [*a]', 'an alias stands for what it is a part of'),
        (
            '[&a0 {k: 1}, '
            + ', '.join(f'&a{n + 1} {{<<: [{MULTIPLIED.format(n)}]}}' for n in range(9))
            + ']',
            'its aliases stand for more than 100000 values',
        ),
        (
            '[&a0 [x], '
            + ', '.join(f'&a{n + 1} [{MULTIPLIED.format(n)}]' for n in range(9))
            + ']',
            'its aliases stand for more than 100000 values',
        ),
        (f'[&a {"x" * 1000}{", *a" * 100}]', 'its aliases stand for more than 100000 values'),
    ],
)
def test_a_value_that_yaml_cannot_hold_is_one_line(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / 'recipe.yaml'
    path.write_text(f'epochs: {text}')
    with pytest.raises(ValueError, match=rf"recipe\.yaml' is not valid YAML: .*{reason}"):
        load_train_config(path)


def test_a_recipe_may_repeat_itself(tmp_path: Path) -> None:
    path = tmp_path / 'recipe.yaml'
    path.write_text(
        '{dataset: camvid, root: /data, model: enet, loss: &one {focal: 1}, '
        'lr_multipliers: {<<: *one, head: 2}}'
    )
    assert load_train_config(path).lr_multipliers == {'focal': 1, 'head': 2}


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    path = tmp_path / 'evil.yaml'
    path.write_text('dataset: !!python/object/apply:os.system ["true"]')
    with pytest.raises(ValueError, match='is not valid YAML'):
        load_train_config(path)


@pytest.mark.parametrize('encoding', ['utf-16', 'utf-8-sig', 'utf-8'])
def test_a_recipe_may_be_written_as_windows_does(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / 'recipe.yaml'
    path.write_text('{dataset: camvid, root: /d\u00e4ta, model: enet}', encoding=encoding)
    assert load_train_config(path).root == Path('/d\u00e4ta')


@pytest.mark.parametrize('encoding', ['utf-16-le', 'latin-1'])
def test_another_encoding_of_a_recipe_is_said(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / 'recipe.yaml'
    path.write_text('root: /d\u00e4ta', encoding=encoding)
    with pytest.raises(
        ValueError, match=r"recipe\.yaml' is no text in UTF-8 .*; save it as UTF-8"
    ):
        load_train_config(path)
