"""What `mask2anomaly` takes from `transformers`: backbones, pixel decoder and transformer.

Source: Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", 2022,
as `transformers` (Apache-2.0) has it.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from .efficientnet_lite import EfficientNetLite, PUBLIC, SCALES
from .global_attention import GlobalMaskedDecoder

STAGES = ['stage1', 'stage2', 'stage3', 'stage4']


def _swin(width: int, deep: int, window: int, size: int) -> dict[str, Any]:
    return {
        'model_type': 'swin',
        'embed_dim': width,
        'depths': [2, 2, deep, 2],
        'num_heads': [width // 32 * 2**stage for stage in range(4)],
        'window_size': window,
        'image_size': size,
        'drop_path_rate': 0.3,
    }


BACKBONES: dict[str, dict[str, Any]] = {
    'resnet50': {'model_type': 'resnet'},
    'swin_tiny': _swin(96, 6, 7, 224),
    'swin_base': _swin(128, 18, 12, 384),
}
"""Options of those of `transformers`; beside them are the encoders of `efficientnet_lite_seg`."""


def build_mask_transformer(
    widths: list[int], global_attention: bool, **options: Any
) -> tuple[nn.Module, Any, nn.Module]:
    """Gives pixel decoder, transformer and class predictor, initialised as the library does it.

    Args:
        widths: Channels of the backbone's four maps.
        global_attention: Let the queries look at the background too.
        options: Of the library's configuration.

    Raises:
        ImportError: `transformers` is not installed.
    """
    from transformers import AutoConfig
    from transformers.models.mask2former.modeling_mask2former import (
        Mask2FormerPixelDecoder,
        Mask2FormerPreTrainedModel,
        Mask2FormerTransformerModule,
    )

    class Behind(Mask2FormerPreTrainedModel):
        """All behind the backbone: the library initialises what is a model of its own."""

        def __init__(self, config: Any):
            super().__init__(config)
            self.pixel_decoder = Mask2FormerPixelDecoder(config, widths)
            self.transformer = Mask2FormerTransformerModule(config.feature_size, config)
            self.class_predictor = nn.Linear(config.hidden_dim, config.num_labels + 1)
            self.post_init()  # type: ignore[no-untyped-call]

    behind = Behind(AutoConfig.for_model('mask2former', **options))
    transformer: Any = behind.transformer
    if global_attention:
        transformer.decoder = GlobalMaskedDecoder(transformer.decoder)
    return behind.pixel_decoder, transformer, behind.class_predictor


def build_encoder(backbone: str) -> tuple[nn.Module, list[int]]:
    """Gives a backbone and the channels of its maps at 1/4, 1/8, 1/16 and 1/32 of the size.

    Raises:
        ImportError: `transformers` is not installed.
        ValueError: It is unknown; the text lists the valid ones.
    """
    if backbone in SCALES:
        light = EfficientNetLite(backbone)
        return light, light.widths
    if backbone not in BACKBONES:
        known = ', '.join((*BACKBONES, *PUBLIC))
        raise ValueError(f'unknown backbone {backbone!r}; choose one of: {known}')
    from transformers import AutoBackbone, AutoConfig

    auto: Any = AutoBackbone
    config = AutoConfig.for_model(**BACKBONES[backbone], out_features=STAGES)
    encoder = auto.from_config(config)
    return encoder, list(encoder.channels)
