"""The first losses of every recipe on tiny made frames, against those that are stored.

They change where training changes. If that is meant, renew them and say in the commit why:

    PYTHONPATH=. python test/test_golden_losses.py
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
import json
from pathlib import Path
import sys
import tempfile
from typing import Any

from lightning.fabric import Fabric
import numpy as np
import pytest
import torch
from torch import Tensor

from anomaly_seg_ros.checkpoint.folder import save_checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.classes import CAMVID, CITYSCAPES, LabelSet, STREETHAZARDS
from anomaly_seg_ros.frames.images import write_image
from anomaly_seg_ros.models import build_model, MODELS
from anomaly_seg_ros.registry import lookup
from training.datasets import Dataset, Sample
from training.datasets.frame_folders import FRAME
from training.feeding.pasting import Paster
from training.flows.denseflow import DenseFlow
from training.flows.storage import save_flow
from training.loop.flow_trainer import FlowTrainer
from training.loop.trainer import Trainer
from training.recipes.flow_config import load_flow_config
from training.recipes.train_config import load_train_config, TrainConfig

ROOT = Path(__file__).resolve().parent.parent
STORED = ROOT / 'test' / 'golden' / 'losses.json'
HF_CONFIGS = json.loads(STORED.with_name('hf_configs.json').read_text())
TOLERANCE = 1e-4
"""Relative; other processors add up in another order."""

STEPS, BATCH = 5, 2
SIZE = (96, 128)
RECIPES = {
    str(path.relative_to(ROOT / 'config').with_suffix('')): path
    for folder in ('train', 'flow')
    for path in sorted((ROOT / 'config' / folder).rglob('*.yaml'))
    if path.stem != 'own_classes'  # takes its network from a checkpoint: test_own_training.py
}
CLASSES = {
    'camvid': CAMVID, 'cityscapes': CITYSCAPES, 'frames': FRAME, 'streethazards': STREETHAZARDS,
}  # fmt: skip
TINY_FLOW: dict[str, Any] = {
    'blocks': [1, 1, 1], 'steps': [1, 1, 1], 'added': 2, 'hidden': 8, 'depth': 1, 'growth': 4,
}  # fmt: skip
TEACHER = 'efficientnet_lite_seg'
CHANGES: dict[str, Any] = {
    'crop': [64, 64],
    'also': [],
    'input_size': list(SIZE),
    'batch_size': BATCH,
    'epochs': 1,
    'workers': 0,
    'seed': 0,
    'init': '',
    'init_encoder': '',
    'precision': '32-true',
    # Large and soon reached, so that the optimiser shows in the later losses.
    'lr': 0.001,
    'warmup_steps': 2,
}
FLOW_CHANGES = {
    'patch': 16, 'batch_size': BATCH, 'crops_per_frame': 1, 'epochs': 1, 'workers': 0, 'seed': 0,
}  # fmt: skip
OUTLIERS = {'kind': 'folder', 'short_side': 40, 'crop': 32}


class MadeFrames(Dataset):
    """Frames of noisy blocks, one class and colour each; some are unlabelled."""

    def __init__(self, classes: LabelSet, count: int):
        self.classes, self.count = classes, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        random = np.random.default_rng(index)
        ids = random.integers(0, len(self.classes.names) + 1, (6, 8)).astype(np.uint8)
        ids[ids == len(self.classes.names)] = 255
        labels = ids.repeat(SIZE[0] // 6, axis=0).repeat(SIZE[1] // 8, axis=1)
        tone = labels[..., None] * np.array([37, 91, 153]) % 200
        image = (tone + random.integers(0, 56, (*SIZE, 3))).astype(np.uint8)
        return Sample(str(index), image, labels)


class RecordedTrainer(Trainer):
    """Keeps the terms of the loss of each step, and never validates."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.terms: dict[str, list[float]] = {}

    def _add_up(self, terms: dict[str, Tensor]) -> bool:
        for name, value in terms.items():
            self.terms.setdefault(name, []).append(float(value.detach()))
        return super()._add_up(terms)


