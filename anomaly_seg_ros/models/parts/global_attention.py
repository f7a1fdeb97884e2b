"""Global masked attention: each query looks within its mask and, with weights apart, outside.

Source: Rai et al., "Unmasking Anomalies in Road-Scene Segmentation" (Mask2Anomaly), 2023,
https://arxiv.org/abs/2307.13316, section 3.1; on the mask transformer of `transformers`
(Apache-2.0): Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation",
2022. Written anew.
"""

from __future__ import annotations

from collections.abc import Sequence
import copy
from typing import Any, NamedTuple

import torch
from torch import nn, Tensor
from torch.nn import functional

LEVELS = 3
"""Maps that the layers look at in turn."""


class Blocked(NamedTuple):
    """(N, 1, Q, h w) bool each: the places that a query must not look at; never a whole row."""

    foreground: Tensor
    background: Tensor


def blocked_by(mask_logits: Tensor, size: tuple[int, int]) -> Blocked:
    """Gives what both branches of a layer must not look at, by the masks of the layer before.

    The foreground is blocked where `sigmoid(mask) < 0.5`, the background where it is above. A
    query whose row would be blocked everywhere may look everywhere, in that branch alone: an
    attention over nothing has no value.

    Args:
        mask_logits: (N, Q, H, W).
        size: (h, w) of the map that is looked at.
    """
    masks = functional.interpolate(mask_logits, size, mode='bilinear', align_corners=False)
    # Not by the logits' sign: whoever has trained with it has rounded the smallest of them to 0.5.
    shares = masks.detach().sigmoid().flatten(2)[:, None]
    return Blocked(_some_open(shares < 0.5), _some_open(shares > 0.5))


def _some_open(blocked: Tensor) -> Tensor:
    return blocked & ~blocked.all(-1, keepdim=True)


class GlobalMaskedAttention(nn.MultiheadAttention):
    """The sum of two attentions, to the foreground and to the background of a query's mask.

    The names of the foreground's weights are those of a plain attention, so that such weights fit;
    those of the background's begin with 'background.'.

    Args:
        plain: Its weights are the start of both.
    """

    def __init__(self, plain: nn.MultiheadAttention):
        super().__init__(plain.embed_dim, plain.num_heads)
        self.load_state_dict(plain.state_dict())
        self.background = copy.deepcopy(plain)

    def forward(  # type: ignore[override]
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Blocked, **_: Any
    ) -> tuple[Tensor, None]:
        """Gives (Q, N, D) and no weights.

        Args:
            query: (Q, N, D).
            key: (h w, N, D).
            value: The same.
            attn_mask: What must not be looked at.
        """
        foreground = attention(self, query, key, value, attn_mask.foreground)
        return foreground + attention(
            self.background, query, key, value, attn_mask.background
        ), None


def attention(
    weights: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, blocked: Tensor
) -> Tensor:
    """Gives (Q, N, D) as `nn.MultiheadAttention` does, from a mask that all heads share.

    Args:
        weights: Of the projections.
        query: (Q, N, D).
        key: (S, N, D).
        value: (S, N, D).
        blocked: (N, 1, Q, S) bool.
    """
    matrices = weights.in_proj_weight.chunk(3)
    biases = weights.in_proj_bias.chunk(3)
    split = (weights.num_heads, weights.head_dim)
    queries, keys, values = (
        functional.linear(x, matrix, bias).view(*x.shape[:2], *split).permute(1, 2, 0, 3)
        for x, matrix, bias in zip((query, key, value), matrices, biases, strict=True)
    )
    found = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=~blocked)
    out: Tensor = weights.out_proj(found.permute(2, 0, 1, 3).flatten(2))
    return out


class Decoded(NamedTuple):
    """What a decoder gives, by the library's names: before the first layer and behind each."""

    intermediate_hidden_states: tuple[Tensor, ...]
    """(Q, N, D) each, normed."""
    masks_queries_logits: tuple[Tensor, ...]
    """(N, Q, H, W) each."""


class GlobalMaskedDecoder(nn.Module):
    """The library's decoder with global masked attention in every layer.

    Args:
        plain: The library's; its parts and their names are kept, and in each layer the weights of
            the background begin as copies of the foreground's.
    """

    def __init__(self, plain: Any):
        super().__init__()
        self.layers: Any = plain.layers
        self.layernorm: nn.Module = plain.layernorm
        self.mask_predictor: Any = plain.mask_predictor
        for layer in self.layers:
            layer.cross_attn = GlobalMaskedAttention(layer.cross_attn)

    def forward(
        self,
        inputs_embeds: Tensor,
        multi_stage_positional_embeddings: Sequence[Tensor],
        pixel_embeddings: Tensor,
        encoder_hidden_states: Sequence[Tensor],
        query_position_embeddings: Tensor,
        feature_size_list: Sequence[tuple[int, int]],
        **_: Any,
    ) -> Decoded:
        """Gives the queries and their masks before the first layer and behind each.

        Args:
            inputs_embeds: (Q, N, D) queries.
            multi_stage_positional_embeddings: (h w, N, D) of each of three maps.
            pixel_embeddings: (N, D, H, W) that masks are products with.
            encoder_hidden_states: (h w, N, D) maps that the layers look at in turn.
            query_position_embeddings: (Q, N, D).
            feature_size_list: (h, w) of the maps.
        """
        hidden = inputs_embeds
        normed = [self.layernorm(hidden)]
        masks = [self._masks(normed[0], pixel_embeddings)]
        for number, layer in enumerate(self.layers):
            level = number % LEVELS
            (hidden,) = layer(
                hidden,
                level,
                None,
                multi_stage_positional_embeddings,
                query_position_embeddings,
                encoder_hidden_states,
                encoder_attention_mask=blocked_by(masks[-1], feature_size_list[level]),
            )
            normed.append(self.layernorm(hidden))
            masks.append(self._masks(normed[-1], pixel_embeddings))
        return Decoded(tuple(normed), tuple(masks))

    def _masks(self, queries: Tensor, pixels: Tensor) -> Tensor:
        """Gives (N, Q, H, W) mask logits of (Q, N, D) queries."""
        embedded = self.mask_predictor.mask_embedder(queries.transpose(0, 1))
        return torch.einsum('nqd,ndhw->nqhw', embedded, pixels)
