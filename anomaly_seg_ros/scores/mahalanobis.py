"""Mahalanobis distance of the logits to the nearest class."""

from __future__ import annotations

from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.scores.parts.class_gaussians import ClassGaussians
from anomaly_seg_ros.scores.parts.convolution import convolve

from .score import AnomalyScore


class Mahalanobis(AnomalyScore):
    """`min_c (l - mu_c)^T Sigma^-1 (l - mu_c)`, 0 or more.

    With a whitening W, `Sigma^-1 = W^T W`, that is `min_c |a - b_c|^2` of a = W l and b_c = W mu_c
    = `|a|^2 + min_c (|b_c|^2 - 2 a b_c)`: two 1x1 convolutions. All is taken from the mean of the
    mu_c, so that float32 does not lose the distance in large squares.

    Args:
        whitening: (K, K) W, from `fit_score`.
        means: (C, K) mean logits mu_c of the classes that the training pixels had, from
            `fit_score`.

    Raises:
        ValueError: The shapes do not fit together.

    Source: Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples",
    2018, equation 2, on the logits of each pixel.

    >>> import torch
    >>> score = Mahalanobis(torch.eye(2), torch.tensor([[0.0, 0.0], [9.0, 9.0]]))
    >>> score(ModelOutput(torch.tensor([[[[3.0]], [[4.0]]]]))).item()
    25.0
    """

    needs = frozenset({'logits'})
    statistics = ('whitening', 'means')
    fit = ClassGaussians
    centre: Tensor
    whitening: Tensor
    means: Tensor
    corners: Tensor
    squares: Tensor

    def __init__(self, whitening: Tensor, means: Tensor):
        super().__init__()
        self.classes = whitening.shape[-1]
        square = (self.classes, self.classes)
        if whitening.shape != square or means.ndim != 2 or means.shape[1] != self.classes:
            raise ValueError(
                f'whitening {tuple(whitening.shape)} and means {tuple(means.shape)} of score '
                "'mahalanobis' must be (K, K) and (C, K)"
            )
        centre = means.double().mean(0)
        corners = (means.double() - centre) @ whitening.double().T
        self.register_buffer('whitening', whitening)
        self.register_buffer('means', means)
        derived = {
            'centre': centre.view(1, -1, 1, 1),
            'corners': -2 * corners[:, :, None, None],
            'squares': corners.square().sum(1),
        }
        for name, value in derived.items():
            self.register_buffer(name, value.float(), persistent=False)

    def forward(self, output: ModelOutput) -> Tensor:
        logits = output.given('logits').float() - self.centre
        white = convolve(logits, self.whitening[:, :, None, None])
        nearest = convolve(white, self.corners, self.squares).amin(1)
        return (white.square().sum(1) + nearest).clamp(min=0)
