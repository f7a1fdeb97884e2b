"""Giving the image again, through a bottleneck; of a variational one with its divergence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from training.feeding.loading import Batch
from training.losses import Loss

from .objective import Forward, Objective


class Reconstruction(Objective):
    """Squared error over an image, mean over the batch, and `kl_weight` times the KL divergence.

    Both are sums, of pixels and of latent values, as the evidence bound has them.

    Args:
        loss: Not used: nothing is classified.
        aux_weight: Likewise.
        kl_weight: Of `-1/2 sum(1 + ln s^2 - m^2 - s^2)`.
    """

    reads = frozenset({'image', 'reconstruction'})
    uses_loss = False

    def __init__(self, loss: Loss, aux_weight: float = 1.0, kl_weight: float = 1.0):
        super().__init__()
        self.kl_weight = kl_weight

    @classmethod
    def score(cls, options: Mapping[str, Any]) -> str | None:
        """Gives the error map."""
        return 'reconstruction_error'

    def forward(self, network: Forward, batch: Batch) -> dict[str, Tensor]:
        """Gives 'reconstruction' and, of a variational network, 'kl'."""
        output = network(batch.images.float() / 255)
        error = output.given('reconstruction').float() - output.given('image').float()
        terms = {'reconstruction': error.square().sum((1, 2, 3)).mean()}
        if 'log_variance' in output.features:
            mean = output.features['last'].float().flatten(1)
            log_variance = output.features['log_variance'].float()
            inner = 1 + log_variance - mean.square() - log_variance.exp()
            terms['kl'] = self.kl_weight * (-0.5 * inner.sum(1)).mean()
        return terms
