"""Validates a training run on whole frames: mean IoU, and AP where outliers are pasted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from lightning.fabric import Fabric
import numpy as np
from numpy.typing import NDArray
import torch
from torch import distributed, Tensor
from torch.nn import functional
from tqdm import tqdm

from anomaly_seg_ros.frames.preprocess import to_input_size
from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.forward import run_network
from anomaly_seg_ros.models.network import Network
from training.datasets import Dataset
from training.metrics.confusion import ConfusionMatrix
from training.metrics.pixel import PixelMetrics


class Validation:
    """Measures a network on the whole frames of a dataset, each rank on its share.

    The network sees them at the size that the checkpoint is meant for, as it will be used; its
    classes and the score are enlarged to the labels.

    Args:
        fabric: Runs it.
        normalise: (N, 3, H, W) RGB in 0..1 to what the network takes.
        dataset: Frames with train ids, 255 = ignore, and perhaps with anomalies.
        input_size: (height, width) that frames are resized to.
        void_index: Channel of the void class, which is no answer here; None: there is none.
        score: What finds the anomalies.
    """

    def __init__(
        self,
        fabric: Fabric,
        normalise: Callable[[Tensor], Tensor],
        dataset: Dataset,
        input_size: tuple[int, int],
        void_index: int | None,
        score: Callable[[ModelOutput], Tensor],
    ):
        self.fabric, self.normalise, self.dataset = fabric, normalise, dataset
        self.input_size, self.void_index, self.score = input_size, void_index, score

    def __call__(
        self, network: Network, interrupted: Callable[[], bool]
    ) -> dict[str, float] | None:
        """Measures the network, which is put into evaluation mode.

        Args:
            network: In any mode.
            interrupted: Whether somebody wants to stop.

        Returns:
            'val_miou', 'val_ap' (over the pixels of all frames) where there are anomalies, and
            'iou_NAME' of each class; None where a run of one process was interrupted (several go
            on to the end, as none can stop alone).
        """
        network.eval()
        fabric, names = self.fabric, self.dataset.classes.names
        matrix = ConfusionMatrix(len(names))
        pixels = PixelMetrics()
        mine = range(fabric.global_rank, len(self.dataset), fabric.world_size)
        quiet = None if fabric.is_global_zero else True
        for index in tqdm(mine, desc='validate', leave=False, disable=quiet):
            if fabric.world_size == 1 and interrupted():
                return None
            sample = self.dataset[index]
            with torch.inference_mode(), fabric.autocast():
                output = self.output(network, sample.image)
                classes = at_size(output.class_maps, sample.labels.shape)
                matrix.update(classes[0].argmax(0).byte().cpu().numpy(), sample.labels)
                if sample.anomaly is not None:
                    score = at_size(self.score(output)[:, None], sample.anomaly.shape)
                    pixels.update(score[0, 0].cpu().numpy(), sample.anomaly, sample.name)
        counts = cast(
            'Tensor', fabric.all_reduce(torch.from_numpy(matrix.counts), reduce_op='sum')
        )
        matrix.counts = counts.cpu().numpy()
        ap = self._pooled(pixels).ranking().average_precision()
        return (
            {'val_miou': matrix.mean_iou()}
            | ({} if ap is None else {'val_ap': ap})
            | {f'iou_{name}': float(v) for name, v in zip(names, matrix.iou(), strict=True)}
        )

    def _pooled(self, mine: PixelMetrics) -> PixelMetrics:
        """Gives what all ranks have measured."""
        if self.fabric.world_size == 1:
            return mine
        parts: list[Any] = [None] * self.fabric.world_size
        distributed.all_gather_object(parts, mine)
        whole = PixelMetrics()
        for part in parts:
            whole.merge(part)
        return whole

    def output(self, network: Network, image: NDArray[np.uint8]) -> ModelOutput:
        """Gives the output for a frame as in use."""
        frame = torch.from_numpy(to_input_size(image, self.input_size))
        pixels = frame.permute(2, 0, 1)[None].to(self.fabric.device)
        return run_network(network, self.normalise(pixels.float() / 255), self.void_index)


def at_size(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Gives (N, C, h, w) maps in float32, enlarged to (height, width) where they differ."""
    maps = maps.float()
    if maps.shape[2:] == size:
        return maps
    return functional.interpolate(maps, size, mode='bilinear')
