"""DenseHybrid: known outliers lower the likelihood in the logits and train the outlier head."""

from __future__ import annotations

from collections.abc import Mapping
import math
from typing import Any

from torch import Tensor
from torch.nn import functional

from training.feeding.loading import Batch
from training.losses import Loss

from .objective import Forward, Objective
from .segmentation import segmentation_terms

POSTERIOR_WEIGHT = 10.0
"""Weight of the outlier head's loss, in units of beta."""


class DenseHybrid(Objective):
    """`L_seg + beta * L_den + 10 * beta * L_dis`.

    Args:
        loss: L_seg, of (logits, labels); pasted pixels are ignored in it by their label.
        aux_weight: Weight of L_seg on each auxiliary head.
        beta: Weight of the outlier terms.
        density: Train with L_den; False for the ablation by the posterior alone.
        posterior: Train the outlier head with L_dis; False for the ablation by likelihood alone,
            which needs no such head.
        floor: An outlier pixel whose ln p* lies below has no more part in L_den's gradient; None
            as in the paper. L_den has no lower bound, and its pull does not weaken: at the small
            learning rates of the paper it ends in time, at larger ones the likelihood falls by
            hundreds and the classes are unlearned.

    Source: Grcic et al., "DenseHybrid: Hybrid Anomaly Detection for Dense Open-set Recognition",
    2022, equations 8 to 11. The authors' code also subtracts the mean logit from L_den, detached:
    a constant without gradient, left out here.
    """

    needs_outliers = True
    ignores_outliers = True

    @classmethod
    def score(cls, options: Mapping[str, Any]) -> str | None:
        """Gives 'dense_hybrid', or without the head what is left of it."""
        return 'dense_hybrid' if options.get('posterior', True) else 'energy'

    def __init__(
        self,
        loss: Loss,
        aux_weight: float = 1.0,
        beta: float = 0.03,
        density: bool = True,
        posterior: bool = True,
        floor: float | None = None,
    ):
        super().__init__()
        if not beta > 0 or not (density or posterior):
            raise ValueError(
                f'dense_hybrid has beta {beta}, density {density}, posterior {posterior}; beta '
                'must be above 0 and one of the terms be on'
            )
        number = isinstance(floor, int | float) and not isinstance(floor, bool)
        if floor is not None and not (number and math.isfinite(floor)):
            raise ValueError(f'floor is {floor!r}; it must be a finite number, or null for none')
        self.loss, self.aux_weight = loss, aux_weight
        self.beta, self.density, self.posterior = beta, density, posterior
        self.floor = floor

    def forward(self, network: Forward, batch: Batch) -> dict[str, Tensor]:
        """Gives the terms of one batch.

        Raises:
            ValueError: The network has no outlier head.
        """
        output = network(batch.images.float() / 255)
        terms = segmentation_terms(output, batch.labels, self.loss, self.aux_weight)
        if self.density:
            density = density_loss(output.given('logits'), batch.outlier, self.floor)
            terms['density'] = self.beta * density
        if self.posterior:
            if output.ood_logits is None:
                raise ValueError(
                    "objective 'dense_hybrid' trains an outlier head that this network lacks; "
                    'set model_options.outlier_head=true, or objective_options.posterior=false'
                )
            weight = POSTERIOR_WEIGHT * self.beta
            terms['posterior'] = weight * posterior_loss(output.ood_logits, batch.outlier)
        return terms


def density_loss(logits: Tensor, outlier: Tensor, floor: float | None = None) -> Tensor:
    """Mean of `ln sum_c exp(l_c)`, the unnormalised log-likelihood, over outlier pixels.

    Args:
        logits: (N, K, H, W); computed in float32.
        outlier: (N, H, W) bool.
        floor: Pixels below it count as this much; None: all as they are.

    Returns:
        Scalar; 0 (with zero gradient) without outliers.
    """
    likelihood = logits.float().movedim(1, -1)[outlier].logsumexp(-1)
    if floor is not None:
        likelihood = likelihood.clamp(min=floor)
    return likelihood.sum() / max(likelihood.numel(), 1)


def posterior_loss(ood_logits: Tensor, outlier: Tensor) -> Tensor:
    """Mean two-way cross-entropy of the outlier head over all pixels.

    Unlabelled pixels count as inliers, on purpose: they lie in the training scenes.

    Args:
        ood_logits: (N, 2, H, W), channel 1 = outlier; computed in float32.
        outlier: (N, H, W) bool.
    """
    return functional.cross_entropy(ood_logits.float(), outlier.long())
