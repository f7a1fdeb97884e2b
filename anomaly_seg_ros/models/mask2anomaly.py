"""Mask2Anomaly: a mask transformer with global masked attention, on one of several backbones.

Source: Rai et al., "Unmasking Anomalies in Road-Scene Segmentation", 2023,
https://arxiv.org/abs/2307.13316; pixel decoder and transformer are those of `transformers`
(Mask2Former: Cheng et al., 2022), put together in `parts/mask_transformer.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from anomaly_seg_ros.classes import STREETHAZARDS
from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.parts.efficientnet_lite import EfficientNetLite, PUBLIC
from anomaly_seg_ros.models.parts.mask_transformer import build_encoder, build_mask_transformer
from anomaly_seg_ros.models.parts.mask_transformer_keys import own_names
from anomaly_seg_ros.models.parts.public_layout import IMAGENET, PublicLayout

from .hf import load_transformers
from .network import Network

CLASSIFIER = 'sem_seg_head.predictor.class_embed.weight'
"""What tells Detectron2's files of mask transformers."""


class Mask2Anomaly(Network):
    """A backbone, deformable attention over its maps, and queries that show one class each.

    Args:
        classes: Number of classes K, void included where it is trained.
        backbone: 'resnet50', 'swin_tiny', 'swin_base', or 'lite0', 'lite1', 'lite2'.
        queries: How many masks an image can have.
        width: Channels behind the backbone, a multiple of 32.
        heads: Of every attention; they divide the width.
        pixel_layers: Layers of deformable attention.
        pixel_feedforward: Their inner channels.
        layers: Layers of the transformer, each on the next of three maps in turn.
        feedforward: Their inner channels.
        global_attention: Look at the background too, with weights apart; False: a Mask2Former.

    The images are padded to multiples of 32. In training it gives the masks before the first
    layer and behind each but the last as auxiliary ones.

    Parameters with 19 classes and all else as it is: 46,376,212.

    Raises:
        ImportError: `transformers` is not installed.
        ValueError: Unknown backbone, or a width that does not fit.
    """

    provides = frozenset({'class_logits', 'mask_logits', 'features.last'})
    stride = 32
    encoder_prefixes = ('encoder.',)
    classifier_prefixes = ('class_predictor.',)
    new_head_prefixes = classifier_prefixes
    channels_last = False
    public_layouts = (
        PublicLayout('detectron2', CLASSIFIER, 0, IMAGENET, no_object=True),
        PublicLayout(
            'detectron2 (StreetHazards)',
            CLASSIFIER,
            0,
            IMAGENET,
            {'backbone': 'swin_base'},
            input_size=(720, 1280),
            classes=STREETHAZARDS,
            trained_on='streethazards train',
            no_object=True,
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        'tiny': {
            'backbone': 'tiny',
            'queries': 6,
            'width': 32,
            'heads': 2,
            'pixel_layers': 1,
            'pixel_feedforward': 16,
            'layers': 3,
            'feedforward': 16,
        }
    }

    def __init__(
        self,
        classes: int,
        backbone: str = 'resnet50',
        queries: int = 100,
        width: int = 256,
        heads: int = 8,
        pixel_layers: int = 6,
        pixel_feedforward: int = 1024,
        layers: int = 9,
        feedforward: int = 2048,
        global_attention: bool = True,
    ):
        super().__init__()
        if width % 32 or width % heads:
            raise ValueError(
                f'width is {width} with {heads} heads; it must be a multiple of 32 and of heads'
            )
        load_transformers()
        self.encoder, widths = build_encoder(backbone)
        self.leave_unread(r'encoder\.swin\.layernorm\.')  # its maps have norms of their own
        if backbone in PUBLIC:
            self.encoder_starts = {'imagenet': PUBLIC[backbone]}
        self.pixel_decoder, self.transformer, self.class_predictor = build_mask_transformer(
            widths,
            global_attention,
            num_labels=classes,
            num_queries=queries,
            feature_size=width,
            mask_feature_size=width,
            hidden_dim=width,
            num_attention_heads=heads,
            encoder_layers=pixel_layers,
            encoder_feedforward_dim=pixel_feedforward,
            decoder_layers=layers + 1,
            dim_feedforward=feedforward,
        )

    def named_as_own(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Gives weights of Detectron2's or `transformers`' names by our own, see `own_names`."""
        return own_names(weights, self.state_dict())

    def forward(self, images: Tensor) -> ModelOutput:
        """Gives what the queries show, and their masks at 1/4 of the size.

        Args:
            images: (N, 3, H, W) normalised RGB, sides multiples of 32.
        """
        encoder: Any = self.encoder
        light = isinstance(encoder, EfficientNetLite)
        maps = encoder.features(images) if light else encoder(images).feature_maps
        pixels = self.pixel_decoder(maps)
        decoded = self.transformer(pixels.multi_scale_features, pixels.mask_features)
        # Of itself it would not know: a part of it may be trained with the rest as in evaluation.
        layers = slice(None) if self.transformer.training else slice(-1, None)
        masks = decoded.masks_queries_logits[layers]
        queries = decoded.intermediate_hidden_states[layers]
        classes = [self.class_predictor(shown.transpose(0, 1)) for shown in queries]
        return ModelOutput(
            class_logits=classes[-1],
            mask_logits=masks[-1],
            aux_class_logits=tuple(classes[:-1]),
            aux_mask_logits=tuple(masks[:-1]),
            features={'last': pixels.mask_features},
        )
