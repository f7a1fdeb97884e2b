"""Fine-tuning to a user's own classes: what a recipe leaves open, kept rows, and whole runs."""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch

from anomaly_seg_ros.checkpoint.folder import Checkpoint, save_checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.classes import CAMVID, CITYSCAPES
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.frames.images import write_image
from anomaly_seg_ros.models import build_model, MODELS
from training.datasets import build_dataset
from training.feeding.resized import ResizedFrames
from training.loop import class_rows
from training.loop.class_rows import class_axes, keep_rows, match_classes
from training.loop.run_state import Progress
from training.loop.trainer import Trainer
from training.negatives import build_negatives
from training.recipes import automatic
from training.recipes.automatic import fill_in, find_outliers, fit_size, SetFacts
from training.recipes.recipe import read_recipe
from training.recipes.train_config import load_train_config, TrainConfig

RECIPE = Path(__file__).parent.parent / 'config' / 'train' / 'own_classes.yaml'
NETWORKS = {
    'bisenetv2': {
        'detail_channels': [8, 8, 16], 'segment_channels': [4, 8, 8, 16], 'head_channels': 16,
        'expansion': 2,
    },
    'efficientnet_lite_seg': {'encoder': 'tiny', 'decoder_width': 0.125, 'outlier_head': True},
}  # fmt: skip


def make_start(folder: Path, model: str, options: dict[str, Any]) -> Path:
    """A checkpoint with CamVid's classes and fresh weights, as small as its network can be."""
    torch.manual_seed(1)
    meta = CheckpointMeta(
        model=model,
        model_options=options,
        class_names=CAMVID.names,
        class_colors=CAMVID.colors,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        input_size=(64, 96),
        gamma=0.8,
        trained_on=('camvid train',),
        commit='x',
    )
    save_checkpoint(folder, meta, build_model(model, len(CAMVID.names), options).state_dict())
    return folder


