"""The plain vision transformer: patches to tokens, blocks of attention, one width throughout.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021,
https://arxiv.org/abs/2010.11929; keys as in https://github.com/rstrudel/segmenter.
"""

from __future__ import annotations

import torch
from torch import nn, Tensor
from torch.nn import functional

PATCH = 16
HEAD_WIDTH = 64
"""Features of one head of attention."""


class Attention(nn.Module):
    """Every token looks at all others."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Gives (N, T, D) of (N, T, D), and queries, keys and values of all heads side by side."""
        parts: tuple[Tensor, Tensor, Tensor] = self.qkv(x).chunk(3, 2)
        count, tokens, width = x.shape
        shape = (count, tokens, self.heads, width // self.heads)
        query, key, value = (part.reshape(shape).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2)), parts


class FeedForward(nn.Module):
    """Each token on its own, four times as wide between."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Gives (N, T, D) of (N, T, D)."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """Attention, then each token on its own, both added to what came in."""

    def __init__(self, width: int, heads: int, eps: float = 1e-5):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps)
        self.norm2 = nn.LayerNorm(width, eps)
        self.attn = Attention(width, heads)
        self.mlp = FeedForward(width)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Gives (N, T, D) of (N, T, D), and queries, keys and values."""
        mixed, parts = self.attn(self.norm1(x))
        x = x + mixed
        return x + self.mlp(self.norm2(x)), parts


class PatchEmbedding(nn.Module):
    """Turns square patches into tokens."""

    def __init__(self, width: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, stride=PATCH)

    def forward(self, images: Tensor) -> Tensor:
        """Gives (N, H / 16 * W / 16, D) of (N, 3, H, W)."""
        out: Tensor = self.proj(images).flatten(2).transpose(1, 2)
        return out


class VisionTransformer(nn.Module):
    """Images to tokens of their patches, behind one or two that stand for the whole image.

    Args:
        width: Features D of a token.
        depth: Blocks.
        heads: Of attention.
        grid: (rows, columns) of patches that the position embeddings were trained for; for other
            images they are resized.
        distilled: Whether a token of distillation stands behind that of the class.
        eps: Of the layer norms.
        resize: How position embeddings are resized, 'bilinear' or 'bicubic'.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        grid: tuple[int, int],
        distilled: bool = False,
        eps: float = 1e-5,
        resize: str = 'bilinear',
    ):
        super().__init__()
        self.grid, self.extra, self.resize = grid, 1 + distilled, resize
        self.patch_embed = PatchEmbedding(width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, width)) if distilled else None
        self.pos_embed = nn.Parameter(torch.zeros(1, grid[0] * grid[1] + self.extra, width))
        self.blocks = nn.ModuleList(Block(width, heads, eps) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps)
        for token in (self.cls_token, self.dist_token, self.pos_embed):
            if token is not None:
                nn.init.trunc_normal_(token, std=0.02)
        init_linear(self)

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Gives (1, T, D) position embeddings for a grid of patches."""
        if grid == self.grid:
            return self.pos_embed
        first, rest = self.pos_embed[:, : self.extra], self.pos_embed[:, self.extra :]
        old = rest.transpose(1, 2).reshape(1, -1, *self.grid)
        new = functional.interpolate(old, grid, mode=self.resize, align_corners=False)
        return torch.cat([first, new.flatten(2).transpose(1, 2)], 1)

    def forward(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Gives (N, T, D) tokens of the patches, and the last block's queries, keys and values."""
        height, width = images.shape[2:]
        tokens = self.patch_embed(images)
        first = [self.cls_token, *([] if self.dist_token is None else [self.dist_token])]
        tokens = torch.cat([*(one.expand(tokens.shape[0], -1, -1) for one in first), tokens], 1)
        tokens = tokens + self.positions((height // PATCH, width // PATCH))
        parts: tuple[Tensor, ...] = ()
        for block in self.blocks:
            tokens, parts = block(tokens)
        query, key, value = (part[:, self.extra :] for part in parts)
        return self.norm(tokens)[:, self.extra :], (query, key, value)


def init_linear(module: nn.Module) -> None:
    """Draws the weights of all linear layers as the authors do."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
