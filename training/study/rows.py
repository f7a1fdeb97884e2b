"""What the study trains and measures: one row is one recipe and the scores that fit it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RECIPES = Path('config/train')

NETWORKS = {'enet': 'ENet', 'erfnet': 'ERFNet', 'bisenetv2': 'BiSeNetV2'}
LOSSES = {
    'ce': 'CE',
    'focal': 'Focal',
    'jaccard': 'Jaccard',
    'logit_norm': 'LogitNorm',
    'isomax': 'IsoMax+',
    'void': 'CE + void class',
}

MEASURED_BY = ('max_logit', 'msp', 'entropy', 'energy', 'margin', 'mahalanobis', 'sml')
"""What every row is measured by: scores of the logits alone, at the fitted temperature and with
statistics of the train split where they take such."""

OF_MASKS = ('max_logit', 'msp', 'entropy', 'energy', 'margin')
"""Those of them that are measured where classes are shown by masks: no pixel has logits there."""

BASELINE = 'default'
PHOTOS = 'negatives'


@dataclass(frozen=True)
class StudyRow:
    """One trained network.

    Attributes:
        name: Of its folder below the study's.
        network: As the table calls it.
        training: Its loss, or how it was fine-tuned, as the table calls it.
        recipe: What `train` reads; None for the checkpoint that ships.
        scores: That need what only this row has.
        start: Name of the row whose weights its training starts from.
        flow: Name of the row whose normalising flow it draws from.
        outliers: Folder of the data whose photos its recipe pastes; empty: none.
        measured: False for what only others start from.
        command: What trains it.
        logits: Whether a pixel has a logit of each class; else masks show the classes.
    """

    name: str
    network: str
    training: str
    recipe: Path | None
    scores: tuple[str, ...] = ()
    start: str = ''
    flow: str = ''
    outliers: str = ''
    measured: bool = True
    command: str = 'train'
    logits: bool = True

    @property
    def measured_by(self) -> tuple[str, ...]:
        """All scores that it is measured by."""
        return (*(MEASURED_BY if self.logits else OF_MASKS), *self.scores)


def loss_rows() -> Iterator[StudyRow]:
    """Gives the networks after a common start, and what each loss makes of it on one budget."""
    for network, network_title in NETWORKS.items():
        start = f'{network}_start'
        recipe = RECIPES / 'study' / f'{start}.yaml'
        yield StudyRow(start, network_title, 'start', recipe, measured=False)
        for loss, title in LOSSES.items():
            name = f'{network}_{loss}'
            scores = ('void',) if loss == 'void' else ()
            recipe = RECIPES / 'study' / f'{name}.yaml'
            yield StudyRow(name, network_title, title, recipe, scores, start)


def exposure_rows() -> Iterator[StudyRow]:
    """Gives a network from scratch and what fine-tuning it with outliers makes of it."""
    start = 'bisenetv2_camvid'
    recipe = RECIPES / 'bisenetv2_camvid.yaml'
    yield StudyRow(start, 'BiSeNetV2', 'from scratch', recipe, ('nflow_js',))
    yield StudyRow(
        'dense_hybrid',
        'BiSeNetV2',
        'DenseHybrid',
        RECIPES / 'bisenetv2_dense_hybrid.yaml',
        ('dense_hybrid', 'ood_posterior', 'nflow_js'),
        start,
        outliers=PHOTOS,
    )
    recipe = Path('config/flow/camvid.yaml')
    yield StudyRow('flow', 'DenseFlow', 'start', recipe, measured=False, command='train_flow')
    for name, title in (('nflow_js', 'NFlowJS'), ('nflow_js_photos', 'NFlowJS + photos')):
        yield StudyRow(
            name,
            'BiSeNetV2',
            title,
            RECIPES / f'bisenetv2_{name}.yaml',
            ('nflow_js',),
            start,
            flow='flow',
            outliers=PHOTOS if 'photos' in name else '',
        )


def pretrained_rows() -> Iterator[StudyRow]:
    """Gives the stages of the checkpoint that ships, from ImageNet's weights on."""
    network, scores = 'EfficientNet-Lite0', ('dense_hybrid', 'ood_posterior')
    photos, objects = (RECIPES / f'efficientnet_lite_{end}.yaml' for end in ('photos', 'camvid'))
    yield StudyRow('lite_photos', network, 'photos', photos, scores, outliers=PHOTOS)
    yield StudyRow(
        'lite_objects', network, 'outlined objects', objects, scores, 'lite_photos',
        outliers='outlier_objects',
    )  # fmt: skip
    yield StudyRow(BASELINE, network, 'as it ships', None, scores)


def transformer_rows() -> Iterator[StudyRow]:
    """Gives networks that show classes by masks of queries, their fine-tunes, and a SegFormer."""
    near, start = ('dnp', 'cdnp', 'neco'), 'mask2anomaly_camvid'
    scores = ('mask2anomaly', 'rba', 'eam')
    for end, title in (
        ('', 'stage 1'),
        ('_outliers', 'stage 2'),
        ('_rba', "RbA's hinge"),
        ('_uno', "UNO's class"),
    ):
        yield StudyRow(
            f'{start}{end}',
            'Mask2Anomaly, small',
            title,
            RECIPES / f'{start}{end}.yaml',
            (*scores, *(('uno',) if end == '_uno' else ()), *near),
            start if end else '',
            outliers='outlier_objects' if end else '',
            logits=False,
        )
    recipe = RECIPES / 'eomt_camvid.yaml'
    yield StudyRow(
        'eomt_camvid', 'EoMT, small', 'from scratch', recipe, ('rba', 'eam', *near), logits=False
    )
    recipe = RECIPES / 'segformer_camvid.yaml'
    yield StudyRow('segformer_camvid', 'SegFormer, small', 'from scratch', recipe, near)


GRIDS = {
    'losses': loss_rows,
    'outlier exposure': exposure_rows,
    'a pre-trained start': pretrained_rows,
    'transformers': transformer_rows,
}
"""Name of a part of the study to its rows."""

CHOICES = {
    'losses': 'Nothing was chosen on the sets that are measured here.',
    'outlier exposure': """\
The learning rate and `floor` of DenseHybrid, and loss, weight and patches of NFlowJS, were chosen
in short trials that looked at mIoU on CamVid val and at AP on CamVid val frames with pasted photos
and on every fourth frame of camvid_anomaly_val: its AP of these rows is that of a validation set.
CamVid test and road_anomaly_val took no part in any choice.""",
    'a pre-trained start': """\
The last stage's changes were chosen on CamVid val, camvid_anomaly_val, road_anomaly_val and
other_cameras_val, see the search below; CamVid test took no part.""",
    'transformers': 'Nothing was chosen on the sets that are measured here.',
}
"""Of each part: what its settings were chosen by."""
