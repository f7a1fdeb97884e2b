"""The steps of an Encoder-only Mask Transformer, with the library's layers, for any image size.

The library's own forward takes one image size, keeps what the layers before the last predict to
itself, and decides by values of a buffer, which no exported graph can.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from anomaly_seg_ros.model_output import ModelOutput

POWER = 0.9
"""Of the fall of the share of masked queries, as the authors have it."""


def eomt_steps(net: Any, images: Tensor, masked: Sequence[bool]) -> ModelOutput:
    """Gives the output of an EoMT; while training that of each block with masks too.

    Source: Kerssies et al., "Your ViT is Secretly an Image Segmentation Model", 2025.

    Args:
        net: `EomtForUniversalSegmentation`, or the one on DINOv3.
        images: (N, 3, H, W) normalised RGB, sides multiples of the patch.
        masked: For each of the last blocks whether its queries see their own masks alone, in
            evaluation; while training the share of queries that do is `net.attn_mask_probs`.
    """
    patch = net.config.patch_size
    grid = (images.shape[2] // patch, images.shape[3] // patch)
    tokens, further = _embed(net, images, grid)
    first = net.config.num_hidden_layers - net.config.num_blocks
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    attention: Tensor | None = None
    for index, layer in enumerate(net.layers):
        if index == first:
            queries = net.query.weight[None].expand(images.shape[0], -1, -1)
            tokens = torch.cat([queries.to(tokens.dtype), tokens], 1)
        if index >= first and (net.training or masked[index - first]):
            steps.append(_predict(net, net.layernorm(tokens), grid))
            share = net.attn_mask_probs[index - first] if net.training else None
            attention = _attention(net, steps[-1][1], tokens, grid, share)
        tokens = layer(tokens, attention_mask=attention, **further)
    classes, masks, pixels = _predict(net, net.layernorm(tokens), grid)
    before = steps if net.training else ()
    return ModelOutput(
        class_logits=classes,
        mask_logits=masks,
        aux_class_logits=tuple(step[0] for step in before),
        aux_mask_logits=tuple(step[1] for step in before),
        features={'last': pixels},
    )


def masked_share(block: int, blocks: int, done: float) -> float:
    """Gives the share of queries that see their own masks alone, at one point of a training.

    Of the last blocks one after the other gives its masks up, within a sixth of the run, the
    first from the first sixth on and the last from the fourth: evaluation needs none then.

    Source: the annealing steps of the authors' configurations for DINOv2, and the power of their
    `MaskClassificationSemantic`, github.com/tue-mps/eomt.

    Args:
        block: Of those with masks, from 0.
        blocks: How many those are.
        done: Share of the run that lies behind.

    >>> for block in range(3):
    ...     print([round(masked_share(block, 3, n / 12), 2) for n in (0, 3, 6, 9, 12)])
    [1.0, 0.54, 0.0, 0.0, 0.0]
    [1.0, 1.0, 0.54, 0.0, 0.0]
    [1.0, 1.0, 1.0, 0.54, 0.0]
    """
    start = 1 + 3 * block / max(blocks - 1, 1)
    return float((1 - min(max(6 * done - start, 0.0), 1.0)) ** POWER)


def _embed(net: Any, images: Tensor, grid: tuple[int, int]) -> tuple[Tensor, dict[str, Any]]:
    """Gives the first tokens, and what else each layer is given."""
    if hasattr(net, 'rope_embeddings'):
        tokens = net.dropout(net.embeddings(images))
        return tokens, {'position_embeddings': net.rope_embeddings(images.to(tokens.dtype))}
    own = net.embeddings
    patches = own.patch_embeddings(images)
    places: Tensor = own.position_embeddings.weight
    trained = tuple(s // net.config.patch_size for s in own.patch_embeddings.image_size)
    if trained != grid:
        as_map = places.T.reshape(1, -1, *trained).float()
        places = functional.interpolate(as_map, grid, mode='bicubic', align_corners=False)
        places = places[0].flatten(1).T.to(patches.dtype)
    start = [t.expand(images.shape[0], -1, -1) for t in (own.cls_token, own.register_tokens)]
    return own.dropout(torch.cat([*start, patches + places], 1)), {}


def _prefix(net: Any) -> int:
    """Gives the number of tokens between the queries and the patches."""
    own = net if hasattr(net, 'num_prefix_tokens') else net.embeddings
    return int(own.num_prefix_tokens)


def _predict(net: Any, tokens: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Gives class logits, mask logits and the map of patch tokens, (N, D, *grid)."""
    queries = tokens[:, : net.config.num_queries]
    patches = tokens[:, net.config.num_queries + _prefix(net) :]
    pixels = patches.transpose(1, 2).reshape(tokens.shape[0], -1, *grid)
    large = net.upscale_block(pixels)
    masks = net.mask_head(queries) @ large.flatten(2)
    masks = masks.reshape(*masks.shape[:2], *large.shape[2:])
    return net.class_predictor(queries), masks, pixels


def _attention(
    net: Any, masks: Tensor, tokens: Tensor, grid: tuple[int, int], share: Tensor | None
) -> Tensor:
    """Gives (N, 1, T, T) that is added to the attention: queries see patches in their mask alone.

    All else sees all; so a query whose mask is empty still has other queries to look at.
    """
    inside = functional.interpolate(masks.float(), grid, mode='bilinear').flatten(2) > 0
    if share is not None:
        inside = inside | (torch.rand(inside.shape[:2], device=inside.device) > share)[..., None]
    blocked = torch.zeros_like(inside, dtype=tokens.dtype).masked_fill(
        ~inside, torch.finfo(tokens.dtype).min
    )
    before = net.config.num_queries + _prefix(net)
    rows = functional.pad(blocked, (before, 0))
    return functional.pad(rows, (0, 0, 0, tokens.shape[1] - rows.shape[1]))[:, None]
