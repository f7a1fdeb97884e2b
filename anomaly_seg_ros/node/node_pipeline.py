"""The pipeline as the node's parameters want it; `bag` takes frames through the same."""

from __future__ import annotations

import numpy as np

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.frames.ignore_mask import IgnoreMask
from anomaly_seg_ros.frames.maps import PipelineSettings
from anomaly_seg_ros.frames.persistence import Persistence
from anomaly_seg_ros.frames.pipeline import build_pipeline, default_threshold, Pipeline
from anomaly_seg_ros.prediction import Engine
from anomaly_seg_ros.whole_frame.health import HealthSettings
from anomaly_seg_ros.whole_frame.methods import frame_judge

from .config import MEAN, NodeConfig


def node_pipeline(
    engine: Engine, checkpoint: Checkpoint, config: NodeConfig, mask: IgnoreMask | None = None
) -> Pipeline:
    """Gives the pipeline of one camera.

    Args:
        engine: Runs its images.
        checkpoint: What the engine serves, with the camera's calibration.
        config: The parameters, of which the ignore mask is read already.
        mask: That one.

    Raises:
        ValueError: The score has no calibration, or the ignore mask or what the method for whole
            frames needs cannot be used.
    """
    meta = checkpoint.meta
    meta.calibration_of(engine.score_name)
    settings = pipeline_settings(engine, meta, config)
    ignored = None if mask is None else mask.at(engine.input_size)
    judge = None if config.frame_score == MEAN else frame_judge(checkpoint)
    return build_pipeline(engine, meta, settings, remembers=True, ignored=ignored, judge=judge)


def pipeline_settings(
    engine: Engine, meta: CheckpointMeta, config: NodeConfig
) -> PipelineSettings:
    """Gives what may change between two frames, as the parameters say."""
    threshold = config.threshold
    if threshold < 0:
        threshold = default_threshold(meta, engine.score_name)
    return PipelineSettings(
        threshold,
        config.min_region_area,
        config.overlay_alpha,
        config.max_regions,
        Persistence.parse(config.persistence),
        config.smoothing,
        HealthSettings(config.frame_threshold, config.health_frames, config.frozen_frames),
    )


def warm_up(engine: Engine, most: int = 1) -> None:
    """Runs blank frames in passes of 1 to `most`, twice each: the first of a size take longer."""
    blank = np.zeros((*engine.input_size, 3), np.uint8)
    for count in range(1, most + 1):
        for _ in range(2):
            engine.infer_batch([blank] * count)
