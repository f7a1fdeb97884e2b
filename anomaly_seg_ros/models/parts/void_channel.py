"""Takes the void channel out of a network's raw output, wherever its weights put it."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly_seg_ros.model_output import ModelOutput


def split_void(output: ModelOutput, void_index: int | None) -> ModelOutput:
    """Gives logits in train-id order, with the void logit on its own.

    In every known layout the classes stand in train-id order around the void channel, so that
    removing it is all the reordering there is: void last (index K) keeps them in place, void
    first (index 0) moves road from 1 to 0.

    Args:
        output: What a network gives, (N, K + 1, H, W) logits where it has a void channel.
        void_index: Place of the void channel, `CheckpointMeta.void_index`; None = it has none.

    Returns:
        The output with logits of (N, K, H, W) and a void logit of (N, 1, H, W).

    Raises:
        ValueError: The network has no channel `void_index`.
    """
    if void_index is None:
        return output
    channels = output.logits.shape[1]
    if not 0 <= void_index < channels:
        raise ValueError(
            f'void_index {void_index} is outside of the {channels} channels of the network; '
            f'it is 0..{channels - 1}, or null for a network without void'
        )
    return output._replace(
        logits=_without(output.logits, void_index),
        void_logit=output.logits[:, void_index : void_index + 1],
        aux_logits=tuple(_without(logits, void_index) for logits in output.aux_logits),
    )


def _without(logits: Tensor, index: int) -> Tensor:
    """Drops one channel; at either end that is a view and copies nothing."""
    if index == 0:
        return logits[:, 1:]
    if index == logits.shape[1] - 1:
        return logits[:, :index]
    return torch.cat([logits[:, :index], logits[:, index + 1 :]], dim=1)
