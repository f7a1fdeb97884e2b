"""Standardised maximum logits."""

from __future__ import annotations

from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.scores.parts.boundaries import suppress_boundaries
from anomaly_seg_ros.scores.parts.max_logit_moments import MaxLogitMoments
from anomaly_seg_ros.scores.parts.smoothing import gaussian, smooth_dilated

from .score import AnomalyScore


class SML(AnomalyScore):
    """`-(max_c l_c - mu_k) / sigma_k` with k = argmax l, any real number.

    Then values near a boundary of two predicted classes, where the maximum logit is always small,
    are replaced by those around, and the map is smoothed over 37 pixels.

    Args:
        mean: (K,) mean mu of the maximum logit over the training pixels predicted as each class,
            from `fit_score`.
        std: (K,) its standard deviation sigma, above 0.
        boundary_suppression: Whether values near boundaries are replaced.
        dilated_smoothing: Whether the map is smoothed.

    Raises:
        ValueError: The statistics do not fit together.

    Source: Jung et al., "Standardized Max Logits: A Simple yet Effective Approach for Identifying
    Unexpected Road Obstacles in Urban-Scene Segmentation", 2021, section 3.

    >>> import torch
    >>> score = SML(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 1.0]))
    >>> round(score(ModelOutput(torch.tensor([[[[4.0]], [[3.0]]]]))).item(), 5)
    -1.5
    """

    needs = frozenset({'logits'})
    statistics = ('mean', 'std')
    fit = MaxLogitMoments
    mean: Tensor
    std: Tensor
    taps: Tensor

    def __init__(
        self,
        mean: Tensor,
        std: Tensor,
        boundary_suppression: bool = True,
        dilated_smoothing: bool = True,
    ):
        super().__init__()
        if mean.ndim != 1 or mean.shape != std.shape or not bool((std > 0).all()):
            raise ValueError(
                f'mean {tuple(mean.shape)} and std {tuple(std.shape)} of score '
                "'sml' must be (K,), std above 0"
            )
        self.classes = len(mean)
        self.register_buffer('mean', mean)
        self.register_buffer('std', std)
        self.register_buffer('taps', gaussian(), persistent=False)
        self.boundary_suppression = boundary_suppression
        self.dilated_smoothing = dilated_smoothing

    def forward(self, output: ModelOutput) -> Tensor:
        logits = output.given('logits').float()
        labels = logits.argmax(1, keepdim=True)
        mean, std = (
            values.index_select(0, labels.flatten()).view_as(labels)
            for values in (self.mean, self.std)
        )
        standard = (logits.amax(1, keepdim=True) - mean) / std
        if self.boundary_suppression:
            standard = suppress_boundaries(standard, labels.float())
        if self.dilated_smoothing:
            standard = smooth_dilated(standard, self.taps)
        return -standard[:, 0]
