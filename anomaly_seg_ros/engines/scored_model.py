"""The module that is exported: image in, labels and anomaly score out."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import nn, Tensor

from anomaly_seg_ros.checkpoint import CheckpointMeta, load_checkpoint
from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.padding import forward_padded
from anomaly_seg_ros.models.void_channel import split_void
from anomaly_seg_ros.scores import AnomalyScore, build_score


class ScoredModel(nn.Module):
    """Normalisation, network and score in one graph, so that no logits leave the device.

    Args:
        model: A network of `MODELS`.
        meta: The meta data of its checkpoint.
        score: A key of `SCORES`.

    Raises:
        ValueError: The score is unknown, or needs what the network lacks.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, meta: CheckpointMeta, score: str):
        super().__init__()
        self.model = model
        self.score = score_of(model, meta, score)
        self.void_index = meta.void_index
        self.gamma = meta.gamma
        self.register_buffer('mean', torch.tensor(meta.mean).view(1, 3, 1, 1))
        self.register_buffer('std', torch.tensor(meta.std).view(1, 3, 1, 1))

    def output(self, images: Tensor) -> ModelOutput:
        """Gives the network's output in train-id order, void apart.

        Args:
            images: (N, H, W, 3) uint8 RGB.
        """
        scaled = images.permute(0, 3, 1, 2).float() / 255
        if self.gamma != 1:
            scaled = scaled.pow(self.gamma)
        return split_void(
            forward_padded(self.model, (scaled - self.mean) / self.std), self.void_index
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Gives (N, H, W) uint8 labels and (N, H, W) float32 score of (N, H, W, 3) uint8 RGB."""
        output = self.output(images)
        return output.logits.argmax(1).to(torch.uint8), self.score(output)


def score_of(model: nn.Module, meta: CheckpointMeta, score: str) -> AnomalyScore:
    """Gives a score at the checkpoint's temperature, checked against what its network gives.

    Raises:
        ValueError: The score is unknown, or needs what the network lacks.
    """
    provides = set(cast('frozenset[str]', model.provides))
    if meta.void_index is not None:
        provides.add('void_logit')
    return build_score(score, meta.model, provides, meta.temperature)


def load_scored_model(checkpoint: Path, score: str) -> ScoredModel:
    """Loads a checkpoint folder as a `ScoredModel` in evaluation mode.

    Raises:
        FileNotFoundError: The folder or a file in it is missing.
        ValueError: The checkpoint is not usable, or the score does not fit the network.
    """
    model, meta = load_checkpoint(checkpoint)
    return ScoredModel(model, meta, score).eval()
