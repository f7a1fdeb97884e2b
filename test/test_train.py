import argparse
from collections.abc import Iterator
import contextlib
import csv
import multiprocessing
import os
from pathlib import Path
import re
import resource
import signal
import subprocess
import sys
import time
import types
from typing import Any

from lightning.fabric import Fabric
import numpy as np
import psutil
import pytest
from safetensors.torch import load_file
import torch
from torch import nn

from anomaly_seg_ros import cli
from anomaly_seg_ros.checkpoint.folder import Checkpoint, save_checkpoint
from anomaly_seg_ros.frames.images import write_image
from anomaly_seg_ros.process.stop_signals import StopRequest
from training.commands import train
from training.datasets import build_dataset
from training.feeding.normalisation import Normalisation
from training.flows.denseflow import DenseFlow
from training.flows.storage import save_flow
from training.loop.devices import make_fabric
from training.loop.early_end import one_line_errors
from training.loop.kept_checkpoint import checkpoint_meta, default_score, stored_weights
from training.loop.network_start import start_network
from training.loop.run_folder import writing
from training.loop.run_state import Progress, read_state, save_state
from training.loop.trainer import Trainer
from training.objectives import OBJECTIVES
from training.objectives.objective import Objective
from training.recipes.train_config import load_train_config, TrainConfig

TINY = """
dataset: camvid
model: bisenetv2
model_options: {detail_channels: [8, 8, 16], segment_channels: [4, 8, 8, 16], head_channels: 16,
                expansion: 2, aux_heads: true}
input_size: [72, 96]
crop: [64, 64]
loss: cross_entropy
optimizer: adamw
lr: 0.01
warmup_steps: 2
batch_size: 2
epochs: 3
ema_decay: 0.9
workers: 0
"""


@pytest.fixture
def recipe(tmp_path: Path, camvid_root: Path) -> Path:
    path = tmp_path / 'tiny.yaml'
    path.write_text(f'{TINY}root: {camvid_root}\n')
    return path


def run(recipe: Path, out: Path, *changes: str, resume: bool = False) -> int:
    args = argparse.Namespace(
        config=recipe, changes=list(changes), resume=resume, devices=1, out=out
    )
    return train.main(args)


