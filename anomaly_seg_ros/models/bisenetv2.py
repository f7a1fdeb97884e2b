"""BiSeNetV2: a detail branch and a semantic branch, joined by guided aggregation.

Source: Yu et al., "BiSeNet V2: Bilateral Network with Guided Aggregation for Real-time Semantic
Segmentation", 2020, https://arxiv.org/abs/2004.02147. Module names follow the key layout of the
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
from anomaly_seg_ros.models.parts.outlier_head import OutlierHead
from anomaly_seg_ros.models.parts.public_layout import COINCHEUNG, PublicLayout

from .network import Network

DETAIL_STRIDE = 8


def _depthwise(in_channels: int, out_channels: int, stride: int = 1) -> list[nn.Module]:
    """A 3x3 convolution of each channel on its own, and its batch norm."""
    return [
        nn.Conv2d(in_channels, out_channels, 3, stride, 1, groups=in_channels, bias=False),
        nn.BatchNorm2d(out_channels),
    ]


def _conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    ]


class DetailBranch(nn.Module):
    """Wide and shallow: three stages that halve the size, to 1/8."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        c1, c2, c3 = channels
        self.S1 = nn.Sequential(ConvBNReLU(3, c1, stride=2), ConvBNReLU(c1, c1))
        self.S2 = nn.Sequential(
            ConvBNReLU(c1, c2, stride=2), ConvBNReLU(c2, c2), ConvBNReLU(c2, c2)
        )
        self.S3 = nn.Sequential(
            ConvBNReLU(c2, c3, stride=2), ConvBNReLU(c3, c3), ConvBNReLU(c3, c3)
        )

    def forward(self, x: Tensor) -> Tensor:
        detail: Tensor = self.S3(self.S2(self.S1(x)))
        return detail