@pytest.fixture(scope='module', params=NETWORKS)
def start(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('start') / request.param
    return make_start(folder, request.param, NETWORKS[request.param])


def write_own(root: Path, count: int = 12) -> Path:
    """Frames of 192x128: sky above, floor below, a cart of its own colour upon it."""
    colors = np.array([[200, 220, 240], [90, 80, 80], [220, 40, 40]])
    for folder in ('images', 'labels'):
        (root / folder).mkdir(parents=True)
    for index in range(count):
        random = np.random.default_rng(index)
        ids = np.full((128, 192), 1, np.uint8)
        ids[: 40 + 2 * index] = 0
        ids[70:120, 10 * index : 10 * index + 60] = 2
        photo = (colors[ids] + random.integers(-20, 20, (128, 192, 3))).clip(0, 255)
        ids[-4:] = 255
        write_image(root / 'images' / f'{index:02d}.jpg', photo.astype(np.uint8))
        write_image(root / 'labels' / f'{index:02d}.png', ids)
    (root / 'classes.yaml').write_text(
        'classes: [{name: sky, id: 0}, {name: floor, id: 1}, {name: cart, id: 2, dynamic: true}]'
    )
    return root


@pytest.fixture(scope='module')
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own(tmp_path_factory.mktemp('own') / 'set')


@pytest.fixture(scope='module')
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('photos')
    (folder / 'deep').mkdir()
    for index in range(3):
        photo = np.random.default_rng(index).integers(0, 256, (60, 80, 3), np.uint8)
        write_image(folder / 'deep' / f'{index}.png', photo)
    return folder


# --- what a recipe leaves open -------------------------------------------------------------------


def filled(monkeypatch: pytest.MonkeyPatch, start: Path, facts: SetFacts, **more: Any) -> Any:
    monkeypatch.setattr(automatic, 'look_at', lambda values: facts)
    monkeypatch.setattr(automatic, 'available_gigabytes', lambda: 16.0)
    values = read_recipe(RECIPE) | {'init': str(start)} | more
    return TrainConfig.from_mapping(fill_in(values))


@pytest.mark.parametrize(
    ('frames', 'batch', 'steps'),
    [(2, 2, 64), (5, 5, 101), (24, 8, 220), (200, 8, 640), (2000, 8, 2012)],
)
def test_steps_grow_slower_than_frames(
    frames: int, batch: int, steps: int, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = filled(monkeypatch, start, SetFacts(frames, 1.5, ('a', 'b')))
    assert config.batch_size == batch
    taken = config.epochs * (frames // batch)
    assert steps <= taken < steps + frames // batch + 2
    assert 6 <= config.epochs / config.val_every <= 45
    assert 5 < config.warmup_steps <= 50
    assert config.patience == 6


def test_a_little_memory_is_a_small_batch(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = SetFacts(100, 1.5, ('a', 'b'))
    assert filled(monkeypatch, start, facts, crop=[256, 320]).batch_size == 8
    monkeypatch.setattr(automatic, 'available_gigabytes', lambda: 4.0)
    values = read_recipe(RECIPE) | {'init': str(start), 'crop': [256, 320]}
    assert fill_in(values)['batch_size'] == 3
    assert automatic.available_gigabytes() > 0


def test_the_network_is_that_of_the_start(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = filled(monkeypatch, start, SetFacts(30, 16 / 9, ('a', 'b')))
    meta = Checkpoint.open(start).meta
    assert (config.model, config.mean, config.std) == (meta.model, meta.mean, meta.std)
    assert 'outlier_head' not in config.model_options
    assert config.model_options.items() <= meta.model_options.items()
    assert config.input_size == (56, 104)  # as many pixels, another shape
    assert all(side % 32 == 0 for side in config.crop)
    assert config.objective == 'segmentation'
    with torch.device('meta'):
        named = dict(build_model(config.model, 2, config.model_options).named_parameters())
    for prefix in config.lr_multipliers:
        assert any(name.startswith(prefix) for name in named)


@pytest.mark.parametrize(('layout', 'last'), [('a', 'transposed_conv.'), ('b', 'fullconv.')])
def test_the_last_layer_is_that_of_the_layout(
    layout: str, last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {'layout': layout, 'channels': [8, 16, 32]}
    start = make_start(tmp_path / 'start', 'enet', options)
    config = filled(monkeypatch, start, SetFacts(30, 1.5, ('a', 'b')))
    assert list(config.lr_multipliers) == [last]


@pytest.mark.parametrize('aspect', [0.5, 1.0, 4 / 3, 2.35])
def test_an_input_has_the_shape_of_the_frames_and_the_pixels_of_the_start(aspect: float) -> None:
    height, width = fit_size((360, 480), aspect)
    assert abs(width / height / aspect - 1) < 0.04
    assert abs(height * width / (360 * 480) - 1) < 0.06


def test_outliers_need_an_outlier_head_and_the_last_weights(
    start: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = filled(monkeypatch, start, SetFacts(30, 1.5, ('a', 'b')), outliers=str(photos))
    assert config.objective == 'dense_hybrid'
    assert config.model_options['outlier_head'] is True
    assert config.keep == 'last'
    assert config.outliers['kind'] == 'folder'
    assert 'logits_ood.' in config.lr_multipliers


def test_each_kind_of_outliers_is_known_by_its_folders(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_outliers('', ()) == {}
    options = find_outliers(str(photos), ())
    assert len(build_negatives('folder', {'root': options['root']}).paths) == 3
    coco = tmp_path / 'coco'
    for folder in ('annotations', 'train2017'):
        (coco / folder).mkdir(parents=True)
    (coco / 'annotations' / 'instances_train2017.json').write_text('{}')
    options = find_outliers(str(coco), ('chair',))
    assert (options['kind'], options['images']) == ('coco', 'train2017')
    assert options['annotations'] == 'annotations/instances_train2017.json'
    assert {'car', 'chair'} <= set(options['exclude'])
    ade = tmp_path / 'ade'
    (ade / 'annotations' / 'training').mkdir(parents=True)
    assert find_outliers(str(ade), ())['kind'] == 'ade20k'
    with pytest.raises(FileNotFoundError, match="no folder 'gone' of photos for outliers"):
        find_outliers('gone', ())


def test_what_was_chosen_once_stays_when_a_run_goes_on(start: Path) -> None:
    stored = {'batch_size': 4, 'epochs': 7, 'outliers': {'kind': 'folder'}, 'lr': 3.0}
    values = {'batch_size': 'auto', 'epochs': 'auto', 'outliers': 'photos', 'lr': 0.1}
    assert fill_in(values, stored) == stored | {'lr': 0.1}


@pytest.mark.parametrize(
    ('values', 'error'),
    [
        ({'lr': 'auto'}, 'lr has no value auto; those that have: batch_size, crop'),
        ({'model': 'auto'}, 'model is auto, which is that of init, but init is empty'),
    ],
)
def test_auto_where_nothing_tells_it_is_an_error(values: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        fill_in(values)


# --- rows of classes that both know --------------------------------------------------------------


def test_classes_are_matched_by_name_and_by_what_it_means() -> None:
    assert match_classes(CITYSCAPES.names, CITYSCAPES.names) == {i: i for i in range(19)}
    ours = ('Car', 'vehicle', 'traffic_sign', 'people', 'gate', 'Trees')
    found = {ours[a]: CAMVID.names[b] for a, b in match_classes(ours, CAMVID.names).items()}
    assert found == {'Car': 'car', 'traffic_sign': 'sign', 'people': 'pedestrian', 'Trees': 'tree'}
    assert match_classes(('vehicle', 'car'), ('car', 'vehicle')) == {0: 1, 1: 0}


def test_no_name_means_two_things() -> None:
    every = [name for group in class_rows.SYNONYMS for name in group]
    assert len(every) == len(set(every))


@pytest.mark.parametrize('model', sorted(MODELS))
def test_every_network_says_of_known_classes_what_it_said_before(model: str) -> None:
    torch.manual_seed(0)
    old = build_model(model, 5, preset='tiny').eval()
    new = build_model(model, 4, preset='tiny').eval()
    options = dict(type(old).presets['tiny'])
    axes = class_axes(model, options)
    assert axes
    assert all(key.startswith(type(old).new_head_prefixes) for key in axes)
    places = {0: 3, 2: 1}
    new.load_state_dict(keep_rows(new.state_dict(), old.state_dict(), axes, places, (4, 5)))
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        before, after = old(image), new(image)
    said, says = (
        output.logits if output.class_logits is None else output.class_logits.transpose(1, 2)
        for output in (before, after)
    )
    assert said is not None
    assert says is not None
    for row, was in places.items():
        torch.testing.assert_close(says[:, row], said[:, was])
    assert not torch.equal(says[:, 1], said[:, 1])


def test_no_object_stays_no_object_behind_other_classes() -> None:
    configs = Path(__file__).with_name('golden') / 'hf_configs.json'
    options = {'config': json.loads(configs.read_text())['eomt']}
    torch.manual_seed(0)
    old, new = (build_model('hf', count, options).eval() for count in (5, 4))
    axes = class_axes('hf', options)
    assert sorted(axes) == ['net.class_predictor.bias', 'net.class_predictor.weight']
    kept = keep_rows(new.state_dict(), old.state_dict(), axes, {0: 3, 2: 1}, (4, 5))
    fresh = new.state_dict()['net.class_predictor.weight'][1].clone()
    new.load_state_dict(kept)
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        before, after = (network(image).given('class_logits') for network in (old, new))
    torch.testing.assert_close(after[..., [0, 2, 4]], before[..., [3, 1, 5]])
    assert torch.equal(new.state_dict()['net.class_predictor.weight'][1], fresh)


# --- frames of one size --------------------------------------------------------------------------


def test_frames_are_read_once_and_given_at_the_size_that_the_network_sees(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = build_dataset('classes', own, 'train')
    frames = ResizedFrames(dataset, (64, 96), tmp_path / 'kept.npy')
    frames.read()
    monkeypatch.setattr(type(dataset), '__getitem__', None)
    _ = frames[0]
    again = pickle.loads(pickle.dumps(frames))
    assert len(again) == len(dataset) == 10
    for sample in (frames[3], again[3]):
        assert sample.image.shape == (64, 96, 3)
        assert set(np.unique(sample.labels).tolist()) == {0, 1, 2, 255}
        assert sample.name == Path(dataset.frames[3].image).stem
    sample.image[:] = 0  # a copy: what is kept stays
    assert frames[3].image.any()


# --- whole runs ----------------------------------------------------------------------------------

QUICK = ('workers=0', 'precision=32-true', 'crop=[64, 96]', 'lr=0.01')


def train(out: Path, own: Path, start: Path, *more: str) -> int:
    argv = [str(RECIPE), f'root={own}', f'init={start}', *QUICK, *more, '--out', str(out)]
    return main(['train', *argv])


@pytest.fixture(scope='module')
def run(own: Path, start: Path, photos: Path, tmp_path_factory: Any) -> Iterator[Any]:
    """A whole run from each network, that of the second with photos pasted."""
    out = tmp_path_factory.mktemp('run') / 'run'
    pasted = 'outlier_head' in NETWORKS[start.name]
    more = [f'outliers={photos}'] if pasted else []
    capture = pytest.MonkeyPatch()
    lines: list[str] = []
    capture.setattr('builtins.print', lambda *text, **_: lines.append(' '.join(map(str, text))))
    try:
        status = train(out, own, start, 'epochs=8', 'val_every=2', 'warmup_steps=2', *more)
    finally:
        capture.undo()
    return out, status, '\n'.join(lines), pasted


def test_a_run_says_before_what_it_will_do(run: Any) -> None:
    _, status, said, pasted = run
    assert status == 0
    assert re.search(r'start    .* \(\w+, camvid train\)', said)
    assert 'classes  known: sky; new: floor, cart' in said
    assert 'frames   10 to learn from, 2 to validate on, at 96x64' in said
    assert re.search(r'run      8 steps of 8 crops in 8 epochs: (under|about)', said)
    assert ('outliers pasted from' in said) is pasted
    assert ('outliers none: ' in said) is not pasted
    assert said.index('run      8 steps') < said.index('epoch 1/8')


def test_a_run_leaves_a_calibrated_checkpoint_and_a_page(run: Any, own: Path) -> None:
    out, _, said, pasted = run
    meta = Checkpoint.open(out / 'fitted').meta
    assert meta.class_names == ('sky', 'floor', 'cart')
    assert meta.dynamic_classes == ('cart',)
    assert meta.input_size == (64, 96)
    assert meta.gamma == 0.8
    score = 'dense_hybrid' if pasted else 'max_logit'
    assert meta.score == score
    assert meta.calibrated_on[score].frames == 2
    assert meta.trained_on == ('camvid train', 'classes set train')
    page = (out / 'report.html').read_text()
    assert 'IoU of the kept weights' in page
    assert '<th scope="row">cart</th>' in page
    assert 'Val samples' in page
    assert not list(out.glob('.frames_*'))
    assert re.search(r'  (sky|floor) +[01]\.\d{3}\n', said)
    assert 'ros2 launch anomaly_seg_ros anomaly_seg.launch.py checkpoint:=' in said
    argv = ['--dataset', 'classes', '--root', str(own), '--out', str(out / 'results')]
    assert main(['evaluate', '--checkpoint', str(out / 'fitted'), *argv]) == 0
    (row,) = json.loads((out / 'results' / 'results.json').read_text())['rows']
    assert len(row['iou']) == 3


def test_a_run_that_gets_no_better_ends_early(
    own: Path, start: Path, tmp_path: Path, capsys: Any
) -> None:
    changes = ('lr=0', 'epochs=40', 'val_every=1', 'patience=2', 'report=false', 'ema_decay=0')
    argv = [c for c in changes if c != 'lr=0']
    assert train(tmp_path / 'run', own, start, *argv, 'lr=1e-12', 'weight_decay=0') == 0
    said = capsys.readouterr().out
    epochs = [int(n) for n in re.findall(r'epoch (\d+)/40', said)]
    assert 3 <= epochs[-1] < 40
    kept = int(re.findall(r'best val mIoU .* at epoch (\d+)', said)[0])
    assert epochs[-1] == kept + 2
    resumed = train(tmp_path / 'run', own, start, *argv, 'lr=1e-12', 'weight_decay=0', '--resume')
    assert resumed == 0  # it has ended, and stays so


def test_the_kept_row_and_those_behind_it_say_whether_a_run_is_stale() -> None:
    trainer = Trainer.__new__(Trainer)
    trainer.progress = Progress(kept_epoch=2)
    trainer.progress.rows = [{}, {'val_miou': 0.5}, {}, {'val_miou': 0.4}, {}, {'val_miou': 0.5}]
    for patience, stale in ((0, False), (2, True), (3, False)):
        trainer.config = load_train_config(
            RECIPE.parent / 'bisenetv2_camvid.yaml', [f'patience={patience}']
        )
        assert trainer.is_stale is stale


def test_the_estimate_leaves_the_network_as_it_was(own: Path, start: Path, tmp_path: Path) -> None:
    from lightning.fabric import Fabric

    from training.loop.estimate import estimate_seconds

    changes = [f'root={own}', f'init={start}', *QUICK, 'input_size=[64, 96]', 'resize=false']
    config = load_train_config(RECIPE, changes)
    sets = (build_dataset('classes', own, split) for split in ('train', 'val'))
    trainer = Trainer(Fabric(accelerator='cpu', devices=1), config, tmp_path / 'run', *sets)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    assert 0 < estimate_seconds(trainer) < 3600
    assert all(torch.equal(before[k], v) for k, v in trainer.model.state_dict().items())
    assert all(p.grad is None for p in trainer.model.parameters())


def test_a_run_does_not_go_on_with_other_classes(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Two classes that changed places would be learned by each other's channel."""
    monkeypatch.setattr(automatic, 'available_gigabytes', lambda: 16.0)
    own, run = write_own(tmp_path / 'set'), tmp_path / 'run'
    changes = ['warmup_steps=1', 'input_size=[64, 96]', 'batch_size=2', 'report=false']
    assert train(run, own, start, *changes, 'epochs=1') == 0
    file = own / 'classes.yaml'
    text = file.read_text()
    for other, now in (
        (
            'classes: [{name: floor, id: 1}, {name: sky, id: 0}, {name: cart, id: 2}]',
            'floor, sky, cart',
        ),
        (text.replace(']', ', {name: cone, id: 3}]'), 'sky, floor, cart, cone'),
    ):
        file.write_text(other)
        capsys.readouterr()
        assert train(run, own, start, *changes, 'epochs=2', '--resume') == 2
        error = capsys.readouterr().err
        assert (
            f'{str(run)!r} began with the classes sky, floor, cart, and the data have {now}'
            in error
        )
    file.write_text(text)
    assert train(run, own, start, *changes, 'epochs=2', '--resume') == 0


def test_a_run_does_not_go_on_with_other_frames_to_validate_on(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, caplog: Any
) -> None:
    monkeypatch.setattr(automatic, 'available_gigabytes', lambda: 16.0)
    own, run = write_own(tmp_path / 'set'), tmp_path / 'run'
    for path in [*own.glob('*/*.jpg'), *own.glob('*/*.png')]:
        drive = path.parent / ('early' if path.stem < '06' else 'late')
        drive.mkdir(exist_ok=True)
        path.rename(drive / path.name)
    text = (own / 'classes.yaml').read_text()
    changes = ['warmup_steps=1', 'input_size=[64, 96]', 'batch_size=2', 'report=false']

    def split(val: str) -> None:
        (own / 'classes.yaml').write_text(f'{text}\nsplits: {{val: [{val}]}}\n')

    split('late')
    assert train(run, own, start, *changes, 'epochs=1') == 0
    split('early')
    assert train(run, own, start, *changes, 'epochs=2', '--resume') == 2
    error = capsys.readouterr().err
    assert "frames to validate on, and 'images/early/00.jpg' of those of now was learned" in error
    split('late')
    own = own.rename(tmp_path / 'moved')
    (own / 'images' / 'early' / '05.jpg').unlink()
    (own / 'labels' / 'early' / '05.png').unlink()
    assert train(run, own, start, *changes, 'epochs=2', '--resume') == 0
    assert 'began with 6 frames to learn from, and goes on with 5' in caplog.text


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ('input_size=96', 'input_size is 96; it must be a list of 2 numbers'),
        ('input_size=[a,b]', "input_size is 'a'; it must be of type int"),
        ('input_size=null', 'input_size is None; it must be a list of 2 numbers'),
        ('input_size=[16,64]', "size 16x64 is below the stride 32 of 'bisenetv2'; use 32x64"),
        ('model_options=3', 'model_options is 3; it must be a mapping'),
        ('seed=-1', 'seed is -1; it must not be below 0'),
    ],
)
def test_a_value_that_does_not_fit_is_named(
    change: str, said: str, own: Path, tmp_path: Path, capsys: Any
) -> None:
    start = make_start(tmp_path / 'start', 'bisenetv2', NETWORKS['bisenetv2'])
    assert train(tmp_path / 'run', own, start, change) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize('change', ['epochs=two', 'batch_size=two'])
def test_a_number_that_is_none_is_named(
    change: str, own: Path, start: Path, tmp_path: Path, capsys: Any
) -> None:
    assert train(tmp_path / 'run', own, start, change) == 2
    key = change.partition('=')[0]
    assert f"{key} is 'two'; it must be of type int" in capsys.readouterr().err


def test_a_run_may_start_from_a_public_weights_file(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(automatic, 'available_gigabytes', lambda: 16.0)
    torch.manual_seed(0)
    state = build_model('erfnet', 6, {}).state_dict()
    content = {f'model.{key}': value for key, value in state.items()}
    torch.save({'state_dict': content | {'loss.weight': torch.ones(6)}}, tmp_path / 'w.ckpt')
    changes = ['epochs=1', 'warmup_steps=1', 'input_size=[64, 96]', 'report=false', 'patience=0']
    assert train(tmp_path / 'run', own, tmp_path / 'w.ckpt', *changes) == 0
    assert 'erfnet, layout ' in capsys.readouterr().out
    meta = Checkpoint.open(tmp_path / 'run' / 'checkpoint').meta
    assert (meta.model, meta.class_names) == ('erfnet', ('sky', 'floor', 'cart'))
