"""A second, two-way classifier beside the first: does a pixel lie outside of the training data?

Source: Grcic et al., "DenseHybrid: Hybrid Anomaly Detection for Dense Open-set Recognition", ECCV
2022, https://arxiv.org/abs/2207.02606. Keys `norm` and `conv` are as in the authors' weights.
"""

from __future__ import annotations

import torch
from torch import nn, Tensor
from torch.nn import functional

PREFIXES = ('logits_ood.',)
"""How the names of its weights begin in every network."""


class OutlierHead(nn.Module):
    """Batch norm, ReLU and a 1x1 convolution to two channels, channel 1 = outlier.

    The norm has torch's own momentum: a fine-tune of some hundred steps must fill its statistics.
    `BNReLUConv` is the same for the networks of the paper's authors, with the momentum of their
    other norms and enlarged by its caller.

    Args:
        channels: Channels D of the map it reads.
        hidden: Channels of a 3x3 convolution, with norm and ReLU, in between; 0: none. With one it
            can be trained beside a network that is frozen.
    """

    def __init__(self, channels: int, hidden: int = 0):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.hidden = (
            nn.Sequential(
                nn.Conv2d(channels, hidden, 3, padding=1, bias=False),
                nn.BatchNorm2d(hidden),
                nn.ReLU(),
            )
            if hidden
            else nn.Identity()
        )
        self.conv = nn.Conv2d(hidden or channels, 2, 1)

    def forward(self, features: Tensor, enlarge: int) -> Tensor:
        """Gives (N, 2, h * enlarge, w * enlarge) logits of (N, D, h, w) features.

        They are enlarged bilinearly, written as two matrix products: an operator that enlarges
        works on 16 channels at a time in OpenVINO, so that two cost what all classes cost.
        """
        # A matrix product of channels-last maps takes three times as long in eager torch.
        logits: Tensor = self.conv(self.hidden(functional.relu(self.norm(features)))).contiguous()
        height, width = logits.shape[2:]
        rows, columns = _bilinear(height, enlarge, logits), _bilinear(width, enlarge, logits)
        return rows.transpose(0, 1) @ logits @ columns


def _bilinear(side: int, enlarge: int, like: Tensor) -> Tensor:
    """Gives the (side, side * enlarge) weights by which a row is enlarged, a constant."""
    # Not `torch.eye`, whose exported graph counts long sides in a type that OpenVINO lacks.
    places = torch.arange(side, device=like.device)
    identity = (places[:, None] == places).to(like.dtype)[None, None]
    size = (side, side * enlarge)
    return functional.interpolate(identity, size, mode='bilinear', align_corners=False)[0, 0]