class RecordedFlowTrainer(FlowTrainer):
    """Keeps the loss of each step."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.losses: list[float] = []

    def _step(self, images: Tensor, step: int) -> float:
        self.losses.append(super()._step(images, step))
        return self.losses[-1]


def make_assets(folder: Path) -> None:
    """Writes photos for outliers, a flow and a teacher."""
    (folder / 'photos').mkdir()
    for i in range(3):
        random = np.random.default_rng(100 + i)
        photo = random.integers(0, 256, (50, 60, 3)).astype(np.uint8)
        write_image(folder / 'photos' / f'{i}.png', photo[..., ::-1])
    torch.manual_seed(0)
    save_flow(folder / 'flow.safetensors', DenseFlow(**TINY_FLOW))
    options = {**lookup('model', MODELS, TEACHER).presets['tiny'], 'outlier_head': True}
    meta = CheckpointMeta(
        model=TEACHER,
        model_options=options,
        class_names=CAMVID.names,
        class_colors=CAMVID.colors,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        input_size=SIZE,
    )
    network = build_model(TEACHER, len(CAMVID.names), options)
    save_checkpoint(folder / 'teacher', meta, network.state_dict())


def tiny_recipe(path: Path, assets: Path) -> TrainConfig:
    """Gives a recipe with the tiny preset of its network, on small crops."""
    recipe = load_train_config(path)
    preset = dict(lookup('model', MODELS, recipe.model).presets['tiny'])
    config = recipe.model_options.get('config')
    if config and config['model_type'] != preset['config']['model_type']:
        preset['config'] = HF_CONFIGS[config['model_type']]
    changes = CHANGES | {f'model_options.{key}': value for key, value in preset.items()}
    if recipe.scale[1] * SIZE[0] < CHANGES['crop'][0]:
        # All pixels of a border are alike, and which of them ENet's pools take, and put back,
        # would hang on how a processor rounds.
        changes['scale'] = [1.0, 1.0]
    if recipe.outliers:
        # Of the recipe what a paster takes, not what its own source does.
        taken = {f.name for f in fields(Paster)} - {'beside'}
        pasting = {key: value for key, value in recipe.outliers.items() if key in taken}
        changes['outliers'] = pasting | OUTLIERS | {'root': str(assets / 'photos')}
    if 'flow' in recipe.objective_options:
        changes['objective_options.flow'] = str(assets / 'flow.safetensors')
        changes['objective_options.patch'] = [8, 24]
    if 'teacher' in recipe.objective_options:
        changes['objective_options.teacher'] = str(assets / 'teacher')
    return load_train_config(path, as_changes(changes))


def as_changes(values: Mapping[str, Any]) -> list[str]:
    return [f'{key}={json.dumps(value)}' for key, value in values.items()]


@contextmanager
def exactly() -> Iterator[None]:
    """One thread and float64: a network of batch norms makes a last bit large in a few steps."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)


def losses_of(name: str, assets: Path) -> dict[str, list[float]]:
    """Gives the first losses of a recipe, by the name of their term."""
    if name.startswith('flow/'):
        return {'bits_per_dim': flow_losses(RECIPES[name], assets)}
    recipe = tiny_recipe(RECIPES[name], assets)
    frames = MadeFrames(CLASSES[recipe.dataset], STEPS * BATCH)
    fabric = Fabric(accelerator='cpu', devices=1, precision='64-true')
    with exactly():
        trainer = RecordedTrainer(fabric, recipe, assets / 'out', frames, frames)
        trainer._train_epoch()
    return trainer.terms


def flow_losses(path: Path, assets: Path) -> list[float]:
    changes = FLOW_CHANGES | {f'flow_options.{key}': value for key, value in TINY_FLOW.items()}
    recipe = load_flow_config(path, as_changes(changes))
    frames = MadeFrames(CLASSES[recipe.dataset], STEPS * BATCH)
    with exactly():
        trainer = RecordedFlowTrainer(recipe, assets / 'out', frames, frames)
        trainer._train_epoch()
    return trainer.losses


@pytest.fixture(scope='module')
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('golden')
    make_assets(folder)
    return folder


@pytest.fixture(scope='module')
def stored() -> dict[str, dict[str, list[float]]]:
    return json.loads(STORED.read_text(encoding='utf-8'))


def test_the_stored_losses_are_of_the_recipes(stored: dict[str, Any]) -> None:
    assert sorted(stored) == sorted(RECIPES), f'renew them: python {Path(__file__).name}'


@pytest.mark.parametrize('name', RECIPES)
def test_the_first_losses_are_those_that_are_stored(
    name: str, stored: dict[str, Any], assets: Path
) -> None:
    found = losses_of(name, assets)
    assert {len(values) for values in found.values()} == {STEPS}
    assert found.keys() == stored[name].keys()
    for term, values in found.items():
        assert values == pytest.approx(stored[name][term], rel=TOLERANCE, abs=1e-7), term


def renew() -> None:
    with tempfile.TemporaryDirectory() as folder:
        make_assets(Path(folder))
        found = {name: losses_of(name, Path(folder)) for name in RECIPES}
    lines = [f'{json.dumps(name)}: {json.dumps(found[name])}' for name in sorted(found)]
    STORED.write_text('{\n' + ',\n'.join(lines) + '\n}\n', encoding='utf-8')
    sys.stdout.write(f'{len(found)} recipes in {STORED}\n')


if __name__ == '__main__':
    renew()
