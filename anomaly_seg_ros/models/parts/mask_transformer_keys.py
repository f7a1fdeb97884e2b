"""Other names of the weights of `mask2anomaly`: in Detectron2's files and in `transformers`.

The public weights of Mask2Anomaly and Mask2Former are Detectron2's. A Mask2Former of either kind
has one attention where Mask2Anomaly has two: its weights are the start of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import re

from torch import Tensor

LIBRARY = (
    (r'^(?:net\.)?model\.pixel_level_module\.encoder\.', 'encoder.'),
    (r'^(?:net\.)?model\.pixel_level_module\.decoder\.', 'pixel_decoder.'),
    (r'^(?:net\.)?model\.transformer_module\.', 'transformer.'),
    (r'^net\.class_predictor\.', 'class_predictor.'),
)
"""Beginnings of the keys of a Mask2Former of `transformers`, as model 'hf' holds them too."""

PIXELS = r'^sem_seg_head\.pixel_decoder\.'
QUERIES = r'^sem_seg_head\.predictor\.'
DETECTRON = (
    (PIXELS + r'input_proj\.', 'pixel_decoder.input_projections.'),
    (PIXELS + r'transformer\.level_embed$', 'pixel_decoder.level_embed'),
    (PIXELS + r'transformer\.encoder\.layers\.', 'pixel_decoder.encoder.layers.'),
    (PIXELS + r'mask_features\.', 'pixel_decoder.mask_projection.'),
    (PIXELS + r'(adapter|layer)_1\.norm\.', r'pixel_decoder.\1_1.1.'),
    (PIXELS + r'(adapter|layer)_1\.', r'pixel_decoder.\1_1.0.'),
    (r'^(pixel_decoder\.encoder\.layers\.\d+\.)norm1\.', r'\1self_attn_layer_norm.'),
    (r'^(pixel_decoder\.encoder\.layers\.\d+\.)norm2\.', r'\1final_layer_norm.'),
    (r'^(pixel_decoder\.encoder\.layers\.\d+\.)linear([12])\.', r'\1fc\2.'),
    (QUERIES + r'(?:query_feat|static_query)\.', 'transformer.queries_features.'),
    (QUERIES + r'query_embed\.', 'transformer.queries_embedder.'),
    (QUERIES + r'level_embed\.', 'transformer.level_embed.'),
    (QUERIES + r'decoder_norm\.', 'transformer.decoder.layernorm.'),
    (QUERIES + r'class_embed\.', 'class_predictor.'),
    (
        QUERIES + r'mask_embed\.layers\.(\d)\.',
        r'transformer.decoder.mask_predictor.mask_embedder.\1.0.',
    ),
    (
        QUERIES + r'transformer_self_attention_layers\.(\d+)\.norm\.',
        r'transformer.decoder.layers.\1.self_attn_layer_norm.',
    ),
    (QUERIES + r'transformer_self_attention_layers\.(\d+)\.', r'transformer.decoder.layers.\1.'),
    (
        QUERIES + r'transformer_cross_attention_layers\.(\d+)\.norm\.',
        r'transformer.decoder.layers.\1.cross_attn_layer_norm.',
    ),
    (
        QUERIES + r'transformer_cross_attention_layers\.(\d+)\.multihead_attn_background\.',
        r'transformer.decoder.layers.\1.cross_attn.background.',
    ),
    (
        QUERIES + r'transformer_cross_attention_layers\.(\d+)\.multihead_attn(?:_foreground)?\.',
        r'transformer.decoder.layers.\1.cross_attn.',
    ),
    (
        QUERIES + r'transformer_ffn_layers\.(\d+)\.norm\.',
        r'transformer.decoder.layers.\1.final_layer_norm.',
    ),
    (
        QUERIES + r'transformer_ffn_layers\.(\d+)\.linear([12])\.',
        r'transformer.decoder.layers.\1.fc\2.',
    ),
    (r'^backbone\.stem\.conv1\.', 'encoder.embedder.embedder.conv.'),
    (r'^backbone\.patch_embed\.proj\.', 'encoder.swin.embeddings.patch_embeddings.projection.'),
    (r'^backbone\.patch_embed\.norm\.', 'encoder.swin.embeddings.norm.'),
    (r'^backbone\.layers\.', 'encoder.swin.encoder.layers.'),
    (r'^(encoder\.swin\..*\.)attn\.proj\.', r'\1attention.o_proj.'),
    (r'^(encoder\.swin\..*\.)attn\.qkv\.', r'\1attention.qkv.'),
    (
        r'^(encoder\.swin\..*\.)attn\.relative_position_bias_table$',
        r'\1attention.relative_position_bias.relative_position_bias_table',
    ),
    (r'^(encoder\.swin\..*\.blocks\.\d+\.)norm1\.', r'\1layernorm_before.'),
    (r'^(encoder\.swin\..*\.blocks\.\d+\.)norm2\.', r'\1layernorm_after.'),
)
"""From Detectron2's names to ours, applied in this order."""

LEFT_OUT = re.compile(
    r'^criterion\.|\.fusion_layer\.|\.relative_position_index$|^pixel_(mean|std)$'
)
"""Of a file: the loss, a convolution that no code reads, and what follows from the network."""

RESNET = re.compile(r'^backbone\.res(\d)\.(\d+)\.(shortcut|conv(\d))\.')
SWIN_NORM = re.compile(r'^backbone\.norm(\d)\.')
PARTS = ('q_proj', 'k_proj', 'v_proj')


def own_names(weights: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """Gives weights by the names that `mask2anomaly` has, whichever of the three they have.

    Args:
        weights: A state dict.
        own: Keys of the network: where it has a background and the weights have none, those of
            the foreground are there twice.
    """
    named: dict[str, Tensor] = {}
    for key, value in weights.items():
        if LEFT_OUT.search(key):
            continue
        new = _renamed(key)
        joined = re.search(r'(?:(self_attn)\.in_proj_|(attention)\.qkv\.)(weight|bias)$', new)
        if joined is None:
            named[new] = value
            continue
        before = new[: joined.start()] + f'{joined[1] or joined[2]}.'
        named |= {
            f'{before}{part}.{joined[3]}': rows
            for part, rows in zip(PARTS, value.chunk(3), strict=True)
        }
    for key in own:
        plain = key.replace('.cross_attn.background.', '.cross_attn.')
        if key not in named and plain != key and plain in named:
            named[key] = named[plain].clone()
    return named


def _renamed(key: str) -> str:
    if found := RESNET.match(key):
        stage, block = int(found[1]) - 2, found[2]
        part = 'shortcut' if found[4] is None else f'layer.{int(found[4]) - 1}'
        key = f'encoder.encoder.stages.{stage}.layers.{block}.{part}.conv.{key[found.end() :]}'
    if found := SWIN_NORM.match(key):
        key = f'encoder.hidden_states_norms.stage{int(found[1]) + 1}.{key[found.end() :]}'
    for pattern, name in (*LIBRARY, *DETECTRON):
        key = re.sub(pattern, name, key)
    if key.startswith('encoder.e'):
        key = re.sub(r'\.conv\.norm\.', '.normalization.', key)
        key = re.sub(r'\.conv\.', '.convolution.', key)
    return key
