"""DenseFlow: a normalising flow over images that gives a likelihood and draws samples.

Source: Grcic et al., "Densely connected normalizing flows", NeurIPS 2021,
https://arxiv.org/abs/2106.04627, in the form that joint training with a segmentation network uses:
uniform dequantisation and no attention. Written anew.
"""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import Any, ClassVar

import torch
from torch import nn, Tensor
from torch.nn import functional

from .augmentation import log_normal
from .block import DenseFlowBlock

LEVELS = 256
STRIDE = 8


class DenseFlow(nn.Module):
    """Three blocks of augmented units; half of the channels is factored out between blocks.

    A 3 x h x w image becomes latents of h/4 x w/4, h/8 x w/8 and, at the end, h/8 x w/8 pixels.

    Args:
        blocks: Units of each block.
        steps: Glow steps of each unit of a block.
        added: Channels that each unit after a block's first gains (the paper's growth rate).
        hidden: Width of a coupling network at its ends.
        depth: Dense layers of a coupling network.
        growth: Channels that each of them appends.
        checkpointing: Compute activations anew in the backward pass, for large patches.

    Parameters: 35,736,742 (DenseFlow-25-6, the default); preset 'light' about 1.4 million.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        'denseflow_25_6': {},
        'light': {'blocks': (2, 1, 1), 'steps': (2, 2, 4), 'added': 4, 'depth': 4, 'growth': 32},
    }

    def __init__(
        self,
        blocks: Sequence[int] = (3, 2, 1),
        steps: Sequence[int] = (3, 4, 8),
        added: int = 6,
        hidden: int = 32,
        depth: int = 7,
        growth: int = 64,
        checkpointing: bool = False,
    ):
        super().__init__()
        if len(blocks) != 3 or len(steps) != 3:
            raise ValueError(f'blocks {blocks} and steps {steps} must be three numbers each')
        self.options = {
            'blocks': list(blocks),
            'steps': list(steps),
            'added': added,
            'hidden': hidden,
            'depth': depth,
            'growth': growth,
        }
        self.blocks = nn.ModuleList()
        channels = 3 * 4
        self.factored_channels: list[int] = []
        for i, (units, count) in enumerate(zip(blocks, steps, strict=True)):
            if i:
                channels *= 2
                self.factored_channels.append(channels)
            block = DenseFlowBlock(
                channels, units, count, added, hidden, depth, growth, checkpointing
            )
            self.blocks.append(block)
            channels = block.out_channels
        self.base_mean = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.base_log_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def encode(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Gives the latents of images, standard normal under the model, and the log-density gain.

        Args:
            x: (N, 3, h, w) in -0.5..0.5; h and w are multiples of 8.

        Returns:
            Latents (the halves that are factored out, then the rest), and (N,): log p(x) is this
            plus the latents' log-density, a lower bound in the mean over the augmentations.
        """
        latents: list[Tensor] = []
        x = functional.pixel_unshuffle(x, 2)
        total = x.new_zeros(x.shape[0])
        for i, block in enumerate(self.blocks):
            if i:
                x, factored = functional.pixel_unshuffle(x, 2).chunk(2, dim=1)
                latents.append(factored)
            x, gain = block(x)
            total = total + gain
        latents.append((x - self.base_mean) * (-self.base_log_scale).exp())
        return latents, total - self.base_log_scale.sum() * x.shape[2] * x.shape[3]

    def decode(self, latents: Sequence[Tensor]) -> Tensor:
        """Gives the (N, 3, h, w) images in -0.5..0.5 behind latents; the inverse of `encode`."""
        x = latents[-1] * self.base_log_scale.exp() + self.base_mean
        for i in reversed(range(len(self.blocks))):
            block = self.blocks[i]
            assert isinstance(block, DenseFlowBlock)
            x = block.inverse(x)
            if i:
                x = functional.pixel_shuffle(torch.cat([x, latents[i - 1]], dim=1), 2)
        return functional.pixel_shuffle(x, 2)

    def sample(self, count: int, height: int, width: int) -> Tensor:
        """Gives (count, 3, height, width) RGB in 0..1, differentiable by the parameters.

        The values are not rounded to levels: rounding would cut the gradient.

        Raises:
            ValueError: A side is no multiple of 8.
        """
        check_size(height, width)
        rows, columns = height // STRIDE, width // STRIDE
        # The factored halves have the size that their block works at: 1/4, then 1/8.
        shapes = [
            (channels, rows * 2 >> i, columns * 2 >> i)
            for i, channels in enumerate(self.factored_channels)
        ]
        shapes.append((self.base_mean.shape[1], rows, columns))
        like = self.base_mean
        with torch.autocast(like.device.type, enabled=False):
            latents = [
                torch.randn(count, *s, device=like.device, dtype=like.dtype) for s in shapes
            ]
            return (self.decode(latents) + 0.5).clamp(0, 1)

    def log_prob(self, images: Tensor) -> Tensor:
        """Gives ln p of 8-bit images, (N,): a lower bound, one draw of its estimate.

        Args:
            images: (N, 3, h, w) uint8 RGB, 0..255.

        Raises:
            ValueError: Another type, or a side is no multiple of 8.
        """
        if images.dtype != torch.uint8:
            raise ValueError(f'images are {images.dtype}; the flow takes uint8 in 0..255')
        check_size(*images.shape[2:])
        with torch.autocast(images.device.type, enabled=False):
            exact = images.to(self.base_mean.dtype)
            latents, gain = self.encode((exact + torch.rand_like(exact)) / LEVELS - 0.5)
            total = gain - images[0].numel() * math.log(LEVELS)
            for latent in latents:
                total = total + log_normal(latent)
        return total

    def bits_per_dim(self, images: Tensor) -> Tensor:
        """Gives -log2 p per value of (N, 3, h, w) uint8 images, (N,); lower is better."""
        return -self.log_prob(images) / (images[0].numel() * math.log(2))


def check_size(height: int, width: int) -> None:
    """Refuses a size that cannot be halved three times.

    Raises:
        ValueError: A side is no multiple of 8; the text has the next that is.
    """
    if height % STRIDE or width % STRIDE or not height or not width:
        near = tuple(max(1, -(-side // STRIDE)) * STRIDE for side in (height, width))
        raise ValueError(f'patch ({height}, {width}) is not divisible by {STRIDE}; use {near}')
