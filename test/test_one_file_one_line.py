"""One file and one line each: a dataset, negatives, a loss, an objective, networks, scores.

Each is a module that the package does not know, named in its table by one line, and then trained,
fitted, measured and exported by what a user types. Engines: test_engine_choice; node outputs:
test_outputs.
"""

from __future__ import annotations

from collections.abc import Callable
import csv
import json
from pathlib import Path
import shutil
from typing import Any

import numpy as np
import pytest
import torch

from anomaly_seg_ros.checkpoint.folder import Checkpoint, save_checkpoint
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.engines import open_engine
from anomaly_seg_ros.engines.graph import export_graph
from anomaly_seg_ros.engines.scored_model import load_scored_model
from anomaly_seg_ros.models import build_model, MODELS
from anomaly_seg_ros.scores import SCORES
from training.datasets import DATASETS
from training.losses import LOSSES
from training.metrics.component import TRACKS
from training.negatives import NEGATIVES
from training.objectives import OBJECTIVES
from training.results import read_results

OneMore = Callable[[dict[str, str], str, str, str], None]

STRIPES = """
import numpy as np
from anomaly_seg_ros.classes import LabelSet
from training.datasets import Dataset, Sample

class Stripes(Dataset):
    '''Left half dark, right half bright; in split test a green square that is in no class.'''

    classes = LabelSet(('dark', 'bright'), ((0, 0, 0), (255, 255, 255)))
    track = 'obstacle'

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

    @classmethod
    def score(cls, options):
        return 'energy'

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
    assert Checkpoint.open(run / 'checkpoint').meta.score == 'energy', 'which the objective names'
    assert main(['fit_score', *arguments, *option, '--out', str(fitted)]) == 0
    checkpoint = Checkpoint.open(fitted)
    assert (checkpoint.meta.model, checkpoint.meta.class_names) == ('dots', ('dark', 'bright'))
    assert checkpoint.meta.score == 'loudness', 'which alone is calibrated'
    assert checkpoint.meta.score_options == {'loudness': {'scale': 2.0}}
    assert set(checkpoint.statistics('loudness')) == {'usual'}

    scores = ['--score', 'loudness,max_logit', '--out', str(results)]
    assert main(['evaluate', '--checkpoint', str(fitted), *data, *scores]) == 0
    (loud, plain) = json.loads((results / 'results.json').read_text())['rows']
    assert (loud['score'], plain['score'], loud['dataset']) == ('loudness', 'max_logit', 'stripes')
    assert loud['n_images'] == 4
    (first, _) = read_results(results)
    assert first.extra['component_sizes'] == TRACKS['obstacle']._asdict()
    assert loud['ap'] == pytest.approx(1.0)
    assert loud['miou'] > 0.9


# More than logits

SCORE = '''
"""Distance of the features to their mean over training frames."""

from anomaly_seg_ros.model_output import to_image
from anomaly_seg_ros.scores.score import AnomalyScore


class MeanFeature:
    labelled = False

    def __init__(self, classes):
        self.total, self.frames = 0.0, 0

    def update(self, output, labels):
        assert labels is None
        self.total = self.total + output.given('features.last')[0].double().mean((1, 2)).cpu()
        self.frames += 1

    def compute(self):
        return {'centre': (self.total / self.frames).float()}


class Distance(AnomalyScore):
    needs = frozenset({'features.last'})
    tempered = True
    statistics = ('centre',)
    fit = MeanFeature

    def __init__(self, centre, temperature: float = 1.0, power: float = 2.0):
        super().__init__()
        self.register_buffer('centre', centre)
        self.temperature, self.power = temperature, power

    def forward(self, output):
        gap = output.given('features.last').float() - self.centre[:, None, None]
        distance = gap.abs().pow(self.power).mean(1, keepdim=True) / self.temperature
        return to_image(distance, output.extent)[:, 0]
'''


def held_to_torch(checkpoint: Path, score: str) -> None:
    """Holds the graph of a checkpoint and an engine made from it to eager torch."""
    scored = load_scored_model(Checkpoint.open(checkpoint), score)
    size = Checkpoint.open(checkpoint).meta.input_size
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    batch = torch.from_numpy(image)[None]
    with torch.inference_mode():
        expected = {name: value[0].numpy() for name, value in scored(batch).items()}
        graph = export_graph(scored, size).module()(batch)
    engine = open_engine(Checkpoint.open(checkpoint), 'openvino', score, 'fp32')
    prediction = engine.infer(image)
    engine.close()
    spread = np.ptp(expected['score'])
    assert spread > 0
    for labels, values in (
        (graph['labels'][0].numpy(), graph['score'][0].numpy()),
        (prediction.labels, prediction.score.astype(np.float32)),
    ):
        assert (labels == expected['labels']).mean() > 0.99
        assert np.abs(values - expected['score']).max() < 0.01 * spread


@pytest.mark.slow
def test_a_score_is_fitted_measured_and_exported(
    one_more: OneMore, tiny_checkpoint: Path, camvid_root: Path, tmp_path: Path, capsys: Any
) -> None:
    one_more(SCORES, 'distance', SCORE, 'Distance')
    camvid = ['--dataset', 'camvid', '--root', str(camvid_root)]
    fitted = tmp_path / 'fitted'
    with pytest.raises(SystemExit):
        main(['fit_score', '--help'])
    said = ' '.join(capsys.readouterr().out.split())
    assert 'temperature of distance, energy' in said
    assert 'cdnp, distance, dnp, mahalanobis, neco, sml get their statistics' in said
    fit = ['fit_score', '--checkpoint', str(tiny_checkpoint), '--score', 'distance']
    assert main([*fit, '--option', 'distance.power=1.0', *camvid, '--out', str(fitted)]) == 0
    checkpoint = Checkpoint.open(fitted)
    assert checkpoint.meta.fitted['distance'] == 'camvid train'
    assert checkpoint.meta.score_options['distance'] == {'power': 1.0}
    assert checkpoint.statistics('distance').keys() == {'centre'}
    assert 0 < checkpoint.meta.thresholds['distance'] < 1
    hot = Path(shutil.copytree(fitted, tmp_path / 'hot'))
    other = Checkpoint.open(hot).with_meta(temperature=2.0)
    assert other.score_key('distance') != checkpoint.score_key('distance')
    assert other.score_key('max_logit') == checkpoint.score_key('max_logit')

    measured = ['evaluate', '--checkpoint', str(fitted), '--score', 'distance,msp', *camvid]
    assert main([*measured, '--out', str(tmp_path / 'results')]) == 0
    assert [row.score for row in read_results(tmp_path / 'results')] == ['distance', 'msp']
    held_to_torch(fitted, 'distance')
    capsys.readouterr()
    assert (
        main(
            [
                'evaluate',
                '--checkpoint',
                str(tiny_checkpoint),
                *measured[3:],
                '--out',
                str(tmp_path / 'none'),
            ]
        )
        == 2
    )
    assert "score 'distance' has no statistics; run fit_score" in capsys.readouterr().err


MASKS = '''
"""Queries, each with a class and a mask on a quarter of the size."""

import torch
from torch import nn

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.network import Network


class Masks(Network):
    provides = frozenset({'class_logits', 'mask_logits'})
    stride = 16
    presets = {'tiny': {}}
    classifier_prefixes = ('classes.',)
    new_head_prefixes = ('classes.',)

    def __init__(self, classes, queries=20):
        super().__init__()
        self.pixels = nn.Conv2d(3, 8, 4, stride=4)
        self.queries = nn.Parameter(torch.randn(queries, 8))
        self.classes = nn.Linear(8, classes + 1)

    def forward(self, images):
        pixels = self.pixels(images).tanh()
        masks = (self.queries @ pixels.flatten(2)).unflatten(2, pixels.shape[2:])
        classes = self.classes(self.queries).expand(images.shape[0], -1, -1)
        return ModelOutput(class_logits=5 * classes, mask_logits=5 * masks)
'''

REJECTED = '''
"""How little all queries together show of any class."""

from anomaly_seg_ros.scores.score import AnomalyScore


class Rejected(AnomalyScore):
    """`-sum_c tanh(semantics_c)`."""

    needs = frozenset({'semantics'})
    coarse = True

    def forward(self, output):
        return -output.given('semantics').tanh().sum(1)
'''


@pytest.mark.slow
def test_a_network_of_masks_and_its_score_are_measured_and_exported(
    one_more: OneMore,
    make_fake_meta: Callable[..., Any],
    camvid_root: Path,
    tmp_path: Path,
    capsys: Any,
) -> None:
    one_more(MODELS, 'masks', MASKS, 'Masks')
    one_more(SCORES, 'rejected', REJECTED, 'Rejected')
    meta = make_fake_meta(
        model='masks', input_size=(72, 92), score='rejected', void_index=11,
        calibrations={}, thresholds={}, score_options={'rejected': {'step': 4}},
    )  # fmt: skip
    torch.manual_seed(0)
    folder = tmp_path / 'masks'
    save_checkpoint(folder, meta, build_model('masks', meta.channels).state_dict())
    arguments = ['evaluate', '--dataset', 'camvid', '--root', str(camvid_root)]
    arguments += ['--checkpoint', str(folder)]
    assert main([*arguments, '--out', str(tmp_path / 'results')]) == 0
    (row,) = read_results(tmp_path / 'results')
    assert row.score == 'rejected'
    assert row.miou is not None
    assert row.ece is None, 'there are no logits'
    held_to_torch(folder, 'rejected')
    capsys.readouterr()
    assert main([*arguments, '--score', 'mahalanobis', '--out', str(tmp_path / 'other')]) == 2
    said = capsys.readouterr().err
    assert "score 'mahalanobis' needs logits; model 'masks' gives class_logits" in said
