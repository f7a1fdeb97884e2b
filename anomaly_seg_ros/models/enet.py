"""ENet: a narrow encoder-decoder that carries its max-pool places over to the decoder.

Source: Paszke et al., "ENet: A Deep Neural Network Architecture for Real-Time Semantic
Segmentation", 2016, https://arxiv.org/abs/1606.02147. Two families of public weights differ in
key names and in small parts, and both load strictly; written anew:

- layout 'a', keys of davidtvs/PyTorch-ENet (MIT licence). Until March 2021 (commit 7cd31d4) that
  code had one activation more in the blocks that double the size; keys and shapes stayed, so the
  file does not tell. Its weights were then trained anew, and those of today want it without;
- layout 'b', keys `bottleneck10`, ..., `fullconv` of yassouali/pytorch-segmentation (MIT licence).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn, Tensor
from torch.nn import functional

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.parts.isomax_head import check_head, IsoMaxHead
from anomaly_seg_ros.models.parts.public_layout import PLAIN, PublicLayout

from .network import Network

SIZE = (512, 1024)
"""(height, width) that the public weights were trained for."""

OF_CITYSCAPES = ((0.28690, 0.32513, 0.28389), (0.17614, 0.18099, 0.17772))
"""Mean and std of the training images; the first batch norm of layout 'b' fits only these."""

Where = tuple[Tensor, Tensor, Tensor, Tensor]
"""Of each 2x2 cell, whether the maximum is top left, top right, bottom left, bottom right."""


def max_pool_where(x: Tensor) -> tuple[Tensor, Where]:
    """Halves the size by the maximum of each 2x2 cell, and tells where it was.

    Same values as `max_pool2d`, and of equal ones the same is taken: the first of the row order.
    Strided slices instead of indices, because engines have no operator for unpooling by index, or
    a slow one.
    """
    a, b = x[..., 0::2, 0::2], x[..., 0::2, 1::2]
    c, d = x[..., 1::2, 0::2], x[..., 1::2, 1::2]
    left_above, left_below = a >= b, c >= d
    above, below = torch.maximum(a, b), torch.maximum(c, d)
    upper = above >= below
    where = (
        upper & left_above,
        upper & ~left_above,
        ~upper & left_below,
        ~upper & ~left_below,
    )
    return torch.maximum(above, below), where


def max_unpool(x: Tensor, where: Where) -> Tensor:
    """Doubles the size: each value goes where its cell's maximum was, zero elsewhere."""
    zero = x.new_zeros(())
    return interleave([torch.where(here, x, zero) for here in where])


def interleave(phases: Sequence[Tensor]) -> Tensor:
    """Joins the four (N, C, H, W) corners of each 2x2 cell, in row order, to (N, C, 2H, 2W)."""
    return functional.pixel_shuffle(torch.stack(tuple(phases), dim=2).flatten(1, 2), 2)


def repair_even_phase(logits: Tensor) -> Tensor:
    """Replaces the logits at even rows and even columns by the mean of their cell's other three.

    One public file of layout 'a' was fine-tuned to another class order, but the centre tap of its
    last convolution, which alone makes this phase, stayed at the old order.
    """
    others = logits[..., 0::2, 1::2], logits[..., 1::2, 0::2], logits[..., 1::2, 1::2]
    return interleave([sum(others[1:], others[0]) / 3, *others])


class Step(NamedTuple):
    """One residual block of the network: what it does and how wide it is."""

    kind: str
    dilation: int
    in_channels: int
    out_channels: int
    dropout: float
    relu: bool

    @property
    def inner(self) -> int:
        """Channels inside the block."""
        return self.in_channels // 4

    def activation(self) -> nn.Module:
        """Gives a new activation: PReLU with one weight in the encoder, ReLU in the decoder."""
        return nn.ReLU() if self.relu else nn.PReLU()


CONTEXT = (
    ('regular', 1),
    ('dilated', 2),
    ('asymmetric', 1),
    ('dilated', 4),
    ('regular', 1),
    ('dilated', 8),
    ('asymmetric', 1),
    ('dilated', 16),
)
"""Kind and dilation of the blocks at 1/8 of the size, done twice."""


