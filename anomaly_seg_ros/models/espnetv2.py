"""ESPNetv2: depthwise dilated convolutions in pyramids, with a light decoder of its own.

Source: Mehta et al., "ESPNetv2: A Light-weight, Power Efficient, and General Purpose Convolutional
Neural Network", CVPR 2019, https://arxiv.org/abs/1811.11431. Module names follow the key layout of
the public sacmehta/EdgeNets weights (MIT licence), whose decoder is a later one than the paper's;
written anew.
"""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import Any, ClassVar

import torch
from torch import nn, Tensor
from torch.nn import functional

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.parts.public_layout import IMAGENET, PublicLayout

from .network import Network

BRANCHES = 4
DILATIONS = {'level2_0': (1, 2, 3, 4), 'level3': (1, 2, 3, 4), 'level4': (1, 1, 2, 3)}
"""Of the branches of a block, by level; the finer the map, the wider they may look."""
SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)
LEAST_SIDE = 5
"""Of a map that was made smaller for one branch of the decoder's pyramid."""


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Gives `x` at (height, width), by the corners as the public weights expect."""
    return functional.interpolate(x, list(size), mode='bilinear', align_corners=True)


def _halved(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 3, stride=2, padding=1)


def _norm_act(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels), nn.PReLU(channels)


class ConvNormAct(nn.Module):
    """Convolution without bias, then batch norm and PReLU where asked for, as keys name them."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        act: bool = True,
    ):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.PReLU(out_channels) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