class StemBlock(nn.Module):
    """First two stages of the semantic branch: convolution beside max-pool, to 1/4."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = ConvBNReLU(3, channels, stride=2)
        self.left = nn.Sequential(
            ConvBNReLU(channels, channels // 2, kernel=1),
            ConvBNReLU(channels // 2, channels, stride=2),
        )
        self.right = nn.MaxPool2d(3, stride=2, padding=1)
        self.fuse = ConvBNReLU(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        fused: Tensor = self.fuse(torch.cat([self.left(x), self.right(x)], dim=1))
        return fused


class GatherExpand(nn.Module):
    """Gather-and-expansion layer at the same size (the paper's figure 5b)."""

    def __init__(self, channels: int, expansion: int):
        super().__init__()
        wide = channels * expansion
        self.conv1 = ConvBNReLU(channels, channels)
        self.dwconv = nn.Sequential(*_depthwise(channels, wide), nn.ReLU())
        self.conv2 = nn.Sequential(*_conv_bn(wide, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.conv2(self.dwconv(self.conv1(x))))


class GatherExpandDown(nn.Module):
    """Gather-and-expansion layer that halves the size (the paper's figure 5c)."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int):
        super().__init__()
        wide = in_channels * expansion
        self.conv1 = ConvBNReLU(in_channels, in_channels)
        self.dwconv1 = nn.Sequential(*_depthwise(in_channels, wide, stride=2))
        self.dwconv2 = nn.Sequential(*_depthwise(wide, wide), nn.ReLU())
        self.conv2 = nn.Sequential(*_conv_bn(wide, out_channels, 1))
        self.shortcut = nn.Sequential(
            *_depthwise(in_channels, in_channels, stride=2),
            *_conv_bn(in_channels, out_channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        expanded = self.dwconv2(self.dwconv1(self.conv1(x)))
        return functional.relu(self.shortcut(x) + self.conv2(expanded))


class ContextEmbedding(nn.Module):
    """Adds the mean over the whole image to every place."""

    def __init__(self, channels: int):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.conv_gap = ConvBNReLU(channels, channels, kernel=1)
        self.conv_last = ConvBNReLU(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        context = self.conv_gap(self.bn(x.mean(dim=(2, 3), keepdim=True)))
        embedded: Tensor = self.conv_last(x + context)
        return embedded


class SegmentBranch(nn.Module):
    """Narrow and deep: to 1/32, with its intermediate maps for the auxiliary heads."""

    def __init__(self, channels: Sequence[int], expansion: int):
        super().__init__()
        c1, c3, c4, c5 = channels
        self.S1S2 = StemBlock(c1)
        self.S3 = nn.Sequential(GatherExpandDown(c1, c3, expansion), GatherExpand(c3, expansion))
        self.S4 = nn.Sequential(GatherExpandDown(c3, c4, expansion), GatherExpand(c4, expansion))
        self.S5_4 = nn.Sequential(
            GatherExpandDown(c4, c5, expansion), *(GatherExpand(c5, expansion) for _ in range(3))
        )
        self.S5_5 = ContextEmbedding(c5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        stage2 = self.S1S2(x)
        stage3 = self.S3(stage2)
        stage4 = self.S4(stage3)
        stage5 = self.S5_4(stage4)
        return stage2, stage3, stage4, stage5, self.S5_5(stage5)


class GuidedAggregation(nn.Module):
    """Each branch is gated by the other before they are added (the paper's figure 6)."""

    def __init__(self, channels: int):
        super().__init__()
        self.left1 = nn.Sequential(
            *_depthwise(channels, channels), nn.Conv2d(channels, channels, 1, bias=False)
        )
        self.left2 = nn.Sequential(
            *_conv_bn(channels, channels, 3, stride=2), nn.AvgPool2d(3, stride=2, padding=1)
        )
        self.right1 = nn.Sequential(*_conv_bn(channels, channels, 3))
        self.right2 = nn.Sequential(
            *_depthwise(channels, channels), nn.Conv2d(channels, channels, 1, bias=False)
        )
        self.conv = nn.Sequential(*_conv_bn(channels, channels, 3), nn.ReLU())

    def forward(self, detail: Tensor, semantic: Tensor) -> Tensor:
        gate = functional.interpolate(self.right1(semantic), scale_factor=4.0, mode='nearest')
        left = self.left1(detail) * torch.sigmoid(gate)
        right = self.left2(detail) * torch.sigmoid(self.right2(semantic))
        right = functional.interpolate(right, scale_factor=4.0, mode='nearest')
        joined: Tensor = self.conv(left + right)
        return joined


class SegmentHead(nn.Module):
    """Classifier on a feature map, enlarged to the image.

    An auxiliary head doubles the map first and narrows it to `scale ** 2` channels.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        classes: int,
        scale: int,
        aux: bool = False,
        head: str = 'linear',
    ):
        super().__init__()
        self.conv = ConvBNReLU(in_channels, mid_channels)
        self.drop = nn.Dropout(0.1)
        last = scale * scale if aux else mid_channels
        widen = (
            nn.Sequential(nn.Upsample(scale_factor=2.0), ConvBNReLU(mid_channels, last))
            if aux
            else nn.Identity()
        )
        self.conv_out = nn.Sequential(widen, pixel_classifier(last, classes, head))
        self.scale = float(scale // 2 if aux else scale)

    def features(self, x: Tensor) -> Tensor:
        """Gives what `classify` reads."""
        hidden: Tensor = self.drop(self.conv(x))
        return hidden

    def classify(self, features: Tensor) -> Tensor:
        """Gives logits at image size."""
        return functional.interpolate(
            self.conv_out(features), scale_factor=self.scale, mode='bilinear', align_corners=False
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x))


class BiSeNetV2(Network):
    """BiSeNetV2 with its four training-only auxiliary heads.

    Args:
        classes: Number of output channels K, void included where it is trained.
        detail_channels: Widths of the detail branch; the last equals the last semantic width.
        segment_channels: Widths of the semantic branch.
        head_channels: Width of the main classifier's hidden layer.
        expansion: Widening inside the gather-and-expansion layers.
        aux_heads: Build the auxiliary heads; they are used only in training mode.
        head: 'linear', or 'isomax' for distances to prototypes in place of the last layer, in the
            auxiliary heads too.
        outlier_head: Add the two-way outlier head, on the map that the classifier's hidden layer
            reads: on its 1024 features it would cost eight times as much.
        flat_start: Start the classifiers near 0; False: as CoinCheung/BiSeNet does, with logits
            of a deviation around 7. Weights that are loaded do not see it.

    Parameters with 19 classes: 5,231,487 with auxiliary heads, 3,358,627 without.

    Raises:
        ValueError: Unknown head.
    """

    provides = frozenset({'logits', 'features.last'})
    stride = 32
    train_only_prefixes = ('aux2.', 'aux3.', 'aux4.', 'aux5_4.')
    classifier_prefixes = ('head.conv_out.', 'logits_ood.')
    new_head_prefixes = (*classifier_prefixes, *train_only_prefixes)
    public_layouts = (PublicLayout('CoinCheung', 'head.conv_out.1.weight', 0, COINCHEUNG),)
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        'tiny': {
            'detail_channels': (8, 8, 16),
            'segment_channels': (4, 8, 8, 16),
            'head_channels': 16,
            'expansion': 2,
        }
    }

    def __init__(
        self,
        classes: int,
        detail_channels: Sequence[int] = (64, 64, 128),
        segment_channels: Sequence[int] = (16, 32, 64, 128),
        head_channels: int = 1024,
        expansion: int = 6,
        aux_heads: bool = False,
        head: str = 'linear',
        outlier_head: bool = False,
        flat_start: bool = True,
    ):
        super().__init__()
        check_head(head)
        width = segment_channels[-1]
        self.detail = DetailBranch(detail_channels)
        self.segment = SegmentBranch(segment_channels, expansion)
        self.bga = GuidedAggregation(width)
        self.head = SegmentHead(width, head_channels, classes, DETAIL_STRIDE, head=head)
        self.logits_ood = OutlierHead(width) if outlier_head else None
        if outlier_head:
            self.provides |= {'ood_logits'}
        self.aux_heads = aux_heads
        if aux_heads:
            c1, c3, c4, c5 = segment_channels
            self.aux2 = SegmentHead(c1, width, classes, scale=4, aux=True, head=head)
            self.aux3 = SegmentHead(c3, width, classes, scale=8, aux=True, head=head)
            self.aux4 = SegmentHead(c4, width, classes, scale=16, aux=True, head=head)
            self.aux5_4 = SegmentHead(c5, width, classes, scale=32, aux=True, head=head)
        self._initialise(flat_start)

    def _initialise(self, flat_start: bool) -> None:
        """As in CoinCheung/BiSeNet, but for the classifiers; residual branches start at 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if flat_start and module.bias is not None:
                    nn.init.normal_(module.weight, std=0.01)
                else:
                    nn.init.kaiming_normal_(module.weight, mode='fan_out')
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            if isinstance(module, (GatherExpand, GatherExpandDown)):
                last = module.conv2[-1]
                assert isinstance(last, nn.BatchNorm2d)
                nn.init.zeros_(last.weight)

    def forward(self, images: Tensor) -> ModelOutput:
        """Gives logits at image size; H and W are multiples of 32.

        Args:
            images: (N, 3, H, W) normalised RGB.
        """
        detail = self.detail(images)
        stage2, stage3, stage4, stage5, context = self.segment(images)
        joined = self.bga(detail, context)
        features = self.head.features(joined)
        aux: tuple[Tensor, ...] = ()
        if self.training and self.aux_heads:
            aux = (self.aux2(stage2), self.aux3(stage3), self.aux4(stage4), self.aux5_4(stage5))
        outlier = self.logits_ood
        return ModelOutput(
            self.head.classify(features),
            features={'last': features},
            ood_logits=None if outlier is None else outlier(joined, DETAIL_STRIDE),
            aux_logits=aux,
        )
