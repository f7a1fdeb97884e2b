"""Which configurations of `transformers` make a segmenter that is known here; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SEMANTIC = 'semantic'
UNIVERSAL = 'universal'
EOMT = 'eomt'


@dataclass(frozen=True)
class Kind:
    """What must be known of one `model_type`.

    Attributes:
        task: `SEMANTIC`, a logit a class, or `UNIVERSAL`, queries with classes and masks.
        classifier: Path of the layer whose rows are the classes.
        steps: `EOMT` for those whose blocks are run one by one here; empty: the library's forward.
        square_neck: Whether the library takes its patches for a square unless it is told.
        unread: Pattern of the names of weights that have no part in the output, which the library
            makes all the same: no optimiser gets them. Empty: there are none.
        fixed: Values of the configuration that are always these here.
    """

    task: str
    classifier: str
    steps: str = ''
    square_neck: bool = False
    unread: str = ''
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def auto_class(self) -> str:
        """Name of the library's class that builds it."""
        return f'AutoModelFor{self.task.capitalize()}Segmentation'


_NO_AUX = {'use_auxiliary_head': False}
"""Auxiliary heads give nothing without the library's own loss."""

_LAST_NORM = r'net\.(model\.pixel_level_module\.encoder|backbone)\.(swin|model)\.layernorm\.'
"""Of a Swin as a backbone, whose maps have norms of their own."""

KINDS = {
    'dpt': Kind(
        SEMANTIC,
        'head.head.4',
        square_neck=True,
        unread=r'net\.(dpt\.layernorm|neck\.fusion_stage\.layers\.0\.residual_layer1)\.',
        fixed=_NO_AUX,
    ),
    'eomt': Kind(UNIVERSAL, 'class_predictor', EOMT),
    'eomt_dinov3': Kind(UNIVERSAL, 'class_predictor', EOMT),
    'mask2former': Kind(
        UNIVERSAL, 'class_predictor', unread=_LAST_NORM, fixed={'use_auxiliary_loss': True}
    ),
    'segformer': Kind(SEMANTIC, 'decode_head.classifier'),
    'upernet': Kind(SEMANTIC, 'decode_head.classifier', unread=_LAST_NORM, fixed=_NO_AUX),
}
"""`model_type` to what is known of it."""


def kind_of(config: Mapping[str, Any]) -> Kind:
    """Gives what is known of a configuration.

    Raises:
        ValueError: It has no type, or one that is no segmenter here; the text lists those that
            are.
    """
    name = config.get('model_type')
    if not name:
        raise ValueError(
            "model 'hf' has no configuration; give model 'hf:FOLDER' or 'hf:OWNER/NAME', or "
            'model_options.config with a model_type'
        )
    if name not in KINDS:
        raise ValueError(
            f'model_type {name!r} is no semantic or universal segmenter that is known here; '
            f'those that are: {", ".join(KINDS)}'
        )
    return KINDS[name]
