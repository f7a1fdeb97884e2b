"""What the rows of all scores of a checkpoint share, and what their readers should know."""

from __future__ import annotations

from typing import Any

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.provenance import code_version
from training.datasets import Dataset
from training.results import ResultRow, typed_command

from .checkpoint_frames import CheckpointFrames
from .network_pass import NetworkPass


def network_origin(
    typed: str, checkpoint: Checkpoint, network: NetworkPass, dataset: Dataset
) -> ResultRow:
    """Gives what is known of a row beside its set and its numbers.

    Args:
        typed: How the user calls the checkpoint.
        checkpoint: What was run.
        network: It runs on.
        dataset: It was run over.
    """
    meta = checkpoint.meta
    extra: dict[str, Any] = {
        'class_names': list(meta.class_names),
        'weights': checkpoint.weights_sha256[:12],
        'trained_on': list(meta.trained_on),
        'device': network.description,
        'n_frames_read': len(dataset),
    }
    return ResultRow(
        model=meta.model,
        checkpoint=typed,
        engine=network.engine,
        precision=network.precision,
        input_size=network.input_size,
        temperature=meta.temperature,
        command=typed_command(),
        commit=code_version(),
        extra=extra,
    )


def raw_thresholds(meta: CheckpointMeta) -> dict[str, float]:
    """Gives the raw scores of the checkpoint's calibrated thresholds."""
    return {
        score: calibration.raw(meta.thresholds[score])
        for score, calibration in meta.calibrations.items()
        if score in meta.thresholds
    }


def cautions(
    meta: CheckpointMeta, dataset: Dataset, source: CheckpointFrames, name: str, split: str
) -> list[str]:
    """Gives what a reader of the numbers should know."""
    found = []
    if f'{name} {split}' in meta.trained_on:
        found.append(f'the checkpoint was trained on these frames ({name} {split})')
    if source.has_classes and not source.classes.names:
        theirs, ours = dataset.classes.names, meta.class_names
        found.append(
            f'miou, iou, ece and nll are null: {name} has {len(theirs)} classes '
            f'({", ".join(theirs[:3])}, ...), the checkpoint {len(ours)} others '
            f'({", ".join(ours[:3])}, ...)'
        )
    return found
