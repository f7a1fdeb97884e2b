"""Segmenters of Hugging Face's `transformers`, built from their configuration alone.

The library has the layers; from their logits to the size of the image is our own way, because its
post-processing takes masks through 384 pixels. A checkpoint holds the configuration among its
options, so that neither the folder that it came from nor a network is needed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from types import MappingProxyType
from typing import Any, ClassVar

from torch import nn, Tensor
from torch.nn import functional

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.parts.eomt import eomt_steps, masked_share
from anomaly_seg_ros.models.parts.hf_kinds import EOMT, kind_of, UNIVERSAL

from .network import Network

MODEL_TYPE = 'model_type'
LIBRARY_TRAINING = 'criterion'
"""The library's loss: what trains here are objectives, and its buffers are no weights."""


class HuggingFaceSegmenter(Network):
    """A semantic or universal segmenter of `transformers`.

    Semantic ones give `logits`, enlarged bilinearly to the image; universal ones `class_logits`
    and `mask_logits`, and while training those of the layers before too. `features.last` is what
    the classifier reads, or the map that masks are made of.

    Args:
        classes: Output channels K; universal networks have one more, no object.
        config: What `config.json` holds: `model_type`, and what that configuration takes.

    Raises:
        ImportError: `transformers` is not installed.
        ValueError: No configuration, of another task, or one that the library refuses.
    """

    provides = frozenset({'logits', 'features.last'})
    stride = 32
    classifier_prefixes = (
        'net.class_predictor.', 'net.decode_head.classifier.', 'net.head.head.4.',
    )  # fmt: skip
    new_head_prefixes = classifier_prefixes
    channels_last = False
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            'tiny': {
                'config': {
                    'model_type': 'segformer',
                    'depths': [1, 1, 1, 1],
                    'hidden_sizes': [8, 8, 16, 16],
                    'num_attention_heads': [1, 1, 2, 2],
                    'decoder_hidden_size': 16,
                }
            }
        }
    )

    def __init__(self, classes: int, config: Mapping[str, Any] | None = None):
        super().__init__()
        kind = kind_of(config or {})
        self.net = build_library_network(config or {}, classes)
        self.kind = kind
        self.patch = patch_of(self.net.config)
        for patch in (self.patch, patch_of(getattr(self.net.config, 'backbone_config', None))):
            if self.stride % patch:  # the rest of a side would not be seen
                self.stride = patch
        if kind.task == UNIVERSAL:
            self.provides = frozenset({'class_logits', 'mask_logits', 'features.last'})
        self.masked_blocks: tuple[bool, ...] = ()
        self.leave_unread(kind.unread)

    def train(self, mode: bool = True) -> HuggingFaceSegmenter:
        """Switches the mode; what of a graph hangs on values of buffers is read here."""
        super().train(mode)
        if self.kind.steps == EOMT and not self.net.attn_mask_probs.is_meta:
            self.masked_blocks = tuple(self.net.attn_mask_probs.gt(0).tolist())
        return self

    def anneal(self, done: float) -> None:
        """Takes the masks of an EoMT's queries from them; where there are none, none come back."""
        if self.kind.steps == EOMT:
            probs = self.net.attn_mask_probs
            shares = [masked_share(i, len(probs), done) for i in range(len(probs))]
            probs.copy_(probs.gt(0) * probs.new_tensor(shares))

    def forward(self, images: Tensor) -> ModelOutput:
        """Gives the output of (N, 3, H, W) normalised RGB."""
        if self.kind.task != UNIVERSAL:
            return self._semantic(images)
        if self.kind.steps == EOMT:
            return eomt_steps(self.net, images, self.masked_blocks)
        found = self.net(images, output_auxiliary_logits=self.training, return_dict=True)
        before = found.auxiliary_logits or ()
        return ModelOutput(
            class_logits=found.class_queries_logits,
            mask_logits=found.masks_queries_logits,
            aux_class_logits=tuple(layer['class_queries_logits'] for layer in before),
            aux_mask_logits=tuple(layer['masks_queries_logits'] for layer in before),
            features={'last': found.pixel_decoder_last_hidden_state},
        )

    def _semantic(self, images: Tensor) -> ModelOutput:
        """Runs a network with a logit a class, and takes along what its classifier reads."""
        read: list[Tensor] = []
        size = images.shape[2:]
        with ExitStack() as hooks:
            # For one call: a copy of this module must not write into another's list.
            classifier = self.net.get_submodule(self.kind.classifier)
            hooks.enter_context(
                classifier.register_forward_pre_hook(lambda _, given: read.append(given[0]))
            )
            if self.kind.square_neck:
                height, width = (side // self.patch for side in size)
                sides = {'patch_height': height, 'patch_width': width}
                hooks.enter_context(
                    self.net.neck.register_forward_pre_hook(
                        lambda _, given, named: (given[:1], named | sides), with_kwargs=True
                    )
                )
            logits = self.net(images, return_dict=True).logits
        if logits.shape[2:] != size:
            logits = functional.interpolate(logits, size, mode='bilinear', align_corners=False)
        return ModelOutput(logits, features={'last': read[0]})


def patch_of(config: Any) -> int:
    """Gives the side of a patch of a network or a backbone; 1 where it has no patches."""
    patch = getattr(config, 'patch_size', None) or 1
    return int(patch if isinstance(patch, int) else patch[0])


def build_library_network(config: Mapping[str, Any], classes: int) -> Any:
    """Gives the library's own module, freshly initialised, for as many classes.

    Raises:
        ImportError: `transformers` is not installed.
        ValueError: The library refuses the configuration.
    """
    kind = kind_of(config)
    transformers = load_transformers()
    values = {key: value for key, value in config.items() if key != MODEL_TYPE}
    values |= {**kind.fixed, 'num_labels': classes}
    try:
        made = transformers.AutoConfig.for_model(config[MODEL_TYPE], **values)
        auto = getattr(transformers, kind.auto_class)
        net: nn.Module = auto.from_config(made)
    except Exception as error:
        # A configuration is a user's text; the library raises whatever it trips over.
        line = ' '.join(str(error).split())[:300]
        raise ValueError(
            f'transformers {transformers.__version__} cannot build {config[MODEL_TYPE]!r} from '
            f'this configuration: {line}'
        ) from error
    if hasattr(net, LIBRARY_TRAINING):
        setattr(net, LIBRARY_TRAINING, None)
    return net


def load_transformers() -> Any:
    """Gives the library.

    Raises:
        ImportError: It is not installed; the text says how to.
    """
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            'networks of transformers need: pip install transformers==5.24.0'
        ) from error
    return transformers
