"""Cross-unit augmentation: noise, shaped by what came before, joins as further channels."""

from __future__ import annotations

import math

import torch
from torch import nn, Tensor

WIDENING = 4


def log_normal(x: Tensor) -> Tensor:
    """Gives the log-density of (N, ...) under the standard normal, (N,)."""
    return -0.5 * (x.square() + math.log(2 * math.pi)).flatten(1).sum(1)


def draw_noise(like: Tensor, channels: int) -> Tensor:
    """Gives standard normal noise (N, channels, h, w) beside (N, C, h, w)."""
    return torch.randn(
        like.shape[0], channels, *like.shape[2:], device=like.device, dtype=like.dtype
    )


class CrossUnitAugmentation(nn.Module):
    """`mu + exp(s) * noise`, where mu and s are read from the inputs of all units before.

    The inverse of a flow drops these channels. Before training mu and s are 0.

    Args:
        in_channels: Of the inputs of all units before, together.
        channels: That are added.

    Source: Grcic et al., "Densely connected normalizing flows", 2021, equation 10.
    """

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.channels = channels
        last = nn.Conv2d(WIDENING * in_channels, 2 * channels, 1)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(
            nn.Conv2d(in_channels, WIDENING * in_channels, 3, padding=1), nn.ReLU(), last
        )

    def forward(self, history: Tensor) -> tuple[Tensor, Tensor]:
        """Gives the new channels and minus their log-density given `history`, (N,).

        With the density of the wider tensor on top, this is a lower bound of the density without
        the new channels.
        """
        mean, u = self.net(history).chunk(2, dim=1)
        log_scale = 2 * torch.tanh(u / 2)
        noise = draw_noise(history, self.channels)
        return mean + log_scale.exp() * noise, log_scale.sum(dim=(1, 2, 3)) - log_normal(noise)
