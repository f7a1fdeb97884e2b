"""DeepLabV3+ on WideResNet-38: the strong convolutional network of the DenseHybrid authors.

Source: Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
Segmentation", 2018, https://arxiv.org/abs/1802.02611, in the form of Zhu et al., "Improving
Semantic Segmentation via Video Propagation and Label Relaxation", 2019; the outlier head is
DenseHybrid's (Grcić et al., 2022). Module names follow the key layout of the public weights
(NVIDIA/semantic-segmentation, matejgrcic/DenseHybrid), so that those load strictly; written anew.
Those files normalise by the ImageNet mean and std inside the network; here the checkpoint's
`mean` and `std` do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn, Tensor
from torch.nn import functional

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.parts.bn_relu_conv import BNReLUConv
from anomaly_seg_ros.models.parts.public_layout import IMAGENET, PublicLayout
from anomaly_seg_ros.models.parts.wide_resnet import (
    BLOCKS,
    build_stage,
    stages_with,
    WIDTHS,
)

from .network import Network

RATES = (12, 24, 36)
"""Dilations of the pyramid at 1/8 of the size."""


def _conv_bn_relu(
    in_channels: int, out_channels: int, kernel: int = 1, dilation: int = 1
) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    return [
        nn.Conv2d(
            in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]


def _enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear with the corners aligned, as the public weights were trained."""
    return functional.interpolate(x, size=size, mode='bilinear', align_corners=True)


class ASPP(nn.Module):
    """Pyramid of dilated convolutions, behind the mean over the whole image."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.features = nn.ModuleList(
            [
                nn.Sequential(*_conv_bn_relu(in_channels, channels)),
                *(nn.Sequential(*_conv_bn_relu(in_channels, channels, 3, r)) for r in RATES),
            ]
        )
        self.img_conv = nn.Sequential(*_conv_bn_relu(in_channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Gives five times `channels`, the image's own first."""
        image = self.img_conv(x.mean(dim=(2, 3), keepdim=True))
        everywhere = image.expand(-1, -1, x.shape[2], x.shape[3])
        return torch.cat([everywhere, *(branch(x) for branch in self.features)], dim=1)


class DeepLabV3Plus(Network):
    """DeepLabV3+ with WideResNet-38, optionally with DenseHybrid's outlier head.

    Args:
        classes: Number of output channels K, void included where it is trained.
        stem: Width of the first convolution, at full size.
        widths: Of the six stages `mod2` to `mod7`, channels after each convolution of a block.
        blocks: Residual blocks of the six stages.
        fine: Width of the fine map, at 1/2 of the size.
        decoder: Width of the pyramid and of the decoder.
        outlier_head: Give `ood_logits`, channel 1 = outlier, from `features`.

    Parameters with 19 classes: 137,103,936, with the outlier head 137,105,154.
    """

    provides = frozenset({'logits', 'features.last'})
    stride = 8
    classifier_prefixes = ('final.6.', 'logits_ood.')
    new_head_prefixes = ('final.6.', 'logits_ood.')
    # The public file normalises inside the network; here, as always, the checkpoint says how.
    public_layouts = (PublicLayout('NVIDIA', 'final.6.weight', 0, IMAGENET),)
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        'tiny': {
            'stem': 8,
            'widths': ((8, 8), (8, 8), (16, 16), (8, 16), (8, 8, 24), (8, 16, 32)),
            'blocks': (1, 1, 2, 1, 1, 1),
            'fine': 8,
            'decoder': 16,
        }
    }

    def __init__(
        self,
        classes: int,
        stem: int = 64,
        widths: Sequence[Sequence[int]] = WIDTHS,
        blocks: Sequence[int] = BLOCKS,
        fine: int = 48,
        decoder: int = 256,
        outlier_head: bool = False,
    ):
        super().__init__()
        self.mod1 = nn.Sequential()
        self.mod1.add_module('conv1', nn.Conv2d(3, stem, 3, padding=1, bias=False))
        self.pool2 = nn.MaxPool2d(3, stride=2, padding=1)
        self.pool3 = nn.MaxPool2d(3, stride=2, padding=1)
        stages = stages_with(widths, blocks)
        inputs = (stem, *(stage.widths[-1] for stage in stages))
        (self.mod2, self.mod3, self.mod4, self.mod5, self.mod6, self.mod7) = (
            build_stage(width, stage) for width, stage in zip(inputs, stages, strict=False)
        )
        self.aspp = ASPP(inputs[-1], decoder)
        self.bot_fine = nn.Conv2d(inputs[1], fine, 1, bias=False)
        self.bot_aspp = nn.Conv2d(5 * decoder, decoder, 1, bias=False)
        self.final = nn.Sequential(
            *_conv_bn_relu(fine + decoder, decoder, 3),
            *_conv_bn_relu(decoder, decoder, 3),
            nn.Conv2d(decoder, classes, 1, bias=False),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        self.outlier_head = outlier_head
        if outlier_head:
            self.provides |= {'ood_logits'}
            # It starts as torch makes it, in the authors' code too.
            self.logits_ood = BNReLUConv(fine + decoder, 2, bias=True)

    def forward(self, images: Tensor) -> ModelOutput:
        """Gives logits at image size; H and W are multiples of 8.

        Args:
            images: (N, 3, H, W) normalised RGB.
        """
        size = (images.shape[2], images.shape[3])
        half = self.mod2(self.pool2(self.mod1(images)))
        x = self.mod4(self.mod3(self.pool3(half)))
        x = self.bot_aspp(self.aspp(self.mod7(self.mod6(self.mod5(x)))))
        coarse = _enlarge(x, (half.shape[2], half.shape[3]))
        features = torch.cat([self.bot_fine(half), coarse], dim=1)
        logits = _enlarge(self.final(features), size)
        ood = _enlarge(self.logits_ood(features), size) if self.outlier_head else None
        return ModelOutput(logits, features={'last': features}, ood_logits=ood)
