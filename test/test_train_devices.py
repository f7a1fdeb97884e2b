"""Several CPU processes train like one: real processes, gloo between them."""

import os
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from anomaly_seg_ros import cli
from training.flows.denseflow import DenseFlow
from training.flows.storage import save_flow
from training.loop.sync_norm import synchronise_norms
from training.losses import build_loss
from training.objectives import OBJECTIVES

ROOT = Path(__file__).resolve().parent.parent

# A quarter of a frame is unlabelled and crops lie anywhere, so that the processes have different
# numbers of valid pixels. The objective has a parameter and an optimiser of its own.
RECIPE = """
dataset: camvid
root: {root}
model: bisenetv2
model_options: {{detail_channels: [8, 8, 16], segment_channels: [4, 8, 8, 16], head_channels: 16,
                expansion: 2, aux_heads: true}}
objective: made
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

OBJECTIVE = """
import sys, types
import torch
from torch import nn
from training.objectives import OBJECTIVES
from training.objectives.objective import Objective
class Offset(Objective):
    def __init__(self, loss, aux_weight=1.0):
        super().__init__()
        self.loss, self.offset = loss, nn.Parameter(torch.zeros(11, 1, 1))
    def forward(self, network, batch):
        output = network(batch.images.float() / 255)
        aux = sum(self.loss(logits, batch.labels) for logits in output.aux_logits)
        main = self.loss(output.logits + self.offset, batch.labels)
        return {'main': main, 'aux': 0.1 * aux}
    def build_optimizer(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
sys.modules['made'] = types.SimpleNamespace(Offset=Offset)
OBJECTIVES['made'] = 'made:Offset'
"""

# Dropout draws other pixels in each process, so it is off; a Ctrl-C comes to one process alone.
COMMAND = """
del __file__  # loading processes would run this script again
import os, signal, sys
import torch
from torch.nn import functional
functional.dropout = lambda x, *rest, **named: x
from anomaly_seg_ros.cli import main
from training.loop.trainer import Trainer
step, calls = Trainer._step, []
def counted(self, batch):
    calls.append(1)
    if len(calls) == int(os.environ.get('STOP_AT', 0)) and self.fabric.global_rank == 1:
        os.kill(os.getpid(), signal.SIGINT)
    return step(self, batch)
Trainer._step = counted
run = Trainer.run
def saved(self):
    finished = run(self)
    state = {k: v.detach() for k, v in self.objective.state_dict().items()}
    torch.save(state, self.out / f'objective_{self.fabric.global_rank}.pt')
    return finished
Trainer.run = saved
sys.exit(main(sys.argv[1:]))
"""


def losses(out: Path) -> list[float]:
    state = torch.load(out / 'last.ckpt', weights_only=True)
    return [row['loss'] for row in state['progress']['rows']]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_processes_stopped_and_resumed_by_torchrun_train_like_one(
    camvid_root: Path, tmp_path: Path, monkeypatch, save
) -> None:
    recipe, script = tmp_path / 'tiny.yaml', tmp_path / 'command.py'
    save(tmp_path / 'photos', [np.full((48, 64, 3), (250, 20, 220), np.uint8)])
    outliers = f'outliers: {{kind: folder, root: {tmp_path}/photos, short_side: 40, crop: 24}}\n'
    recipe.write_text(RECIPE.format(root=camvid_root) + outliers)
    script.write_text(OBJECTIVE + COMMAND)
    # Not for the tests behind this one: the table and the modules are put back.
    monkeypatch.setattr('training.objectives.OBJECTIVES', dict(OBJECTIVES))
    monkeypatch.setitem(sys.modules, 'made', None)
    exec(OBJECTIVE, {})
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
    one, two = (
        torch.load(tmp_path / name / 'last.ckpt', weights_only=True) for name in ('one', 'two')
    )
    offset = one['objective']['offset']
    assert offset.abs().max() > 0.01
    torch.testing.assert_close(two['objective']['offset'], offset, rtol=1e-4, atol=1e-6)
    ranks = [torch.load(tmp_path / f'two/objective_{rank}.pt') for rank in range(2)]
    assert torch.equal(ranks[0]['offset'], ranks[1]['offset'])
    first, second = (state['progress']['rows'][-1] for state in (one, two))
    assert second['val_miou'] == pytest.approx(first['val_miou'], abs=2e-3)
    assert 0 < first['val_ap'] < 1
    assert second['val_ap'] == pytest.approx(first['val_ap'], abs=2e-3)


# One of two processes, with other numbers of valid pixels: a mean over all of them.
WEIGHTED_MEAN = """
import sys, torch
from torch import distributed
from training.losses import build_loss
rank = int(sys.argv[1])
wanted = torch.load('wanted.pt')
distributed.init_process_group('gloo', init_method=sys.argv[2], rank=rank, world_size=2)
for name, (value, gradient) in wanted['losses'].items():
    loss = build_loss({name: 1.0}, class_weights=wanted['class_weights'])
    half = wanted['logits'][rank::2].clone().requires_grad_()
    mine = loss(half, wanted['labels'][rank::2])
    mine.backward()
    # Of all processes' values and gradients the mean is taken, here by hand.
    torch.testing.assert_close(half.grad / 2, gradient[rank::2])
    total = mine.detach().clone()
    distributed.all_reduce(total)
    torch.testing.assert_close(total / 2, value)
distributed.destroy_process_group()
"""


def run_two(code: str, folder: Path) -> list[int]:
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', code, str(rank), f'file://{folder}/meeting'],
            cwd=folder, env={**os.environ, 'PYTHONPATH': str(ROOT)},
        )
        for rank in range(2)
    ]  # fmt: skip
    return [process.wait(60) for process in processes]


@pytest.mark.slow
def test_a_mean_over_two_processes_is_that_of_all_valid_pixels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (2, 4, 5))
    labels[0, :3] = 255
    weights = torch.tensor([0.5, 2.0, 1.0])
    losses = {}
    logits = torch.randn(2, 3, 4, 5)
    for name in ('cross_entropy', 'focal', 'logit_norm', 'isomax'):
        whole = logits.clone().requires_grad_()
        value = build_loss({name: 1.0}, class_weights=weights)(whole, labels)
        value.backward()
        losses[name] = (value.detach(), whole.grad)
    wanted = {'logits': logits, 'labels': labels, 'class_weights': weights, 'losses': losses}
    torch.save(wanted, tmp_path / 'wanted.pt')
    assert run_two(WEIGHTED_MEAN, tmp_path) == [0, 0]


# One of two processes: the flow of each draws other patches, and both must end with one flow.
JOINT = """
import sys
del __file__  # loading processes would run this script again
from pathlib import Path
import torch
from training.recipes.train_config import load_train_config
from training.datasets import build_dataset
from training.loop.devices import make_fabric
from training.loop.trainer import Trainer
config = load_train_config(Path('joint.yaml'))
fabric = make_fabric(2, config.precision)
fabric.launch()
data = build_dataset('camvid', config.root, 'train')
trainer = Trainer(fabric, config, Path('out'), data, data)
assert trainer.run()
torch.save(trainer.objective.state_dict(), f'flow_{fabric.global_rank}.pt')
torch.save(trainer.model.state_dict(), f'network_{fabric.global_rank}.pt')
"""


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_two_processes_train_one_network_and_one_flow_jointly(
    camvid_root: Path, tmp_path: Path
) -> None:
    flow = DenseFlow((1, 1, 1), (1, 1, 1), 2, 4, 1, 4)
    flow.train().bits_per_dim(torch.randint(90, 160, (4, 3, 32, 32), dtype=torch.uint8))
    save_flow(tmp_path / 'flow.safetensors', flow)
    (tmp_path / 'joint.yaml').write_text(
        RECIPE.format(root=camvid_root)
        .replace('objective: made', 'objective: nflow_js')
        .replace('epochs: 3', 'epochs: 1')
        + f'precision: bf16-mixed\nobjective_options: {{flow: {tmp_path}/flow.safetensors, '
        'patch: [8, 16], lr: 0.001}\n'
    )
    (tmp_path / 'joint.py').write_text(JOINT)
    subprocess.run(
        [sys.executable, 'joint.py'], cwd=tmp_path, timeout=150, check=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
    )  # fmt: skip
    for kind in ('flow', 'network'):
        one, two = (torch.load(tmp_path / f'{kind}_{rank}.pt') for rank in range(2))
        assert all(torch.equal(one[key], two[key]) for key in one), kind
    before, after = flow.state_dict(), torch.load(tmp_path / 'flow_0.pt')
    assert sum(not torch.equal(before[key], after[f'flow.{key}']) for key in before) > 10


# One of two processes: its half of the batch must give what the whole gives.
HALF_BATCH = """
import sys, torch
from torch import distributed, nn
from training.loop.sync_norm import CpuSyncBatchNorm2d, synchronise_norms
rank = int(sys.argv[1])
wanted = torch.load('wanted.pt')
distributed.init_process_group('gloo', init_method=sys.argv[2], rank=rank, world_size=2)
norm = nn.Sequential(nn.BatchNorm2d(3))
synchronise_norms(norm, torch.device('cpu'))
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
    assert run_two(HALF_BATCH, tmp_path) == [0, 0]


def test_a_synchronised_network_keeps_its_keys_and_its_answers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=1e-3, momentum=0.01))
    model(torch.rand(2, 3, 8, 8))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    answer = model.eval()(torch.ones(1, 3, 8, 8))
    synchronise_norms(model, torch.device('cpu'))
    assert model[1].eps == 1e-3
    assert model[1].momentum == 0.01
    assert model.state_dict().keys() == before.keys()
    assert torch.equal(model(torch.ones(1, 3, 8, 8)), answer)
