"""The module that is exported: image in, labels and anomaly score out."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn, Tensor

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.forward import normalised, run_fields, run_network
from anomaly_seg_ros.models.network import Network
from anomaly_seg_ros.prediction import FRAME, LABELS, SCORE
from anomaly_seg_ros.scores import build_score
from anomaly_seg_ros.scores.parts.pooled_features import PooledFeatures
from anomaly_seg_ros.scores.score import AnomalyScore

HALF_MAX = 65504.0
"""Largest float16; a score beyond it would become infinite."""


class ImageModel(nn.Module):
    """Normalisation and network: an image in, the network's output out.

    Args:
        model: A network of `MODELS`.
        meta: The meta data of its checkpoint.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Network, meta: CheckpointMeta):
        super().__init__()
        self.model = model
        self.void_index = meta.void_index
        self.gamma = meta.gamma
        self.network_type = torch.float32
        self.register_buffer('mean', torch.tensor(meta.mean).view(1, 3, 1, 1))
        self.register_buffer('std', torch.tensor(meta.std).view(1, 3, 1, 1))

    def output(self, images: Tensor) -> ModelOutput:
        """Gives the network's output in train-id order, void apart.

        Args:
            images: (N, H, W, 3) uint8 RGB.
        """
        # Cast before permuting: TensorRT takes bytes at the edge of its graph only.
        return self.of_unit(images.float().permute(0, 3, 1, 2) / 255)

    def of_unit(self, images: Tensor) -> ModelOutput:
        """Gives the same of (N, 3, H, W) float32 RGB in 0..1."""
        normal = normalised(images, self.mean, self.std, self.gamma).to(self.network_type)
        return run_network(self.model, normal, self.void_index)

    def scored(self, score: AnomalyScore, images: Tensor, output: ModelOutput) -> Tensor:
        """Gives a score's (N, H, W) map; where it wants so, the mean with the mirrored images'.

        Args:
            score: What is computed.
            images: (N, H, W, 3) uint8 RGB.
            output: Of these images.
        """
        found: Tensor = score(output)
        if score.flip:
            found = (found + score(self.output(images.flip(2))).flip(2)) / 2
        return found


class ScoredModel(ImageModel):
    """Normalisation, network and score in one graph, so that no logits leave the device.

    Args:
        model: A network of `MODELS`.
        meta: The meta data of its checkpoint.
        score: A key of `SCORES`.
        statistics: What the checkpoint holds of a score that was fitted.

    Raises:
        ValueError: The score is unknown, needs what the network lacks, or has no statistics.
    """

    def __init__(
        self,
        model: Network,
        meta: CheckpointMeta,
        score: str,
        statistics: Mapping[str, Tensor] | None = None,
    ):
        super().__init__(model, meta)
        self.score = score_of(model, meta, score, statistics)
        self.pooled = PooledFeatures(run_fields(model, meta.void_index), model.frame_features)
        self.label_type, self.score_type = torch.uint8, torch.float32

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Gives `labels` (N, H, W), `score` (N, H, W) and `frame` (N, F) of (N, H, W, 3) RGB.

        What a graph or a prediction calls them is in `prediction.py`.

        The image is uint8, labels and score uint8 and float32 as the module is built; `spell`
        changes both. `frame` is float32 always.
        """
        output = self.output(images)
        score = self.scored(self.score, images, output)
        if self.score_type is torch.float16:
            score = score.clamp(-HALF_MAX, HALF_MAX)
        labels = output.class_maps.argmax(1).to(self.label_type)
        pooled = self.pooled(output)
        return {LABELS: labels, SCORE: score.to(self.score_type), FRAME: pooled}

    def spell(
        self, label_type: torch.dtype = torch.uint8, half_network: bool = False
    ) -> ScoredModel:
        """Changes this module into the form that is exported; scores become float16.

        The score is still computed in float32 and cast last.

        Args:
            label_type: `torch.int8` where uint8 cannot be cast to (TensorRT): the same bytes for
                up to 128 classes.
            half_network: Runs the network itself in float16; normalisation and score do not.
        """
        self.label_type, self.score_type = label_type, torch.float16
        if half_network:
            self.network_type = torch.float16
            self.model.half()
        return self


def score_of(
    model: Network,
    meta: CheckpointMeta,
    score: str,
    statistics: Mapping[str, Tensor] | None = None,
) -> AnomalyScore:
    """Gives a score as the checkpoint sets it, checked against what its network gives.

    Args:
        model: The network of the checkpoint.
        meta: Gives the temperature and the score's options.
        score: A key of `SCORES`.
        statistics: What the checkpoint holds of a score that was fitted.

    Raises:
        ValueError: The score is unknown, needs what the network lacks, has no statistics, or
            such of another number of classes.
    """
    provides = run_fields(model, meta.void_index)
    options = meta.score_options.get(score)
    built = build_score(score, meta.model, provides, meta.temperature, statistics, options)
    classes = len(meta.class_names)
    if built.classes not in (None, classes):
        raise ValueError(
            f'the statistics of score {score!r} are for {built.classes} classes, the checkpoint '
            f'has {classes}; run fit_score again'
        )
    for layer in built.layers:
        model.tap(layer)
    return built


def load_scored_model(checkpoint: Checkpoint, score: str) -> ScoredModel:
    """Loads a checkpoint as a `ScoredModel` in evaluation mode.

    Raises:
        FileNotFoundError: Its weights are missing.
        ValueError: The checkpoint is not usable, or the score does not fit the network.
    """
    network, statistics = checkpoint.network(), checkpoint.statistics(score)
    scored = ScoredModel(network, checkpoint.meta, score, statistics).eval()
    if scored.score.layers:
        # Whether features fit statistics shows on an image alone.
        with torch.inference_mode():
            scored(torch.zeros(1, *checkpoint.meta.input_size, 3, dtype=torch.uint8))
    return scored