def test_a_run_leaves_a_checkpoint_a_table_and_a_log(recipe: Path, tmp_path: Path, capsys) -> None:
    assert run(recipe, tmp_path / 'run') == 0
    checkpoint = Checkpoint.open(tmp_path / 'run' / 'checkpoint')
    model, meta = checkpoint.network(), checkpoint.meta
    assert not any(key.startswith('aux') for key in model.state_dict())
    assert meta.class_names[0] == 'sky'
    assert meta.input_size == (72, 96)
    assert meta.trained_on == ('camvid train',)
    assert 'aux_heads' not in meta.model_options
    with (tmp_path / 'run' / 'metrics.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [row['epoch'] for row in rows] == ['1', '2', '3']
    best = max(float(row['val_miou']) for row in rows)
    assert meta.training['val_miou'] == pytest.approx(best)
    assert list((tmp_path / 'run' / 'tensorboard').glob('events.*'))
    assert 'best val mIoU' in capsys.readouterr().out


def test_the_last_weights_are_kept_if_wanted(recipe: Path, tmp_path: Path, capsys) -> None:
    assert run(recipe, tmp_path / 'run', 'keep=last', 'val_every=2') == 0
    meta = Checkpoint.open(tmp_path / 'run' / 'checkpoint').meta
    with (tmp_path / 'run' / 'metrics.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert meta.training['epoch'] == 3
    assert meta.training['val_miou'] == pytest.approx(float(rows[2]['val_miou']))
    assert meta.training['validated_on'] == 'camvid val'
    assert 'selected_on' not in meta.training
    assert 'val_ap' not in rows[2]
    printed = capsys.readouterr().out
    assert printed.count('(kept)') == 2
    assert 'last val mIoU' in printed


def test_the_ablation_without_head_is_validated_by_what_is_left_of_the_score(
    recipe: Path, tmp_path: Path, save
) -> None:
    save(tmp_path / 'photos', [np.full((48, 64, 3), 200, np.uint8)])
    recipe.write_text(
        recipe.read_text() + 'objective: dense_hybrid\nobjective_options: {posterior: false}\n'
        f'outliers: {{kind: folder, root: {tmp_path}/photos, short_side: 40, crop: 24}}\n'
    )
    assert run(recipe, tmp_path / 'run', 'epochs=1') == 0
    meta = Checkpoint.open(tmp_path / 'run' / 'checkpoint').meta
    assert meta.score == 'energy'
    assert 0 < meta.training['val_ap'] < 1
    with pytest.raises(
        ValueError, match=r"'dense_hybrid' needs .* choose another score: for this"
    ):
        run(recipe, tmp_path / 'other', 'score=dense_hybrid')


def test_it_learns_what_the_made_frames_show(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / 'run', 'epochs=12')
    with (tmp_path / 'run' / 'metrics.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]['loss']) < 0.5 * float(rows[0]['loss'])
    assert max(float(row['val_miou']) for row in rows) > 0.9


def stop_at_step(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Sends this process a Ctrl-C in the middle of one step."""
    step, calls = Trainer._step, []

    def interrupted(self, batch):
        calls.append(1)
        if len(calls) == number:
            signal.raise_signal(signal.SIGINT)
        return step(self, batch)

    monkeypatch.setattr(Trainer, '_step', interrupted)


def last_state(out: Path) -> dict[str, Any]:
    return torch.load(out / 'last.ckpt', weights_only=True)


def assert_same_end(first: Path, second: Path) -> None:
    """Weights, averages, the objective and the table of two runs agree to 1e-6."""
    one, other = last_state(first), last_state(second)
    for kind in ('model', 'ema', 'objective'):
        for key, value in one.get(kind, {}).items():
            assert torch.allclose(value.float(), other[kind][key].float(), atol=1e-6), key
    rows = [[row['loss'] for row in state['progress']['rows']] for state in (one, other)]
    assert len(rows[0]) == 3
    assert rows[0] == pytest.approx(rows[1], abs=1e-6)


def test_a_run_stopped_at_any_step_ends_like_one_that_was_not(
    recipe: Path, tmp_path: Path, monkeypatch
) -> None:
    run(recipe, tmp_path / 'whole')
    stop_at_step(monkeypatch, 4)
    assert run(recipe, tmp_path / 'parts') == 1
    assert last_state(tmp_path / 'parts')['progress']['step_in_epoch'] == 1
    assert run(recipe, tmp_path / 'parts', resume=True) == 0
    assert_same_end(tmp_path / 'whole', tmp_path / 'parts')


def test_a_second_run_does_not_overwrite_the_first(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / 'run', 'epochs=1')
    with pytest.raises(ValueError, match='already holds a run; go on with --resume'):
        run(recipe, tmp_path / 'run', 'epochs=1')


def test_resume_refuses_another_configuration(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / 'run', 'epochs=1')
    with pytest.raises(ValueError, match=r"started with other \['lr'\]"):
        run(recipe, tmp_path / 'run', 'epochs=1', 'lr=0.5', resume=True)
    # Who ended for want of patience has no other way on.
    assert run(recipe, tmp_path / 'run', 'epochs=1', 'patience=3', resume=True) == 0


def test_a_run_goes_on_that_began_before_a_key_was_known(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / 'run', 'epochs=1')
    state = last_state(tmp_path / 'run')
    del state['config']['clip_norm']
    torch.save(state, tmp_path / 'run' / 'last.ckpt')
    with pytest.raises(ValueError, match=r"started with other \['clip_norm'\]"):
        run(recipe, tmp_path / 'run', 'epochs=1', 'clip_norm=2', resume=True)
    assert run(recipe, tmp_path / 'run', 'epochs=1', resume=True) == 0


def test_a_run_goes_on_after_its_files_have_moved(
    everything: Path, tmp_path: Path, start: Path
) -> None:
    run(everything, tmp_path / 'run', 'epochs=1', f'init={start}')
    for old, new in (('start', 'moved'), ('photos', 'pictures')):
        (tmp_path / old).rename(tmp_path / new)
    moved = [f'init={tmp_path}/moved', f'outliers.root={tmp_path}/pictures', 'epochs=1']
    assert run(everything, tmp_path / 'run', *moved, resume=True) == 0
    change = ['outliers.crop=20', 'outliers.feather=1']
    with pytest.raises(ValueError, match=r"started with other \['outliers.crop', 'outliers.fea"):
        run(everything, tmp_path / 'run', *moved, *change, resume=True)


def test_nothing_to_resume_is_said(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='nothing to resume'):
        run(recipe, tmp_path / 'none', resume=True)


def test_an_infinite_loss_ends_the_run_with_a_reason(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'the loss is (nan|inf) at step \d+ \(.*\); lower lr'):
        run(recipe, tmp_path / 'run', 'lr=1e30', 'warmup_steps=0')


def test_half_stored_weights_halve_convolutions_only(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / 'run', 'epochs=1', 'stored_weights=float16')
    stored = load_file(tmp_path / 'run' / 'checkpoint' / 'weights.safetensors')
    assert stored['detail.S1.0.conv.weight'].dtype == torch.float16
    assert stored['detail.S1.0.bn.running_var'].dtype == torch.float32
    model = Checkpoint.open(tmp_path / 'run' / 'checkpoint').network()
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_fine_tuning_starts_from_the_weights_of_a_checkpoint(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / 'first', 'epochs=1')
    folder = tmp_path / 'first' / 'checkpoint'
    run(recipe, tmp_path / 'second', 'epochs=1', f'init={folder}', 'lr=1e-12', 'ema_decay=0')
    first, second = (
        Checkpoint.open(tmp_path / name / 'checkpoint').network() for name in ('first', 'second')
    )
    for (key, before), after in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.allclose(before, after, atol=1e-6), key


def test_a_start_of_another_network_is_refused(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / 'first', 'epochs=1')
    folder = tmp_path / 'first' / 'checkpoint'
    with pytest.raises(ValueError, match='does not fit BiSeNetV2'):
        run(recipe, tmp_path / 'second', f'init={folder}', 'model_options={}')


# --- what a recipe can ask for -------------------------------------------------------------------


def table(out: Path) -> list[dict[str, str]]:
    with (out / 'metrics.csv').open() as file:
        return list(csv.DictReader(file))


def test_the_table_holds_the_rate_of_the_last_step(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / 'run', 'epochs=2', 'poly_power=1.0', 'warmup_steps=0')
    # Three steps an epoch, six in all: the last ones are steps 2 and 5.
    rates = [float(row['lr']) for row in table(tmp_path / 'run')]
    assert rates == pytest.approx([0.01 * 4 / 6, 0.01 / 6])


def test_a_start_that_brightens_its_images_is_trained_and_kept_so(
    recipe: Path, tmp_path: Path, start: Path, monkeypatch
) -> None:
    Checkpoint.open(start).with_meta(gamma=0.5)
    seen = []
    normalise = Normalisation.__call__
    monkeypatch.setattr(
        Normalisation, '__call__', lambda self, x: seen.append(self.gamma) or normalise(self, x)
    )
    run(recipe, tmp_path / 'run', f'init={start}', 'epochs=1')
    assert set(seen) == {0.5}
    assert len(seen) == 3 + 2
    assert Checkpoint.open(tmp_path / 'run' / 'checkpoint').meta.gamma == 0.5


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    """An untrained tiny flow."""
    made = DenseFlow((1, 1, 1), (1, 1, 1), 2, 4, 1, 4)
    made.train().bits_per_dim(torch.randint(90, 160, (4, 3, 32, 32), dtype=torch.uint8))
    save_flow(tmp_path / 'flow.safetensors', made)
    return tmp_path / 'flow.safetensors'


def test_a_flow_is_trained_jointly_in_mixed_precision(
    recipe: Path, tmp_path: Path, flow: Path
) -> None:
    """Fabric refuses every backward pass but its own there."""
    options = f'objective_options={{flow: {flow}, patch: [8, 16], lr: 0.001}}'
    joint = ['objective=nflow_js', options, 'epochs=1']
    assert run(recipe, tmp_path / 'run', *joint, 'precision=bf16-mixed') == 0
    before = load_file(flow)
    after = load_file(tmp_path / 'run' / 'objective.safetensors')
    moved = [key for key, value in before.items() if not torch.equal(value, after[f'flow.{key}'])]
    assert len(moved) > 20
    assert set(table(tmp_path / 'run')[0]) >= {'loss_segmentation', 'loss_divergence', 'loss_flow'}
    with pytest.raises(ValueError, match=r"'nflow_js' has .* set precision: bf16-mixed or 32-tr"):
        run(recipe, tmp_path / 'other', *joint, 'precision=16-mixed')


def test_a_network_learns_from_a_teacher_and_photos_without_labels(
    recipe: Path, tmp_path: Path, save
) -> None:
    run(recipe, tmp_path / 'first', 'epochs=1')
    teacher = tmp_path / 'first' / 'checkpoint'
    save(tmp_path / 'photos', list(np.full((3, 40, 50, 3), 90, np.uint8)))
    photos = f'{{dataset: frames, root: {tmp_path / "photos"}, split: all, labels: false}}'
    changes = [
        'objective=distillation', f'objective_options={{teacher: {teacher}, sizes: [1, 2]}}',
        f'init={teacher}', f'also=[{photos}]', 'epochs=1', 'precision=bf16-mixed',
    ]  # fmt: skip
    assert run(recipe, tmp_path / 'run', *changes) == 0
    assert set(table(tmp_path / 'run')[0]) >= {'loss_classes', 'loss_likelihood'}
    meta = Checkpoint.open(tmp_path / 'run' / 'checkpoint').meta
    assert 'frames photos all' in meta.trained_on
    assert meta.score == Checkpoint.open(teacher).meta.score
    Checkpoint.open(teacher).with_meta(class_names=('street', *meta.class_names[1:]))
    with pytest.raises(ValueError, match=r'the teacher has the classes street, .* the data have '):
        run(recipe, tmp_path / 'other', *changes)


class TwoOptimizers(Objective):
    """A made objective with a parameter and an optimiser of its own, and something to show."""

    needs_outliers = ignores_outliers = False

    def __init__(self, loss, aux_weight=1.0, share=0.5):
        super().__init__()
        self.loss, self.share = loss, share
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, network, batch):
        images = batch.images.float() / 255 + self.offset
        pull = (self.offset - batch.outlier.float().mean()).square()
        return {'main': self.loss(network(images).logits, batch.labels), 'own': self.share * pull}

    def build_optimizer(self):
        return torch.optim.Adamax(self.parameters(), lr=0.01)

    def report(self, out, when):
        (out / f'{when}.txt').write_text(f'{self.offset.item()}')


@pytest.fixture
def everything(recipe: Path, tmp_path: Path, monkeypatch, save) -> Path:
    """The tiny recipe with all that is random or has a state of its own."""
    monkeypatch.setitem(sys.modules, 'made', types.SimpleNamespace(TwoOptimizers=TwoOptimizers))
    monkeypatch.setitem(OBJECTIVES, 'made', 'made:TwoOptimizers')
    noise = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), dtype=np.uint8)
    save(tmp_path / 'photos', list(noise))
    recipe.write_text(
        recipe.read_text().replace('workers: 0', 'workers: 2').replace('loss: cross_entropy', '')
        + 'loss: {cross_entropy: 1.0, jaccard: 0.5}\nclass_weights: median_frequency\n'
        'schedule: cosine\nclass_balanced_crops: 0.5\nval_every: 2\n'
        'objective: made\nobjective_options: {share: 2.0}\n'
        f'outliers: {{kind: folder, root: {tmp_path}/photos, short_side: 40, crop: 24}}\n'
    )
    return recipe


def test_a_run_with_everything_goes_on_exactly_from_the_middle_of_an_epoch(
    everything: Path, tmp_path: Path, monkeypatch
) -> None:
    assert run(everything, tmp_path / 'whole') == 0
    stop_at_step(monkeypatch, 5)
    assert run(everything, tmp_path / 'parts') == 1
    assert last_state(tmp_path / 'parts')['progress']['step_in_epoch'] == 2
    assert run(everything, tmp_path / 'parts', resume=True) == 0
    assert_same_end(tmp_path / 'whole', tmp_path / 'parts')
    offset = float(last_state(tmp_path / 'whole')['objective']['offset'])
    assert offset != 0
    assert float(load_file(tmp_path / 'whole' / 'objective.safetensors')['offset']) != 0
    for out in (tmp_path / 'whole', tmp_path / 'parts'):
        assert float((out / 'before.txt').read_text()) == 0
        assert float((out / 'after.txt').read_text()) == pytest.approx(offset, abs=1e-6)
    rows = table(tmp_path / 'whole')
    for row in rows:
        terms = float(row['loss_main']) + float(row['loss_own'])
        assert float(row['loss']) == pytest.approx(terms)
    # Every second epoch is validated, and the last.
    assert [bool(row['val_miou']) for row in rows] == [False, True, True]
    # Photos are pasted into the validation frames too, and the score is to find them.
    assert [bool(row['val_ap']) for row in rows] == [False, True, True]
    assert 0 < float(rows[1]['val_ap']) < 1


def test_ctrl_c_in_the_validation_is_kept_for_the_end_of_it(
    recipe: Path, tmp_path: Path, monkeypatch
) -> None:
    run(recipe, tmp_path / 'whole')
    normalise, calls = Normalisation.__call__, []

    def interrupted(self, images):
        # Three steps of each epoch and two frames of validation; the first frame is the fourth.
        calls.append(1)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGTERM)
        return normalise(self, images)

    monkeypatch.setattr(Normalisation, '__call__', interrupted)
    assert run(recipe, tmp_path / 'parts') == 1
    assert last_state(tmp_path / 'parts')['progress']['step_in_epoch'] == 3
    assert run(recipe, tmp_path / 'parts', resume=True) == 0
    assert_same_end(tmp_path / 'whole', tmp_path / 'parts')


def test_a_second_ctrl_c_acts_as_usual() -> None:
    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        assert not stop.asked
        signal.raise_signal(signal.SIGINT)
        assert stop.asked
        assert signal.getsignal(signal.SIGINT) is before
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def started_run(recipe: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run with two loading processes and a process group of its own, behind its first epoch."""
    command = [sys.executable, '-m', 'anomaly_seg_ros', 'train', str(recipe)]
    with subprocess.Popen(
        [*command, 'workers=2', 'epochs=9999', 'val_every=9999', '--out', str(tmp_path / 'run')],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith('epoch 1/9999: loss')
            yield process
        finally:
            for member in group(process):
                member.kill()


def group(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """What lives of a process's group."""
    members = []
    for found in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(found.pid) == process.pid and found.status() != psutil.STATUS_ZOMBIE:
                members.append(found)
    return members


def test_sigterm_to_the_whole_process_group_saves_and_stops_like_ctrl_c(
    started_run, tmp_path: Path
) -> None:
    # As Slurm, systemd and `timeout` do: loading processes and their server get it as well.
    assert len(group(started_run)) >= 4
    os.killpg(started_run.pid, signal.SIGTERM)
    _, told = started_run.communicate(timeout=60)
    assert (started_run.returncode, told.splitlines()[-1:]) == (
        1,
        [f'stopped; go on with: --resume --out {tmp_path}/run'],
    )
    assert last_state(tmp_path / 'run')['progress']['epoch'] >= 1
    wait_for_the_end_of(started_run)


def test_loading_processes_end_with_a_training_process_that_was_killed(started_run) -> None:
    started_run.kill()
    wait_for_the_end_of(started_run)


def wait_for_the_end_of(process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 20
    while left := group(process):
        assert time.monotonic() < end, left
        time.sleep(0.05)


def test_void_is_one_more_channel_that_validation_never_answers(
    recipe: Path, tmp_path: Path, capsys
) -> None:
    run(recipe, tmp_path / 'run', 'void=true', 'epochs=12')
    checkpoint = Checkpoint.open(tmp_path / 'run' / 'checkpoint')
    model, meta = checkpoint.network(), checkpoint.meta
    assert (meta.void_index, meta.channels, meta.score) == (11, 12, 'void')
    assert model.state_dict()['head.conv_out.1.weight'].shape[0] == 12
    row = table(tmp_path / 'run')[-1]
    assert len([name for name in row if name.startswith('iou_')]) == 11
    # Half of the lower part is unlabelled and black; it is learned without harm to the rest.
    assert max(float(row['val_miou']) for row in table(tmp_path / 'run')) > 0.9
    told = capsys.readouterr().out
    assert f'checkpoint: {tmp_path}/run/checkpoint' in told
    assert f'anomaly_seg fit_score --checkpoint {tmp_path}/run/checkpoint --score void' in told
    assert f'anomaly_seg evaluate --checkpoint {tmp_path}/run/fitted --score void' in told


def test_last_trains_the_last_layer_and_leaves_the_rest_as_it_was(
    recipe: Path, tmp_path: Path
) -> None:
    run(recipe, tmp_path / 'first', 'epochs=1')
    start = f'init={tmp_path}/first/checkpoint'
    run(recipe, tmp_path / 'second', 'epochs=1', start, 'trainable=last', 'ema_decay=0')
    first, second = (
        load_file(tmp_path / name / 'checkpoint' / 'weights.safetensors')
        for name in ('first', 'second')
    )
    changed = {key for key, value in first.items() if not torch.equal(value, second[key])}
    assert changed == {'head.conv_out.1.weight', 'head.conv_out.1.bias'}


def test_a_fine_tuned_checkpoint_names_all_that_its_weights_have_seen(
    recipe: Path, start: Path
) -> None:
    Checkpoint.open(start).with_meta(trained_on=('cityscapes train', 'camvid train'))
    config = made_config(recipe, f'init={start}')
    dataset = build_dataset('camvid', config.root, 'train')
    meta = checkpoint_meta(config, dataset, Progress(), '')
    assert meta.trained_on == ('cityscapes train', 'camvid train')
    also = 'also=[{dataset: classes, root: /data/dashcam}]'
    config = made_config(recipe, f'init={start}', also)
    meta = checkpoint_meta(config, dataset, Progress(), '')
    assert meta.trained_on == ('cityscapes train', 'classes dashcam train', 'camvid train')


def made_config(recipe: Path, *changes: str) -> TrainConfig:
    return load_train_config(recipe, changes)


@pytest.fixture
def start(recipe: Path, tmp_path: Path) -> Path:
    """A checkpoint of the tiny network, with all weights 0.25."""
    config = made_config(recipe)
    dataset = build_dataset(config.dataset, config.root, 'train')
    model = start_network(config, dataset)
    weights = {k: torch.full_like(v, 0.25) for k, v in stored_weights(model, 'float32').items()}
    meta = checkpoint_meta(config, dataset, Progress(), '')
    save_checkpoint(tmp_path / 'start', meta, weights)
    return tmp_path / 'start'


def started(recipe: Path, *changes: str) -> dict[str, torch.Tensor]:
    config = made_config(recipe, *changes)
    return start_network(config, build_dataset('camvid', config.root, 'train')).state_dict()


def fresh_keys(state: dict[str, torch.Tensor]) -> set[str]:
    return {
        key
        for key, value in state.items()
        if not key.endswith('num_batches_tracked') and not bool((value == 0.25).all())
    }


HEAD = {'head.conv_out.1.weight', 'head.conv_out.1.bias'}


@pytest.mark.parametrize(
    ('change', 'fresh'),
    [
        ('lr=0.1', set()),
        ('void=true', HEAD),
        (
            'model_options.head=isomax',
            {'head.conv_out.1.prototypes', 'head.conv_out.1.distance_scale'},
        ),
        (
            'model_options.outlier_head=true',
            {
                f'logits_ood.{key}'
                for key in (
                    'norm.weight',
                    'norm.bias',
                    'norm.running_mean',
                    'norm.running_var',
                    'conv.weight',
                    'conv.bias',
                )
            },
        ),
    ],
)
def test_only_heads_that_the_start_lacks_are_fresh(
    recipe: Path, start: Path, change: str, fresh: set[str], caplog
) -> None:
    without_aux = recipe.read_text().replace('aux_heads: true', 'aux_heads: false')
    recipe.write_text(without_aux)
    assert fresh_keys(started(recipe, f'init={start}', change)) == fresh
    assert ('so they start fresh: ' in caplog.text) is bool(fresh)


def test_a_start_with_other_classes_keeps_the_rows_of_those_that_both_know(
    recipe: Path, start: Path
) -> None:
    meta = Checkpoint.open(start).meta
    others = ('gate', *meta.class_names[1:])
    Checkpoint.open(start).with_meta(class_names=tuple(reversed(others)))
    state = started(recipe, f'init={start}')
    found = fresh_keys(state)
    assert found >= HEAD
    assert all(key.startswith(('head.conv_out.', 'aux')) for key in found)
    for key in HEAD:
        kept = (state[key].reshape(len(others), -1) == 0.25).all(1)
        assert kept.tolist() == [False] + [True] * 10  # all but CamVid's sky


def test_a_start_with_another_normalisation_is_refused(recipe: Path, start: Path) -> None:
    with pytest.raises(ValueError, match=r'trained with mean \[0.485, .*set mean: \[0.485, '):
        started(recipe, f'init={start}', 'mean=[0, 0, 0]')


def test_void_without_an_unlabelled_pixel_is_refused(recipe: Path, camvid_root: Path) -> None:
    for path in (camvid_root / 'trainannot').iterdir():
        write_image(path, np.full((72, 96), 3, np.uint8))
    with pytest.raises(ValueError, match='void is true, but no frame of camvid train has an'):
        started(recipe, 'void=true')


@pytest.mark.parametrize(
    ('changes', 'score'),
    [
        ({}, 'max_logit'),
        ({'void': True}, 'void'),
        ({'objective': 'dense_hybrid', 'outliers': {'kind': 'folder'}}, 'dense_hybrid'),
        ({'score': 'energy', 'void': True}, 'energy'),
    ],
)
def test_the_score_of_the_checkpoint_follows_from_how_it_was_trained(changes, score) -> None:
    values = {'dataset': 'camvid', 'root': '/data', 'model': 'enet', **changes}
    assert default_score(TrainConfig.from_mapping(values)) == score


@pytest.mark.parametrize('split', ['train', 'val'])
def test_a_split_whose_labels_are_all_void_is_refused(
    split: str, recipe: Path, tmp_path: Path, camvid_root: Path
) -> None:
    for path in (camvid_root / f'{split}annot').iterdir():
        write_image(path, np.full((72, 96), 11, np.uint8))  # CamVid's unlabelled
    with pytest.raises(ValueError, match=f'no pixel of the . frames of camvid {split} has a cla'):
        run(recipe, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_a_finished_run_goes_on_with_more_epochs(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / 'run'
    run(recipe, out, 'epochs=1')
    with pytest.raises(ValueError, match=r"started with other \['lr'\]"):
        run(recipe, out, 'epochs=2', 'lr=0.5', resume=True)
    assert run(recipe, out, 'epochs=3', resume=True) == 0
    with (out / 'metrics.csv').open() as file:
        assert [row['epoch'] for row in csv.DictReader(file)] == ['1', '2', '3']
    recipe_kept = Checkpoint.open(out / 'checkpoint').meta.training['recipe']
    assert recipe_kept['epochs'] in (1, 3)  # of the run that made the best weights
    with pytest.raises(ValueError, match='has done 3 of its 3 epochs'):
        run(recipe, out, 'epochs=2', resume=True)


def test_an_unfinished_run_keeps_its_epochs(recipe: Path, tmp_path: Path, monkeypatch) -> None:
    asked = iter([False] * 5 + [True] * 9)  # of 3 steps and 2 validation frames an epoch
    wish = property(lambda _: next(asked), lambda *_: None)
    monkeypatch.setattr(StopRequest, 'asked', wish, raising=False)
    assert run(recipe, tmp_path / 'run') == 1
    monkeypatch.undo()
    with pytest.raises(ValueError, match='has done 1 of its 3 epochs; finish it with the same'):
        run(recipe, tmp_path / 'run', 'epochs=9', resume=True)


def test_a_crop_that_does_not_fit_the_network_is_said(recipe: Path, tmp_path: Path) -> None:
    told = r"crop \[100, 8\] does not fit 'bisenetv2', whose stride is 32; use \[96, 32\]"
    with pytest.raises(ValueError, match=told):
        run(recipe, tmp_path / 'run', 'crop=[100, 8]')


def test_one_image_is_too_few_for_a_batch_norm(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='need 2 images or more on each device; raise batch_size'):
        run(recipe, tmp_path / 'run', 'batch_size=1')


@pytest.mark.parametrize(
    'told',
    [
        'DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that '
        "dataloader's workers are out of shared memory. Please try to raise your shared memory "
        'limit.',
        'unable to write to file </torch_7_1_0>: No space left on device (28)',
    ],
)
def test_too_small_a_shared_memory_is_said(told: str) -> None:
    with (
        pytest.raises(ValueError, match=r'/dev/shm\) is too small .*--shm-size=2g\), or set work'),
        one_line_errors('batch_size (2)', 2),
    ):
        raise RuntimeError(told)


# --- what can go wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize('workers', [0, 1])
def test_a_truncated_image_ends_the_run_with_its_name(
    recipe: Path, tmp_path: Path, camvid_root: Path, workers: int, capsys
) -> None:
    broken = camvid_root / 'train' / '003.png'
    broken.write_bytes(broken.read_bytes()[:200])
    arguments = ['train', str(recipe), f'workers={workers}', '--out', str(tmp_path / 'run')]
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(r"anomaly_seg train: cannot decode '.*train/003\.png'.*truncated\?", told)


@pytest.mark.parametrize(
    'error',
    [
        torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB'),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_out_of_memory_names_what_to_lower(
    recipe: Path, tmp_path: Path, monkeypatch, error: Exception
) -> None:
    def fails(self, images):
        raise error

    monkeypatch.setattr(Trainer, 'forward', fails)
    with pytest.raises(ValueError, match=r'out of memory; lower batch_size \(2\) or crop \(\[64,'):
        run(recipe, tmp_path / 'run')


def test_what_the_allocator_really_says_is_understood() -> None:
    with (
        pytest.raises(ValueError, match='out of memory'),
        one_line_errors('batch_size (2)', 0),
    ):
        torch.empty(2**60, dtype=torch.uint8)


def test_a_loading_process_that_was_killed_is_said(
    recipe: Path, tmp_path: Path, monkeypatch
) -> None:
    step = Trainer._step

    def kill(self, batch):
        for process in multiprocessing.active_children():
            process.kill()
        return step(self, batch)

    monkeypatch.setattr(Trainer, '_step', kill)
    with pytest.raises(ValueError, match=r'a loading process has died.*lower workers \(1\)'):
        run(recipe, tmp_path / 'run', 'workers=1')


@pytest.fixture
def usual_ctrl_c() -> Iterator[None]:
    """Python's own handler of Ctrl-C, which what runs in the background of a shell lacks."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures('usual_ctrl_c')
def test_ctrl_c_twice_stops_at_once(recipe: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    def twice(self, images):
        first = signal.getsignal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        # Two at once may come as one.
        while signal.getsignal(signal.SIGINT) == first:
            time.sleep(0.001)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, 'forward', twice)
    assert run(recipe, tmp_path / 'run') == 1
    assert 'stopped at once' in capsys.readouterr().err
    assert not (tmp_path / 'run' / 'last.ckpt').exists()


def test_other_errors_keep_their_traceback() -> None:
    with pytest.raises(RuntimeError, match='shapes'), one_line_errors('batch_size (2)', 0):
        raise RuntimeError('shapes cannot be multiplied')


def test_a_lost_process_is_said() -> None:
    with (
        pytest.raises(ValueError, match='another process of this run has ended'),
        one_line_errors('batch_size (2)', 0),
    ):
        raise RuntimeError('gloo/transport/tcp/pair.cc:598 Connection closed by peer [127.0.0.1]')


def test_a_full_disk_keeps_the_last_good_state(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / 'run', 'epochs=1')
    last = tmp_path / 'run' / 'last.ckpt'
    before = last.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(OSError, match=r'cannot write .*last\.ckpt.*make room and go on'):
            save_state(Fabric(), last.parent, {'some': torch.rand(len(before))})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert last.read_bytes() == before
    assert sorted(path.name for path in last.parent.glob('last*')) == ['last.ckpt']


def test_what_cannot_be_written_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / 'table.csv'
    path.write_text('old')

    def fill_the_disk() -> None:
        with writing(path) as part:
            part.write_text('half of the n')
            raise OSError(28, 'No space left on device')

    with pytest.raises(OSError, match='No space left'):
        fill_the_disk()
    assert [p.read_text() for p in tmp_path.iterdir()] == ['old']


def test_a_broken_state_is_said(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / 'run', 'epochs=1')
    last = tmp_path / 'run' / 'last.ckpt'
    whole = last.read_bytes()
    lengths = {0, 1, 2, 3, 4, 10, 100, 1000, len(whole) - 1, len(whole) - 30}
    for length in sorted(lengths | set(range(0, len(whole), len(whole) // 40))):
        last.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"last\.ckpt' is no whole state of a run"):
            read_state(last.parent, torch.load, {}, (), lambda state: state['progress']['epoch'])


@pytest.mark.parametrize('devices', [0, -1])
def test_devices_are_counted_from_one(devices: int) -> None:
    with pytest.raises(ValueError, match=f'devices is {devices}; it must be 1 or more'):
        make_fabric(devices, '32-true')


def test_torchrun_decides_how_many_processes_there_are(monkeypatch) -> None:
    for name, value in {
        'TORCHELASTIC_RUN_ID': 'x', 'LOCAL_WORLD_SIZE': '2', 'WORLD_SIZE': '6', 'RANK': '0',
        'LOCAL_RANK': '0', 'GROUP_RANK': '0', 'MASTER_ADDR': 'localhost', 'MASTER_PORT': '1',
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert make_fabric(1, '32-true').world_size == 6
