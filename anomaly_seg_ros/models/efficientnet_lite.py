"""EfficientNet-Lite as it was trained on ImageNet, without its classes: features of whole frames.

The sources stand in `parts/efficientnet_lite.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn, Tensor
from torch.nn import functional

from anomaly_seg_ros.classes import LabelSet
from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.parts.efficientnet_lite import EfficientNetLite, MEAN_STD, PUBLIC
from anomaly_seg_ros.models.parts.public_layout import PublicLayout

from .network import Network

CLASSES = '_fc.weight'
"""What tells public files: the classes of ImageNet."""
WHOLE = LabelSet(('frame',), ((128, 128, 128),))


class EfficientNetLiteFeatures(Network):
    """The encoder alone, for a density over the features of its last map.

    Classes come from a linear layer on the last map; of a public file they mean nothing.

    Args:
        classes: Number of output channels K.
        encoder: 'lite0', 'lite1' or 'lite2'.
        padding: 'same', as the public weights were trained, or 'symmetric'.
    """

    provides = frozenset({'logits', 'features.last'})
    stride = 32
    classifier_prefixes = ('classifier.',)
    new_head_prefixes = classifier_prefixes
    presets: ClassVar[dict[str, dict[str, Any]]] = {'tiny': {'encoder': 'tiny'}}
    public_layouts = tuple(
        PublicLayout(
            name=f'ImageNet, {variant}',
            classifier=CLASSES,
            axis=0,
            mean_std=MEAN_STD,
            options={'encoder': variant},
            input_size=(256, 256),
            classes=WHOLE,
            trained_on='imagenet train',
            new_classes=True,
        )
        for variant in sorted(PUBLIC)
    )

    def __init__(self, classes: int, encoder: str = 'lite0', padding: str = 'same'):
        super().__init__()
        self.encoder = EfficientNetLite(encoder, padding)
        self.classifier = nn.Conv2d(self.encoder.widths[-1], classes, 1)
        self.public = PUBLIC.get(encoder)

    def named_as_own(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Gives the encoder of a public file by our own names."""
        if self.public is None or CLASSES not in weights:
            return weights
        kept = self.public.encoder_weights(weights)
        return {f'encoder.{key}': value for key, value in kept.items()}

    def forward(self, images: Tensor) -> ModelOutput:
        """Gives the map at 1/32 as `features.last`.

        Args:
            images: (N, 3, H, W) normalised RGB, sides multiples of 32.
        """
        features = self.encoder.features(images)[-1]
        logits = functional.interpolate(self.classifier(features), scale_factor=32.0)
        return ModelOutput(logits, features={'last': features})
