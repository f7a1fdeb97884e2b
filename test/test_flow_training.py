from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from anomaly_seg_ros.cli import main
from anomaly_seg_ros.frames.images import write_image
from training.datasets import build_dataset
from training.flows.denseflow import DenseFlow
from training.flows.storage import load_flow
from training.loop.flow_trainer import FLOW_FILE, FlowTrainer
from training.recipes.flow_config import FlowConfig, load_flow_config

TINY = {'blocks': [1, 1, 1], 'steps': [1, 1, 1], 'hidden': 4, 'depth': 1, 'growth': 4}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe for four small frames in CamVid's layout."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for folder in (split, f'{split}annot'):
            (tmp_path / folder).mkdir()
        for i in range(4):
            image = np.full((24, 32, 3), rng.integers(90, 160), np.uint8)
            write_image(tmp_path / split / f'{i}.png', image)
            write_image(tmp_path / f'{split}annot' / f'{i}.png', image[..., 0] % 11)
    values = {
        'dataset': 'camvid', 'root': str(tmp_path), 'flow_options': TINY, 'patch': 16,
        'batch_size': 4, 'crops_per_frame': 2, 'epochs': 3, 'lr': 0.01, 'workers': 0,
    }  # fmt: skip
    path = tmp_path / 'flow.yaml'
    path.write_text(yaml.safe_dump(values))
    return path


def train(recipe: Path, out: Path, *rest: str) -> int:
    return main(['train_flow', str(recipe), *rest, '--out', str(out)])


def weights(out: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(out / 'last.ckpt', weights_only=True)
    return state


def test_a_run_leaves_a_flow_a_table_and_a_picture(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(recipe, tmp_path / 'run') == 0
    text = capsys.readouterr().out
    assert 'epoch 3/3: bits/dim' in text
    assert 'objective_options.flow=' in text
    rows = weights(tmp_path / 'run')['rows']
    assert [row['epoch'] for row in rows] == [1, 2, 3]
    bits = [row['val_bits_per_dim'] for row in rows]
    assert bits == sorted(bits, reverse=True)
    assert bits[-1] < 8
    table = (tmp_path / 'run/metrics.csv').read_text().splitlines()
    assert table[0] == 'epoch,bits_per_dim,val_bits_per_dim,seconds'
    assert (tmp_path / 'run/samples.png').is_file()
    flow = load_flow(tmp_path / 'run' / FLOW_FILE)
    assert all(step.initialized for step in flow.modules() if hasattr(step, 'initialized'))
    assert flow.sample(1, 16, 8).shape == (1, 3, 16, 8)


class StopAtThirdStep:
    """Asked after every step; there are two an epoch."""

    def __init__(self) -> None:
        self.answers = iter([False, False, True])

    def __enter__(self) -> 'StopAtThirdStep':
        return self

    def __exit__(self, *error: object) -> None: ...

    @property
    def asked(self) -> bool:
        return next(self.answers)


def test_a_resumed_run_ends_with_the_same_weights(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(recipe, tmp_path / 'whole') == 0
    with monkeypatch.context() as patch:
        patch.setattr('training.commands.train_flow.StopRequest', StopAtThirdStep)
        assert train(recipe, tmp_path / 'parts') == 1
    assert len(weights(tmp_path / 'parts')['rows']) == 1
    assert train(recipe, tmp_path / 'parts', '--resume') == 0
    whole, parts = weights(tmp_path / 'whole'), weights(tmp_path / 'parts')
    for name, value in whole['flow'].items():
        torch.testing.assert_close(parts['flow'][name], value, atol=1e-6, rtol=0)


def test_refusals_are_one_line(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'run'
    assert train(recipe, out, '--resume') == 2
    assert 'nothing to resume' in capsys.readouterr().err
    out.mkdir()
    (out / 'last.ckpt').write_bytes(b'PK no archive')
    assert train(recipe, out) == 2
    assert 'already holds a run' in capsys.readouterr().err
    assert train(recipe, out, '--resume') == 2
    assert 'no whole state' in capsys.readouterr().err
    torch.save(
        {'config': FlowConfig(dataset='camvid', root=tmp_path).as_dict()}, out / 'last.ckpt'
    )
    assert train(recipe, out, '--resume') == 2
    assert "started with other ['batch_size'" in capsys.readouterr().err


def test_out_of_memory_names_what_to_lower(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def fails(self: DenseFlow, images: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB')

    monkeypatch.setattr(DenseFlow, 'bits_per_dim', fails)
    assert train(recipe, tmp_path / 'run') == 2
    text = capsys.readouterr().err.splitlines()[-1]
    assert text.endswith('out of memory; lower batch_size (4) or patch (16)')


def make_trainer(recipe: Path, out: Path) -> FlowTrainer:
    config = load_flow_config(recipe)
    sets = (build_dataset(config.dataset, config.root, split) for split in ('train', 'val'))
    return FlowTrainer(config, out, *sets)


def test_a_gradient_that_is_not_finite_ends_the_run(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bits = DenseFlow.bits_per_dim

    def endless_slope(self: DenseFlow, images: torch.Tensor) -> torch.Tensor:
        return bits(self, images) + (self.base_mean.sum() - self.base_mean.sum()).sqrt()

    monkeypatch.setattr(DenseFlow, 'bits_per_dim', endless_slope)
    trainer = make_trainer(recipe, tmp_path / 'run')
    with pytest.raises(ValueError, match=r'with a gradient of (nan|inf) at step 0; lower lr'):
        trainer.run()


def test_convolutions_of_a_flow_are_not_rounded_to_tf32(recipe: Path, tmp_path: Path) -> None:
    torch.backends.cudnn.allow_tf32 = True
    make_trainer(recipe, tmp_path / 'run')
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        ('patch=20', 'multiple of 8'),
        ('flip=3', 'flip is 3.0; it must lie in 0..1'),
        ('workers=-1', 'workers is -1; it must not be below 0'),
        ('lr=0', 'above 0'),
        ('scale=[2, 1]', 'low <= high'),
        ('pach=16', 'the keys are'),
        ('epochs=many', 'must be of type int'),
    ],
)
def test_wrong_recipes(recipe: Path, change: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        load_flow_config(recipe, [change])


def test_the_learning_rate_falls_to_nothing() -> None:
    config = FlowConfig(dataset='camvid', root=Path('.'), lr=2e-3)
    rates = [config.learning_rate(step, 4) for step in (0, 2, 4)]
    assert rates == pytest.approx([2e-3, 1e-3, 0])


@pytest.mark.parametrize(
    ('name', 'flow'), [('camvid.yaml', 'light'), ('cityscapes.yaml', 'denseflow_25_6')]
)
def test_the_shipped_recipes_are_valid(root: Path, name: str, flow: str) -> None:
    assert load_flow_config(root / 'config/flow' / name).flow == flow