def plan(channels: Sequence[int], layout: str) -> Iterator[tuple[str, Step]]:
    """Gives name and make of each block, in the order in which they run."""
    c1, c2, c3 = channels
    stages = (
        (c1, c2, 0.01, False, (('downsample', 1), *4 * [('regular', 1)])),
        (c2, c3, 0.1, False, (('downsample', 1), *CONTEXT)),
        (c3, c3, 0.1, False, CONTEXT),
        (c3, c2, 0.1, True, (('upsample', 1), *2 * [('regular', 1)])),
        (c2, c1, 0.1, True, (('upsample', 1), ('regular', 1))),
    )
    for stage, (width, out, dropout, relu, blocks) in enumerate(stages, start=1):
        first = 1 if layout == 'b' and stage == 3 else 0
        for index, (kind, dilation) in enumerate(blocks, start=first):
            name = f'{kind}{stage}_{index}' if layout == 'a' else f'bottleneck{stage}{index}'
            yield name, Step(kind, dilation, width, out, dropout, relu)
            width = out


def _middle(step: Step, vertical_first: bool, bias: bool) -> list[nn.Module]:
    """The convolution inside a block of unchanged size: 3x3, or 5x1 and 1x5."""
    inner = step.inner
    if step.kind != 'asymmetric':
        d = step.dilation
        return [nn.Conv2d(inner, inner, 3, padding=d, dilation=d, bias=False)]
    vertical = nn.Conv2d(inner, inner, (5, 1), padding=(2, 0), bias=bias)
    horizontal = nn.Conv2d(inner, inner, (1, 5), padding=(0, 2), bias=bias)
    first, second = (vertical, horizontal) if vertical_first else (horizontal, vertical)
    return [first, nn.BatchNorm2d(inner), step.activation(), second]


def _narrow(step: Step) -> nn.Conv2d:
    """The convolution into a block; one that halves the size sees each 2x2 cell once."""
    side = 2 if step.kind == 'downsample' else 1
    return nn.Conv2d(step.in_channels, step.inner, side, stride=side, bias=False)


class InitialA(nn.Module):
    """First halving of the size in layout 'a': convolution, then 3x3 max-pool."""

    def __init__(self, channels: int):
        super().__init__()
        self.main_branch = nn.Conv2d(3, channels - 3, 3, stride=2, padding=1, bias=False)
        self.ext_branch = nn.MaxPool2d(3, stride=2, padding=1)
        self.batch_norm = nn.BatchNorm2d(channels)
        self.out_activation = nn.PReLU()

    def forward(self, images: Tensor) -> Tensor:
        """Gives (N, channels, H / 2, W / 2)."""
        x = torch.cat([self.main_branch(images), self.ext_branch(images)], dim=1)
        out: Tensor = self.out_activation(self.batch_norm(x))
        return out


