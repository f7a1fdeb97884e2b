import argparse
import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from anomaly_seg_ros.checkpoint import load_checkpoint
from training import train
from training.config import TrainConfig
from training.loading import EpochSampler

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
    model, meta = load_checkpoint(tmp_path / 'run' / 'checkpoint')
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


def test_it_learns_what_the_made_frames_show(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / 'run', 'epochs=12')
    with (tmp_path / 'run' / 'metrics.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]['loss']) < 0.5 * float(rows[0]['loss'])
    assert float(rows[-1]['val_miou']) > 0.9


def test_a_run_stopped_at_any_step_ends_like_one_that_was_not(
    recipe: Path, tmp_path: Path, monkeypatch
) -> None:
    run(recipe, tmp_path / 'whole')
    step, calls = train.Trainer._step, []

    def interrupted(self, images, labels):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return step(self, images, labels)

    monkeypatch.setattr(train.Trainer, '_step', interrupted)
    assert run(recipe, tmp_path / 'parts') == 1
    assert run(recipe, tmp_path / 'parts', resume=True) == 0
    whole = torch.load(tmp_path / 'whole' / 'last.ckpt', weights_only=False)
    parts = torch.load(tmp_path / 'parts' / 'last.ckpt', weights_only=False)
    for kind in ('model', 'ema'):
        for key, value in whole[kind].items():
            assert torch.allclose(value.float(), parts[kind][key].float(), atol=1e-6), key
    losses = [[row['loss'] for row in run_['progress']['rows']] for run_ in (whole, parts)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_a_second_run_does_not_overwrite_the_first(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / 'run', 'epochs=1')
    with pytest.raises(ValueError, match='already holds a run; go on with --resume'):
        run(recipe, tmp_path / 'run', 'epochs=1')


def test_resume_refuses_another_configuration(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / 'run', 'epochs=1')
    with pytest.raises(ValueError, match=r"started with other \['lr'\]"):
        run(recipe, tmp_path / 'run', 'epochs=1', 'lr=0.5', resume=True)


def test_nothing_to_resume_is_said(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='nothing to resume'):
        run(recipe, tmp_path / 'none', resume=True)


def test_an_infinite_loss_ends_the_run_with_a_reason(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'the loss is (nan|inf) at step \d+; lower lr'):
        run(recipe, tmp_path / 'run', 'lr=1e30', 'warmup_steps=0')


def test_norms_and_biases_do_not_decay() -> None:
    config = TrainConfig(dataset='camvid', root=Path(), model='enet', weight_decay=0.1)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    groups = train.build_optimizer(model, config).param_groups
    assert [(len(g['params']), g['weight_decay']) for g in groups] == [(1, 0.1), (3, 0.0)]


def test_the_average_starts_at_the_first_weights() -> None:
    update = train.ema_update(0.99)
    zero, one = torch.zeros(1), torch.ones(1)
    assert update(zero, one, 0).item() == pytest.approx(0.9)
    assert update(zero, one, 10**6).item() == pytest.approx(0.01)


def test_every_frame_comes_once_an_epoch_over_all_ranks() -> None:
    samplers = [EpochSampler(12, 4, seed=1, rank=rank, ranks=2) for rank in range(2)]
    keys = [key for sampler in samplers for batch in sampler for key in batch]
    assert sorted(index for _, index in keys) == list(range(12))


def test_the_order_differs_between_epochs_and_not_between_runs() -> None:
    first, second = EpochSampler(50, 5, seed=1), EpochSampler(50, 5, seed=1)
    assert list(first) == list(second)
    second.epoch = 1
    orders = [[index for batch in s for _, index in batch] for s in (first, second)]
    assert orders[0] != orders[1]
    first.first_step = 8
    assert len(list(first)) == 2


def test_a_batch_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match='batch_size 3 is not divisible by 2 devices'):
        EpochSampler(10, 3, 0, 0, 2)
    with pytest.raises(ValueError, match='batch_size 8 is above the 2 frames'):
        EpochSampler(2, 8, 0)


def test_samples_do_not_depend_on_the_number_of_workers(recipe: Path, camvid_root: Path) -> None:
    from training.datasets import build_dataset
    from training.loading import training_loader
    from training.transforms import Augmentation

    dataset = build_dataset('camvid', camvid_root, 'train')
    batches = []
    for workers in (0, 2):
        sampler = EpochSampler(len(dataset), 2, seed=3)
        loader = training_loader(dataset, Augmentation((64, 64)), sampler, workers)
        batches.append([images.numpy() for images, _ in loader])
    assert all((a == b).all() for a, b in zip(*batches, strict=True))
    assert np.concatenate(batches[0]).std() > 0


def test_half_stored_weights_halve_convolutions_only(recipe: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    run(recipe, tmp_path / 'run', 'epochs=1', 'stored_weights=float16')
    stored = load_file(tmp_path / 'run' / 'checkpoint' / 'weights.safetensors')
    assert stored['detail.S1.0.conv.weight'].dtype == torch.float16
    assert stored['detail.S1.0.bn.running_var'].dtype == torch.float32
    model, _ = load_checkpoint(tmp_path / 'run' / 'checkpoint')
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_fine_tuning_starts_from_the_weights_of_a_checkpoint(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / 'first', 'epochs=1')
    folder = tmp_path / 'first' / 'checkpoint'
    run(recipe, tmp_path / 'second', 'epochs=1', f'init={folder}', 'lr=1e-12', 'ema_decay=0')
    first, second = (
        load_checkpoint(tmp_path / name / 'checkpoint')[0] for name in ('first', 'second')
    )
    for (key, before), after in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.allclose(before, after, atol=1e-6), key


def test_a_start_of_another_network_is_refused(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / 'first', 'epochs=1')
    folder = tmp_path / 'first' / 'checkpoint'
    with pytest.raises(ValueError, match='does not fit BiSeNetV2'):
        run(recipe, tmp_path / 'second', f'init={folder}', 'model_options={}')
