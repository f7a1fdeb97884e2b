"""WideResNet-38 (A2): wide pre-activation residual blocks to 1/8 of the size.

Source: Wu et al., "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition", 2016,
https://arxiv.org/abs/1611.10080, with the dilations of Rota Bulò et al., "In-Place Activated
BatchNorm", 2018. Module names follow the key layout of the public weights; written anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn, Tensor


class Stage(NamedTuple):
    """Residual blocks that share their widths.

    Attributes:
        blocks: How many.
        widths: Channels after each convolution of a block; three make a bottleneck.
        stride: Of the first block.
        dilation: Of the 3x3 convolutions.
        dropout: Share of whole channels dropped in front of a block's last convolution.
    """

    blocks: int
    widths: tuple[int, ...]
    stride: int = 1
    dilation: int = 1
    dropout: float = 0.0


STAGES = (
    Stage(3, (128, 128)),
    Stage(3, (256, 256)),
    Stage(6, (512, 512), stride=2),
    Stage(3, (512, 1024), dilation=2),
    Stage(1, (512, 1024, 2048), dilation=4, dropout=0.3),
    Stage(1, (1024, 2048, 4096), dilation=4, dropout=0.5),
)
"""`mod2` to `mod7` of WideResNet-38."""
WIDTHS = tuple(stage.widths for stage in STAGES)
BLOCKS = tuple(stage.blocks for stage in STAGES)


def _norm_act(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())


def _branch(in_channels: int, stage: Stage, stride: int) -> nn.Sequential:
    """Gives the convolutions of a block, each but the first behind a norm; keys as published."""
    bottleneck = len(stage.widths) == 3
    branch = nn.Sequential()
    for i, width in enumerate(stage.widths, start=1):
        if i > 1:
            branch.add_module(f'bn{i}', _norm_act(in_channels))
        if i == len(stage.widths) and stage.dropout:
            # The authors' code turns every dropout into one of whole channels.
            branch.add_module('dropout', nn.Dropout2d(stage.dropout))
        kernel = 1 if bottleneck and i != 2 else 3
        dilation = stage.dilation if kernel == 3 else 1
        conv = nn.Conv2d(
            in_channels,
            width,
            kernel,
            stride if i == 1 else 1,
            dilation * (kernel // 2),
            dilation,
            bias=False,
        )
        branch.add_module(f'conv{i}', conv)
        in_channels = width
    return branch


class ResidualBlock(nn.Module):
    """Adds the branch to the input, or to a projection of the activated input."""

    def __init__(self, in_channels: int, stage: Stage, stride: int):
        super().__init__()
        out_channels = stage.widths[-1]
        self.bn1 = _norm_act(in_channels)
        self.convs = _branch(in_channels, stage, stride)
        self.projects = stride != 1 or in_channels != out_channels
        if self.projects:
            self.proj_conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.bn1(x)
        shortcut = self.proj_conv(activated) if self.projects else x
        summed: Tensor = shortcut + self.convs(activated)
        return summed


def build_stage(in_channels: int, stage: Stage) -> nn.Sequential:
    """Gives `block1` and so on, the first of which changes width and size."""
    blocks = nn.Sequential()
    for i in range(stage.blocks):
        block = ResidualBlock(in_channels, stage, stage.stride if i == 0 else 1)
        blocks.add_module(f'block{i + 1}', block)
        in_channels = stage.widths[-1]
    return blocks


def stages_with(widths: Sequence[Sequence[int]], blocks: Sequence[int]) -> tuple[Stage, ...]:
    """Gives `STAGES` with other widths and numbers of blocks.

    Raises:
        ValueError: Not one entry for each of the six stages.
    """
    if not len(widths) == len(blocks) == len(STAGES):
        raise ValueError(
            f'{len(widths)} widths and {len(blocks)} blocks; '
            f'WideResNet has {len(STAGES)} stages, give as many of both'
        )
    return tuple(
        stage._replace(widths=tuple(width), blocks=count)
        for stage, width, count in zip(STAGES, widths, blocks, strict=True)
    )