class InitialB(nn.Module):
    """First halving of the size in layout 'b': 2x2 max-pool, then convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.pool = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.conv = nn.Conv2d(3, channels - 3, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)

    def forward(self, images: Tensor) -> Tensor:
        """Gives (N, channels, H / 2, W / 2)."""
        out: Tensor = self.prelu(self.bn(torch.cat([self.pool(images), self.conv(images)], dim=1)))
        return out


class BlockA(nn.Module):
    """Residual block of layout 'a' that keeps or halves the size."""

    def __init__(self, step: Step):
        super().__init__()
        inner, out = step.inner, step.out_channels
        middle = _middle(step, vertical_first=True, bias=False)
        self.ext_conv1 = nn.Sequential(_narrow(step), nn.BatchNorm2d(inner), step.activation())
        self.ext_conv2 = nn.Sequential(*middle, nn.BatchNorm2d(inner), step.activation())
        self.ext_conv3 = nn.Sequential(
            nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out), step.activation()
        )
        self.ext_regul = nn.Dropout2d(step.dropout)
        self.out_activation = step.activation()

    def forward(self, x: Tensor, main: Tensor) -> Tensor:
        """Adds the learned branch of `x` to the main branch."""
        x = self.ext_conv3(self.ext_conv2(self.ext_conv1(x)))
        out: Tensor = self.out_activation(main + self.ext_regul(x))
        return out


class UpBlockA(nn.Module):
    """Residual block of layout 'a' that doubles the size.

    Args:
        step: What it does.
        expansion_activation: Put an activation between the branch's last norm and the sum.
    """

    def __init__(self, step: Step, expansion_activation: bool):
        super().__init__()
        inner, out = step.inner, step.out_channels
        self.main_conv1 = nn.Sequential(
            nn.Conv2d(step.in_channels, out, 1, bias=False), nn.BatchNorm2d(out)
        )
        self.ext_conv1 = nn.Sequential(_narrow(step), nn.BatchNorm2d(inner), step.activation())
        self.ext_tconv1 = nn.ConvTranspose2d(inner, inner, 2, stride=2, bias=False)
        self.ext_tconv1_bnorm = nn.BatchNorm2d(inner)
        self.ext_tconv1_activation = step.activation()
        self.ext_conv2 = nn.Sequential(nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out))
        if expansion_activation:
            self.ext_conv2.append(step.activation())
        self.ext_regul = nn.Dropout2d(step.dropout)
        self.out_activation = step.activation()

    def shortcut(self, x: Tensor) -> Tensor:
        """Gives what the main branch unpools."""
        shortcut: Tensor = self.main_conv1(x)
        return shortcut

    def forward(self, x: Tensor, main: Tensor) -> Tensor:
        """Adds the learned branch of `x`, doubled, to the main branch."""
        x = self.ext_tconv1_bnorm(self.ext_tconv1(self.ext_conv1(x)))
        x = self.ext_conv2(self.ext_tconv1_activation(x))
        out: Tensor = self.out_activation(main + self.ext_regul(x))
        return out


class BlockB(nn.Module):
    """Residual block of layout 'b'; `spatil_conv` is spelt as in the public files."""

    def __init__(self, step: Step):
        super().__init__()
        inner, out = step.inner, step.out_channels
        self.conv1 = _narrow(step)
        self.bn1 = nn.BatchNorm2d(inner)
        self.prelu1 = step.activation()
        self.conv2: nn.Module
        if step.kind == 'upsample':
            self.spatil_conv = nn.Conv2d(step.in_channels, out, 1, bias=False)
            self.bn_up = nn.BatchNorm2d(out)
            self.conv2 = nn.ConvTranspose2d(
                inner, inner, 3, stride=2, padding=1, output_padding=1, bias=False
            )
        else:
            middle = _middle(step, vertical_first=False, bias=True)
            self.conv2 = middle[0] if len(middle) == 1 else nn.Sequential(*middle)
        self.bn2 = nn.BatchNorm2d(inner)
        self.prelu2 = step.activation()
        self.conv3 = nn.Conv2d(inner, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.prelu3 = step.activation()
        self.regularizer = nn.Dropout2d(step.dropout)
        self.prelu_out = step.activation()

    def shortcut(self, x: Tensor) -> Tensor:
        """Gives what the main branch of a block that doubles the size unpools."""
        shortcut: Tensor = self.bn_up(self.spatil_conv(x))
        return shortcut

    def forward(self, x: Tensor, main: Tensor) -> Tensor:
        """Adds the learned branch of `x` to the main branch."""
        x = self.prelu1(self.bn1(self.conv1(x)))
        x = self.prelu2(self.bn2(self.conv2(x)))
        x = self.prelu3(self.bn3(self.conv3(x)))
        out: Tensor = self.prelu_out(main + self.regularizer(x))
        return out


class ENet(Network):
    """ENet in either public key layout.

    Args:
        classes: Number of output channels K, void included where it is trained.
        layout: Key layout, 'a' or 'b'.
        channels: Widths at 1/2, 1/4 and 1/8 of the size.
        repair_phase: Repair the logits by `repair_even_phase`; weights are the same either way.
        head: 'linear', or 'isomax' for distances to prototypes in place of the last layer.
        expansion_activation: Layout 'a' as it was until March 2021, with an activation behind the
            last norm of the branch that doubles the size; the weights' keys are the same.

    Parameters with 19 classes: 351,660 in layout 'a', 358,344 in layout 'b'.

    Raises:
        ValueError: Unknown layout or head, a repair without the convolution that it repairs, or
            the old form of a layout that has one form alone.
    """

    provides = frozenset({'logits', 'features.last'})
    stride = 8
    classifier_prefixes = ('transposed_conv.', 'fullconv.')
    new_head_prefixes = classifier_prefixes
    public_layouts = (
        PublicLayout(
            'a (davidtvs keys)',
            'transposed_conv.weight',
            1,
            PLAIN,
            {'layout': 'a'},
            SIZE,
            script='davidtvs',
            beside=frozenset({'epoch', 'miou'}),
        ),
        PublicLayout(
            'b (bottleneck10 keys)', 'fullconv.weight', 1, OF_CITYSCAPES, {'layout': 'b'}, SIZE
        ),
    )
    channels_last = False
    """Its channels are few: on a CPU that order costs 31 %."""
    presets: ClassVar = {'tiny': {'channels': (8, 16, 32)}}

    def __init__(
        self,
        classes: int,
        layout: str = 'a',
        channels: Sequence[int] = (16, 64, 128),
        repair_phase: bool = False,
        head: str = 'linear',
        expansion_activation: bool = False,
    ):
        super().__init__()
        if layout not in ('a', 'b'):
            raise ValueError(f'unknown layout {layout!r} of ENet; choose one of: a, b')
        check_head(head)
        if repair_phase and head != 'linear':
            raise ValueError(f"repair_phase is for head 'linear', not {head!r}; leave one out")
        if expansion_activation and layout != 'a':
            raise ValueError(
                f"expansion_activation is for layout 'a', not {layout!r}; leave one out"
            )
        self.layout, self.repair_phase = layout, repair_phase
        self.expansion_activation = expansion_activation
        self.steps = tuple(plan(channels, layout))
        width = channels[0]
        if layout == 'a':
            self.initial_block = InitialA(width)
        else:
            self.initial = InitialB(width)
        for name, step in self.steps:
            self.add_module(name, self._block(step))
        last: nn.Module
        if head == 'isomax':
            last = IsoMaxHead(width, classes, enlarge=2)
        else:
            last = nn.ConvTranspose2d(
                width, classes, 3, stride=2, padding=1, output_padding=1, bias=False
            )
        if layout == 'a':
            self.transposed_conv = last
        else:
            self.fullconv = last

    def _block(self, step: Step) -> nn.Module:
        if self.layout == 'b':
            return BlockB(step)
        if step.kind == 'upsample':
            return UpBlockA(step, self.expansion_activation)
        return BlockA(step)

    def forward(self, images: Tensor) -> ModelOutput:
        """Gives logits at image size; H and W are multiples of 8.

        Args:
            images: (N, 3, H, W) normalised RGB.
        """
        in_layout_a = self.layout == 'a'
        x = self.initial_block(images) if in_layout_a else self.initial(images)
        features = self._features(x)
        logits = self.transposed_conv(features) if in_layout_a else self.fullconv(features)
        if self.repair_phase:
            logits = repair_even_phase(logits)
        return ModelOutput(logits, features={'last': features})

    def _features(self, x: Tensor) -> Tensor:
        """Runs the blocks; the last place that was pooled is the first to be unpooled."""
        pooled: list[Where] = []
        for name, step in self.steps:
            block: Any = self.get_submodule(name)
            main = x
            if step.kind == 'downsample':
                main, where = max_pool_where(x)
                pooled.append(where)
                # pad, not zeros: it follows the type and device, also under autocast.
                surplus = step.out_channels - step.in_channels
                main = functional.pad(main, (0, 0, 0, 0, 0, surplus))
            elif step.kind == 'upsample':
                main = max_unpool(block.shortcut(x), pooled.pop())
            x = block(x, main)
        return x
