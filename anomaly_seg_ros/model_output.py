"""What any network returns, so that networks and scores never need to know each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

QUERIES = 5
"""Queries whose masks are held at the size of the image at a time."""


@dataclass(frozen=True)
class Holds:
    """What a field holds, so that whoever crops it or splits it need not know its name.

    Attributes:
        pixels: Its last two axes are those of the image.
        classes: Axis with a channel for each class; None: it has no such axis.
        void: Field that gets the channel of the void class from that axis; empty: none does.
    """

    pixels: bool = False
    classes: int | None = None
    void: str = ''


class Extent(NamedTuple):
    """Sizes (height, width) in pixels that the maps of an output stand for."""

    image: tuple[int, int]
    padded: tuple[int, int]
    """Of the image with the border that the network saw: what maps of a size of their own cover,
    from the same corner on."""


class ModelOutput(NamedTuple):
    """The tensors a network gives for a batch; a field that the network lacks is None or empty.

    A network gives `logits`, or `class_logits` and `mask_logits` instead.

    Shape letters: N batch, K classes, D features, Q queries, H W image, h w a map's own size.
    """

    logits: Annotated[Tensor | None, Holds(pixels=True, classes=1, void='void_logit')] = None
    """(N, K, H, W) before softmax, classes in train-id order without the void channel."""
    void_logit: Annotated[Tensor | None, Holds(pixels=True)] = None
    """(N, 1, H, W) logit of the trained void class, where the network has one."""
    features: Annotated[Mapping[str, Tensor], Holds()] = {}
    """Name to (N, D, h, w) map; 'last' is the last embedding before the classifier."""
    ood_logits: Annotated[Tensor | None, Holds(pixels=True)] = None
    """(N, 2, H, W) logits of the outlier head, channel 1 = outlier, where the network has one."""
    aux_logits: Annotated[tuple[Tensor, ...], Holds(pixels=True, classes=1)] = ()
    """Logits of auxiliary heads, (N, K, H, W) each; only while training."""
    class_logits: Annotated[Tensor | None, Holds(classes=2, void='void_class_logit')] = None
    """(N, Q, K + 1) before softmax over what a query shows; the last is no object at all."""
    void_class_logit: Annotated[Tensor | None, Holds()] = None
    """(N, Q, 1) logit of the trained void class in that softmax, where the network has one."""
    mask_logits: Annotated[Tensor | None, Holds()] = None
    """(N, Q, h, w) before the sigmoid that says where a query shows it."""
    aux_class_logits: Annotated[tuple[Tensor, ...], Holds(classes=2)] = ()
    """Those of the layers before the last, in their order; only while training."""
    aux_mask_logits: Annotated[tuple[Tensor, ...], Holds()] = ()
    """Likewise, one for each of `aux_class_logits`."""
    semantics: Annotated[Tensor | None, Holds(pixels=True)] = None
    """(N, K, H, W), 0 or more: how much the queries show of each class; see `with_semantics`."""
    image: Annotated[Tensor | None, Holds(pixels=True)] = None
    """(N, 3, H, W) RGB in 0..1 as an autoencoder took it."""
    reconstruction: Annotated[Tensor | None, Holds(pixels=True)] = None
    """(N, 3, H, W) RGB in 0..1 as an autoencoder gives it again."""
    extent: Annotated[Extent | None, Holds()] = None
    """Sizes that the maps stand for; None straight from a network, which does not know."""

    def given(self, name: str) -> Tensor:
        """Gives a tensor by its name, 'features.NAME' for one of the feature maps.

        Raises:
            ValueError: The network does not give it.
        """
        field, _, key = name.partition('.')
        value: Any = getattr(self, field, None)
        if key:
            value = value.get(key) if isinstance(value, Mapping) else None
        if not isinstance(value, Tensor):
            raise ValueError(f'{name} is needed, which this network does not give')
        return value

    @property
    def class_maps(self) -> Tensor:
        """(N, K, H, W) whose largest channel is the predicted class.

        Raises:
            ValueError: There are neither logits nor semantics.
        """
        return self.given('logits' if self.semantics is None else 'semantics')

    def over_pixels(self, change: Callable[[Tensor], Tensor]) -> ModelOutput:
        """Gives the output with a change of every map that has a value for each pixel."""
        return self._replace(
            **{
                name: over_tensors(getattr(self, name), change)
                for name, holds in HOLDS.items()
                if holds.pixels
            }
        )

    def thinned(self, step: int, first: int = 0) -> ModelOutput:
        """Gives the output with every `step`-th pixel alone of these maps, both ways."""
        return self.over_pixels(lambda maps: maps[..., first::step, first::step])


HOLDS: dict[str, Holds] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(ModelOutput, include_extras=True).items()
}
"""Field of `ModelOutput` to what it says that it holds."""


def over_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Gives the value of a field with a change of each tensor in it."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: change(inner) for key, inner in value.items()}
    return tuple(change(inner) for inner in value) if isinstance(value, tuple) else value


def to_image(maps: Tensor, extent: Extent) -> Tensor:
    """Gives (N, C, H, W) of (N, C, h, w) maps, enlarged bilinearly, without the border."""
    large = functional.interpolate(maps, extent.padded, mode='bilinear', align_corners=False)
    height, width = extent.image
    return large[..., :height, :width]


def with_semantics(output: ModelOutput) -> ModelOutput:
    """Gives the output with `semantics` where it has masks of queries instead of logits.

    That is `sum_q softmax(class_logits)_qc sigmoid(mask_logits)_q` for each class c in float32,
    without no-object and void.

    Source: Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation"
    (MaskFormer), 2021, section 3.3.

    Args:
        output: With its `extent`.
    """
    if output.logits is not None or output.mask_logits is None:
        return output
    return output._replace(semantics=mask_sums(output, class_probabilities(output).mT))


def mask_sums(output: ModelOutput, weights: Tensor) -> Tensor:
    """Gives (N, C, H, W): `sum_q weights_cq sigmoid(mask_logits)_q` for each c in float32.

    The masks are enlarged before the sigmoid. All of them at the size of the image would take more
    memory than all else, so a few at a time are, and the sums are made in place.

    Args:
        output: With its `extent`, and `mask_logits` of (N, Q, h, w).
        weights: (N, C, Q).
    """
    assert output.extent is not None, 'a network that has run on an image knows'
    masks = output.given('mask_logits')
    sums: Tensor | None = None
    for start in range(0, masks.shape[1], QUERIES):
        part = slice(start, start + QUERIES)
        shown = to_image(masks[:, part].float(), output.extent).sigmoid_().flatten(2)
        sums = _add_product(sums, weights[:, :, part], shown)
        del shown  # or it would stay until the next are made
    assert sums is not None, 'there is at least one query'
    return sums.view(*sums.shape[:2], *output.extent.image)


def class_probabilities(output: ModelOutput) -> Tensor:
    """Gives (N, Q, K) of what each query shows, without no-object and void."""
    return query_probabilities(output)[..., : output.given('class_logits').shape[2] - 1]


def query_probabilities(output: ModelOutput) -> Tensor:
    """Gives (N, Q, K + 1) or more in float32: the classes, no object, and void where it is."""
    logits = output.given('class_logits').float()
    if output.void_class_logit is not None:
        logits = torch.cat([logits, output.void_class_logit.float()], 2)
    return logits.softmax(2)


def _add_product(sums: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    """Adds a matrix product to `sums`, in float32, whatever autocast would make of it."""
    kind = b.device.type
    if torch.is_autocast_enabled(kind):
        # Only here, not always: an exported graph would hold the context as an operator.
        with torch.autocast(kind, enabled=False):
            return _add_product(sums, a, b)
    return a @ b if sums is None else sums.baddbmm_(a, b)
