"""Fast-SCNN: one shared stem, a deep branch at low resolution, and a light fusion of both.

Source: Poudel et al., "Fast-SCNN: Fast Semantic Segmentation Network", BMVC 2019,
https://arxiv.org/abs/1902.04502. Module names follow the key layout of the public
Tramac/Fast-SCNN-pytorch weights (Apache-2.0 licence), so that those load strictly; written anew.
As there, the first convolution is not padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn, Tensor
from torch.nn import functional

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.parts.isomax_head import check_head, pixel_classifier
from anomaly_seg_ros.models.parts.public_layout import IMAGENET, PublicLayout

from .network import Network

POOLED_SIDES = (1, 2, 3, 6)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    """Gives `x` at the height and width of `like`, by the corners as the public weights expect."""
    size = (like.shape[2], like.shape[3])
    return functional.interpolate(x, size, mode='bilinear', align_corners=True)


def _conv_bn_relu(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, padding: int = 0
) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]


def _depthwise_bn_relu(channels: int, stride: int = 1) -> list[nn.Module]:
    """A 3x3 convolution of each channel on its own."""
    return [
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    ]


class Unit(nn.Module):
    """Layers in a row, under the key `conv` as in the public weights."""

    def __init__(self, layers: Sequence[nn.Module]):
        super().__init__()
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


def _separable(in_channels: int, out_channels: int, stride: int = 1) -> Unit:
    """A depthwise 3x3 and a 1x1 convolution."""
    depthwise = _depthwise_bn_relu(in_channels, stride)
    return Unit([*depthwise, *_conv_bn_relu(in_channels, out_channels, 1)])


class LearningToDownsample(nn.Module):
    """The stem that both branches share, to 1/8."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        c1, c2, c3 = channels
        self.conv = Unit(_conv_bn_relu(3, c1, 3, stride=2))
        self.dsconv1 = _separable(c1, c2, stride=2)
        self.dsconv2 = _separable(c2, c3, stride=2)

    def forward(self, images: Tensor) -> Tensor:
        stem: Tensor = self.dsconv2(self.dsconv1(self.conv(images)))
        return stem


class LinearBottleneck(nn.Module):
    """Inverted residual block of MobileNetV2: widen, filter each channel, narrow."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int):
        super().__init__()
        wide = in_channels * expansion
        self.residual = stride == 1 and in_channels == out_channels
        self.block = nn.Sequential(
            Unit(_conv_bn_relu(in_channels, wide, 1)),
            Unit(_depthwise_bn_relu(wide, stride)),
            nn.Conv2d(wide, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return x + y if self.residual else y


class PyramidPooling(nn.Module):
    """Adds the means over 1, 4, 9 and 36 parts of the image to every place."""

    def __init__(self, channels: int):
        super().__init__()
        for index, _ in enumerate(POOLED_SIDES, start=1):
            self.add_module(f'conv{index}', Unit(_conv_bn_relu(channels, channels // 4, 1)))
        self.out = Unit(_conv_bn_relu(2 * channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for index, side in enumerate(POOLED_SIDES, start=1):
            unit = self.get_submodule(f'conv{index}')
            maps.append(_resize(unit(functional.adaptive_avg_pool2d(x, side)), like=x))
        pooled: Tensor = self.out(torch.cat(maps, dim=1))
        return pooled


class GlobalFeatureExtractor(nn.Module):
    """The deep branch, from 1/8 to 1/32."""

    def __init__(self, in_channels: int, channels: Sequence[int], blocks: int, expansion: int):
        super().__init__()
        widths = (in_channels, *channels)
        for index, stride in enumerate((2, 2, 1), start=1):
            before, width = widths[index - 1], widths[index]
            self.add_module(
                f'bottleneck{index}',
                nn.Sequential(
                    LinearBottleneck(before, width, expansion, stride),
                    *(LinearBottleneck(width, width, expansion, 1) for _ in range(blocks - 1)),
                ),
            )
        self.ppm = PyramidPooling(widths[-1])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


class FeatureFusion(nn.Module):
    """Adds the deep branch, enlarged, to the stem."""

    def __init__(self, higher_channels: int, lower_channels: int):
        super().__init__()
        self.dwconv = Unit(_depthwise_bn_relu(lower_channels))
        self.conv_lower_res = nn.Sequential(
            nn.Conv2d(lower_channels, lower_channels, 1), nn.BatchNorm2d(lower_channels)
        )
        self.conv_higher_res = nn.Sequential(
            nn.Conv2d(higher_channels, lower_channels, 1), nn.BatchNorm2d(lower_channels)
        )

    def forward(self, higher: Tensor, lower: Tensor) -> Tensor:
        # Four times the size of `lower` where the image's sides are multiples of 32, as published.
        lower = self.conv_lower_res(self.dwconv(_resize(lower, like=higher)))
        return functional.relu(self.conv_higher_res(higher) + lower)


class Classifier(nn.Module):
    """Two separable convolutions and the last layer, all at 1/8."""

    def __init__(self, channels: int, classes: int, head: str):
        super().__init__()
        self.dsconv1 = _separable(channels, channels)
        self.dsconv2 = _separable(channels, channels)
        self.conv = nn.Sequential(nn.Dropout(0.1), pixel_classifier(channels, classes, head))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gives logits at 1/8 and the features that the last layer reads."""
        features = self.conv[0](self.dsconv2(self.dsconv1(x)))
        return self.conv[1](features), features


