"""NFlowJS: a flow draws patches at the border of the training data, the network doubts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anomaly_seg_ros.classes import IGNORE
from training.feeding.loading import Batch
from training.flows.pictures import write_samples
from training.flows.storage import keep_float32_exact, load_flow
from training.losses import Loss
from training.recipes.typed_values import convert

from .objective import Backward, Forward, Objective
from .segmentation import segmentation_terms

SIDE_STEP = 8
ADAMAX_BETAS = (0.9, 0.999)
ADAMAX_EPS = 1e-7


class NFlowJS(Objective):
    """Network: `L_seg + weight * JSD(U || p)`; flow: `bits per dimension + weight * JSD(U || p)`.

    Every step the flow draws one patch per image. It is pasted at a random place, and what it
    covers is what the flow learns as likely, but for images where that holds a pasted outlier.
    The divergence, over the patch and all other pasted pixels, trains both: the network to be
    undecided there and, through the pixels of the patch, the flow to draw what the network is
    undecided about, while the likelihood holds it near the training data. So the samples end at
    the border of the data. L_seg has no say in the flow: by its reach beyond the patch it would
    pull many times harder, to patches that help the network with what lies around them.

    Args:
        loss: L_seg, of (logits, labels); the patch is ignored in it.
        aux_weight: Weight of L_seg on each auxiliary head.
        flow: File of a trained flow, by `anomaly_seg train_flow`; must be given.
        weight: Of the divergence, the paper's lambda.
        patch: Smallest and largest side of the patches, multiples of 8; no larger than the crop.
        lr: Learning rate of the flow's Adamax.
        checkpointing: Of the flow, for large patches.

    Attributes:
        backward: See `SplitsGradients`.

    Source: Grcic et al., "Dense Out-of-Distribution Detection by Robust Learning on Synthetic
    Negative Data", 2021. The public joint trainer rounds the samples, which cuts their gradient,
    and gives the flow pixels of another scale; neither is so here.
    """

    ignores_outliers = True

    @classmethod
    def score(cls, options: Mapping[str, Any]) -> str | None:
        """Gives the score of the same name."""
        return 'nflow_js'

    def __init__(
        self,
        loss: Loss,
        aux_weight: float = 1.0,
        *,
        flow: str = '',
        weight: float = 0.03,
        patch: Sequence[int] = (16, 216),
        lr: float = 1e-5,
        checkpointing: bool = False,
    ):
        super().__init__()
        low, high = convert('patch', 'tuple[int, int]', patch)
        if not 0 < low <= high or low % SIDE_STEP or high % SIDE_STEP:
            raise ValueError(f'patch is {patch}; it must be [low, high], multiples of {SIDE_STEP}')
        if not weight > 0 or not lr > 0:
            raise ValueError(f'weight is {weight}, lr is {lr}; nflow_js needs both above 0')
        if not flow:
            raise ValueError(
                "nflow_js needs a 'flow'; type objective_options.flow=FILE, a file made by: "
                'anomaly_seg train_flow CONFIG.yaml --out DIR'
            )
        self.loss, self.aux_weight = loss, aux_weight
        self.backward: Backward = torch.autograd.backward
        self.weight, self.patch, self.lr = weight, (low, high), lr
        keep_float32_exact()
        self.flow = load_flow(Path(flow).expanduser(), checkpointing)

    def forward(self, network: Forward, batch: Batch) -> dict[str, Tensor]:
        """Gives the terms of one batch.

        Raises:
            ValueError: The crop is smaller than the smallest patch.
        """
        height, width = (draw_side(self.patch, side) for side in batch.images.shape[2:])
        samples = self.flow.sample(len(batch.images), height, width)
        # Cut from the flow: the sum of the terms would send it the gradient of L_seg as well.
        shown = samples.detach().requires_grad_()
        mixed, replaced, region = paste_samples(batch.images, shown)
        output = network(mixed)
        terms = segmentation_terms(
            output, batch.labels.masked_fill(region, IGNORE), self.loss, self.aux_weight
        )
        negative = region | batch.outlier
        divergence = divergence_to_uniform(output.given('logits').movedim(1, -1)[negative])
        terms['divergence'] = self.weight * divergence.mean()
        self.backward(terms['divergence'], inputs=[shown], retain_graph=True)
        assert shown.grad is not None
        pull = (samples * shown.grad.clone()).sum()
        # Of the pull nothing counts but its gradient, that of the divergence.
        terms['flow'] = self._bits(replaced, batch.outlier, region) + pull - pull.detach()
        return terms

    def _bits(self, replaced: Tensor, outlier: Tensor, region: Tensor) -> Tensor:
        """Gives the mean bits per dimension of those patches that hold no pasted outlier."""
        clean = ~(outlier & region).flatten(1).any(1)
        if not clean.any():
            return replaced.new_zeros((), dtype=torch.float32)
        return self.flow.bits_per_dim(replaced[clean]).mean()

    def build_optimizer(self) -> torch.optim.Optimizer | None:
        """Gives Adamax over the flow."""
        return torch.optim.Adamax(
            self.flow.parameters(), lr=self.lr, betas=ADAMAX_BETAS, eps=ADAMAX_EPS
        )

    def report(self, out: Path, when: str) -> None:
        """Writes `flow_samples_before.png` or `flow_samples_after.png`; `when` says which."""
        write_samples(self.flow, out / f'flow_samples_{when}.png')


def divergence_to_uniform(logits: Tensor) -> Tensor:
    """Gives `(KL(U || m) + KL(p || m)) / 2` with m = (U + p) / 2, in 0..ln 2.

    `ln m = logaddexp(ln p, ln U) - ln 2` is finite also where p underflows.

    Args:
        logits: (..., K) before softmax, classes last; computed in float32.

    Returns:
        (...) in nats, 0 where all logits are equal.

    >>> divergence_to_uniform(torch.zeros(2, 4)).tolist()
    [0.0, 0.0]
    """
    log_p = logits.float().log_softmax(-1)
    log_u = -math.log(logits.shape[-1])
    log_m = torch.logaddexp(log_p, torch.full_like(log_p, log_u)) - math.log(2)
    uniform = (log_u - log_m).mean(-1)
    own = (log_p.exp() * (log_p - log_m)).sum(-1)
    return (uniform + own) / 2


def draw_side(limits: tuple[int, int], available: int) -> int:
    """Gives a side from `limits` in steps of 8, at most `available`, each as likely.

    Raises:
        ValueError: Not even the smallest side is available.
    """
    low, high = limits[0], min(limits[1], available)
    if high < low:
        raise ValueError(f'crop side {available} is below the smallest patch, {low}; lower patch')
    return low + SIDE_STEP * int(torch.randint((high - low) // SIDE_STEP + 1, ()))


def paste_samples(images: Tensor, samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Puts one sample into each image at a random place, keeping the samples' gradient.

    Args:
        images: (N, 3, H, W) uint8 RGB.
        samples: (N, 3, h, w) RGB in 0..1.

    Returns:
        (N, 3, H, W) images in 0..1, (N, 3, h, w) uint8 of what was covered, and where: (N, H, W).
    """
    mixed = images.float() / 255
    height, width = samples.shape[2:]
    region = torch.zeros(
        images.shape[0], *images.shape[2:], dtype=torch.bool, device=images.device
    )
    replaced = []
    for i, sample in enumerate(samples):
        top = int(torch.randint(images.shape[2] - height + 1, ()))
        left = int(torch.randint(images.shape[3] - width + 1, ()))
        rows, columns = slice(top, top + height), slice(left, left + width)
        mixed[i, :, rows, columns] = sample
        replaced.append(images[i, :, rows, columns])
        region[i, rows, columns] = True
    return mixed, torch.stack(replaced), region
