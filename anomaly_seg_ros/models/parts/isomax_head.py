"""The IsoMax+ classifier: logits are distances to learned prototypes on the unit sphere.

Source: Macedo and Ludermir, "Enhanced Isotropy Maximization Loss: Seamless and High-Performance
Out-of-Distribution Detection Simply Replacing the SoftMax Loss", 2021,
https://arxiv.org/abs/2105.14399, equation 3. The paper classifies images; here each pixel's
features are classified, by a layer that takes the place of a network's last convolution.
"""

from __future__ import annotations

import torch
from torch import nn, Tensor
from torch.nn import functional

HEADS = ('isomax', 'linear')
SMALL = 1e-6
"""Least squared distance: below it float32 holds only rounding, and the root's gradient grows
without bound."""
LEAST = 1e-12
"""Of features: below it they count as zero."""


def check_head(head: str) -> None:
    """Refuses an unknown kind of classifier.

    Raises:
        ValueError: It is unknown; the text lists the valid ones.
    """
    if head not in HEADS:
        raise ValueError(f'unknown head {head!r}; choose one of: {", ".join(HEADS)}')


def pixel_classifier(channels: int, classes: int, head: str) -> nn.Module:
    """Gives the last layer of a network, at the size of its features.

    Args:
        channels: Features D.
        classes: Number of output channels K.
        head: One of `HEADS`.
    """
    if head == 'isomax':
        return IsoMaxHead(channels, classes)
    return nn.Conv2d(channels, classes, 1)


class IsoMaxHead(nn.Module):
    """Logit of class c = -|distance_scale| * distance of the unit feature to unit prototype c.

    Features of any length count by their direction alone; where all are zero, as behind a ReLU
    they can be, they stay zero, and every prototype is 1 away.

    The logits lie in -2 |distance_scale| .. 0, and their negated maximum is the minimum-distance
    score. In training the loss multiplies them by the entropic scale, 10; nothing else does.

    Args:
        channels: Features D.
        classes: Number of output channels K.
        enlarge: Factor by which the logits are enlarged, bilinearly.
    """

    def __init__(self, channels: int, classes: int, enlarge: int = 1):
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(classes, channels))
        self.distance_scale = nn.Parameter(torch.ones(1))
        self.enlarge = enlarge

    def forward(self, features: Tensor) -> Tensor:
        """Gives float32 logits of (N, K, h * enlarge, w * enlarge).

        Args:
            features: (N, D, h, w).
        """
        device = features.device.type
        if torch.is_autocast_enabled(device):
            # Half precision would leave steps of 0.1 between the smallest distances. Only here,
            # not always: an exported graph would hold the context as an operator of its own.
            with torch.autocast(device, enabled=False):
                logits = self._logits(features)
        else:
            logits = self._logits(features)
        if self.enlarge == 1:
            return logits
        return functional.interpolate(
            logits, scale_factor=float(self.enlarge), mode='bilinear', align_corners=False
        )

    def _logits(self, features: Tensor) -> Tensor:
        """Gives the logits at the size of the features, by |a - b|^2 = |a|^2 + 1 - 2 a.b."""
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        # The largest is made 1 first: squares of small features underflow, in half precision soon.
        # It is a constant, as the length of the result does not depend on it.
        largest = features.detach().abs().amax(dim=1, keepdim=True)
        features = features / torch.where(largest > LEAST, largest, torch.ones_like(largest))
        squares = features.square().sum(dim=1, keepdim=True)
        shrink = squares.clamp_min(1).rsqrt()
        prototypes = functional.normalize(self.prototypes.to(features.dtype))
        cosines = functional.conv2d(features * shrink, prototypes[:, :, None, None])
        distances = (squares * shrink.square() + 1 - 2 * cosines).clamp_min(SMALL).sqrt()
        return -self.distance_scale.abs() * distances
