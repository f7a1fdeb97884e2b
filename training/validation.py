"""The validation of a training run: mean IoU over whole frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from lightning.fabric import Fabric
import torch
from torch import nn, Tensor
from torch.nn import functional
from tqdm import tqdm

from anomaly_seg_ros.models.padding import forward_padded
from anomaly_seg_ros.models.void_channel import split_void
from anomaly_seg_ros.preprocess import to_input_size

from .datasets import Dataset
from .metrics.confusion import ConfusionMatrix


def validate(
    fabric: Fabric,
    network: nn.Module,
    normalise: Callable[[Tensor], Tensor],
    dataset: Dataset,
    input_size: tuple[int, int],
    void_index: int | None,
    interrupted: Callable[[], bool],
) -> dict[str, float] | None:
    """Measures a network on the whole frames of a dataset, each rank on its share.

    It sees them at the size that the checkpoint is meant for, as it will be used; its logits are
    enlarged to the labels.

    Args:
        fabric: Runs it.
        network: Is put into evaluation mode.
        normalise: (N, 3, H, W) RGB in 0..1 to what the network takes.
        dataset: Frames with train ids, 255 = ignore.
        input_size: (height, width) that frames are resized to.
        void_index: Channel of the void class, which is no answer here; None: there is none.
        interrupted: Whether somebody wants to stop.

    Returns:
        'val_miou' and 'iou_NAME' of each class; None where a run of one process was interrupted
        (several go on to the end, as none can stop alone).
    """
    network.eval()
    names = dataset.classes.names
    matrix = ConfusionMatrix(len(names))
    mine = range(fabric.global_rank, len(dataset), fabric.world_size)
    quiet = None if fabric.is_global_zero else True
    for index in tqdm(mine, desc='validate', leave=False, disable=quiet):
        if fabric.world_size == 1 and interrupted():
            return None
        sample = dataset[index]
        frame = torch.from_numpy(to_input_size(sample.image, input_size))
        image = frame.permute(2, 0, 1)[None].to(fabric.device)
        with torch.inference_mode(), fabric.autocast():
            output = forward_padded(network, normalise(image.float() / 255))
            logits = split_void(output, void_index).logits.float()
            if logits.shape[2:] != sample.labels.shape:
                logits = functional.interpolate(logits, sample.labels.shape, mode='bilinear')
        matrix.update(logits[0].argmax(0).byte().cpu().numpy(), sample.labels)
    counts = fabric.all_reduce(torch.from_numpy(matrix.counts), reduce_op='sum')
    matrix.counts = cast('Tensor', counts).cpu().numpy()
    return {'val_miou': matrix.mean_iou()} | {
        f'iou_{name}': float(value) for name, value in zip(names, matrix.iou(), strict=True)
    }