class Dilated(nn.Module):
    """A dilated 3x3 convolution of each channel on its own."""

    def __init__(self, channels: int, stride: int, dilation: int):
        super().__init__()
        self.conv = nn.Conv2d(
            channels, channels, 3, stride, dilation, dilation, groups=channels, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class NormAct(nn.Module):
    """Batch norm and PReLU."""

    def __init__(self, channels: int):
        super().__init__()
        self.bn, self.act = _norm_act(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(x))
        return out


class EESP(nn.Module):
    """Narrow, filter at growing dilations, each added to the one before, widen, add x."""

    def __init__(
        self, in_channels: int, out_channels: int, dilations: Sequence[int], stride: int = 1
    ):
        super().__init__()
        narrow = out_channels // BRANCHES
        self.proj_1x1 = ConvNormAct(in_channels, narrow, 1, groups=BRANCHES)
        self.spp_dw = nn.ModuleList(Dilated(narrow, stride, dilation) for dilation in dilations)
        self.conv_1x1_exp = ConvNormAct(out_channels, out_channels, 1, groups=BRANCHES, act=False)
        self.br_after_cat = NormAct(out_channels)
        self.residual = stride == 1
        # The public files have it here too where nothing reads it.
        self.module_act = nn.PReLU(out_channels).requires_grad_(self.residual)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.proj_1x1(x)
        maps: list[Tensor] = []
        for branch in self.spp_dw:
            filtered = branch(narrow)
            maps.append(filtered + maps[-1] if maps else filtered)
        out: Tensor = self.conv_1x1_exp(self.br_after_cat(torch.cat(maps, dim=1)))
        if self.residual:
            out = self.module_act(out + x)
        return out


class EESPDownsampler(nn.Module):
    """Halves: the mean and a pyramid side by side, and the image of that size added."""

    def __init__(self, in_channels: int, out_channels: int, dilations: Sequence[int]):
        super().__init__()
        self.eesp = EESP(in_channels, out_channels - in_channels, dilations, stride=2)
        self.inp_reinf = nn.Sequential(
            ConvNormAct(3, 3, 3), ConvNormAct(3, out_channels, 1, act=False)
        )
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """Gives (N, out_channels, h / 2, w / 2) of a map and the image at half of its size."""
        halved = torch.cat([_halved(x), self.eesp(x)], dim=1)
        out: Tensor = self.act(halved + self.inp_reinf(image))
        return out


class EESPEncoder(nn.Module):
    """From the image to maps at 1/2, 1/4, 1/8 and 1/16; not the part that only ImageNet needs."""

    def __init__(self, channels: Sequence[int], blocks: Sequence[int]):
        super().__init__()
        c1, c2, c3, c4 = channels
        wide, deep = DILATIONS['level3'], DILATIONS['level4']
        self.level1 = ConvNormAct(3, c1, 3, stride=2)
        self.level2_0 = EESPDownsampler(c1, c2, DILATIONS['level2_0'])
        self.level3_0 = EESPDownsampler(c2, c3, wide)
        self.level3 = nn.Sequential(*(EESP(c3, c3, wide) for _ in range(blocks[0])))
        self.level4_0 = EESPDownsampler(c3, c4, wide)
        self.level4 = nn.Sequential(*(EESP(c4, c4, deep) for _ in range(blocks[1])))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        first = self.level1(images)
        small = _halved(_halved(images))
        second = self.level2_0(first, small)
        small = _halved(small)
        third = self.level3(self.level3_0(second, small))
        fourth = self.level4(self.level4_0(third, _halved(small)))
        return first, second, third, fourth


class Row(nn.Module):
    """Layers in a row, under the key that the public weights have for such a row."""

    def __init__(self, key: str, layers: Sequence[nn.Module]):
        super().__init__()
        self.add_module(key, nn.Sequential(*layers))

    def forward(self, x: Tensor) -> Tensor:
        for layers in self.children():
            x = layers(x)
        return x


def _decoder_unit(in_channels: int, out_channels: int, kernel: int, groups: int = 1) -> Row:
    conv = nn.Conv2d(in_channels, out_channels, kernel, 1, kernel // 2, groups=groups, bias=False)
    return Row('cbr', [conv, *_norm_act(out_channels)])


class ScalePyramid(nn.Module):
    """Filters a map at five sizes and merges what comes of it.

    Args:
        in_channels: Of the map.
        narrow: Channels that each size is filtered at.
        out_channels: Of the result.
        last: The last layer of the network: with a bias, without norm.
    """

    def __init__(self, in_channels: int, narrow: int, out_channels: int, last: bool = False):
        super().__init__()
        wide = narrow * len(SCALES)
        self.projection_layer = _decoder_unit(in_channels, narrow, 1)
        self.stages = nn.ModuleList(
            nn.Conv2d(narrow, narrow, 3, padding=1, groups=narrow, bias=False) for _ in SCALES
        )
        self.merge_layer = nn.Sequential(
            Row('br', _norm_act(wide)),
            nn.ChannelShuffle(len(SCALES)),
            _decoder_unit(wide, narrow, 3, groups=narrow),
            nn.Conv2d(narrow, out_channels, 1, bias=last),
        )
        self.br = nn.Identity() if last else Row('br', _norm_act(out_channels))

    def features(self, x: Tensor) -> Tensor:
        """Gives what the last layer reads, (N, narrow, h, w)."""
        x = self.projection_layer(x)
        maps = [
            _filtered(x, scale, stage) for scale, stage in zip(SCALES, self.stages, strict=True)
        ]
        merged: Tensor = self.merge_layer[:-1](torch.cat(maps, dim=1))
        return merged

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.br(self.merge_layer[-1](self.features(x)))
        return out


def _filtered(x: Tensor, scale: float, stage: nn.Module) -> Tensor:
    """Gives a map filtered at another size, at its own."""
    own = (x.shape[2], x.shape[3])
    height, width = (max(math.ceil(side * scale), LEAST_SIDE) for side in own)
    size = (height, width)
    out: Tensor
    if scale < 1:
        out = _resize(stage(functional.adaptive_avg_pool2d(x, size)), own)
    elif scale > 1:
        out = functional.adaptive_avg_pool2d(stage(_resize(x, size)), own)
    else:
        out = stage(x)
    return out


class Weighted(nn.Module):
    """A map of the encoder for the decoder, each channel weighted by what the image holds."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.wt_layer = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.Sigmoid(),
        )
        groups = math.gcd(in_channels, out_channels)
        self.expansion_layer = _decoder_unit(in_channels, out_channels, 3, groups)

    def forward(self, x: Tensor) -> Tensor:
        weighted: Tensor = self.expansion_layer(x) * self.wt_layer(x)
        return weighted


class ESPNetv2(Network):
    """ESPNetv2 for segmentation.

    Args:
        classes: Number of output channels K, void included where it is trained.
        channels: Widths at 1/2, 1/4, 1/8 and 1/16; the default is the paper's width 2.0;
            multiples of 16.
        blocks: Residual blocks at 1/8 and at 1/16.
        decoder_channels: Widths of the decoder at 1/16, 1/8 and 1/4.
        pyramid_channels: Width inside of the decoder's pyramids. The public code takes half of
            the classes, here it stays when they change.

    Parameters with 20 classes, as in the public file: 789,242.
    """

    provides = frozenset({'logits', 'features.last'})
    stride = 16
    # Not even training reads these.
    train_only_prefixes = tuple(f'base_net.level{level}_0.eesp.module_act.' for level in (2, 3, 4))
    classifier_prefixes = ('bu_dec_l4.merge_layer.3.',)
    new_head_prefixes = classifier_prefixes
    public_layouts = (
        PublicLayout(
            'EdgeNets',
            'bu_dec_l4.merge_layer.3.weight',
            0,
            IMAGENET,
            input_size=(512, 1024),
            per_class=(
                ('bu_dec_l4.merge_layer.3.weight', 0),
                ('bu_dec_l4.merge_layer.3.bias', 0),
            ),
            # Its class weight is 0 in the public training script: no pixel has ever been it.
            void_trained=False,
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        'tiny': {
            'channels': (16, 32, 48, 64),
            'blocks': (1, 1),
            'decoder_channels': (16, 12, 8),
            'pyramid_channels': 4,
        }
    }

    def __init__(
        self,
        classes: int,
        channels: Sequence[int] = (32, 128, 256, 512),
        blocks: Sequence[int] = (3, 7),
        decoder_channels: Sequence[int] = (64, 48, 32),
        pyramid_channels: int = 10,
    ):
        super().__init__()
        c1, c2, c3, c4 = channels
        d1, d2, d3 = decoder_channels
        self.base_net = EESPEncoder(channels, blocks)
        self.bu_dec_l1 = ScalePyramid(c4, pyramid_channels, d1)
        self.bu_dec_l2 = ScalePyramid(d1, pyramid_channels, d2)
        self.bu_dec_l3 = ScalePyramid(d2, pyramid_channels, d3)
        self.bu_dec_l4 = ScalePyramid(d3, pyramid_channels, classes, last=True)
        self.merge_enc_dec_l2 = Weighted(c3, d1)
        self.merge_enc_dec_l3 = Weighted(c2, d2)
        self.merge_enc_dec_l4 = Weighted(c1, d3)
        self.bu_br_l2 = nn.Sequential(*_norm_act(d1))
        self.bu_br_l3 = nn.Sequential(*_norm_act(d2))
        self.bu_br_l4 = nn.Sequential(*_norm_act(d3))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out')
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> ModelOutput:
        """Gives logits at image size; H and W are multiples of 16.

        Args:
            images: (N, 3, H, W) normalised RGB.
        """
        first, second, third, fourth = self.base_net(images)
        x = self.bu_dec_l1(fourth)
        x = self.bu_dec_l2(self.bu_br_l2(self.merge_enc_dec_l2(third) + _doubled(x)))
        x = self.bu_dec_l3(self.bu_br_l3(self.merge_enc_dec_l3(second) + _doubled(x)))
        x = self.bu_br_l4(self.merge_enc_dec_l4(first) + _doubled(x))
        features = self.bu_dec_l4.features(x)
        logits = self.bu_dec_l4.merge_layer[-1](features)
        return ModelOutput(_resize(logits, images.shape[2:]), features={'last': features})


def _doubled(x: Tensor) -> Tensor:
    return _resize(x, (2 * x.shape[2], 2 * x.shape[3]))
