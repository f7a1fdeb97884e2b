"""An autoencoder of whole frames, plain or variational: what it cannot give again is unusual.

Source: Kingma and Welling, "Auto-Encoding Variational Bayes", 2014, https://arxiv.org/abs/1312.6114;
written anew, with transposed convolutions and GELU as frame-level detectors of road scenes have
them, batch norms, and a sigmoid at the end.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import nn, Tensor
from torch.nn import functional

from anomaly_seg_ros.model_output import ModelOutput

from .network import Network

WIDTHS = (24, 48, 96, 128)
"""Channels at 1/2, 1/4, 1/8 and 1/16 of the size; the latent map lies at 1/32."""
GRID = 8
"""Rows and columns of the map that a latent vector is unfolded to."""


class Autoencoder(Network):
    """Images of RGB in 0..1 (mean 0, std 1) through a bottleneck and back.

    Classes come from a linear layer on the bottleneck, which `objective: reconstruction` leaves
    as it began: they mean nothing then.

    Args:
        classes: Number of output channels K.
        latent: Channels of the bottleneck.
        variational: The bottleneck is one vector for the whole image; it is drawn from a Gaussian
            while training, and is that Gaussian's mean else, so that a score is always the same.
        width: Factor on the other channels.
    """

    provides = frozenset({'logits', 'features.last', 'image', 'reconstruction'})
    stride = 32
    classifier_prefixes = ('classifier.',)
    new_head_prefixes = classifier_prefixes
    train_only_prefixes = ('to_log_variance.',)
    presets: ClassVar[dict[str, dict[str, Any]]] = {'tiny': {'latent': 8, 'width': 0.25}}

    def __init__(
        self, classes: int, latent: int = 128, variational: bool = False, width: float = 1.0
    ):
        super().__init__()
        self.variational = variational
        widths = [max(4, round(channels * width)) for channels in WIDTHS]
        down = [_down(a, b) for a, b in pairwise((3, *widths))]
        self.encoder = nn.Sequential(*down, nn.Conv2d(widths[-1], latent, 3, 2, 1))
        up = [_up(a, b) for a, b in pairwise((latent, *widths[::-1]))]
        last = nn.ConvTranspose2d(widths[0], 3, 4, 2, 1)
        self.decoder = nn.Sequential(*up, last, nn.Sigmoid())
        self.classifier = nn.Conv2d(latent, classes, 1)
        if variational:
            self.to_mean = nn.Linear(latent, latent)
            self.to_log_variance = nn.Linear(latent, latent)
            self.unfold = nn.Linear(latent, latent * GRID * GRID)

    def forward(self, images: Tensor) -> ModelOutput:
        """Gives the image, the image again, and the bottleneck as `features.last`.

        While a variational one is trained there is `features.log_variance` too.

        Args:
            images: (N, 3, H, W) RGB in 0..1, sides multiples of 32.
        """
        maps: Tensor = self.encoder(images)
        features = {'last': maps}
        if self.variational:
            pooled = maps.mean((2, 3))
            mean = self.to_mean(pooled)
            features = {'last': mean[:, :, None, None]}
            drawn = mean
            if self.training:
                log_variance = self.to_log_variance(pooled)
                features['log_variance'] = log_variance
                drawn = mean + torch.randn_like(mean) * (log_variance / 2).exp()
            grid = self.unfold(drawn).view(-1, mean.shape[1], GRID, GRID)
            size = (images.shape[2] // 32, images.shape[3] // 32)
            maps = functional.interpolate(grid, size, mode='bilinear', align_corners=False)
        logits = functional.interpolate(self.classifier(maps), scale_factor=32.0)
        return ModelOutput(
            logits, features=features, image=images, reconstruction=self.decoder(maps)
        )


def _down(channels: int, wider: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, wider, 3, 2, 1, bias=False), nn.BatchNorm2d(wider), nn.GELU()
    )


def _up(channels: int, narrower: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(channels, narrower, 4, 2, 1, bias=False),
        nn.BatchNorm2d(narrower),
        nn.GELU(),
    )
