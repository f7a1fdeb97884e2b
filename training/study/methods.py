"""What the comparison sets side by side: networks, trainings and scores, and what is published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .rows import BASELINE, GRIDS, MEASURED_BY

COMMON = tuple(score for score in MEASURED_BY if score != 'max_logit')


@dataclass(frozen=True)
class Subject:
    """A checkpoint that is measured.

    Attributes:
        name: Of its folder, and what `--only` chooses by.
        title: As the table calls it.
        scores: That are measured on it, besides `max_logit`; those that it cannot give are left.
        weights: File of public weights below the folder of them; '' for a checkpoint.
        model: Network of the public weights.
        published: Score to a published AP / FPR95, in percent, and on what; other data than here.
    """

    name: str
    title: str
    scores: tuple[str, ...] = ()
    weights: str = ''
    model: str = ''
    published: tuple[tuple[str, str], ...] = ()

    def published_of(self, score: str) -> str:
        """Gives what is published of a score, '' where nothing is."""
        return dict(self.published).get(score, '')


PUBLISHED_SCORES = (
    ('msp', 'ERFNet, RoadAnomaly 12.4 / 82.5'),
    ('max_logit', 'ERFNet, RoadAnomaly 15.6 / 73.2'),
    ('entropy', 'ERFNet, RoadAnomaly 12.7 / 82.6'),
    ('nflow_js', 'LDN-121 trained with NFlowJS, Fishyscapes Lost & Found 69.4 / 2.0'),
    ('dense_hybrid', 'LDN-121, RoadAnomaly21 78.0 / 9.8'),
    ('sml', 'DeepLabV3+, Fishyscapes Lost & Found 31.7 / 21.9'),
    ('dnp', 'ViT keys, RoadAnomaly 85.6 / 9.8'),
    ('cdnp', 'Segmenter ViT-B, Fishyscapes Lost & Found 62.2 / 8.9'),
)
"""Of the scores themselves, on the networks of their papers and tables."""

PUBLISHED_TRAINING = {
    'isomax': (('max_logit', 'ERFNet, RoadAnomaly21 41.0 / 50.9'),),
    'void': (('void', 'BiSeNetV1, RoadAnomaly21 46.8 / 80.7'),),
    'camvid_outliers': (('mask2anomaly', 'ResNet-50, RoadAnomaly21 88.7 / 14.6'),),
    'camvid_rba': (('rba', 'RoadAnomaly21 94.5 / 4.6'),),
    'camvid_uno': (('uno', 'RoadAnomaly21 96.3 / 2.0'),),
}
"""Of the losses and fine-tunes, by the end of the row's name."""


def subjects() -> Iterator[Subject]:
    """Gives all of them in the order of the table."""
    yield Subject(
        BASELINE,
        'the default checkpoint',
        (
            *(*COMMON, 'dense_hybrid', 'dense_hybrid_odds', 'ood_posterior', 'nflow_js'),
            *('dnp', 'cdnp', 'neco'),
        ),
        published=PUBLISHED_SCORES,
    )
    yield Subject(
        'enet_cityscapes',
        'ENet, public Cityscapes weights',
        ('msp', 'entropy'),
        weights='enet_cityscapes_19.pth',
        model='enet',
    )
    yield Subject(
        'enet_cityscapes_void',
        'ENet, public Cityscapes weights with void',
        ('void',),
        weights='enet_cityscapes_void_20.pth',
        model='enet',
        published=(('void', 'RoadAnomaly21 12.8 / 96.9'),),
    )
    yield Subject(
        'espnetv2_cityscapes',
        'ESPNetv2, public Cityscapes weights',
        ('msp', 'entropy'),
        weights='espnetv2_s_2.0_city_1024x512.pth',
        model='espnetv2',
    )
    for row in (row for grid in GRIDS.values() for row in grid()):
        if row.measured and row.name != BASELINE:
            published = PUBLISHED_TRAINING.get(row.name.partition('_')[2], ())
            title = f'{row.network}, {row.training}'
            yield Subject(row.name, title, row.scores, published=published)
