"""Lets a network that halves its input run on sides that are not a multiple of its stride."""

from __future__ import annotations

from torch import nn, Tensor
from torch.nn import functional

from anomaly_seg_ros.model_output import ModelOutput


def forward_padded(model: nn.Module, images: Tensor) -> ModelOutput:
    """Runs `model` on images whose border is repeated to the right and below, and cuts it off.

    Args:
        model: A network of `MODELS`; its `stride` says what the sides must be a multiple of.
        images: (N, 3, H, W) normalised RGB of any size.

    Returns:
        The output with all logits of (H, W); `features` keep the padded extent.
    """
    height, width = images.shape[-2:]
    stride = int(model.stride)  # type: ignore[arg-type]
    bottom, right = -height % stride, -width % stride
    if not bottom and not right:
        output: ModelOutput = model(images)
        return output
    output = model(functional.pad(images, (0, right, 0, bottom), mode='replicate'))
    void, outlier = output.void_logit, output.ood_logits
    return output._replace(
        logits=output.logits[..., :height, :width],
        void_logit=None if void is None else void[..., :height, :width],
        ood_logits=None if outlier is None else outlier[..., :height, :width],
        aux_logits=tuple(logits[..., :height, :width] for logits in output.aux_logits),
    )
