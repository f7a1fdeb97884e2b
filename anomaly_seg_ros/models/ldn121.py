"""LDN-121: DenseNet-121, a spatial pyramid and a ladder of skip connections back to 1/4.

Source: Krešo et al., "Efficient Ladder-Style DenseNets for Semantic Segmentation of Large
Images", 2020, https://arxiv.org/abs/1905.05661; the outlier head is DenseHybrid's (Grcić et al.,
2022). Module names follow the key layout of the public weights (matejgrcic/DenseHybrid), so that
those load strictly; written anew. The weights take RGB in 0..1 as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast, ClassVar

import torch
from torch import nn, Tensor
from torch.nn import functional

from anomaly_seg_ros.classes import STREETHAZARDS
from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.parts.bn_relu_conv import BNReLUConv
from anomaly_seg_ros.models.parts.densenet import DenseNet
from anomaly_seg_ros.models.parts.public_layout import PLAIN, PublicLayout

from .network import Network

GRIDS = (8, 4, 2, 1)
"""Rows of the pooled maps of the pyramid; columns follow the shape of the image."""


def _enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(x, size=size, mode='bilinear', align_corners=False)


class SpatialPyramid(nn.Module):
    """Joins a map with its means over coarse grids."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        level = channels // len(GRIDS)
        self.spp = nn.Sequential()
        self.spp.add_module('spp_bn', BNReLUConv(in_channels, channels))
        for i in range(len(GRIDS)):
            self.spp.add_module(f'spp{i}', BNReLUConv(channels, level))
        self.spp.add_module('spp_fuse', BNReLUConv(channels + len(GRIDS) * level, channels))

    def forward(self, x: Tensor) -> Tensor:
        first, *levels, fuse = self.spp
        height, width = x.shape[2], x.shape[3]
        x = first(x)
        maps = [x]
        for rows, level in zip(GRIDS, levels, strict=True):
            columns = max(1, round(width / height * rows))
            pooled = functional.adaptive_avg_pool2d(x, (rows, columns))
            maps.append(_enlarge(level(pooled), (height, width)))
        fused: Tensor = fuse(torch.cat(maps, dim=1))
        return fused


class LadderStep(nn.Module):
    """Doubles a map and adds the backbone's map of that size.

    `logits_aux` is in the public files, but no public code gives it a loss: it is built frozen,
    for the keys alone.
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int):
        super().__init__()
        self.bottleneck = BNReLUConv(skip_channels, in_channels)
        self.blend_conv = BNReLUConv(in_channels, out_channels, 3)
        self.logits_aux = BNReLUConv(in_channels, 1, bias=True).requires_grad_(False)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        larger = _enlarge(x, (skip.shape[2], skip.shape[3]))
        blended: Tensor = self.blend_conv(larger + self.bottleneck(skip))
        return blended


class LDN121(Network):
    """Ladder DenseNet-121, optionally with DenseHybrid's outlier head.

    Args:
        classes: Number of output channels K, void included where it is trained.
        layers: Dense layers of the four blocks.
        growth: Channels that a dense layer adds.
        stem: Width of the first convolution.
        pyramid: Width of the spatial pyramid.
        ladder: Widths of the three steps back to 1/4.
        outlier_head: Give `ood_logits`, channel 1 = outlier, from `features`.
        memory_efficient: In training compute each dense layer again in the backward pass: the
            same gradients for less memory and more time.

    Parameters: 11,067,414 with 19 classes, 11,067,928 with the outlier head too, 11,067,025 with
    12 classes and the outlier head.
    """

    provides = frozenset({'logits', 'features.last'})
    stride = 32
    classifier_prefixes = ('logits.', 'logits_ood.')
    new_head_prefixes = ('logits.', 'logits_ood.')
    train_only_prefixes = tuple(
        f'upsample.upsample_layers.upsample_{i}.logits_aux.' for i in range(3)
    )
    public_layouts = (
        PublicLayout('ladder', 'logits.conv.weight', 0, PLAIN),
        PublicLayout(
            'ladder (StreetHazards)',
            'logits.conv.weight',
            0,
            PLAIN,
            input_size=(720, 1280),
            classes=STREETHAZARDS,
            trained_on='streethazards train',
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        'tiny': {
            'layers': (2, 2, 2, 2),
            'growth': 4,
            'stem': 8,
            'pyramid': 16,
            'ladder': (12, 12, 8),
        }
    }

    def __init__(
        self,
        classes: int,
        layers: Sequence[int] = (6, 12, 24, 16),
        growth: int = 32,
        stem: int = 64,
        pyramid: int = 512,
        ladder: Sequence[int] = (256, 256, 128),
        outlier_head: bool = False,
        memory_efficient: bool = False,
    ):
        super().__init__()
        self.backbone = DenseNet(layers, growth, stem, memory_efficient)
        *skips, last = self.backbone.widths
        # The public keys hold two modules of the same name around the pyramid.
        self.spp = nn.Sequential()
        self.spp.add_module('spp', SpatialPyramid(last, pyramid))
        steps = nn.Sequential()
        width = pyramid
        for i, (skip, out) in enumerate(zip(reversed(skips), ladder, strict=True)):
            steps.add_module(f'upsample_{i}', LadderStep(width, skip, out))
            width = out
        self.upsample = nn.ModuleDict({'upsample_layers': steps})
        self.logits = BNReLUConv(width, classes, bias=True)
        self.outlier_head = outlier_head
        if outlier_head:
            self.provides |= {'ood_logits'}
            self.logits_ood = BNReLUConv(width, 2, bias=True)
        # The authors' backbone has ImageNet's weights; the rest starts as torch makes it.
        for module in self.backbone.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> ModelOutput:
        """Gives logits at image size; H and W are multiples of 32.

        Args:
            images: (N, 3, H, W) normalised RGB.
        """
        size = (images.shape[2], images.shape[3])
        *skips, x = self.backbone(images)
        features = self.spp(x)
        steps = cast('nn.Sequential', self.upsample['upsample_layers'])
        for step, skip in zip(steps, reversed(skips), strict=True):
            features = step(features, skip)
        logits = _enlarge(self.logits(features), size)
        ood = _enlarge(self.logits_ood(features), size) if self.outlier_head else None
        return ModelOutput(logits, features={'last': features}, ood_logits=ood)
