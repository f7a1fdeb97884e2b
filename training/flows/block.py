"""A block of DenseFlow: units of Glow steps at one size, each unit with some more channels."""

from __future__ import annotations

import torch
from torch import nn, Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from .actnorm import ActNorm
from .augmentation import CrossUnitAugmentation
from .coupling import AffineCoupling


class InvertibleConv(nn.Module):
    """`z = W x` at every pixel; W begins as a random rotation.

    Source: Kingma and Dhariwal, "Glow", 2018, section 3.2.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(channels, channels)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gives z and log |det dz/dx|, (N,)."""
        log_det = torch.linalg.slogdet(self.weight).logabsdet * x.shape[2] * x.shape[3]
        return functional.conv2d(x, self.weight[..., None, None]), log_det.expand(x.shape[0])

    def inverse(self, z: Tensor) -> Tensor:
        """Gives x."""
        return functional.conv2d(z, torch.linalg.inv(self.weight)[..., None, None])


class FlowUnit(nn.Module):
    """Glow steps one after another: ActNorm, invertible 1x1 convolution, affine coupling.

    Args:
        channels: In and out.
        steps: Number of Glow steps.
        hidden: See `CouplingNet`, as `depth` and `growth`.
        depth: Dense layers of a coupling.
        growth: Channels that each of them appends.
        checkpointing: Compute activations anew in the backward pass instead of keeping them.
    """

    def __init__(
        self, channels: int, steps: int, hidden: int, depth: int, growth: int, checkpointing: bool
    ):
        super().__init__()
        self.checkpointing = checkpointing
        self.steps = nn.ModuleList(
            module
            for _ in range(steps)
            for module in (
                ActNorm(channels),
                InvertibleConv(channels),
                AffineCoupling(channels, hidden, depth, growth),
            )
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gives z and log |det dz/dx|, (N,)."""
        total = x.new_zeros(x.shape[0])
        for step in self.steps:
            if self.checkpointing and isinstance(step, AffineCoupling):
                x, log_det = checkpoint(step, x, use_reentrant=False)
            else:
                x, log_det = step(x)
            total = total + log_det
        return x, total

    def inverse(self, z: Tensor) -> Tensor:
        """Gives x."""
        for step in reversed(self.steps):
            assert isinstance(step, (ActNorm, InvertibleConv, AffineCoupling))
            if self.checkpointing and isinstance(step, AffineCoupling):
                z = checkpoint(step.inverse, z, use_reentrant=False)
            else:
                z = step.inverse(z)
        return z


class DenseFlowBlock(nn.Module):
    """Units with cross-unit augmentation between them.

    Args:
        channels: Of the input.
        units: Number of units; each but the first has `added` channels more.
        steps: Glow steps of each unit.
        added: Channels that an augmentation adds.
        hidden: See `CouplingNet`, as `depth` and `growth`.
        depth: Dense layers of a coupling.
        growth: Channels that each of them appends.
        checkpointing: See `FlowUnit`.
    """

    def __init__(
        self,
        channels: int,
        units: int,
        steps: int,
        added: int,
        hidden: int,
        depth: int,
        growth: int,
        checkpointing: bool,
    ):
        super().__init__()
        self.added = added
        self.units = nn.ModuleList()
        self.augmentations = nn.ModuleList()
        seen = 0
        for i in range(units):
            if i:
                # A unit's input is `channels` wide here, the augmentation reads all before it.
                seen += channels if i == 1 else channels - added
                self.augmentations.append(CrossUnitAugmentation(seen, added))
                channels += added
            self.units.append(FlowUnit(channels, steps, hidden, depth, growth, checkpointing))
        self.out_channels = channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gives (N, out_channels, h, w) and what log-density gains, (N,)."""
        history = [x]
        x, total = self.units[0](x)
        for augmentation, unit in zip(self.augmentations, self.units[1:], strict=True):
            channels, gain = augmentation(torch.cat(history, dim=1))
            history.append(x)
            x, log_det = unit(torch.cat([x, channels], dim=1))
            total = total + gain + log_det
        return x, total

    def inverse(self, z: Tensor) -> Tensor:
        """Gives x; channels that augmentations added are dropped."""
        for i in reversed(range(len(self.units))):
            unit = self.units[i]
            assert isinstance(unit, FlowUnit)
            z = unit.inverse(z)
            if i:
                z = z[:, : -self.added]
        return z
