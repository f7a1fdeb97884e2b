"""Segmenter: a vision transformer under a linear decoder or one of class tokens.

Source: Strudel et al., "Segmenter: Transformer for Semantic Segmentation", 2021,
https://arxiv.org/abs/2105.05633; keys as in https://github.com/rstrudel/segmenter.
"""

from __future__ import annotations

from collections.abc import Mapping
import math
import re
from typing import Any, ClassVar

import torch
from torch import nn, Tensor
from torch.nn import functional

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.parts.public_layout import HALF, IMAGENET, MeanStd, PublicLayout
from anomaly_seg_ros.models.parts.vision_transformer import (
    Block,
    HEAD_WIDTH,
    init_linear,
    PATCH,
    VisionTransformer,
)

from .network import Network

MMSEG_KEYS = (
    (r'^backbone\.ln1\.', 'encoder.norm.'),
    (r'^backbone\.', 'encoder.'),
    (r'^decode_head\.conv_seg\.', 'decoder.head.'),
    (r'^decode_head\.dec_proj\.', 'decoder.proj_dec.'),
    (r'^decode_head\.patch_proj\.weight$', 'decoder.proj_patch'),
    (r'^decode_head\.classes_proj\.weight$', 'decoder.proj_classes'),
    (r'^decode_head\.', 'decoder.'),
    (r'\.patch_embed\.projection\.', '.patch_embed.proj.'),
    (r'\.layers\.(\d+)\.ln(\d)\.', r'.blocks.\1.norm\2.'),
    (r'\.layers\.(\d+)\.attn\.attn\.in_proj_', r'.blocks.\1.attn.qkv.'),
    (r'\.layers\.(\d+)\.attn\.attn\.out_proj\.', r'.blocks.\1.attn.proj.'),
    (r'\.layers\.(\d+)\.ffn\.layers\.0\.0\.', r'.blocks.\1.mlp.fc1.'),
    (r'\.layers\.(\d+)\.ffn\.layers\.1\.', r'.blocks.\1.mlp.fc2.'),
)
"""What mmsegmentation calls the weights, and what they are called here."""

TRANSPOSED = ('decode_head.patch_proj.weight', 'decode_head.classes_proj.weight')
"""What mmsegmentation has as linear layers, and the authors as matrices."""

UNUSED = re.compile(r'^encoder\.head(_dist)?\.|^auxiliary_head\.')
"""Of the class of a whole image, from ImageNet; of training alone."""


def own_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gives the weights of a file of either layout by the authors' keys, which are our own."""
    found = {}
    mask = 'decode_head.cls_emb' in weights
    for public, value in weights.items():
        key = public
        for pattern, replacement in MMSEG_KEYS:
            key = re.sub(pattern, replacement, key)
        if UNUSED.match(key) or (mask and public.startswith('decode_head.conv_seg.')):
            continue
        if key == 'decoder.head.weight':
            value = value.flatten(1)
        found[key] = value.T if public in TRANSPOSED else value
    return found


