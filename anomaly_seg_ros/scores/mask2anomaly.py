"""Mask2Anomaly: the largest share of a class, and no anomaly where certain masks say so."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly_seg_ros.model_output import class_probabilities, ModelOutput, to_image

from .score import AnomalyScore


class Mask2Anomaly(AnomalyScore):
    """`(1 - max_c P_c) (1 - R)`: R is 1 where a certain query of one of `refine` lies, else 0.

    Certain is a query whose largest probability, no object among them, is of a class in `refine`
    and above `confidence`; it lies where `p_q sigmoid(m_q) >= 0.5`. The authors' code wants two
    such queries before it does anything, and takes its maximum over the masks of R beside the
    classes; neither is so here.

    Args:
        refine: Ids of classes that are no road and no thing: in Cityscapes 2 to 10; none: no
            refinement, and the score is `mask_msp`.
        confidence: What the probability of such a query must be above.
        flip: Take the mean with the score of the mirrored image, as published: twice the time.

    Source: Rai et al., "Unmasking Anomalies in Road-Scene Segmentation", 2023, section 3.4.
    """

    needs = frozenset({'semantics', 'class_logits', 'mask_logits'})

    def __init__(self, refine: tuple[int, ...] = (), confidence: float = 0.95, flip: bool = False):
        super().__init__()
        if any(isinstance(c, bool) or not isinstance(c, int) or c < 0 for c in refine):
            raise ValueError(f'refine is {refine}; it must hold ids of classes')
        if not 0 <= confidence <= 1:
            raise ValueError(f'confidence is {confidence}; it must lie in 0..1')
        self.refine, self.confidence, self.flip = tuple(refine), confidence, flip

    def forward(self, output: ModelOutput) -> Tensor:
        score = 1 - output.given('semantics').float().amax(1)
        return score * (1 - self._certain(output)) if self.refine else score

    def _certain(self, output: ModelOutput) -> Tensor:
        """Gives (N, H, W): 1 where a certain query of a refined class lies, else 0."""
        classes = class_probabilities(output)
        if max(self.refine) >= classes.shape[2]:
            raise ValueError(
                f'refine has id {max(self.refine)}, the network {classes.shape[2]} classes'
            )
        refined = torch.stack([classes[..., id_] for id_ in self.refine]).amax(0)
        # The largest of all is that of a refined class where it is no larger than theirs.
        sure = ((refined >= classes.amax(2)) & (refined > self.confidence)) * refined
        found: Tensor | None = None
        assert output.extent is not None, 'a network that has run on an image knows'
        masks = output.given('mask_logits')
        for query in range(masks.shape[1]):
            mask, share = masks[:, query : query + 1], sure[:, query : query + 1]
            shown = to_image(mask.float(), output.extent).sigmoid() * share[..., None, None]
            found = shown if found is None else torch.maximum(found, shown)
        assert found is not None, 'there is at least one query'
        return (found[:, 0] >= 0.5).float()
