"""What the rows of all scores of a checkpoint share, and what their readers should know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.classes import first_names
from anomaly_seg_ros.provenance import code_version
from training.datasets import Dataset
from training.datasets.joined import entry_name
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


def trained_on(meta: CheckpointMeta, name: str, root: Path, split: str) -> list[str]:
    """Says that a checkpoint was trained on the frames of a dataset, if it was."""
    called = entry_name({'dataset': name, 'root': root, 'split': split})
    if called not in meta.trained_on:
        return []
    return [f'the checkpoint was trained on these frames ({called})']


def class_cautions(
    meta: CheckpointMeta, dataset: Dataset, source: CheckpointFrames, name: str
) -> list[str]:
    """Says that a dataset of this name has other classes than a checkpoint, if it has."""
    if not source.has_classes or source.classes.names:
        return []
    theirs, ours = dataset.classes.names, meta.class_names
    return [
        f'miou, iou, ece and nll are null: {name} has {len(theirs)} classes '
        f'({first_names(theirs)}), the checkpoint {len(ours)} others ({first_names(ours)})'
    ]
