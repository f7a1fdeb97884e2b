"""How far a pixel is from what an autoencoder gives again."""

from __future__ import annotations

from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput

from .score import AnomalyScore


class ReconstructionError(AnomalyScore):
    """`mean_c (x_c - x'_c)^2` over the colours, 0..1: the error map.

    Source: Baur et al., "Deep Autoencoding Models for Unsupervised Anomaly Segmentation in Brain
    MR Images", 2018, https://arxiv.org/abs/1804.04488.

    >>> import torch
    >>> image, again = torch.zeros(1, 3, 1, 1), torch.tensor([[[[0.0]], [[0.3]], [[0.3]]]])
    >>> ReconstructionError()(ModelOutput(image=image, reconstruction=again)).item()
    0.06...
    """

    needs = frozenset({'image', 'reconstruction'})

    def forward(self, output: ModelOutput) -> Tensor:
        image, again = output.given('image').float(), output.given('reconstruction').float()
        return (image - again).square().mean(1)
