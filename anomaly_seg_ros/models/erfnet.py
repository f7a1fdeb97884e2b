"""ERFNet: an encoder-decoder of residual blocks whose 3x3 convolutions are split in two.

Source: Romera et al., "ERFNet: Efficient Residual Factorized ConvNet for Real-Time Semantic
Segmentation", 2018, https://doi.org/10.1109/TITS.2017.2750080. Module names follow the key layout
of the authors' public weights, so that those load strictly; written anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn, Tensor
from torch.nn import functional

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.parts.isomax_head import check_head, IsoMaxHead, pixel_classifier
from anomaly_seg_ros.models.parts.outlier_head import OutlierHead
from anomaly_seg_ros.models.parts.public_layout import PLAIN, PublicLayout

from .network import Network

NORM_EPS = 1e-3
DECODER_STRIDE = 2
DILATIONS = (2, 4, 8, 16)


class Downsampler(nn.Module):
    """Halves the size: strided convolution beside max-pool."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels - in_channels, 3, stride=2, padding=1)
        self.pool = nn.MaxPool2d(2, stride=2)
        self.bn = nn.BatchNorm2d(out_channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Gives (N, out_channels, h / 2, w / 2)."""
        return functional.relu(self.bn(torch.cat([self.conv(x), self.pool(x)], dim=1)))


class Upsampler(nn.Module):
    """Doubles the size by a transposed convolution."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.ConvTranspose2d(
            in_channels, out_channels, 3, stride=2, padding=1, output_padding=1
        )
        self.bn = nn.BatchNorm2d(out_channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Gives (N, out_channels, 2 h, 2 w)."""
        return functional.relu(self.bn(self.conv(x)))


class NonBottleneck1D(nn.Module):
    """Residual block of two 3x3 convolutions, each as 3x1 and 1x3; the second pair is dilated."""

    def __init__(self, channels: int, dropout: float = 0.0, dilation: int = 1):
        super().__init__()
        self.conv3x1_1 = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        self.conv1x3_1 = nn.Conv2d(channels, channels, (1, 3), padding=(0, 1))
        self.bn1 = nn.BatchNorm2d(channels, eps=NORM_EPS)
        self.conv3x1_2 = nn.Conv2d(
            channels, channels, (3, 1), padding=(dilation, 0), dilation=(dilation, 1)
        )
        self.conv1x3_2 = nn.Conv2d(
            channels, channels, (1, 3), padding=(0, dilation), dilation=(1, dilation)
        )
        self.bn2 = nn.BatchNorm2d(channels, eps=NORM_EPS)
        self.dropout = nn.Dropout2d(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Gives a map of the same shape."""
        y = self.conv1x3_1(functional.relu(self.conv3x1_1(x)))
        y = functional.relu(self.bn1(y))
        y = self.conv1x3_2(functional.relu(self.conv3x1_2(y)))
        return functional.relu(x + self.dropout(self.bn2(y)))


class Encoder(nn.Module):
    """To 1/8 of the size, with the classifier of the authors' first training stage."""

    def __init__(self, classes: int, channels: Sequence[int], blocks: int, rounds: int, head: str):
        super().__init__()
        c1, c2, c3 = channels
        self.initial_block = Downsampler(3, c1)
        self.layers = nn.ModuleList(
            [
                Downsampler(c1, c2),
                *(NonBottleneck1D(c2, 0.03) for _ in range(blocks)),
                Downsampler(c2, c3),
                *(NonBottleneck1D(c3, 0.3, d) for _ in range(rounds) for d in DILATIONS),
            ]
        )
        self.output_conv = pixel_classifier(c3, classes, head)

    def forward(self, x: Tensor) -> Tensor:
        """Gives the map at 1/8; the network itself applies `output_conv`."""
        x = self.initial_block(x)
        for layer in self.layers:
            x = layer(x)
        return x


class Decoder(nn.Module):
    """Back to 1/2 of the size, and the classifier that doubles once more."""

    def __init__(self, classes: int, channels: Sequence[int], head: str):
        super().__init__()
        c1, c2, c3 = channels
        self.layers = nn.ModuleList(
            [
                Upsampler(c3, c2),
                NonBottleneck1D(c2),
                NonBottleneck1D(c2),
                Upsampler(c2, c1),
                NonBottleneck1D(c1),
                NonBottleneck1D(c1),
            ]
        )
        self.output_conv: nn.Module
        if head == 'isomax':
            self.output_conv = IsoMaxHead(c1, classes, enlarge=DECODER_STRIDE)
        else:
            self.output_conv = nn.ConvTranspose2d(c1, classes, 2, stride=DECODER_STRIDE)

    def forward(self, x: Tensor) -> Tensor:
        """Gives the map at 1/2; the network itself applies `output_conv`."""
        for layer in self.layers:
            x = layer(x)
        return x


class ERFNet(Network):
    """ERFNet with the classifier that trains its encoder.

    The authors train the encoder alone first, by `encoder.output_conv` at 1/8 of the size, and
    their weights hold that layer. Here it is an auxiliary head: always built, so that parameters
    and keys are as published, and used in training mode where `aux_heads` asks for it. Otherwise
    it is frozen: it has no part in the output, and no optimiser or gradient exchange waits for it.

    Args:
        classes: Number of output channels K, void included where it is trained.
        channels: Widths at 1/2, 1/4 and 1/8 of the size.
        blocks: Residual blocks at 1/4.
        rounds: Rounds of four dilated residual blocks at 1/8.
        aux_heads: Give the encoder's own logits in training mode.
        head: 'linear', or 'isomax' for distances to prototypes in place of the last layer, in the
            auxiliary heads too.
        outlier_head: Add the two-way outlier head on the features of the last layer.

    Parameters: 2,066,642 with 19 classes, 2,066,836 with 20.

    Raises:
        ValueError: Unknown head.
    """

    provides = frozenset({'logits', 'features.last'})
    stride = 8
    train_only_prefixes = ('encoder.output_conv.',)
    classifier_prefixes = ('decoder.output_conv.', 'logits_ood.')
    new_head_prefixes = ('decoder.output_conv.', 'encoder.output_conv.', 'logits_ood.')
    public_layouts = (
        PublicLayout(
            'authors',
            'decoder.output_conv.weight',
            1,
            PLAIN,
            input_size=(512, 1024),
            per_class=(
                ('decoder.output_conv.weight', 1),
                ('decoder.output_conv.bias', 0),
                ('encoder.output_conv.weight', 0),
                ('encoder.output_conv.bias', 0),
            ),
            void_trained=False,
        ),
    )
    presets: ClassVar = {'tiny': {'channels': (8, 16, 24), 'blocks': 1, 'rounds': 1}}

    def __init__(
        self,
        classes: int,
        channels: Sequence[int] = (16, 64, 128),
        blocks: int = 5,
        rounds: int = 2,
        aux_heads: bool = False,
        head: str = 'linear',
        outlier_head: bool = False,
    ):
        super().__init__()
        check_head(head)
        self.encoder = Encoder(classes, channels, blocks, rounds, head)
        self.decoder = Decoder(classes, channels, head)
        self.aux_heads = aux_heads
        self.encoder.output_conv.requires_grad_(aux_heads)
        self.logits_ood = OutlierHead(channels[0]) if outlier_head else None
        if outlier_head:
            self.provides |= {'ood_logits'}

    def forward(self, images: Tensor) -> ModelOutput:
        """Gives logits at image size; H and W are multiples of 8.

        Args:
            images: (N, 3, H, W) normalised RGB.
        """
        encoded = self.encoder(images)
        aux: tuple[Tensor, ...] = ()
        if self.training and self.aux_heads:
            small = self.encoder.output_conv(encoded)
            aux = (
                functional.interpolate(
                    small, scale_factor=float(self.stride), mode='bilinear', align_corners=False
                ),
            )
        features = self.decoder(encoded)
        outlier = self.logits_ood
        return ModelOutput(
            self.decoder.output_conv(features),
            features={'last': features},
            ood_logits=None if outlier is None else outlier(features, DECODER_STRIDE),
            aux_logits=aux,
        )
