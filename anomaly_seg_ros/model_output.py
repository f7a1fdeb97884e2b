"""What any network returns, so that networks and scores never need to know each other."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class ModelOutput(NamedTuple):
    """The tensors a network gives for a batch; a field that the network lacks is None.

    Shape letters: N batch, K classes, D features, H W image, h w feature map.
    """

    logits: Tensor
    """(N, K, H, W) before softmax, classes in train-id order without the void channel."""
    void_logit: Tensor | None = None
    """(N, 1, H, W) logit of the trained void class, where the network has one."""
    features: Tensor | None = None
    """(N, D, h, w) last embedding before the classifier."""
    ood_logits: Tensor | None = None
    """(N, 2, H, W) logits of the outlier head, channel 1 = outlier, where the network has one."""
    aux_logits: tuple[Tensor, ...] = ()
    """Logits of auxiliary heads, (N, K, H, W) each; only while training."""
