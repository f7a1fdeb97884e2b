"""Distance to the features of training frames, summed with the energy of the logits."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.scores.parts.class_logits import over_class_logits
from anomaly_seg_ros.scores.parts.coarse import enlarge
from anomaly_seg_ros.scores.parts.feature_bank import EnergyBank

from .dnp import DNP


class CDNP(DNP):
    """`(e - e_min) / (e_max - e_min) + d / d_max`, any real number.

    d is the score `dnp`, e = 1 - ln sum_c exp(l_c). Lowest and highest are those of the training
    frames; nothing is cut off.

    Args:
        bank: As of `DNP`.
        counts: As of `DNP`.
        centre: As of `DNP`.
        limits: (3,) e_min, e_max and d_max, from `fit_score`.
        energy_step: Pixels between two values of the energy, linear between them; 1 computes all.
        **options: As of `DNP`.

    Raises:
        ValueError: As of `DNP`.

    Source: Galesso et al., "Far Away in the Deep Space: Dense Nearest-Neighbor-Based
    Out-of-Distribution Detection", 2023, https://arxiv.org/abs/2211.06660, section 3.3.
    """

    needs = frozenset({'logits'})
    from_masks = True
    statistics = ('bank', 'counts', 'centre', 'limits')  # type: ignore[assignment]
    fit = EnergyBank
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        'fast': {**DNP.presets['fast'], 'energy_step': 8}
    }
    limits: Tensor

    def __init__(
        self,
        bank: Tensor,
        counts: Tensor,
        centre: Tensor,
        limits: Tensor,
        layer: str = 'last',
        k: int = 3,
        grid: int = 16,
        search: str = 'tiles',
        enlarge: str = 'bilinear',
        energy_step: int = 2,
    ):
        super().__init__(bank, counts, centre, layer, k, grid, search, enlarge)
        if limits.shape != (3,):
            raise ValueError(f"limits {tuple(limits.shape)} of score 'cdnp' must be (3,)")
        self.step = energy_step
        self.register_buffer('limits', limits)

    def joined(self, output: ModelOutput, distance: Tensor, stride: int) -> Tensor:
        low, high, furthest = self.limits.unbind()
        height, width = output.class_maps.shape[2:]
        thin = output.thinned(self.step) if self.step > 1 else output
        energy = over_class_logits(thin, lambda logits: 1 - logits.logsumexp(1))
        energy = (energy - low) / (high - low)
        if self.step > 1:
            energy = enlarge(enlarge(energy, self.step, 2, width), self.step, 1, height)
        return energy + super().joined(output, distance / furthest, stride)