class FastSCNN(Network):
    """Fast-SCNN with its training-only auxiliary head on the stem.

    Args:
        classes: Number of output channels K, void included where it is trained.
        stem_channels: Widths of the stem at 1/2, 1/4 and 1/8 of the size.
        channels: Widths of the deep branch; the last is a multiple of 4.
        blocks: Residual blocks of each of the deep branch's three stages.
        expansion: Widening inside these blocks.
        aux_heads: Build the auxiliary head; it is used only in training mode.
        head: 'linear', or 'isomax' for distances to prototypes in place of the last layer, in the
            auxiliary heads too.

    Parameters with 19 classes, without auxiliary head: 1,138,051.

    Raises:
        ValueError: Unknown head.
    """

    provides = frozenset({'logits', 'features.last'})
    stride = 1
    """It takes any size: where the maps of its branches differ, one is interpolated."""
    train_only_prefixes = ('auxlayer.',)
    classifier_prefixes = ('classifier.conv.',)
    new_head_prefixes = (*classifier_prefixes, *train_only_prefixes)
    public_layouts = (PublicLayout('Tramac', 'classifier.conv.1.weight', 0, IMAGENET),)
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        'tiny': {
            'stem_channels': (8, 8, 16),
            'channels': (16, 16, 24),
            'blocks': 2,
            'expansion': 2,
        }
    }

    def __init__(
        self,
        classes: int,
        stem_channels: Sequence[int] = (32, 48, 64),
        channels: Sequence[int] = (64, 96, 128),
        blocks: int = 3,
        expansion: int = 6,
        aux_heads: bool = False,
        head: str = 'linear',
    ):
        super().__init__()
        check_head(head)
        stem, width = stem_channels[-1], channels[-1]
        self.learning_to_downsample = LearningToDownsample(stem_channels)
        self.global_feature_extractor = GlobalFeatureExtractor(stem, channels, blocks, expansion)
        self.feature_fusion = FeatureFusion(stem, width)
        self.classifier = Classifier(width, classes, head)
        self.aux_heads = aux_heads
        if aux_heads:
            self.auxlayer = nn.Sequential(
                *_conv_bn_relu(stem, stem // 2, 3, padding=1),
                nn.Dropout(0.1),
                pixel_classifier(stem // 2, classes, head),
            )

    def forward(self, images: Tensor) -> ModelOutput:
        """Gives logits at image size.

        Args:
            images: (N, 3, H, W) normalised RGB of any size.
        """
        higher = self.learning_to_downsample(images)
        lower = self.global_feature_extractor(higher)
        logits, features = self.classifier(self.feature_fusion(higher, lower))
        aux: tuple[Tensor, ...] = ()
        if self.training and self.aux_heads:
            aux = (_resize(self.auxlayer(higher), like=images),)
        return ModelOutput(
            _resize(logits, like=images), features={'last': features}, aux_logits=aux
        )
