"""Feature maps on a coarse grid over the image, and values of its cells back at every pixel."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from anomaly_seg_ros.model_output import Extent, ModelOutput

from .class_logits import over_class_logits
from .coarse import enlarge_cells

ENLARGED = ('bilinear', 'nearest')
"""Ways from cells to pixels."""


def layers_of(text: str) -> tuple[str, ...]:
    """Gives the names of the feature maps in 'last' or 'last+encoder._blocks.4'."""
    return tuple(part.strip() for part in text.split('+'))


def extent_of(output: ModelOutput) -> Extent:
    """Gives the sizes that the maps stand for; logits say it where the output does not."""
    if output.extent is not None:
        return output.extent
    height, width = output.class_maps.shape[-2:]
    return Extent((height, width), (height, width))


def gridded(output: ModelOutput, layers: tuple[str, ...], grid: int) -> tuple[Tensor, int]:
    """Gives feature maps, one behind the other, on one grid, and the pixels of a cell's side.

    A finer map is averaged over the cells; a coarser one is enlarged bilinearly where another
    is finer, and by itself sets the grid.

    Args:
        output: Of a network that gives these features.
        layers: Names of the maps.
        grid: Pixels of the image between two cells, at least.

    Returns:
        (N, D, h, w) float32, and its stride.
    """
    height = extent_of(output).padded[0]
    averaged = []
    for layer in layers:
        values = output.given(f'features.{layer}').float()
        stride = max(1, round(height / values.shape[2]))
        cells = max(1, min(grid // stride, *values.shape[2:]))
        if cells > 1:
            values = functional.avg_pool2d(values, cells, ceil_mode=True, count_include_pad=False)
        averaged.append((values, stride * cells))
    finest, stride = min(averaged, key=lambda pair: pair[1])
    size = (finest.shape[2], finest.shape[3])
    maps = [
        values
        if values.shape[2:] == finest.shape[2:]
        else functional.interpolate(values, size, mode='bilinear', align_corners=False)
        for values, _ in averaged
    ]
    return (maps[0] if len(maps) == 1 else torch.cat(maps, 1)), stride


def to_pixels(cells: Tensor, stride: int, extent: Extent, mode: str) -> Tensor:
    """Gives (N, H, W) of the image from (N, h, w) values of cells.

    Args:
        cells: Of the image with its border.
        stride: Pixels of a cell's side.
        extent: Of the image.
        mode: One of `ENLARGED`.
    """
    height, width = extent.image
    if mode == 'bilinear':
        return enlarge_cells(enlarge_cells(cells, stride, 2, width), stride, 1, height)
    size = (cells.shape[1] * stride, cells.shape[2] * stride)
    pixels = functional.interpolate(cells[:, None], size, mode=mode)
    beyond = (0, max(width - size[1], 0), 0, max(height - size[0], 0))
    if any(beyond):  # a network without padding has no cell for the last pixels
        pixels = functional.pad(pixels, beyond, 'replicate')
    return pixels[:, 0, :height, :width]


def cell_energy(output: ModelOutput, cells: Tensor, stride: int) -> Tensor:
    """Gives `-ln sum_c exp(l_c)` (N, h, w) of the pixel in the middle of each cell.

    Args:
        output: Has a logit a class, or semantics, which stand for `exp(l_c)`; cells in the border
            beyond the image take the nearest value.
        cells: (N, D, h, w), for their number.
        stride: Pixels of a cell's side.
    """
    height, width = cells.shape[2:]
    middle = min(stride // 2, *(side - 1 for side in output.class_maps.shape[2:]))
    thin = output.thinned(stride, middle)
    energy = over_class_logits(thin, lambda logits: -logits.logsumexp(1))[:, None]
    beyond = (0, width - energy.shape[3], 0, height - energy.shape[2])
    return (functional.pad(energy, beyond, 'replicate') if any(beyond) else energy)[:, 0]
