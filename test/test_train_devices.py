"""Several CPU processes train like one: real processes, gloo between them."""

import os
from pathlib import Path
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from anomaly_seg_ros import cli
from training.sync_norm import synchronise_norms

ROOT = Path(__file__).resolve().parent.parent

# Every pixel is labelled: void is a class, and no crop is padded. So each process has as many
# valid pixels as the other, and the mean of their losses is that of the whole batch.
RECIPE = """
dataset: camvid
root: {root}
model: bisenetv2
model_options: {{detail_channels: [8, 8, 16], segment_channels: [4, 8, 8, 16], head_channels: 16,
                expansion: 2, aux_heads: true}}
void: true
input_size: [72, 96]
crop: [64, 64]
scale: [1.0, 1.0]
loss: cross_entropy
optimizer: sgd
lr: 0.01
batch_size: 6
epochs: 3
workers: 1
"""

# Dropout draws other pixels in each process, so it is off; a Ctrl-C comes to one process alone.
COMMAND = """
import os, signal, sys
from torch.nn import functional
functional.dropout = lambda x, *rest, **named: x
from anomaly_seg_ros.cli import main
from training.trainer import Trainer
step, calls = Trainer._step, []
def counted(self, batch):
    calls.append(1)
    if len(calls) == int(os.environ.get('STOP_AT', 0)) and self.fabric.global_rank == 1:
        os.kill(os.getpid(), signal.SIGINT)
    return step(self, batch)
Trainer._step = counted
sys.exit(main(sys.argv[1:]))
"""


def losses(out: Path) -> list[float]:
    state = torch.load(out / 'last.ckpt', weights_only=True)
    return [row['loss'] for row in state['progress']['rows']]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_processes_stopped_and_resumed_by_torchrun_train_like_one(
    camvid_root: Path, tmp_path: Path, monkeypatch
) -> None:
    recipe, script = tmp_path / 'tiny.yaml', tmp_path / 'command.py'
    recipe.write_text(RECIPE.format(root=camvid_root))
    script.write_text(COMMAND)
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}

    def run(*command: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command], env={**environment, **extra}, capture_output=True,
            text=True, timeout=180, check=False,
        )  # fmt: skip

    train = (str(script), 'train', str(recipe), '--out')
    monkeypatch.setattr(functional, 'dropout', lambda x, *rest, **named: x)
    assert cli.main(['train', str(recipe), '--out', str(tmp_path / 'one')]) == 0
    two = run(*train, str(tmp_path / 'two'), '--devices', '2', STOP_AT='2')
    assert two.returncode == 1, two.stderr
    assert two.stderr.count('stopped; go on with: --resume') == 1
    assert len(losses(tmp_path / 'two')) == 1
    launcher = ('-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2')
    rest = run(*launcher, *train, str(tmp_path / 'two'), '--resume')
    assert rest.returncode == 0, rest.stderr
    # Rounding alone parts the two: 1e-7 in the first step, more as training amplifies it.
    assert losses(tmp_path / 'two') == pytest.approx(losses(tmp_path / 'one'), rel=1e-5)
    first, second = (
        torch.load(tmp_path / name / 'last.ckpt', weights_only=True)['progress']['rows'][-1]
        for name in ('one', 'two')
    )
    assert second['val_miou'] == pytest.approx(first['val_miou'], abs=2e-3)


# One of two processes: its half of the batch must give what the whole gives.
HALF_BATCH = """
import sys, torch
from torch import distributed, nn
from training.sync_norm import CpuSyncBatchNorm2d, synchronise_norms
rank = int(sys.argv[1])
wanted = torch.load('wanted.pt')
distributed.init_process_group('gloo', init_method=sys.argv[2], rank=rank, world_size=2)
norm = synchronise_norms(nn.Sequential(nn.BatchNorm2d(3)), torch.device('cpu'))
assert isinstance(norm[0], CpuSyncBatchNorm2d)
half = wanted['whole'][rank::2].clone().requires_grad_()
result = norm(half)
(result * wanted['weights'][rank::2]).sum().backward()
torch.testing.assert_close(result, wanted['result'][rank::2])
torch.testing.assert_close(half.grad, wanted['gradient'][rank::2])
torch.testing.assert_close(norm[0].running_mean, wanted['mean'])
torch.testing.assert_close(norm[0].running_var, wanted['variance'])
assert int(norm[0].num_batches_tracked) == 1
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_a_norm_over_two_processes_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = (torch.randn(4, 3, 5, 6) * 2 + 7).requires_grad_()
    weights = torch.randn(4, 3, 5, 6)
    norm = nn.BatchNorm2d(3)
    result = norm(whole)
    (result * weights).sum().backward()
    wanted = {
        'whole': whole.detach(),
        'weights': weights,
        'result': result.detach(),
        'gradient': whole.grad,
        'mean': norm.running_mean,
        'variance': norm.running_var,
    }
    torch.save(wanted, tmp_path / 'wanted.pt')
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', HALF_BATCH, str(rank), f'file://{tmp_path}/meeting'],
            cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(ROOT)},
        )
        for rank in range(2)
    ]  # fmt: skip
    assert [process.wait(60) for process in processes] == [0, 0]


def test_a_synchronised_network_keeps_its_keys_and_its_answers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=1e-3, momentum=0.01))
    model(torch.rand(2, 3, 8, 8))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    answer = model.eval()(torch.ones(1, 3, 8, 8))
    synced = synchronise_norms(model, torch.device('cpu'))
    assert synced[1].eps == 1e-3
    assert synced[1].momentum == 0.01
    assert synced.state_dict().keys() == before.keys()
    assert torch.equal(synced(torch.ones(1, 3, 8, 8)), answer)