def options_of(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Gives the options of the network that the weights of either layout are of."""
    weights = own_names(weights)
    positions = weights['encoder.pos_embed'].shape
    distilled = 'encoder.dist_token' in weights
    side = math.isqrt(positions[1] - 1 - distilled)
    numbers = [re.match(r'(encoder|decoder)\.blocks\.(\d+)\.', key) for key in weights]
    depths = {
        part: 1 + max((int(n[2]) for n in numbers if n and n[1] == part), default=-1)
        for part in ('encoder', 'decoder')
    }
    return {
        'width': positions[2],
        'depth': depths['encoder'],
        'decoder_depth': depths['decoder'],
        'image_size': side * PATCH,
        'distilled': distilled,
    }


def normalisation_of(weights: Mapping[str, Tensor]) -> MeanStd:
    """Gives what the authors' images were normalised with, by `normalization` in segm/config.yml.

    That of ImageNet for the distilled DeiT, which alone has such a token; else a half each.
    """
    return IMAGENET if 'encoder.dist_token' in weights else HALF


class LinearDecoder(nn.Module):
    """One linear layer on each token."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.head = nn.Linear(width, classes)
        init_linear(self)

    def forward(self, tokens: Tensor) -> Tensor:
        """Gives (N, T, K) of (N, T, D)."""
        out: Tensor = self.head(tokens)
        return out


class MaskDecoder(nn.Module):
    """A token for each class looks at those of the patches; their likeness is the logit."""

    def __init__(self, width: int, classes: int, depth: int):
        super().__init__()
        self.classes = classes
        self.blocks = nn.ModuleList(Block(width, width // HEAD_WIDTH) for _ in range(depth))
        self.cls_emb = nn.Parameter(torch.zeros(1, classes, width))
        self.proj_dec = nn.Linear(width, width)
        self.proj_patch = nn.Parameter(width**-0.5 * torch.randn(width, width))
        self.proj_classes = nn.Parameter(width**-0.5 * torch.randn(width, width))
        self.decoder_norm = nn.LayerNorm(width)
        self.mask_norm = nn.LayerNorm(classes)
        init_linear(self)
        nn.init.trunc_normal_(self.cls_emb, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Gives (N, T, K) of (N, T, D)."""
        x = self.proj_dec(tokens)
        x = torch.cat([x, self.cls_emb.expand(x.shape[0], -1, -1)], 1)
        for block in self.blocks:
            x, _ = block(x)
        x = self.decoder_norm(x)
        patches = x[:, : -self.classes] @ self.proj_patch
        classes = x[:, -self.classes :] @ self.proj_classes
        patches = patches / patches.norm(dim=2, keepdim=True)
        classes = classes / classes.norm(dim=2, keepdim=True)
        masks: Tensor = self.mask_norm(patches @ classes.transpose(1, 2))
        return masks


class Segmenter(Network):
    """Segmenter with patches of 16x16; ViT-B as it is built without options.

    Its features are 'last', the tokens that the decoder reads, and 'queries', 'keys' and 'values'
    of the last block, all heads side by side, at 1/16 of the size.

    Args:
        classes: Number of output channels K, void included where it is trained.
        decoder: 'linear' or 'mask'.
        width: Features of a token, a multiple of 64, which is the width of a head.
        depth: Blocks of the encoder.
        decoder_depth: Blocks of the decoder 'mask'.
        image_size: Side of the square images that the position embeddings are for.
        distilled: Whether a token of distillation stands behind that of the class (DeiT).
        eps: Of the encoder's layer norms.
        position_resize: How position embeddings are resized, 'bilinear' or 'bicubic'.

    Parameters of ViT-B/16 with 19 classes: 87,432,211 with 'linear', 103,379,750 with 'mask'.

    Raises:
        ValueError: Unknown decoder or resizing, or a width or size that is no such multiple.
    """

    provides = frozenset(
        {'logits', 'features.last', 'features.queries', 'features.keys', 'features.values'}
    )
    stride = PATCH
    channels_last = False
    classifier_prefixes = ('decoder.head.', 'decoder.cls_emb', 'decoder.mask_norm.')
    new_head_prefixes = classifier_prefixes
    presets: ClassVar = {'tiny': {'width': 64, 'depth': 2, 'decoder_depth': 1, 'image_size': 64}}
    public_layouts = (
        PublicLayout(
            'authors linear',
            'decoder.head.weight',
            0,
            HALF,
            input_size=(768, 768),
            per_class=(('decoder.head.weight', 0), ('decoder.head.bias', 0)),
            sized=options_of,
            normalised=normalisation_of,
        ),
        PublicLayout(
            'authors mask',
            'decoder.cls_emb',
            1,
            HALF,
            options={'decoder': 'mask'},
            input_size=(768, 768),
            sized=options_of,
            normalised=normalisation_of,
        ),
        PublicLayout(
            'mmsegmentation mask',
            'decode_head.cls_emb',
            1,
            HALF,
            options={'decoder': 'mask', 'eps': 1e-6, 'position_resize': 'bicubic'},
            input_size=(768, 768),
            sized=options_of,
        ),
        PublicLayout(
            'mmsegmentation linear',
            'decode_head.conv_seg.weight',
            0,
            IMAGENET,
            options={'eps': 1e-6, 'position_resize': 'bicubic'},
            input_size=(768, 768),
            per_class=(('decode_head.conv_seg.weight', 0), ('decode_head.conv_seg.bias', 0)),
            sized=options_of,
        ),
    )

    def __init__(
        self,
        classes: int,
        decoder: str = 'linear',
        width: int = 768,
        depth: int = 12,
        decoder_depth: int = 2,
        image_size: int = 768,
        distilled: bool = False,
        eps: float = 1e-5,
        position_resize: str = 'bilinear',
    ):
        super().__init__()
        for name, value, known in (
            ('decoder', decoder, ('linear', 'mask')),
            ('position_resize', position_resize, ('bilinear', 'bicubic')),
        ):
            if value not in known:
                raise ValueError(f'unknown {name} {value!r}; choose one of: {", ".join(known)}')
        for name, size, unit in (('width', width, HEAD_WIDTH), ('image_size', image_size, PATCH)):
            if size < unit or size % unit:
                raise ValueError(f'{name} {size} must be a multiple of {unit}')
        grid = (image_size // PATCH, image_size // PATCH)
        heads = width // HEAD_WIDTH
        self.encoder = VisionTransformer(
            width, depth, heads, grid, distilled, eps, position_resize
        )
        self.decoder: nn.Module
        if decoder == 'linear':
            self.decoder = LinearDecoder(width, classes)
        else:
            self.decoder = MaskDecoder(width, classes, decoder_depth)

    def named_as_own(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Gives weights of either public layout by our own names, see `own_names`."""
        return own_names(weights)

    def forward(self, images: Tensor) -> ModelOutput:
        """Gives logits at image size; H and W are multiples of 16.

        Args:
            images: (N, 3, H, W) normalised RGB.
        """
        size = (images.shape[2], images.shape[3])
        grid = (size[0] // PATCH, size[1] // PATCH)
        tokens, (query, key, value) = self.encoder(images)
        named = {'last': tokens, 'queries': query, 'keys': key, 'values': value}
        features = {name: _map(part, grid) for name, part in named.items()}
        logits = _map(self.decoder(tokens), grid)
        large = functional.interpolate(logits, size, mode='bilinear', align_corners=False)
        return ModelOutput(large, features=features)


def _map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Gives (N, D, h, w) of (N, h * w, D)."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *grid)
