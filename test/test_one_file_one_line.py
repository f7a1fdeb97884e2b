"""One file and one line each: a dataset, negatives, a loss, an objective, a network, a score.

Each is a module that the package does not know, named in its table by one line, and then trained,
fitted and measured by what a user types. Engines: test_engine_choice; node outputs: test_outputs.
"""

from collections.abc import Callable
import csv
import json
from pathlib import Path

import pytest

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.models import MODELS
from anomaly_seg_ros.scores import SCORES
from training.datasets import DATASETS
from training.losses import LOSSES
from training.negatives import NEGATIVES
from training.objectives import OBJECTIVES

STRIPES = """
import numpy as np
from anomaly_seg_ros.classes import LabelSet
from training.datasets import Dataset, Sample

class Stripes(Dataset):
    '''Left half dark, right half bright; in split test a green square that is in no class.'''

    classes = LabelSet(('dark', 'bright'), ((0, 0, 0), (255, 255, 255)))

    def __init__(self, root, split='test'):
        self.split = split

    def __len__(self):
        return 4

    def __getitem__(self, index):
        labels = np.zeros((32, 48), np.uint8)
        labels[:, 24:] = 1
        noise = np.random.default_rng(index).integers(0, 20, (32, 48, 3))
        image = (labels[..., None] * 200 + noise).astype(np.uint8)
        if self.split != 'test':
            return Sample(f'{self.split}{index}', image, labels)
        anomaly = np.zeros_like(labels)
        anomaly[8:16, 8:24] = 1
        image[anomaly == 1], labels[anomaly == 1] = (0, 255, 0), 255
        return Sample(f'{self.split}{index}', image, labels, anomaly)
"""

GREEN = """
import numpy as np
from training.negatives import Negative

class Green:
    shapes, short_side, crop = {'rectangle': 1.0}, 16, 16

    def __init__(self, root):
        pass

    def draw(self, rng):
        return Negative(np.full((16, 16, 3), (0, 255, 0), np.uint8), None)
"""

HINGE = """
def hinge(logits, labels, margin=1.0):
    valid = labels != 255
    truth = logits.gather(1, labels.where(valid, 0)[:, None])
    rest = (logits - truth + margin).clamp(min=0).sum(1) - margin
    return rest[valid].mean()
"""

QUIET = """
from training.objectives.segmentation import Segmentation

class Quiet(Segmentation):
    needs_outliers = True

    def __init__(self, loss, aux_weight=1.0, quiet=1.0):
        super().__init__(loss, aux_weight)
        self.quiet = quiet

    def forward(self, network, batch):
        output = network(batch.images.float() / 255)
        size = output.given('logits').pow(2).sum(1)
        quiet = (size * batch.outlier).sum() / batch.outlier.sum().clamp(min=1)
        return {'hinge': self.loss(output.given('logits'), batch.labels), 'quiet': quiet}
"""

DOTS = """
from torch import nn
from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.network import Network

class Dots(Network):
    stride = 1
    presets = {'tiny': {}}
    classifier_prefixes = new_head_prefixes = ('last.',)

    def __init__(self, classes, width=8):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, width, 1), nn.Conv2d(width, classes, 1)

    def forward(self, images):
        return ModelOutput(self.last(self.first(images).relu()))
"""

LOUDNESS = """
import torch
from anomaly_seg_ros.scores.score import AnomalyScore

class MeanNorm:
    labelled = True

    def __init__(self, classes):
        self.sum = self.count = 0.0

    def update(self, output, labels):
        norm = output.given('logits').norm(dim=1)[0][torch.from_numpy(labels) != 255]
        self.sum, self.count = self.sum + float(norm.sum()), self.count + norm.numel()

    def compute(self):
        return {'usual': torch.tensor(self.sum / self.count)}

class Loudness(AnomalyScore):
    '''How much shorter than usual the vector of logits is.'''

    needs = frozenset({'logits'})
    statistics = ('usual',)
    fit = MeanNorm

    def __init__(self, usual, scale=1.0):
        super().__init__()
        self.register_buffer('usual', usual)
        self.scale = scale

    def forward(self, output):
        return (self.usual - output.given('logits').float().norm(dim=1)) * self.scale
"""

RECIPE = """
dataset: stripes
root: .
model: dots
model_options: {width: 6}
objective: quiet
objective_options: {quiet: 0.1}
loss: hinge
loss_options: {hinge: {margin: 2.0}}
outliers: {kind: green}
score: max_logit
input_size: [32, 48]
crop: [32, 48]
optimizer: adamw
lr: 0.05
batch_size: 4
epochs: 30
val_every: 15
workers: 0
"""


def test_a_thing_of_each_kind_is_one_file_and_one_line(
    one_more: Callable[..., None], tmp_path: Path
) -> None:
    one_more(DATASETS, 'stripes', STRIPES, 'Stripes')
    one_more(NEGATIVES, 'green', GREEN, 'Green')
    one_more(LOSSES, 'hinge', HINGE, 'hinge')
    one_more(OBJECTIVES, 'quiet', QUIET, 'Quiet')
    one_more(MODELS, 'dots', DOTS, 'Dots')
    one_more(SCORES, 'loudness', LOUDNESS, 'Loudness')
    recipe = tmp_path / 'recipe.yaml'
    recipe.write_text(
        RECIPE.replace('root: .', f'root: {tmp_path}').replace(
            '{kind: green}', f'{{kind: green, root: {tmp_path}}}'
        )
    )
    run, fitted, results = tmp_path / 'run', tmp_path / 'fitted', tmp_path / 'results'
    assert main(['train', str(recipe), '--out', str(run)]) == 0
    with (run / 'metrics.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert {'loss_hinge', 'loss_quiet'} <= rows[0].keys()
    assert float(rows[-1]['loss_hinge']) < float(rows[0]['loss_hinge'])

    data = ['--dataset', 'stripes', '--root', str(tmp_path)]
    arguments = ['--checkpoint', str(run / 'checkpoint'), '--score', 'loudness', *data]
    option = ['--option', 'loudness.scale=2.0']
    assert main(['fit_score', *arguments, *option, '--out', str(fitted)]) == 0
    checkpoint = Checkpoint.open(fitted)
    assert (checkpoint.meta.model, checkpoint.meta.class_names) == ('dots', ('dark', 'bright'))
    assert checkpoint.meta.score_options == {'loudness': {'scale': 2.0}}
    assert set(checkpoint.statistics('loudness')) == {'usual'}

    scores = ['--score', 'loudness,max_logit', '--out', str(results)]
    assert main(['evaluate', '--checkpoint', str(fitted), *data, *scores]) == 0
    (loud, plain) = json.loads((results / 'results.json').read_text())['rows']
    assert (loud['score'], plain['score'], loud['dataset']) == ('loudness', 'max_logit', 'stripes')
    assert loud['n_images'] == 4
    assert loud['ap'] == pytest.approx(1.0)
    assert loud['miou'] > 0.9
