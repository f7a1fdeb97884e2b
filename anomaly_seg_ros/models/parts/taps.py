"""Takes what any layer of a network gives, beside the features that it gives by itself."""

from __future__ import annotations

from typing import Any

from torch import nn, Tensor

EXTRA = 8
"""Tokens that stand for no patch, at most: class, distillation, registers."""


class Tap:
    """A forward hook that keeps a layer's output under its name in the network's `taken`.

    It holds the network and not that table: who exports a graph puts another one in its place.
    """

    def __init__(self, network: Any, layer: str):
        self.network, self.layer = network, layer

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Keeps it."""
        if not isinstance(output, Tensor):
            raise ValueError(
                f'layer {self.layer!r} gives a {type(output).__name__}; name one that gives a '
                'single tensor'
            )
        self.network.taken[self.layer] = output


def as_map(values: Tensor, layer: str, size: tuple[int, int]) -> Tensor:
    """Gives a layer's output as (N, D, h, w).

    Tokens of a transformer become the map of its patches, those before them are left out.

    Args:
        values: (N, D, h, w), or (N, T, D) tokens.
        layer: Its name, for the error text.
        size: (height, width) of the images.

    Raises:
        ValueError: It is neither.
    """
    if values.ndim == 4:
        return values
    if values.ndim == 3:
        count, (height, width) = values.shape[1], size
        for patch in range(1, min(size) + 1):
            rows, columns = height // patch, width // patch
            if (rows * patch, columns * patch) == size and 0 <= count - rows * columns <= EXTRA:
                tokens = values[:, count - rows * columns :]
                return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, rows, columns)
    raise ValueError(
        f'layer {layer!r} gives {tuple(values.shape)} for images of {size[0]}x{size[1]}; it must '
        'be (N, D, h, w), or tokens (N, T, D) of square patches'
    )
