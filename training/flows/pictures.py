"""A picture of what a flow draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from anomaly_seg_ros.frames.images import write_image

from .denseflow import DenseFlow

GAP = 2
WHITE = 255


def write_samples(
    flow: DenseFlow, path: Path, rows: int = 4, columns: int = 8, side: int = 64, seed: int = 0
) -> None:
    """Writes a grid of samples; equal seeds give equal latents, so two flows can be compared.

    The generators of the caller go on as if nothing had been drawn.

    Args:
        flow: What draws.
        path: Image file to write.
        rows: Of the grid.
        columns: Of the grid.
        side: Of a sample, pixels; a multiple of 8.
        seed: Of the latents.
    """
    device = flow.base_mean.device
    with torch.random.fork_rng([device] if device.type == 'cuda' else []), torch.no_grad():
        torch.manual_seed(seed)
        samples = flow.sample(rows * columns, side, side)
    tiles = (samples * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    step = side + GAP
    grid = np.full((rows * step + GAP, columns * step + GAP, 3), WHITE, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = (GAP + step * place for place in divmod(i, columns))
        grid[top : top + side, left : left + side] = tile
    write_image(path, grid)
