"""What every network is, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import re
from types import MappingProxyType
from typing import Any, ClassVar

from torch import nn, Tensor

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.parts.public_encoder import PublicEncoder
from anomaly_seg_ros.models.parts.public_layout import PublicLayout
from anomaly_seg_ros.models.parts.taps import as_map, Tap
from anomaly_seg_ros.registry import did_you_mean


class Network(nn.Module):
    """A network: normalised images in, a `ModelOutput` out.

    Its constructor takes the number of output channels, void included where it is trained, and
    options that all have a default. Three names of options mean the same everywhere: `aux_heads`
    builds heads that only training needs, `head` chooses the kind of the last layer,
    `outlier_head` adds the two-way outlier head.

    Attributes:
        provides: Fields of `ModelOutput` that it fills in evaluation; where an option adds one,
            the object has its own set.
        stride: What the sides of its images must be a multiple of; where an option changes it,
            the object has its own.
        presets: Name to options of the constructor; 'tiny' is for tests.
        classifier_prefixes: Beginnings of the names of the last layers' weights: what is trained
            where a recipe trains 'last' alone.
        encoder_prefixes: Of the weights of its encoder: what stays as it is where a recipe trains
            'decoder'.
        new_head_prefixes: Of the weights that change with the classes or the options `head` and
            `outlier_head`: what a fine-tune may start afresh.
        train_only_prefixes: Of the weights that have no part in the output of evaluation; a
            checkpoint may lack them.
        public_layouts: The families of public weights files that load into it.
        encoder_starts: Name to the public weights that its encoder may start from; where an
            option chooses the encoder, the object has its own.
        frame_features: Maps that a frame as a whole is judged by, as `PooledFeatures` takes them;
            empty: all feature maps.
        channels_last: Whether eager torch is faster with channels last in memory.
        taken: What tapped layers gave of the images that run; None where none is tapped.
    """

    provides: frozenset[str] = frozenset({'logits'})
    encoder_starts: Mapping[str, PublicEncoder] = MappingProxyType({})
    stride: int
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    classifier_prefixes: ClassVar[tuple[str, ...]]
    new_head_prefixes: ClassVar[tuple[str, ...]]
    encoder_prefixes: ClassVar[tuple[str, ...]] = ()
    train_only_prefixes: tuple[str, ...] = ()
    public_layouts: ClassVar[tuple[PublicLayout, ...]] = ()
    frame_features: ClassVar[tuple[str, ...]] = ()
    channels_last: ClassVar[bool] = True
    taken: dict[str, Tensor] | None = None

    __call__: Callable[..., ModelOutput]

    def named_as_own(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Gives weights of a file that names them otherwise by this network's own names.

        Args:
            weights: A state dict, of this network, a plainer one, or a public layout; what the
                network has no place for is left out where that is known.
        """
        return weights

    def leave_unread(self, pattern: str) -> None:
        """Freezes weights that nothing reads, and lets a checkpoint lack them.

        Args:
            pattern: Of the beginnings of their names; empty: there are none.
        """
        names = [key for key, _ in self.named_parameters() if pattern and re.match(pattern, key)]
        self.train_only_prefixes = tuple(names)
        for name in names:
            self.get_parameter(name).requires_grad_(False)

    def anneal(self, done: float) -> None:
        """Lets go, step by step, of what helps training and evaluation is to do without.

        Args:
            done: Share of the training run that lies behind, 1 at its end.
        """

    def forward(self, images: Tensor) -> ModelOutput:
        """Gives the output of a batch.

        Args:
            images: (N, 3, H, W) normalised RGB, sides multiples of `stride`.
        """
        raise NotImplementedError

    def tap(self, layer: str) -> None:
        """Makes `run_network` give a layer's output as one of the features, by the layer's name.

        Args:
            layer: Name of a module, as `encoder.layers.14`; what the network gives as features of
                that name anyway is left as it is.

        Raises:
            ValueError: There is no such module.
        """
        if f'features.{layer}' in self.provides:
            return
        try:
            module = self.get_submodule(layer) if layer else None
        except AttributeError:
            module = None
        if module is None:
            own = sorted(name[9:] for name in self.provides if name.startswith('features.'))
            modules = [name for name, _ in self.named_modules() if name]
            near = did_you_mean(layer, modules, 0.5) or f', as {modules[-1]!r}'
            raise ValueError(
                f'no features {layer!r}; this network gives {", ".join(own) or "none"}, and what '
                f'any of its modules gives is taken by the name of the module{near}'
            )
        if self.taken is None:
            self.taken = {}
        if not any(isinstance(hook, Tap) for hook in module._forward_hooks.values()):
            module.register_forward_hook(Tap(self, layer))

    def with_taken(self, output: ModelOutput, size: tuple[int, int]) -> ModelOutput:
        """Gives the output with what the tapped layers gave, and forgets that.

        Args:
            output: What `forward` gave.
            size: (height, width) of its images.

        Raises:
            ValueError: A layer gave no map.
        """
        if not self.taken:
            return output
        maps = {layer: as_map(values, layer, size) for layer, values in self.taken.items()}
        self.taken.clear()
        return output._replace(features={**output.features, **maps})
