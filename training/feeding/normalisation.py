"""Images as a network takes them in training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anomaly_seg_ros.models.forward import normalised

LEAST_INTENSITY = 1e-6
"""Of what a gamma changes; far below the first level of an image, 1 / 255."""


class Normalisation:
    """What the exported graph does to an image, see `normalised`, in training.

    Args:
        mean: RGB, of images in 0..1.
        std: Likewise.
        gamma: Exponent on the image in 0..1; below 1 brightens it.
        device: Where the images are.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], gamma: float, device: torch.device
    ):
        self.gamma = gamma
        self.mean = torch.tensor(mean, device=device).view(3, 1, 1)
        self.std = torch.tensor(std, device=device).view(3, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """Gives (N, 3, H, W) for the network, channels last in memory, of RGB in 0..1."""
        # Not from 0: NFlowJS asks for the slope.
        scaled = normalised(images, self.mean, self.std, self.gamma, LEAST_INTENSITY)
        return scaled.contiguous(memory_format=torch.channels_last)
