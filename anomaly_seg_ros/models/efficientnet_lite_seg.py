"""EfficientNet-Lite under a light decoder back to 1/4 or 1/8 of the size.

The sources of encoder and decoders stand in `parts/efficientnet_lite.py` and
`parts/light_decoders.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import nn, Tensor
from torch.nn import functional

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.parts.efficientnet_lite import EfficientNetLite, PUBLIC
from anomaly_seg_ros.models.parts.light_decoders import BiFPN, LightDecoder, LRASPP, PyramidDecoder
from anomaly_seg_ros.models.parts.outlier_head import OutlierHead

from .network import Network

DECODERS: dict[str, Callable[[Sequence[int], float], LightDecoder]] = {
    'pyramid': PyramidDecoder,
    'lraspp': LRASPP,
    'bifpn': BiFPN,
}


class EfficientNetLiteSeg(Network):
    """EfficientNet-Lite0, 1 or 2 with one of three decoders.

    Args:
        classes: Number of output channels K, void included where it is trained.
        encoder: 'lite0', 'lite1' or 'lite2'.
        decoder: 'pyramid' (64 features at 1/4 of the size), 'lraspp' (128 beside the encoder's
            own at 1/8) or 'bifpn' (64 at 1/4).
        decoder_width: Factor on the decoder's channels.
        padding: Of the encoder: 'same', as its public weights were trained, or 'symmetric'.
        outlier_head: Add the two-way outlier head, on the features that the classifier reads.
        outlier_hidden: Channels of a 3x3 convolution within that head; 0: none.

    Parameters with 11 classes and encoder 'lite0': 3,394,763 with 'pyramid',
    3,042,883 with 'lraspp', 3,063,853 with 'bifpn'; the encoder alone has 2,958,848.

    Raises:
        ValueError: Unknown encoder, decoder or padding.
    """

    provides = frozenset(
        {'logits', *(f'features.{name}' for name in ('last', 'eighth', 'classes'))}
    )
    frame_features = ('features.eighth', 'features.classes')
    stride = 32
    encoder_prefixes = ('encoder.',)
    classifier_prefixes = ('classifier.', 'logits_ood.')
    new_head_prefixes = classifier_prefixes
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        'tiny': {'encoder': 'tiny', 'decoder_width': 0.125}
    }

    def __init__(
        self,
        classes: int,
        encoder: str = 'lite0',
        decoder: str = 'pyramid',
        decoder_width: float = 1.0,
        padding: str = 'same',
        outlier_head: bool = False,
        outlier_hidden: int = 0,
    ):
        super().__init__()
        if decoder not in DECODERS:
            known = ', '.join(DECODERS)
            raise ValueError(f'unknown decoder {decoder!r}; choose one of: {known}')
        self.encoder = EfficientNetLite(encoder, padding)
        if encoder in PUBLIC:
            self.encoder_starts = {'imagenet': PUBLIC[encoder]}
        self.decoder = DECODERS[decoder](self.encoder.widths, decoder_width)
        self.logits_ood = OutlierHead(self.decoder.width, outlier_hidden) if outlier_head else None
        if outlier_head:
            self.provides |= {'ood_logits'}
        self.classifier = nn.Conv2d(self.decoder.width, classes, 1)

    def forward(self, images: Tensor) -> ModelOutput:
        """Gives logits at image size; H and W are multiples of 32.

        Args:
            images: (N, 3, H, W) normalised RGB.
        """
        maps = self.encoder.features(images)
        features = self.decoder(maps)
        stride, outlier = self.decoder.stride, self.logits_ood
        classes = self.classifier(features)
        logits = functional.interpolate(
            classes,
            scale_factor=float(stride),
            mode='bilinear',
            align_corners=False,
        )
        return ModelOutput(
            logits,
            features={
                'last': features,
                'eighth': maps[1],
                'classes': classes,
            },
            ood_logits=None if outlier is None else outlier(features, stride),
        )
