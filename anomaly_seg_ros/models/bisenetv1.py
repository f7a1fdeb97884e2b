"""BiSeNetV1: a shallow spatial path beside a ResNet-18 context path.

Source: Yu et al., "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation",
ECCV 2018, https://arxiv.org/abs/1808.00897, and He et al., "Deep Residual Learning for Image
Recognition", 2016, https://arxiv.org/abs/1512.03385. Module names follow the key layout of the
public CoinCheung/BiSeNet weights (MIT licence), so that those load strictly; written anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn, Tensor
from torch.nn import functional

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.parts.conv_bn_relu import ConvBNReLU
from anomaly_seg_ros.models.parts.isomax_head import check_head, pixel_classifier
from anomaly_seg_ros.models.parts.public_layout import COINCHEUNG, PublicLayout

from .network import Network


def _mean(x: Tensor) -> Tensor:
    """Gives the mean over the whole image, (N, C, 1, 1)."""
    return x.mean(dim=(2, 3), keepdim=True)


def _double(x: Tensor) -> Tensor:
    """Doubles the size by repeating each place."""
    return functional.interpolate(x, scale_factor=2.0, mode='nearest')


class BasicBlock(nn.Module):
    """Residual block of two 3x3 convolutions."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = (
            nn.Identity()
            if stride == 1 and in_channels == out_channels
            else nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.downsample(x) + self.bn2(self.conv2(y)))


class ResNet18(nn.Module):
    """ResNet-18 without its classifier."""

    def __init__(self, channels: Sequence[int], blocks: int):
        super().__init__()
        c1, c2, c3, c4 = channels
        self.conv1 = nn.Conv2d(3, c1, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(c1)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

        def stage(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
            rest = (BasicBlock(out_channels, out_channels, 1) for _ in range(blocks - 1))
            return nn.Sequential(BasicBlock(in_channels, out_channels, stride), *rest)

        self.layer1 = stage(c1, c1, 1)
        self.layer2 = stage(c1, c2, 2)
        self.layer3 = stage(c2, c3, 2)
        self.layer4 = stage(c3, c4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gives the maps at 1/16 and 1/32; the context path has no use for those before."""
        x = self.maxpool(functional.relu(self.bn1(self.conv1(x))))
        at_16 = self.layer3(self.layer2(self.layer1(x)))
        return at_16, self.layer4(at_16)


class AttentionRefinement(nn.Module):
    """Weighs each channel by what the whole image says about it (the paper's figure 2b)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = ConvBNReLU(in_channels, out_channels)
        self.conv_atten = nn.Conv2d(out_channels, out_channels, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * torch.sigmoid(self.bn_atten(self.conv_atten(_mean(x))))


class ContextPath(nn.Module):
    """Wide view: the backbone's last maps and the image's mean, brought back to 1/8."""

    def __init__(self, backbone_channels: Sequence[int], blocks: int, channels: int):
        super().__init__()
        *_, c3, c4 = backbone_channels
        self.resnet = ResNet18(backbone_channels, blocks)
        self.arm16 = AttentionRefinement(c3, channels)
        self.arm32 = AttentionRefinement(c4, channels)
        self.conv_head32 = ConvBNReLU(channels, channels)
        self.conv_head16 = ConvBNReLU(channels, channels)
        self.conv_avg = ConvBNReLU(c4, channels, kernel=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gives the maps at 1/8 and 1/16."""
        at_16, at_32 = self.resnet(x)
        context = self.arm32(at_32) + self.conv_avg(_mean(at_32))
        context = self.conv_head32(_double(context))
        return self.conv_head16(_double(context + self.arm16(at_16))), context


class SpatialPath(nn.Module):
    """Detail: three convolutions that halve the size, to 1/8."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.conv1 = ConvBNReLU(3, channels, kernel=7, stride=2)
        self.conv2 = ConvBNReLU(channels, channels, stride=2)
        self.conv3 = ConvBNReLU(channels, channels, stride=2)
        self.conv_out = ConvBNReLU(channels, out_channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        detail: Tensor = self.conv_out(self.conv3(self.conv2(self.conv1(x))))
        return detail


class FeatureFusion(nn.Module):
    """Joins both paths, and lifts the channels that matter in the image (figure 2c)."""

    def __init__(self, channels: int):
        super().__init__()
        self.convblk = ConvBNReLU(channels, channels, kernel=1)
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        joined = self.convblk(torch.cat([spatial, context], dim=1))
        fused: Tensor = joined + joined * torch.sigmoid(self.bn(self.conv(_mean(joined))))
        return fused


class OutputHead(nn.Module):
    """Classifier on a feature map, enlarged to the image."""

    def __init__(self, in_channels: int, mid_channels: int, classes: int, scale: int, head: str):
        super().__init__()
        self.conv = ConvBNReLU(in_channels, mid_channels)
        self.conv_out = pixel_classifier(mid_channels, classes, head)
        self.scale = float(scale)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gives logits at image size, and the features that the last layer reads."""
        features = self.conv(x)
        logits = functional.interpolate(
            self.conv_out(features), scale_factor=self.scale, mode='bilinear', align_corners=False
        )
        return logits, features


class BiSeNetV1(Network):
    """BiSeNetV1 with its two training-only auxiliary heads.

    Args:
        classes: Number of output channels K, void included where it is trained.
        backbone_channels: Widths of the four stages of the backbone.
        blocks: Residual blocks per stage.
        context_channels: Width of the context path; the two paths joined have twice that.
        spatial_channels: Width inside the spatial path.
        aux_channels: Width of the auxiliary classifiers' hidden layer.
        aux_heads: Build the auxiliary heads; they are used only in training mode.
        head: 'linear', or 'isomax' for distances to prototypes in place of the last layer, in the
            auxiliary heads too.

    Parameters with 19 classes: 13,425,721 with auxiliary heads, 13,275,539 without.

    Raises:
        ValueError: Unknown head.
    """

    provides = frozenset({'logits', 'features.last'})
    stride = 32
    train_only_prefixes = ('conv_out16.', 'conv_out32.')
    classifier_prefixes = ('conv_out.conv_out.',)
    new_head_prefixes = (*classifier_prefixes, *train_only_prefixes)
    public_layouts = (PublicLayout('CoinCheung', 'conv_out.conv_out.weight', 0, COINCHEUNG),)
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        'tiny': {
            'backbone_channels': (8, 8, 16, 16),
            'blocks': 1,
            'context_channels': 8,
            'spatial_channels': 8,
            'aux_channels': 8,
        }
    }

    def __init__(
        self,
        classes: int,
        backbone_channels: Sequence[int] = (64, 128, 256, 512),
        blocks: int = 2,
        context_channels: int = 128,
        spatial_channels: int = 64,
        aux_channels: int = 64,
        aux_heads: bool = False,
        head: str = 'linear',
    ):
        super().__init__()
        check_head(head)
        joined = 2 * context_channels
        self.cp = ContextPath(backbone_channels, blocks, context_channels)
        self.sp = SpatialPath(spatial_channels, context_channels)
        self.ffm = FeatureFusion(joined)
        self.conv_out = OutputHead(joined, joined, classes, 8, head)
        self.aux_heads = aux_heads
        if aux_heads:
            self.conv_out16 = OutputHead(context_channels, aux_channels, classes, 8, head)
            self.conv_out32 = OutputHead(context_channels, aux_channels, classes, 16, head)
        self._initialise()

    def _initialise(self) -> None:
        """As in CoinCheung/BiSeNet; the backbone, which has ImageNet's weights there, by He's."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.cp.resnet.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out')

    def forward(self, images: Tensor) -> ModelOutput:
        """Gives logits at image size; H and W are multiples of 32.

        Args:
            images: (N, 3, H, W) normalised RGB.
        """
        context, context_16 = self.cp(images)
        logits, features = self.conv_out(self.ffm(self.sp(images), context))
        aux: tuple[Tensor, ...] = ()
        if self.training and self.aux_heads:
            aux = (self.conv_out16(context)[0], self.conv_out32(context_16)[0])
        return ModelOutput(logits, features={'last': features}, aux_logits=aux)
